"""Losses and gradients against difference quotients, PyTorch's autograd, and values known in closed form."""

import math

import numpy as np
import pytest
from scipy.special import expit, huber, log_softmax, xlogy

from xpnet.errors import InputError
from xpnet.maths.losses import LOSSES
from xpnet.maths.mlp import MLP
from xpnet.maths.ops import ACTIVATIONS

SIZES = (5, 7, 6, 3)
N = 9
every_case = [
    pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"]),
    pytest.mark.parametrize("l2", [0.0, 0.3]),
    pytest.mark.parametrize("loss", LOSSES),
    pytest.mark.parametrize("activation", ACTIVATIONS),
]


def all_of(marks):
    def decorate(test):
        for mark in marks:
            test = mark(test)
        return test

    return decorate


def problem(mlp, weighted=True, seed=0):
    """Return theta, X, Y and, if weighted, sample weights that suit this network, as float64."""
    rng = np.random.default_rng(seed)
    n_outputs = mlp.sizes[-1]
    Y = {
        "softmax_cross_entropy": rng.dirichlet(np.ones(n_outputs), N),
        "logistic_cross_entropy": rng.integers(0, 2, (N, n_outputs)).astype(float),
        "squared_error": rng.standard_normal((N, n_outputs)),
        "huber": 2.0 * rng.standard_normal((N, n_outputs)),
        "absolute_error": rng.standard_normal((N, n_outputs)),
        "poisson": rng.poisson(2.0, (N, n_outputs)).astype(float),
    }[mlp.loss]
    theta = 0.5 * rng.standard_normal(mlp.layout.n_parameters)
    arrays = theta, rng.standard_normal((N, mlp.sizes[0])), Y
    return (*arrays, rng.uniform(0.1, 2.0, (N, 1))) if weighted else arrays


