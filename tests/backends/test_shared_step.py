"""On tensors on the CPU a step repeats calls of NumPy and of PyTorch: with the plain step's numbers."""

import numpy as np
import pytest

from xpnet.backends import Backend, resolve
from xpnet.backends.accelerate import shared
from xpnet.maths.losses import LOSSES, quantile
from xpnet.maths.mlp import MLP
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from xpnet.training import epochs, start

torch = pytest.importorskip("torch")

N = 20
ALL_LOSSES = {**LOSSES, "quantile": quantile(0.3)}
OPTIMIZERS = [SGD(), SGD(0.9, nesterov=True), Adam(), AdamW(), RMSprop(), Adagrad()]


@pytest.fixture(params=["all calls", "large calls"], autouse=True)
def in_pytorch(request, monkeypatch):
    """Return the functions that ran in PyTorch: all that can, or those of arrays that are not small."""
    if request.param == "all calls":
        monkeypatch.setattr(shared, "_LARGE_ARRAY", -1)
        monkeypatch.setattr(shared, "_LARGE_PRODUCT", -1)
    else:
        monkeypatch.setattr(shared, "_LARGE_ARRAY", 30)
        monkeypatch.setattr(shared, "_LARGE_PRODUCT", 100)
    functions, emit = set(), shared._bind

    def note(f, *arguments):
        emitted = emit(f, *arguments)
        if emitted[0] is not f:
            functions.add(f.__name__)
        return emitted

    monkeypatch.setattr(shared, "_bind", note)
    return functions


def train(library, compile_step, mlp, optimizer, data, dtype, monkeypatch):
    """Return theta, the moments and the losses of three epochs, as NumPy arrays."""
    backend = resolve("cpu", library, dtype)
    monkeypatch.setattr(type(backend), "compile_step", compile_step)
    state = start(mlp.init(1), optimizer, backend=backend)
    data = [backend.asarray(x, backend.dtype) for x in data]
    options = {"schedule": lambda t: 0.05 / t**0.25, "n_epochs": 3, "batch_size": 6}
    losses = [r.train_loss for r in epochs(mlp, optimizer, state, *data, backend=backend, **options)]
    return [*map(backend.to_numpy, (state.theta, *state.moments)), np.array(losses)]


def compare(mlp, optimizer, monkeypatch, weighted=False, dtype="float64"):
    """Train as recorded on tensors, and as it is written on NumPy. Expect the same."""
    rng = np.random.default_rng(0)
    n_outputs = mlp.sizes[-1]
    Y = rng.dirichlet(np.ones(n_outputs), N) if mlp.classifies else rng.poisson(2.0, (N, n_outputs))
    data = rng.standard_normal((N, mlp.sizes[0])), Y, rng.uniform(0.5, 2.0, (N, 1))
    arguments = mlp, optimizer, data[: 2 + weighted], dtype, monkeypatch
    expected = train("numpy", Backend.compile_step, *arguments)
    recorded = type(resolve("cpu", "torch")).compile_step
    found = train("torch", lambda self, step, n, per_epoch: recorded(self, step, 1000, per_epoch), *arguments)
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(b).all()
        assert a.dtype == b.dtype
        assert np.abs(a - b).max() <= (1e-11 if dtype == "float64" else 1e-4) * np.abs(b).max()


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_each_loss(loss, weighted, monkeypatch, in_pytorch):
    compare(MLP((5, 7, 6, 3), "tanh", ALL_LOSSES[loss], l2=0.1), SGD(0.9), monkeypatch, weighted)
    assert {"dot", "add", "subtract"} <= in_pytorch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation(activation, dtype, monkeypatch, in_pytorch):
    compare(MLP((5, 7, 6, 3), activation), SGD(0.9), monkeypatch, dtype=dtype)
    assert {"dot", "add", "subtract"} <= in_pytorch


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_each_optimizer(optimizer, monkeypatch, in_pytorch):
    compare(MLP((5, 7, 3), "tanh", "squared_error"), optimizer, monkeypatch)
    assert {"dot", "subtract"} <= in_pytorch


def test_small_networks_stay_with_numpy(monkeypatch, in_pytorch):
    monkeypatch.setattr(shared, "_LARGE_ARRAY", 2**15)
    monkeypatch.setattr(shared, "_LARGE_PRODUCT", 2**17)
    compare(MLP((5, 7, 3)), Adam(), monkeypatch)
    assert not in_pytorch
