"""Small data sets, one estimator for each kind of target, and the same training in PyTorch."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from xpnet import MLPClassifier, MLPRegressor

N, BATCH = 90, 16
STEPS_PER_EPOCH = math.ceil(N / BATCH)
RNG = np.random.default_rng(0)
CLASSES = RNG.permutation(np.repeat([0, 1, 2], [50, 30, 10]))
X = RNG.standard_normal((N, 4)) + 0.7 * CLASSES[:, np.newaxis]
BINARY = (CLASSES > 0).astype(int)
LABELS = np.column_stack([BINARY, CLASSES == 2, X[:, 0] > 0]).astype(int)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + np.sin(3 * X[:, 0]) + 0.3 * RNG.standard_normal(N)
TWO_NUMBERS = np.column_stack([NUMBERS, X[:, 1] ** 2])
COUNTS = RNG.poisson(np.exp(0.5 * X[:, 0])).astype(float)
WEIGHT = RNG.uniform(0.5, 2.0, N)
STRINGS = np.array(["no", "maybe", "yes"])[CLASSES]

SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "adamw": {"solver": "adamw", "learning_rate_init": 0.01, "alpha": 0.1},
    "rmsprop": {"solver": "rmsprop", "learning_rate_init": 0.01},
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def classifier(**params):
    return MLPClassifier(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "batch_size": BATCH, "random_state": 0} | params
    )


def regressor(**params):
    return MLPRegressor(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "batch_size": BATCH, "random_state": 0} | params
    )


KINDS = {
    "binary": (classifier, BINARY),
    "multi-class": (classifier, CLASSES),
    "strings": (classifier, STRINGS),
    "multi-label": (classifier, LABELS),
    "numbers": (regressor, NUMBERS),
    "two-numbers": (regressor, TWO_NUMBERS),
    "counts": (partial(regressor, loss="poisson"), COUNTS),
}
each_kind = pytest.mark.parametrize(("make", "y"), KINDS.values(), ids=KINDS)
both_classes = pytest.mark.parametrize(
    ("make", "y"), [KINDS["multi-class"], KINDS["numbers"]], ids=["classifier", "regressor"]
)


def parameters(model):
    """All weights and biases as one vector."""
    return np.concatenate([a.ravel() for a in (*model.coefs_, *model.intercepts_)])


def assert_same_fit(ours, theirs, rel=1e-12):
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=rel)
    assert parameters(ours) == pytest.approx(parameters(theirs), rel=100 * rel, abs=100 * rel)


def initial_layers(sizes, seed=0):
    """The weights and biases that scikit-learn draws (Glorot and Bengio 2010), layer by layer."""
    rng = np.random.RandomState(seed)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        layers.append((rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)))
    return layers


def torch_fit(sizes, activations, loss, optimizer, steps=5, clip_norm=None, **options):
    """What PyTorch makes of full-batch steps from the same start: (the losses, coefs, intercepts).

    Args:
        loss: (torch, outputs) -> the loss.
        optimizer: its name in torch.optim, with `options`.
    """
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=True) for layer in initial_layers(sizes) for a in layer]
    descent = getattr(torch.optim, optimizer)(leaves, **options)
    losses = []
    for _ in range(steps):
        h = torch.tensor(X)
        for i, (W, b) in enumerate(zip(leaves[::2], leaves[1::2], strict=True)):
            h = (getattr(torch.nn.functional, activations[i - 1])(h) if i else h) @ W + b
        value = loss(torch, h)
        losses.append(value.item())
        descent.zero_grad()
        value.backward()
        if clip_norm is not None:
            norm = torch.nn.utils.get_total_norm([leaf.grad for leaf in leaves])
            for leaf in leaves:
                leaf.grad *= min(1.0, clip_norm / norm)
        descent.step()
    trained = [leaf.detach().numpy() for leaf in leaves]
    return losses, trained[::2], trained[1::2]


def assert_like_torch(model, losses, coefs, intercepts):
    assert model.loss_curve_ == pytest.approx(losses, rel=1e-9)
    for ours, theirs in zip([*model.coefs_, *model.intercepts_], [*coefs, *intercepts], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


def cross_entropy(torch, z):
    return torch.nn.functional.cross_entropy(z, torch.tensor(CLASSES))


FULL_BATCH = {"batch_size": N, "shuffle": False, "alpha": 0.0}
PLAIN_SGD = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1} | FULL_BATCH