def torch_loss_and_grad(mlp, theta, X, Y, weight=None):
    """Return what PyTorch makes of the same network, loss and penalty."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    theta, X, Y = (torch.tensor(a) for a in (theta, X, Y))
    theta.requires_grad_()
    pairs = list(zip(mlp.sizes[:-1], mlp.sizes[1:], strict=True))
    cuts = [i * o for i, o in pairs] + list(mlp.sizes[1:])
    parts = torch.split(theta, cuts)
    weights = [part.reshape(pair) for part, pair in zip(parts, pairs, strict=False)]
    z = X
    for i, (W, b) in enumerate(zip(weights, parts[len(pairs) :], strict=True)):
        if i:
            name = mlp.activations[i - 1]
            z = z if name == "identity" else getattr(F, {"logistic": "sigmoid"}.get(name, name))(z)
        z = F.linear(z, W.T, b)
    rows = {
        "softmax_cross_entropy": lambda: F.cross_entropy(z, Y, reduction="none"),
        "logistic_cross_entropy": lambda: F.binary_cross_entropy_with_logits(z, Y, reduction="none").sum(1),
        "squared_error": lambda: 0.5 * F.mse_loss(z, Y, reduction="none").sum(1),
        "huber": lambda: F.huber_loss(z, Y, reduction="none").sum(1),
        "absolute_error": lambda: F.l1_loss(z, Y, reduction="none").sum(1),
        # Half the deviance, as sklearn.metrics.mean_poisson_deviance has it.
        "poisson": lambda: (F.poisson_nll_loss(z, Y, reduction="none") + torch.special.xlogy(Y, Y) - Y).sum(
            1
        ),
    }[mlp.loss]()
    share = torch.ones(len(X)) if weight is None else torch.tensor(weight[:, 0])
    loss = (rows * share).sum() / share.sum() + 0.5 * mlp.l2 * sum((W**2).sum() for W in weights)
    loss.backward()
    return loss.item(), theta.grad.numpy()


@all_of(every_case)
def test_the_slope_along_a_random_direction(activation, loss, l2, weighted):
    mlp = MLP(SIZES, activation, loss, l2)
    theta, *rows = problem(mlp, weighted)
    g = mlp.loss_and_grad(theta, *rows, xp=np)[1]
    direction = np.random.default_rng(1).standard_normal(theta.shape)
    # It leans towards g: a slope that is small by chance would drown in the rounding of the quotient.
    direction = direction / np.linalg.norm(direction) + g / np.linalg.norm(g)
    step = 3e-6  # where the truncation error, step² f‴, meets the rounding error, 1e-16 f / step

    def f(s):
        return mlp.loss_and_grad(theta + s * direction, *rows, xp=np)[0]

    slope = (f(step) - f(-step)) / (2 * step)
    assert g @ direction == pytest.approx(slope, rel=1e-7)


@all_of(every_case)
def test_autograd_finds_the_same_loss_and_gradient(activation, loss, l2, weighted):
    mlp = MLP(SIZES, activation, loss, l2)
    arrays = problem(mlp, weighted)
    expected_loss, expected = torch_loss_and_grad(mlp, *arrays)
    found_loss, g = mlp.loss_and_grad(*arrays, xp=np)
    assert found_loss == pytest.approx(expected_loss, rel=1e-12)
    assert np.linalg.norm(g - expected) <= 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize("sizes", [(5, 3), (5, 1), (1, 1, 1)], ids=str)
def test_autograd_agrees_without_hidden_layers_and_with_single_units(sizes):
    mlp = MLP(sizes, "tanh", "logistic_cross_entropy", l2=0.1)
    arrays = problem(mlp)
    assert mlp.loss_and_grad(*arrays, xp=np)[1] == pytest.approx(
        torch_loss_and_grad(mlp, *arrays)[1], rel=1e-12
    )


def deep(loss):
    """Return a network that has each activation once."""
    return MLP((5, 7, 6, 7, 6, 7, 6, 7, 3), tuple(ACTIVATIONS), loss, l2=0.1)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_backend_finds_what_numpy_finds(loss, weighted, backend, lend):
    mlp = deep(loss)
    arrays = problem(mlp, weighted)
    expected_loss, expected = mlp.loss_and_grad(*arrays, xp=np)
    lent = [lend(a) for a in arrays]
    before = [backend.to_numpy(a).tobytes() for a in lent]
    found_loss, g = backend.compile(lambda *a: mlp.loss_and_grad(*a, xp=backend.xp))(*lent)

    tolerance = 1e-10 if backend.dtype_name == "float64" else 1e-4
    assert float(found_loss) == pytest.approx(float(expected_loss), rel=tolerance)
    assert np.linalg.norm(backend.to_numpy(g) - expected) <= tolerance * np.linalg.norm(expected)
    assert (found_loss.shape, g.shape) == ((), lent[0].shape)
    assert found_loss.dtype == g.dtype == backend.dtype
    assert [backend.to_numpy(a).tobytes() for a in lent] == before


@pytest.mark.reads_nothing
@pytest.mark.parametrize("loss", LOSSES)
def test_a_gradient_needs_no_value_on_the_host(loss, backend, lend):
    mlp = deep(loss)
    lent = [lend(a) for a in problem(mlp)]
    found_loss, g = mlp.loss_and_grad(*lent, xp=backend.xp)
    assert (found_loss.dtype, g.dtype) == (backend.dtype, backend.dtype)
    assert found_loss.device == g.device == lent[0].device


def test_class_indices_mean_the_same_as_one_hot_rows(backend, lend):
    mlp = MLP(SIZES, label_smoothing=0.1)
    theta, X, _, weight = problem(mlp)
    classes = np.arange(N) % 3
    by_index = mlp.loss_and_grad(lend(theta), lend(X), lend(classes), lend(weight), xp=backend.xp)
    one_hot = mlp.loss_and_grad(lend(theta), lend(X), lend(np.eye(3)[classes]), lend(weight), xp=backend.xp)
    for a, b in zip(by_index, one_hot, strict=True):
        assert backend.to_numpy(a).tolist() == backend.to_numpy(b).tolist()


@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_label_smoothing_is_that_of_pytorch(smoothing):
    torch = pytest.importorskip("torch")
    mlp = MLP((4, 3), label_smoothing=smoothing)
    rng = np.random.default_rng(0)
    theta, X, classes = rng.standard_normal(15), rng.standard_normal((N, 4)), np.arange(N) % 3
    z = torch.tensor(mlp.forward(theta, X, xp=np))
    expected = torch.nn.functional.cross_entropy(z, torch.tensor(classes), label_smoothing=smoothing)
    assert mlp.loss_and_grad(theta, X, classes, xp=np)[0] == pytest.approx(expected.item(), rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_integer_weight_counts_a_row_that_often(loss):
    mlp = MLP(SIZES, "tanh", loss, l2=0.1)
    theta, X, Y = problem(mlp, weighted=False)
    times = np.arange(N) % 4
    weighted = mlp.loss_and_grad(theta, X, Y, times[:, np.newaxis].astype(float), xp=np)
    repeated = mlp.loss_and_grad(theta, np.repeat(X, times, 0), np.repeat(Y, times, 0), xp=np)
    assert weighted[0] == pytest.approx(repeated[0], rel=1e-14)
    assert weighted[1] == pytest.approx(repeated[1], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_weight_teaches_nothing(loss):
    mlp = MLP(SIZES, "tanh", loss)
    theta, X, Y = problem(mlp, weighted=False)
    found_loss, g = mlp.loss_and_grad(theta, X, Y, np.zeros((N, 1)), xp=np)
    assert found_loss == 0.0
    assert not g.any()


@pytest.mark.parametrize("weights", [[-1.0], [3.0, -1.0]], ids=["all", "some"])
@pytest.mark.parametrize("shared", [False, True])
def test_weights_may_be_negative(weights, shared):
    mlp = MLP(SIZES, "tanh", "squared_error", l2=0.1, l2_shared=shared)
    theta, X, Y = problem(mlp, weighted=False)
    weight = np.resize(weights, N)
    rows = 0.5 * ((mlp.forward(theta, X, xp=np) - Y) ** 2).sum(axis=1)
    W = theta[: mlp.layout.n_weights]
    penalty = 0.05 * (W @ W) / (weight.sum() if shared else 1.0)
    found, g = mlp.loss_and_grad(theta, X, Y, weight[:, np.newaxis], xp=np)
    assert found == pytest.approx(np.average(rows, weights=weight) + penalty, rel=1e-12)
    step = 1e-6 * np.random.default_rng(1).standard_normal(theta.size)
    ahead, behind = (
        mlp.loss_and_grad(theta + s, X, Y, weight[:, np.newaxis], xp=np)[0] for s in (step, -step)
    )
    assert g @ step == pytest.approx((ahead - behind) / 2, rel=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_weights_of_both_signs_that_sum_to_0_have_no_mean(shared, backend, lend):
    mlp = MLP(SIZES, "tanh", "squared_error", l2=0.1, l2_shared=shared)
    theta, X, Y = (lend(a[: 2 * (N // 2)] if a.ndim == 2 else a) for a in problem(mlp, weighted=False))
    weight = lend(np.array([[1.0], [-1.0]] * (N // 2)))
    with np.errstate(divide="ignore", invalid="ignore"):
        loss, _ = mlp.loss_and_grad(theta, X, Y, weight, xp=backend.xp)
    assert not math.isfinite(float(loss))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_mean_over_no_rows_is_refused(weighted):
    mlp = MLP(SIZES)
    theta, *data = problem(mlp, weighted=True)
    with pytest.raises(InputError, match="X: expected at least 1 row, got 0"):
        mlp.loss_and_grad(theta, *(a[:0] for a in data[: 2 + weighted]), xp=np)
    assert mlp.predict(theta, data[0][:0], xp=np).shape == (0, SIZES[-1])


# From the tails, where naive formulas overflow, cancel or divide by zero, to both sides of 0.
FAR = np.array([-1e4, -100.0, -20.0, -1.0, -1e-3, 1e-3, 1.0, 20.0, 50.0, 1e4])

ACTIVATION_VALUES = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(0.0, z),
}
ACTIVATION_SLOPES = {
    "identity": np.ones_like,
    "logistic": lambda z: expit(z) * expit(-z),
    "tanh": lambda z: 1.0 - np.tanh(z) ** 2,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu": lambda z: np.where(z > 0, 1.0, 0.01),
    "elu": lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
    "softplus": expit,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_slope_as_far_out_as_ten_thousand(name, dtype):
    activation, eps = ACTIVATIONS[name], float(np.finfo(dtype).eps)
    z = FAR.astype(dtype)
    h = activation.forward(z.copy(), xp=np)
    dz = activation.backward(h, np.full_like(z, 3.0), xp=np)
    exact = z.astype("float64")
    assert h.dtype == dz.dtype == dtype
    assert h == pytest.approx(ACTIVATION_VALUES[name](exact), rel=4 * eps, abs=4 * eps)
    assert dz == pytest.approx(3.0 * ACTIVATION_SLOPES[name](exact), rel=4 * eps, abs=8 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_logistic_unit_that_is_off_is_exactly_0(dtype):
    # As in SciPy: times an input of 1e37, even 2e-35 would be a large gradient.
    z = np.array([-1e37, -800.0, -90.0, -30.0, 30.0, 90.0, 800.0, 1e37], dtype)
    h = ACTIVATIONS["logistic"].forward(z.copy(), xp=np)
    info = np.finfo(dtype)
    exact = expit(z.astype("float64"))
    np.testing.assert_allclose(h, exact, rtol=4 * info.eps, atol=2 * info.smallest_subnormal)
    assert h[0] == 0.0


def test_the_slope_at_a_kink_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    for name in ("relu", "leaky_relu", "elu"):
        z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        getattr(torch.nn.functional, name)(z).backward()
        h = ACTIVATIONS[name].forward(np.zeros(1), xp=np)
        assert ACTIVATIONS[name].backward(h, np.ones(1), xp=np) == z.grad.numpy()


def far_rows(loss):
    """Return logits up to ±1e4, targets, and what loss and gradient of every row are by SciPy."""
    if loss == "softmax_cross_entropy":
        z = np.array(
            [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [9999.0, 1e4, 1e4], [1.0, 2.0, 3.0], [-1e4, 0, 1]]
        )
        Y = np.eye(3)[[1, 0, 2, 0, 2]]
        return z, Y, -(Y * log_softmax(z, axis=1)).sum(1), np.exp(log_softmax(z, axis=1)) - Y
    z, Y = FAR[:, np.newaxis], np.arange(10.0)[:, np.newaxis] % 2
    z, Y = np.concat([z, z]), np.concat([Y, 1 - Y])
    Y[5] = 1e-5  # a target need not be whole
    if loss == "poisson":  # e^z overflows at 88 in float32
        z = np.minimum(z, 80.0)
    rows, dz = {
        "logistic_cross_entropy": lambda: (np.logaddexp(0.0, z) - Y * z, expit(z) - Y),
        "squared_error": lambda: (0.5 * (z - Y) ** 2, z - Y),
        "huber": lambda: (huber(1.0, z - Y), np.clip(z - Y, -1.0, 1.0)),
        "absolute_error": lambda: (np.abs(z - Y), np.sign(z - Y)),
        "poisson": lambda: (np.exp(z) - Y * z + xlogy(Y, Y) - Y, np.exp(z) - Y),
    }[loss]()
    return z, Y, rows[:, 0], dz


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_and_its_gradient_as_far_out_as_ten_thousand(loss, dtype):
    tolerance = 8 * float(np.finfo(dtype).eps)
    z, Y, expected_rows, expected_dz = far_rows(loss)
    scale = {"poisson": 100.0}.get(loss, 1.0)  # e^z at z = 80 has the relative error 80 eps
    weight = np.full((len(z), 1), 1.0 / len(z))
    weight[3] *= 5.0
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for i in range(len(z)):
            row = [a[i : i + 1].astype(dtype) for a in (z, Y, weight)]
            found, dz = LOSSES[loss].loss_and_grad(*row, xp=np)
            assert found.dtype == dz.dtype == dtype
            assert found == pytest.approx(
                expected_rows[i] * weight[i, 0], rel=scale * tolerance, abs=tolerance
            )
            assert dz == pytest.approx(expected_dz[[i]] * weight[i], rel=scale * tolerance, abs=tolerance)
        total, _ = LOSSES[loss].loss_and_grad(*(a.astype(dtype) for a in (z, Y, weight)), xp=np)
    assert total == pytest.approx(expected_rows @ weight[:, 0], rel=scale * tolerance)


@pytest.mark.parametrize(("dtype", "z"), [("float32", 89.0), ("float64", 710.0)])
def test_a_poisson_mean_that_overflows_is_infinite(dtype, z):
    # As in scikit-learn, whose MLPRegressor then raises an error.
    z, Y = np.array([[z]], dtype), np.ones((1, 1), dtype)
    with np.errstate(over="ignore"):
        found = *LOSSES["poisson"].loss_and_grad(z, Y, 1.0, xp=np), LOSSES["poisson"].predict(z, xp=np)
    assert [(x.dtype, float(x.squeeze())) for x in found] == 3 * [(dtype, np.inf)]


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "poisson"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_network_in_float32_stays_finite_at_ten_thousand(activation, loss):
    mlp = MLP((2, 4, 3), activation, loss)
    theta, _, Y, weight = problem(mlp)
    X = np.array([[1e4, 1e4], [-1e4, -1e4], [1e4, -1e4]] * 3)
    found_loss, g = mlp.loss_and_grad(*(a.astype("float32") for a in (theta, X, Y, weight)), xp=np)
    assert math.isfinite(found_loss)
    assert np.isfinite(g).all()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("softmax_cross_entropy", lambda z: np.exp(log_softmax(z, axis=1))),
        ("logistic_cross_entropy", expit),
        ("squared_error", lambda z: z),
        ("huber", lambda z: z),
        ("absolute_error", lambda z: z),
        ("poisson", np.exp),
    ],
)
def test_what_a_network_predicts(loss, expected, backend, lend):
    mlp = MLP(SIZES, "tanh", loss)
    theta, X, _ = problem(mlp, weighted=False)
    found = backend.to_numpy(mlp.predict(lend(theta), lend(X), xp=backend.xp))
    z = mlp.forward(theta, X, xp=np)
    assert found == pytest.approx(expected(z), rel=1e-12 if backend.dtype_name == "float64" else 1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": (3,)}, r"sizes: expected .* got \(3,\)"),
        ({"sizes": (3, 0, 2)}, "each at least 1"),
        ({"activations": "relo"}, "unknown activation 'relo'. Did you mean 'relu'"),
        ({"activations": ["relu", "tanh"]}, "each of the 1 hidden layers, got 2: relu, tanh"),
        ({"loss": "hinge"}, "unknown loss 'hinge'.*Choose from softmax_cross_entropy"),
        ({"l2": -1.0}, "l2: expected a number of at least 0"),
        ({"l2": math.nan}, "l2"),
        ({"label_smoothing": 1.0}, "label_smoothing: expected at least 0 and below 1"),
        ({"label_smoothing": 0.1, "loss": "poisson"}, "belongs to softmax_cross_entropy"),
    ],
)
def test_a_network_that_cannot_be_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        MLP(**{"sizes": (4, 5, 3)} | settings)
