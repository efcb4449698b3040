"""Optimizers against those of PyTorch, in one piece and in blocks, on every backend."""

import math
from dataclasses import fields

import numpy as np
import pytest

from xpnet import resolve
from xpnet.maths.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, clip_by_norm, update_in_blocks

# Each with its counterpart in torch.optim.
CASES = {
    "sgd": (SGD(), "SGD", {}),
    "momentum": (SGD(0.9), "SGD", {"momentum": 0.9}),
    "nesterov": (SGD(0.9, nesterov=True), "SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam(0.8, 0.99, 1e-6), "Adam", {"betas": (0.8, 0.99), "eps": 1e-6}),
    "adam-defaults": (Adam(), "Adam", {}),
    "adamw": (AdamW(weight_decay=0.1), "AdamW", {"weight_decay": 0.1}),
    "adamw-defaults": (AdamW(), "AdamW", {}),
    "rmsprop": (RMSprop(0.9, 1e-6), "RMSprop", {"alpha": 0.9, "eps": 1e-6}),
    "rmsprop-defaults": (RMSprop(), "RMSprop", {}),
    "adagrad": (Adagrad(), "Adagrad", {}),
}
each_optimizer = pytest.mark.parametrize("name", CASES)
N = 20


def gradients(steps):
    """Return gradients whose length changes a thousandfold on the way, as in training."""
    scales = np.geomspace(10.0, 0.01, steps)[:, np.newaxis]
    return np.random.default_rng(0).standard_normal((steps, N)) * scales


def rate(t):
    return 0.1 / math.sqrt(t)


def run(optimizer, steps, place=np.array, *, xp=np, block=None, compiled=lambda step: step):
    """Return theta after that many steps from the same start."""

    @compiled
    def step(theta, g, moments, coefficients):
        return update_in_blocks(optimizer, theta, g, moments, coefficients, block=block, xp=xp)

    theta = place(np.linspace(-2.0, 2.0, N))
    moments = optimizer.init(theta, xp=xp)
    for t, g in enumerate(gradients(steps), start=1):
        theta, moments = step(theta, place(g), moments, optimizer.coefficients(rate(t), t))
    return theta


@each_optimizer
def test_a_hundred_steps_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    optimizer, torch_name, options = CASES[name]
    theta = torch.linspace(-2.0, 2.0, N, dtype=torch.float64, requires_grad=True)
    theirs = getattr(torch.optim, torch_name)([theta], lr=1.0, **options)
    for t, g in enumerate(gradients(100), start=1):
        theirs.param_groups[0]["lr"] = rate(t)
        theta.grad = torch.tensor(g)
        theirs.step()
    expected = theta.detach().numpy()
    assert np.abs(run(optimizer, 100) - expected).max() <= 1e-12 * np.abs(expected).max()


@each_optimizer
def test_every_backend_takes_the_same_steps(name, backend):
    optimizer = CASES[name][0]
    theta = run(optimizer, 5, backend.asarray, xp=backend.xp, compiled=backend.compile)
    assert theta.dtype == backend.dtype
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-5
    assert backend.to_numpy(theta) == pytest.approx(run(optimizer, 5), rel=tolerance, abs=tolerance)


@pytest.mark.reads_nothing
@each_optimizer
def test_a_step_needs_no_value_on_the_host(name, backend):
    optimizer, xp = CASES[name][0], backend.xp
    theta, g = backend.asarray(np.ones(N)), backend.asarray(np.ones(N))
    place = (backend.dtype, theta.device)
    g = clip_by_norm(g, 1.0, xp=xp)
    theta, moments = optimizer.update(
        theta, g, optimizer.init(theta, xp=xp), optimizer.coefficients(0.1, 1), xp=xp
    )
    assert all((a.dtype, a.device) == place for a in (theta, *moments))


@pytest.mark.parametrize("block", [1, 3, 4, N // 4, N])  # 3 leaves a shorter last block
@each_optimizer
def test_in_blocks_each_bit_is_the_same(name, block):
    optimizer = CASES[name][0]
    assert run(optimizer, 10, block=block).tobytes() == run(optimizer, 10).tobytes()


def test_blocks_work_wherever_training_uses_them(backend):
    if backend.block is None:
        pytest.skip(f"{backend.name} on {backend.device_name} updates in one piece")
    theta = run(Adam(), 5, backend.asarray, xp=backend.xp, block=3)
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-5
    assert backend.to_numpy(theta) == pytest.approx(run(Adam(), 5), rel=tolerance)


@pytest.mark.parametrize("max_norm", [0.5, 4.0, 5.0, 100.0])
def test_a_gradient_is_clipped_as_pytorch_does(max_norm, backend):
    torch = pytest.importorskip("torch")
    g = torch.tensor([0.0, 3.0, -4.0], dtype=torch.float64)  # its norm is 5
    parameter = torch.zeros_like(g, requires_grad=True)
    parameter.grad = g.clone()
    # PyTorch divides by norm + 1e-6, and only ever shortens: at the norm itself the two must differ by that.
    torch.nn.utils.clip_grad_norm_([parameter], max_norm)
    expected = parameter.grad.numpy() * ((5.0 + 1e-6) / 5.0 if max_norm <= 5.0 else 1.0)
    clipped = clip_by_norm(backend.asarray(g.numpy()), max_norm, xp=backend.xp)
    assert clipped.dtype == backend.dtype
    tolerance = 1e-12 if backend.dtype_name == "float64" else 1e-6
    assert backend.to_numpy(clipped) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("size", [1e10, 1e19, 1e20, 1e37])
@pytest.mark.parametrize("max_norm", [1e-3, 1e25])
def test_a_huge_gradient_in_float32_is_clipped_as_in_float64(size, max_norm, backend):
    backend = resolve(backend.device_name, backend.name, "float32")
    g = (size * np.random.default_rng(0).uniform(-1.0, 1.0, 1000)).astype("float32")
    exact = g.astype("float64")
    expected = exact * min(1.0, max_norm / np.linalg.norm(exact))
    with np.errstate(over="ignore"):
        clipped = clip_by_norm(backend.asarray(g), max_norm, xp=backend.xp)
    assert clipped.dtype == backend.dtype
    assert backend.to_numpy(clipped) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("max_norm", [2.0, 1e20])
def test_a_gradient_that_is_short_enough_keeps_its_bits(max_norm):
    g = np.random.default_rng(0).standard_normal(100).astype("float32")
    g /= np.linalg.norm(g)
    assert clip_by_norm(g.copy(), max_norm, xp=np).tobytes() == g.tobytes()


@pytest.mark.parametrize("make", [*(case[0] for case in CASES.values()), SGD(0.9, velocity=True)], ids=repr)
def test_settings_that_are_numpy_numbers_leave_float32_alone(make, backend):
    backend = resolve(backend.device_name, backend.name, "float32")
    settings = {
        field.name: value if isinstance(value := getattr(make, field.name), bool) else np.float64(value)
        for field in fields(make)
    }
    optimizer, xp = type(make)(**settings), backend.xp
    theta = backend.asarray(np.ones(N))
    theta, moments = optimizer.update(
        theta, theta + 1.0, optimizer.init(theta, xp=xp), optimizer.coefficients(0.1, 1), xp=xp
    )
    assert all(a.dtype == backend.dtype for a in (theta, *moments))


def test_a_gradient_of_nothing_is_left_alone():
    assert not clip_by_norm(np.zeros(3), 1.0, xp=np).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SGD(1.0), "momentum: expected at least 0 and below 1, got 1.0"),
        (lambda: SGD(-0.1), "momentum"),
        (lambda: SGD(nesterov=True), "nesterov requires a momentum above 0"),
        (lambda: Adam(beta_1=1.0), "beta_1: expected at least 0 and below 1, got 1.0"),
        (lambda: Adam(beta_2=math.nan), "beta_2"),
        (lambda: AdamW(beta_2=1.5), "beta_2"),
        (lambda: AdamW(weight_decay=-0.01), "weight_decay: expected a number of at least 0, got -0.01"),
        (lambda: AdamW(weight_decay=math.inf), "weight_decay"),
        (lambda: RMSprop(rho=2.0), "rho"),
        *(
            (lambda make=make, value=value: make(epsilon=value), "epsilon: expected a number above 0, got")
            for make in (Adam, AdamW, RMSprop, Adagrad)
            for value in (0.0, -1e-8, math.nan, math.inf)
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
