"""Small trainings on any backend, and the same on NumPy as it is written."""

import numpy as np

from xpnet import MLP, Adam, epochs
from xpnet.backends import Backend, resolve
from xpnet.backends.numpy import NumPy
from xpnet.maths.losses import LOSSES, quantile
from xpnet.maths.optimizers import SGD, Adagrad, AdamW, RMSprop
from xpnet.training import start

N, BATCH = 20, 6  # batches of 6, 6, 6 and 2 rows
ALL_LOSSES = {**LOSSES, "quantile": quantile(0.3)}


class NewArrays(Adam):
    """Adam, except that it returns new arrays."""

    def update(self, theta, g, moments, coefficients, *, xp):
        theta, moments = super().update(theta, g, moments, coefficients, xp=xp)
        return theta + 0.0, tuple(m + 0.0 for m in moments)


OPTIMIZERS = {
    "sgd": SGD(),
    "nesterov": SGD(0.9, nesterov=True),
    "velocity": SGD(0.9, velocity=True),
    "adam": Adam(),
    "adamw": AdamW(weight_decay=0.1),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
    "new-arrays": NewArrays(),
}


class Plain(NumPy):
    """NumPy that takes each step as it is written."""

    def compile_step(self, step, n_steps, steps_per_epoch):
        return Backend.compile_step(self, step, n_steps, steps_per_epoch)


def problem(mlp, weighted=False):
    rng = np.random.default_rng(0)
    shape = N, mlp.sizes[-1]
    X, Y = rng.standard_normal((N, mlp.sizes[0])), rng.standard_normal(shape)
    if mlp.classifies:
        Y = rng.dirichlet(np.ones(shape[1]), N)
    elif mlp.criterion is LOSSES["poisson"]:
        Y = rng.poisson(2.0, shape).astype(float)
    return (X, Y, rng.uniform(0.5, 2.0, (N, 1)))[: 2 + weighted]


def run(backend, mlp, optimizer, data, state=None, **options):
    """Train for three epochs. Yield each record, at last theta, the moments, and the loss of each epoch."""
    settings = {"schedule": lambda t: 0.05 / t**0.25, "n_epochs": 3, "batch_size": BATCH} | options
    state = state or start(mlp.init(1), optimizer, backend=backend)
    data, losses = tuple(map(backend.asarray, data)), []
    for record in epochs(mlp, optimizer, state, *data, backend=backend, **settings):
        losses.append(record.train_loss)
        yield record
    yield [*map(backend.to_numpy, (state.theta, *state.moments)), np.array(losses)]


def train(*args, **options):
    *_, arrays = run(*args, **options)
    return arrays


def check(found, expected, rel=1e-9):
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(b).all()
        assert np.abs(a - b).max() <= rel * np.abs(b).max()


def plain(dtype="float64"):
    return Plain(**vars(resolve("cpu", "numpy", dtype)))


def check_two_networks_in_turn(backend, **options):
    """Check that two trainings whose epochs take turns give what each gives alone."""
    mlps = MLP((5, 7, 3)), MLP((5, 4, 4, 3), "tanh")
    runs = [list(run(backend, mlp, Adam(), problem(mlp), **options)) for mlp in mlps]
    in_turn = list(zip(*(run(backend, mlp, Adam(), problem(mlp), **options) for mlp in mlps), strict=True))
    for one, other in zip(runs, zip(*in_turn, strict=True), strict=True):
        check(one[-1], other[-1], rel=1e-12)
