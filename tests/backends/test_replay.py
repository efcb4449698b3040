"""On NumPy a training step is recorded once and replayed: with the plain step's numbers, in less memory."""

import tracemalloc
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from xpnet.backends import Backend, Steps, resolve
from xpnet.backends.accelerate import plan
from xpnet.backends.accelerate.replay import Replay
from xpnet.backends.numpy import NumPy
from xpnet.errors import InputError
from xpnet.estimator.objective import make_network
from xpnet.maths.losses import LOSSES, Loss, quantile, squared_error
from xpnet.maths.mlp import MLP
from xpnet.maths.ops import ACTIVATIONS, identity
from xpnet.maths.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from xpnet.training import epochs, evaluate, keep_best, restore_best, start, stop_early, validate

N, BATCH = 20, 6  # batches of 6, 6, 6 and 2 rows; 8 steps in two epochs
ALL_LOSSES = {**LOSSES, "quantile": quantile(0.3)}
DEEP = tuple(ACTIVATIONS)  # each of them once
NESTEROV = SGD(0.9, nesterov=True)
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(0.9),
    "nesterov": NESTEROV,
    "velocity": SGD(0.9, velocity=True),
    "nesterov-velocity": SGD(0.9, nesterov=True, velocity=True),
    "adam": Adam(),
    "adam-epsilon_hat": Adam(epsilon_hat=True),
    "adamw": AdamW(weight_decay=0.1),
    "rmsprop": RMSprop(),
    "adagrad": Adagrad(),
}


class Plain(NumPy):
    """A backend that takes each step as it is written."""

    def compile_step(self, step, n_steps, steps_per_epoch):
        return Backend.compile_step(self, step, n_steps, steps_per_epoch)


@dataclass(frozen=True)
class Watched(NumPy):
    """A backend that keeps what it made of the steps."""

    replays: list = field(default_factory=list)

    def compile_step(self, step, n_steps, steps_per_epoch):
        self.replays.append(super().compile_step(step, 1000, steps_per_epoch))
        return self.replays[-1]

    @property
    def plans(self):
        return [plan for replay in self.replays for plan in replay.fixed.values()]


def numpy_as(kind, dtype="float64", block=None):
    """Return the NumPy backend as one of this kind, whose updates go in blocks of this size."""
    if block is not None:
        kind = type(kind.__name__, (kind,), {"block": block})
    return kind(**vars(resolve("cpu", "numpy", dtype)))


def rate(t):
    return 0.05 / t**0.25


def problem(mlp, weighted=False, n=N, dtype="float64"):
    """Return X, Y and, if weighted, weights of which some are 0, for a network with a loss of xpnet's."""
    rng = np.random.default_rng(0)
    shape = n, mlp.sizes[-1]
    X, Y = rng.standard_normal((n, mlp.sizes[0])), rng.standard_normal(shape)
    if mlp.classifies:
        Y = rng.dirichlet(np.ones(shape[1]), n) if shape[1] > 1 else rng.random(shape)
    elif mlp.criterion is LOSSES["poisson"]:
        Y = rng.poisson(2.0, shape)
    arrays = X, Y, rng.uniform(0.5, 2.0, (n, 1)) * (rng.random((n, 1)) < 0.8)
    return tuple(array.astype(dtype) for array in arrays[: 2 + weighted])


def run(backend, mlp, optimizer, data, **options):
    """Train for two epochs. Yield each record, at last theta, the moments, and the loss so far by step."""
    totals, after_step = [], options.pop("after_step", None)

    def note(state):
        totals.append(float(state.loss_sum))
        if after_step is not None:
            after_step(state)

    settings = {"schedule": rate, "n_epochs": 2, "batch_size": BATCH} | options
    state = start(mlp.init(1), optimizer, backend=backend)
    validation, patience = (settings.pop(name, None) for name in ("validation", "patience"))
    records = epochs(mlp, optimizer, state, *data, backend=backend, after_step=note, **settings)
    if validation is not None:
        records = validate(records, state, lambda: evaluate(mlp, state.theta, *validation, backend=backend))
    if patience is not None:
        records = stop_early(keep_best(records, state, backend=backend), state, patience=patience)
    yield from records
    restore_best(state)
    yield [state.theta, *state.moments, np.array(totals)]


def train(*args, **options):
    """Return theta, the moments, and the loss so far by step."""
    *_, arrays = run(*args, **options)
    return arrays


def check(found, expected, dtype="float64"):
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    for a, b in zip(found, expected, strict=True):
        assert np.isfinite(b).all()
        assert a.dtype == b.dtype
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def compare(mlp, optimizer, data, *, dtype="float64", block=None, **options):
    """Train both ways, expect the same, and return what the steps were made into."""
    expected = train(numpy_as(Plain, dtype, block), mlp, optimizer, data, **options)
    backend = numpy_as(Watched, dtype, block)
    check(train(backend, mlp, optimizer, data, **options), expected, dtype)
    return backend.plans


def compare_replayed(*args, **options):
    plans = compare(*args, **options)
    assert plans
    assert None not in plans, "the step was not recorded"


each_dtype = pytest.mark.parametrize("dtype", ["float64", "float32"])
weighted_or_not = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def test_numpy_replays_and_other_libraries_do_not():
    assert isinstance(resolve("cpu", "numpy").compile_step(squared_error, 1000, 10), Replay)
    pytest.importorskip("array_api_strict")
    assert isinstance(resolve("cpu", "array_api_strict").compile_step(squared_error, 1000, 10), partial)


@each_dtype
@weighted_or_not
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_each_loss(loss, weighted, dtype):
    mlp = MLP((5, 7, 6, 3), "tanh", ALL_LOSSES[loss])
    compare_replayed(mlp, SGD(0.9), problem(mlp, weighted, dtype=dtype), dtype=dtype)


@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation(activation, dtype):
    mlp = MLP((5, 7, 6, 3), activation)
    compare_replayed(mlp, SGD(0.9), problem(mlp, dtype=dtype), dtype=dtype)


@pytest.mark.parametrize("block", [None, 4, 11])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_optimizer(optimizer, block):
    mlp = MLP((5, 7, 3), "tanh", "squared_error")
    compare_replayed(mlp, optimizer, problem(mlp), block=block)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_optimizer_in_float32(optimizer):
    mlp = MLP((5, 7, 3), "tanh", "squared_error")
    compare_replayed(mlp, optimizer, problem(mlp, dtype="float32"), dtype="float32")


@pytest.mark.parametrize("batch_size", [1, 6, N - 1, N, None])
@pytest.mark.parametrize("sizes", [(5, 3), (5, 1), (1, 1, 1), (6, 6, 6), (5, 7, 6, 7, 3), (3, 1, 4)], ids=str)
def test_each_shape(sizes, batch_size):
    mlp = MLP(sizes, "tanh", "logistic_cross_entropy", l2=0.1)
    compare_replayed(mlp, NESTEROV, problem(mlp), batch_size=batch_size, n_epochs=3)


@weighted_or_not
@pytest.mark.parametrize(
    "settings", [{"l2": 0.1}, {"l2": 0.1, "l2_shared": True}, {"label_smoothing": 0.2}], ids=str
)
def test_penalties_and_smoothing(settings, weighted):
    mlp = MLP((5, 7, 3), **settings)
    compare_replayed(mlp, Adam(), problem(mlp, weighted))


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
def test_clipping(clip_norm):
    mlp = MLP((5, 7, 3))
    compare_replayed(mlp, SGD(0.9), problem(mlp), clip_norm=clip_norm)


@weighted_or_not
@each_dtype
@pytest.mark.parametrize("indices", ["int64", "int32", "uint8"])
def test_class_indices(indices, dtype, weighted):
    mlp = MLP((5, 7, 3), label_smoothing=0.1)
    X, Y, *weight = problem(mlp, weighted, dtype=dtype)
    compare_replayed(mlp, Adam(), (X, Y.argmax(axis=1).astype(indices), *weight), dtype=dtype)


def test_a_batch_whose_weights_are_all_0():
    mlp = MLP((5, 7, 3), l2=0.1, l2_shared=True)
    X, Y, weight = problem(mlp, weighted=True)
    weight[:BATCH] = 0.0
    compare_replayed(mlp, SGD(0.9), (X, Y, weight), order=lambda n, epoch: None)


@each_dtype
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "logistic_cross_entropy"])
def test_outputs_that_would_overflow(loss, dtype):
    mlp = MLP((5, 4), loss=loss)
    X, Y = problem(mlp, dtype=dtype)
    assert np.ptp(X @ mlp.init(1)[:20].reshape(5, 4)) > 1.0
    compare_replayed(mlp, SGD(), (2000.0 * X, Y), dtype=dtype, schedule=lambda t: 1e-5)


@pytest.mark.parametrize("targets", ["X itself", "a view of X"])
def test_targets_that_are_inputs(targets):
    mlp = MLP((5, 3, 5) if targets == "X itself" else (5, 3, 2), "tanh", "squared_error")
    X, _ = problem(mlp)
    for batch_size in (BATCH, None):
        Y = X if targets == "X itself" else X[:, 1::2]
        compare_replayed(mlp, Adam(), (X, Y), batch_size=batch_size)


@pytest.mark.parametrize(
    ("loss", "out_activation"),
    [
        ("log_loss", "softmax"),
        ("log_loss", "logistic"),
        ("squared_error", "identity"),
        ("quantile", "identity"),
        ("poisson", "identity"),
    ],
)
def test_the_networks_of_the_estimators(loss, out_activation):
    settings = SimpleNamespace(
        loss=loss,
        out_activation_=out_activation,
        activation="relu",
        solver="adam",
        alpha=0.1,
        label_smoothing=0.1,
        quantile=0.3,
    )
    mlp = make_network(settings, (5, 7, 3), numpy_as(Plain))
    compare_replayed(mlp, Adam(epsilon_hat=True), problem(mlp, weighted=True))


def test_parameters_longer_than_a_block():
    mlp = MLP((30, 600, 500, 10), ("relu", "softplus"))
    data = problem(mlp, n=500)
    compare_replayed(mlp, Adam(), data, batch_size=300, n_epochs=1)
    assert mlp.layout.n_parameters > 10 * numpy_as(Plain).block


# Losses of one's own


def around(f):
    """Return the squared error of f(z, Y, xp) in place of z."""

    def loss_and_grad(z, Y, weight, *, xp):
        return squared_error(f(z, Y, xp), Y, weight, xp=xp)

    return Loss(loss_and_grad, identity, classifies=False)


def network_around(f):
    return MLP((5, 7, BATCH), "tanh", around(f))  # z is square, but in the last batch


def parametrize(name, functions):
    return pytest.mark.parametrize(name, functions, ids=lambda f: f.__name__)


def calls_numpy(z, Y, xp):
    return np.where(np.tanh(z) > 0.1, z, 0.5 * z)


def calls_other_functions_of_the_library(z, Y, xp):
    return xp.where(z > 0.0, z, 0.5 * z)


def reads_a_value(z, Y, xp):
    return z * float(z[0, 0])


def asks_an_array(z, Y, xp):
    if z[0, 0] > 0.0:
        z = 2.0 * z
    return z


def asks_all_of_an_array(z, Y, xp):
    return z if np.all(z > 0.0) else 0.5 * z


def takes_an_array_from_outside(z, Y, xp):
    return z * np.arange(1.0, 1.0 + BATCH)


def is_multiplied_by_an_array_from_outside(z, Y, xp):
    return np.arange(1.0, 1.0 + BATCH) * z


def compares_with_a_number_above(z, Y, xp):
    return z * xp.astype(z < 0.5, z.dtype)


def raises_to_a_power(z, Y, xp):
    return z**2


def iterates(z, Y, xp):
    return z + sum(row for row in z)


def sums_with_numpy(z, Y, xp):
    return z / (1.0 + np.sum(z * z))


def averages_with_numpy(z, Y, xp):
    return z - np.mean(z)


def takes_the_largest_with_numpy(z, Y, xp):
    return z - np.max(z)


def takes_the_smallest_with_numpy(z, Y, xp):
    return z - np.min(z)


def multiplies_with_numpy(z, Y, xp):
    square = xp.matmul(z.T, z)
    return z + 1e-3 * xp.sum(np.dot(square, square))


def transposes_with_numpy(z, Y, xp):
    square = xp.matmul(z.T, Y)
    return z + 1e-3 * xp.sum(np.transpose(square) * square)


def indexes_an_element(z, Y, xp):
    return z - 0.5 * z[0, 0]


def writes_an_element(z, Y, xp):
    z[0, 0] = 0.5 * z[1, 1]
    return z


def indexes_with_a_list(z, Y, xp):
    return z - 0.5 * z[:, [1]]


def indexes_with_integers(z, Y, xp):
    return z - 0.5 * z[:, np.arange(BATCH)[::-1]]


def indexes_with_booleans(z, Y, xp):
    return z - 0.5 * z[:, np.arange(BATCH) == 2]


@parametrize(
    "f",
    [
        calls_numpy,
        calls_other_functions_of_the_library,
        reads_a_value,
        asks_an_array,
        asks_all_of_an_array,
        takes_an_array_from_outside,
        is_multiplied_by_an_array_from_outside,
        compares_with_a_number_above,
        raises_to_a_power,
        iterates,
        sums_with_numpy,
        averages_with_numpy,
        takes_the_largest_with_numpy,
        takes_the_smallest_with_numpy,
        multiplies_with_numpy,
        transposes_with_numpy,
        indexes_an_element,
        writes_an_element,
        indexes_with_a_list,
        indexes_with_integers,
        indexes_with_booleans,
    ],
)
def test_a_loss_that_may_not_be_recorded_trains_all_the_same(f):
    mlp = network_around(f)
    compare(mlp, SGD(0.9), problem(mlp))


def sums_along_the_last_axis(z, Y, xp):
    return z - 0.1 * xp.sum(z, axis=-1, keepdims=True)


def sums_along_the_first_axis(z, Y, xp):
    return z - 0.1 * xp.sum(z, axis=-2) + 0.2 * xp.sum(z, axis=0, keepdims=True)


def sums_all(z, Y, xp):
    return z - 0.1 * xp.sum(z, keepdims=True) + 0.2 * xp.sum(z * z)


def sums_a_vector(z, Y, xp):
    rows = xp.sum(z, axis=1)
    return z + xp.sum(rows, axis=0) + 0.1 * xp.sum(rows, axis=-1, keepdims=True)


def sums_a_transposed_matrix(z, Y, xp):
    return z + 0.1 * xp.sum(z.T) + xp.reshape(xp.sum(z.T, axis=0), (-1, 1))


def sums_the_first_of_three_axes(z, Y, xp):
    return z + 0.1 * xp.reshape(xp.sum(xp.reshape(z, (-1, BATCH, 1)), axis=0), (1, BATCH))


def sums_the_middle_of_three_axes(z, Y, xp):
    total = xp.sum(xp.reshape(z, (-1, 3, 2)), axis=1)
    return z + 0.1 * xp.sum(total * total)


def sums_the_middle_of_three_axes_two_of_them_alike(z, Y, xp):
    pairs = xp.sum(xp.reshape(z, (-1, 2, 2)), axis=1)
    return z + pairs[:1, :1] - 0.5 * pairs[:1, 1:]


def sums_the_last_of_three_axes(z, Y, xp):
    parts = xp.reshape(z, (-1, 2, 3))
    return xp.reshape(parts - 0.5 * xp.sum(parts, axis=2, keepdims=True), (-1, BATCH))


def multiplies_stacks_of_matrices(z, Y, xp):
    left, right = xp.reshape(z, (-1, 2, 3)), xp.reshape(z, (-1, 3, 2))
    return z + 0.1 * xp.sum(xp.matmul(left, right))


def largest_of_columns(z, Y, xp):
    return z - xp.max(z, axis=0, keepdims=True)


def largest_of_rows(z, Y, xp):
    return z - xp.max(z, axis=-1, keepdims=True) + xp.reshape(xp.max(z, axis=1), (-1, 1)) * 0.5


def largest_of_all(z, Y, xp):
    return z - xp.max(z)


def extremes_of_two_arrays(z, Y, xp):
    return xp.maximum(z, Y) + xp.minimum(z, 2.0 * Y[:, :1]) + xp.maximum(0.0, z)


def accumulates(z, Y, xp):
    return z + 0.1 * xp.cumulative_sum(z, axis=1) + 0.1 * xp.cumulative_sum(z.T, axis=0).T


def both_rows_and_columns(z, Y, xp):
    """Where z is square, the sums of its rows look like one row of it."""
    sums = 0.1 * xp.sum(z, axis=1)
    if z.shape[0] != z.shape[1]:
        return z
    doubled = sums * 2.0
    return z * doubled + xp.reshape(doubled, (-1, 1))


def one_row_for_all(z, Y, xp):
    first = z[:1, :] * 2.0
    return z + first * first


def a_row_of_a_result(z, Y, xp):
    doubled = 2.0 * z
    return z + doubled[:1, :] + doubled[-1, :] + doubled[:, :1] + doubled[None, 0, ...]


def adds_the_first_row_of_a_result(z, Y, xp):
    doubled = 2.0 * z
    return doubled + doubled[:1, :]


def adds_its_transposed(z, Y, xp):
    square = xp.matmul(z.T, Y)
    return z + xp.sum(square + square.T, axis=0)


def copies_its_transposed(z, Y, xp):
    square, oblong = xp.matmul(z.T, Y), xp.matmul(Y[:, :2].T, z)
    return z + 0.1 * xp.astype(square.T, z.dtype)[:1, :] + 0.1 * xp.sum(xp.astype(oblong.T, z.dtype)[:3, :])


def compares_and_uses_it_twice(z, Y, xp):
    above = z > Y
    mask = xp.astype(above, z.dtype)
    return z * mask + 0.5 * xp.astype(above, z.dtype) + xp.astype(above == (z > 0.0), z.dtype) * z


def compares_the_other_way_round(z, Y, xp):
    return z * xp.astype(z < Y, z.dtype) + 0.5 * xp.astype(z <= 0.5 * Y, z.dtype)


def compares_booleans_with_a_number(z, Y, xp):
    return z * xp.astype((Y > 0.0) > 0.5, z.dtype)


def copies_and_writes_to_both(z, Y, xp):
    copy = xp.astype(z, z.dtype)
    z *= 2.0
    copy += z
    return copy


def writes_to_a_part_of_a_copy(z, Y, xp):
    first, tripled = 2.0 * z[:1, :], 3.0 * z
    copy = xp.astype(tripled, z.dtype)
    copy[:1, :] = first
    return copy


def writes_to_zeros(z, Y, xp):
    doubled = 2.0 * z
    out = xp.zeros_like(z)
    out += z
    out[:, 1:3] = z[:, :2]
    whole = xp.zeros_like(z)
    whole[...] = doubled
    return out + whole


def writes_to_ones(z, Y, xp):
    doubled = 2.0 * z
    out = xp.ones_like(z)
    out *= z
    out[:1, :] = 0.5
    out[-1:, ...] = doubled[:1, :]
    whole = xp.ones_like(doubled)
    whole[...] = doubled
    return out + whole


def writes_a_row_into_all(z, Y, xp):
    out = xp.zeros_like(z)
    out[...] = 2.0 * z[:1, :]
    return out + z


def writes_to_a_transposed_view(z, Y, xp):
    across = z.T
    across *= 2.0
    across += Y.T
    across[:1, :] *= 3.0
    return z


def writes_to_a_flat_view(z, Y, xp):
    flat = xp.reshape(z, (-1,))
    flat *= 2.0
    flat[::2] += 1.0
    return z


def subtracts_its_own_first_row(z, Y, xp):
    z -= z[:1, :]
    return z


def subtracts_its_own_neighbours(z, Y, xp):
    z[1:, :] -= z[:-1, :]
    z[:, 1:] -= z[:, :-1]
    return z


def subtracts_its_own_transposed(z, Y, xp):
    square = xp.exp(0.1 * xp.matmul(z.T, Y))
    square -= square.T
    across = square.T
    across += square * 2.0
    across += 0.5 * square
    across *= square
    return z + square[:1, :]


def joins_and_goes_on_with_the_parts(z, Y, xp):
    a, b = xp.reshape(2.0 * z, (-1,)), xp.reshape(z * z, (-1,))
    joined = xp.concat([a, b, a, xp.reshape(Y, (-1,))])
    a *= 3.0
    n = a.shape[0]
    return xp.reshape(joined[:n] + a + joined[n : 2 * n] * joined[2 * n : 3 * n], z.shape)


def joins_twice(z, Y, xp):
    a, b = xp.sum(z, axis=0), xp.sum(z * Y, axis=0)
    joined = xp.concat([xp.concat([a]), xp.concat([b, 2.0 * a])])
    return z + joined[:BATCH] * joined[BATCH : 2 * BATCH] + joined[-BATCH:]


def joins_in_reverse_order(z, Y, xp):
    joined = xp.concat([xp.sum(z, axis=0)[::-1], xp.sum(z * Y, axis=0)[::2]])
    return z + joined[:BATCH] + 0.1 * joined[-1:]


def joins_and_writes_to_a_part(z, Y, xp):
    part = 0.5 * z[0, :]
    joined = xp.concat([xp.sum(z, axis=0), xp.sum(z * Y, axis=0)])
    joined[:BATCH] = part
    return z + joined[:BATCH] + 0.1 * joined[BATCH:]


def joins_matrices(z, Y, xp):
    joined = xp.concat([2.0 * z, z * Y])
    return z + joined[-1:, ...]


def joins_matrices_that_are_not_its_own(z, Y, xp):
    joined = xp.concat([z, Y])
    return z + 0.1 * xp.sum(joined * joined)


def distinguishes_zeros(z, Y, xp):
    nothing = 0.0 * z
    return z + nothing + xp.maximum(-1.0, xp.minimum(1.0 / (-0.0 * xp.abs(z)), 1.0))


def large_constants(z, Y, xp):
    return z + xp.minimum(1e300 * xp.abs(z), 3) - True * z * 0.5


@parametrize(
    "f",
    [
        sums_along_the_last_axis,
        sums_along_the_first_axis,
        sums_all,
        sums_a_vector,
        sums_a_transposed_matrix,
        sums_the_first_of_three_axes,
        sums_the_middle_of_three_axes,
        sums_the_middle_of_three_axes_two_of_them_alike,
        sums_the_last_of_three_axes,
        multiplies_stacks_of_matrices,
        largest_of_columns,
        largest_of_rows,
        largest_of_all,
        extremes_of_two_arrays,
        accumulates,
        both_rows_and_columns,
        one_row_for_all,
        a_row_of_a_result,
        adds_the_first_row_of_a_result,
        adds_its_transposed,
        copies_its_transposed,
        compares_and_uses_it_twice,
        compares_the_other_way_round,
        compares_booleans_with_a_number,
        copies_and_writes_to_both,
        writes_to_a_part_of_a_copy,
        writes_to_zeros,
        writes_to_ones,
        writes_a_row_into_all,
        writes_to_a_transposed_view,
        writes_to_a_flat_view,
        subtracts_its_own_first_row,
        subtracts_its_own_neighbours,
        subtracts_its_own_transposed,
        joins_and_goes_on_with_the_parts,
        joins_twice,
        joins_in_reverse_order,
        joins_and_writes_to_a_part,
        joins_matrices,
        joins_matrices_that_are_not_its_own,
        distinguishes_zeros,
        large_constants,
    ],
)
@pytest.mark.parametrize("batch_size", [BATCH, None])
def test_a_loss_written_in_an_unusual_way(f, batch_size):
    mlp = network_around(f)
    compare(mlp, SGD(0.9), problem(mlp), batch_size=batch_size)


def multiplies_integers(z, Y, xp):
    return z - Y * 0.5


def adds_integers(z, Y, xp):
    return z + (1 - Y) * z + (Y + Y)


def compares_integers(z, Y, xp):
    return z * xp.astype(Y == 1, z.dtype) + xp.astype(Y >= 1, z.dtype) * xp.astype(z <= Y, z.dtype)


def compares_integers_with_a_half(z, Y, xp):
    return z * xp.astype(Y >= 0.5, z.dtype)


def compares_integers_with_less_than_0(z, Y, xp):
    return z * xp.astype(Y > -0.5, z.dtype)


def asks_whether_integers_are_a_half(z, Y, xp):
    return z * xp.astype(Y == 0.5, z.dtype)


def rounds_to_integers(z, Y, xp):
    return z - 0.1 * xp.astype(xp.astype(5.0 * z, Y.dtype), z.dtype)


def joins_integers_with_numbers(z, Y, xp):
    Y, flat = xp.reshape(Y, (-1,)), xp.reshape(z, (-1,))
    return xp.reshape(xp.concat([flat, Y])[: flat.shape[0]] + xp.concat([Y, flat])[flat.shape[0] :], z.shape)


@each_dtype
@parametrize(
    "f",
    [
        multiplies_integers,
        adds_integers,
        compares_integers,
        compares_integers_with_a_half,
        compares_integers_with_less_than_0,
        asks_whether_integers_are_a_half,
        rounds_to_integers,
        joins_integers_with_numbers,
    ],
)
def test_a_loss_with_integer_targets(f, dtype):
    mlp = network_around(f)
    X, Y = problem(mlp, dtype=dtype)
    compare(mlp, SGD(0.9), (X, np.rint(Y).astype("int64")), dtype=dtype)


# Optimizers of one's own


class Own(NamedTuple):
    """An optimizer that is a function of theta, g, the moments, the learning rate and xp."""

    n_moments: int
    function: object

    def init(self, theta, *, xp):
        return tuple(xp.zeros_like(theta) for _ in range(self.n_moments))

    def coefficients(self, lr, t):
        return lr, 1.0 / t

    def update(self, theta, g, moments, coefficients, *, xp):
        return self.function(theta, g, *moments, *coefficients, xp)


def returns_new_arrays(theta, g, m, lr, decay, xp):
    m = 0.9 * m + g
    return theta - lr * m, (m,)


def returns_new_arrays_and_a_copy(theta, g, m, lr, decay, xp):
    m *= 0.5
    m -= g
    new = theta + lr * m
    return new, (xp.astype(new, new.dtype),)


def returns_the_gradient(theta, g, m, lr, decay, xp):
    theta -= lr * (g + 0.5 * m)
    return theta, (g,)


def hands_its_moments_on(theta, g, m, v, lr, decay, xp):
    theta -= lr * (g + 0.5 * m + 0.25 * v)
    return theta, (g, m)


def swaps_its_moments(theta, g, m, v, lr, decay, xp):
    m *= 0.9
    m += g
    theta -= lr * (m + 0.25 * v)
    return theta, (v, m)


def keeps_the_parameters_before(theta, g, m, lr, decay, xp):
    return theta - lr * (g + 0.1 * (theta - m)), (theta,)


def normalises(theta, g, lr, decay, xp):
    g /= xp.sqrt(xp.sum(g * g)) + 1.0
    theta *= 1.0 - lr * decay
    theta -= lr * g
    return theta, ()


def signs(theta, g, lr, decay, xp):
    theta -= lr * (xp.astype(g > 0.0, g.dtype) - xp.astype(-g > 0.0, g.dtype))
    return theta, ()


def changes_its_coefficients(theta, g, lr, decay, xp):
    before = lr
    lr *= 0.5
    lr += 0.01 * decay
    theta -= (before + lr) * g
    return theta, ()


def asks_its_coefficients(theta, g, lr, decay, xp):
    theta -= min(lr, 0.04) * g if decay > 0.3 else lr**2 * g
    return theta, ()


def counts_in_its_moments(theta, g, m, lr, decay, xp):
    m[:1] += 1.0
    theta -= lr / m[:1] * g
    return theta, (m,)


def counts_in_an_element_of_its_moments(theta, g, m, lr, decay, xp):
    m[0] += 1.0
    theta -= lr / m[0] * g
    return theta, (m,)


def reads_an_element_of_its_moments(theta, g, m, lr, decay, xp):
    m += g
    theta -= lr * (m - 0.1 * m[0])
    return theta, (m,)


def subtracts_the_first_of_its_moments(theta, g, m, lr, decay, xp):
    m += g
    m -= 0.5 * m[:1]
    m -= m[:1]
    theta -= lr * m
    return theta, (m,)


def moves_its_moments_along(theta, g, m, lr, decay, xp):
    m[1:] = m[:-1]
    m[:1] = g[:1]
    theta -= lr * (g + 0.1 * m)
    return theta, (m,)


def writes_to_parts(theta, g, lr, decay, xp):
    first = 0.1 * theta[:2]
    g[:2] = first
    g[2:] *= 0.5
    theta[::2] -= lr * g[::2]
    theta[1::2] = theta[1::2] - 0.5 * lr * g[1::2]
    return theta, ()


def joins_and_writes_to_parts(theta, g, lr, decay, xp):
    first = 0.5 * theta[:2]
    new = xp.concat([theta - lr * g])
    new[:2] = first
    return new, ()


def joins_and_writes_a_product(theta, g, lr, decay, xp):
    every_other = theta[::2]
    product = xp.matmul(xp.reshape(0.5 * every_other, (-1, 1)), xp.ones_like(theta[:1]))
    new = xp.concat([theta - lr * g])
    new[::2] = product
    return new, ()


@parametrize(
    "f",
    [
        returns_new_arrays,
        returns_new_arrays_and_a_copy,
        returns_the_gradient,
        hands_its_moments_on,
        swaps_its_moments,
        keeps_the_parameters_before,
        normalises,
        signs,
        changes_its_coefficients,
        asks_its_coefficients,
        counts_in_its_moments,
        counts_in_an_element_of_its_moments,
        reads_an_element_of_its_moments,
        subtracts_the_first_of_its_moments,
        moves_its_moments_along,
        writes_to_parts,
        joins_and_writes_to_parts,
        joins_and_writes_a_product,
    ],
)
def test_an_optimizer_written_in_an_unusual_way(f):
    mlp = MLP((5, 7, 3), "tanh", "squared_error")
    n_moments = f.__code__.co_argcount - len(("theta", "g", "lr", "decay", "xp"))
    compare(mlp, Own(n_moments, f), problem(mlp))


# Steps that are not a fixed list of operations: noticed where the step is recorded again


def takes_another_number(z, Y, xp, n):
    return z * (1.0 + 0.01 * n)


def takes_a_negative_zero(z, Y, xp, n):
    return z + xp.maximum(-1.0, xp.minimum(1.0 / ((0.0 if n % 2 else -0.0) * xp.abs(z)), 1.0))


def calls_another_function(z, Y, xp, n):
    return (xp.tanh if n % 2 else xp.exp)(0.1 * z)


def takes_another_array(z, Y, xp, n):
    return z * 0.5 + 0.1 * (z if n % 2 else Y)


def takes_another_part(z, Y, xp, n):
    return z + z[:, n % 3 : n % 3 + 1]


def takes_another_shape(z, Y, xp, n):
    return z + xp.sum(z, axis=1, keepdims=True) if n % 2 else z + 0.5 * xp.sum(z * z, keepdims=True)


def calls_more_functions(z, Y, xp, n):
    for _ in range(n % 4):
        z = z + 0.1
    return z


def calls_numpy_at_last(z, Y, xp, n):
    return np.tanh(z) if n == 3 else xp.tanh(z)


def counts_calls(f):
    """Return f with the number of its calls for n."""
    calls = iter(range(1, 1000))
    return lambda z, Y, xp: f(z, Y, xp, next(calls))


each_state = parametrize(
    "f",
    [
        takes_another_number,
        takes_a_negative_zero,
        calls_another_function,
        takes_another_array,
        takes_another_part,
        takes_another_shape,
        calls_more_functions,
    ],
)


@each_dtype
@each_state
@pytest.mark.parametrize("batch_size", [5, None])
def test_a_loss_that_changes_at_each_call_trains_as_it_is_written(f, batch_size, dtype):
    # From the first step on: each of the first two is recorded, and neither is repeated.
    data = problem(network_around(None), dtype=dtype)
    options = {"batch_size": batch_size, "n_epochs": 5}
    expected = train(numpy_as(Plain, dtype), network_around(counts_calls(f)), Adam(), data, **options)
    with pytest.warns(RuntimeWarning, match="a fixed list .* The step has changed") as caught:
        found = train(numpy_as(Watched, dtype), network_around(counts_calls(f)), Adam(), data, **options)
    check(found, expected, dtype)
    assert len(caught) == 1
    assert "repeated the list" not in str(caught[0].message)


def train_with_a_number_per_epoch(backend, numbers, data):
    """Train with a loss that multiplies z by the number of the epoch; return the loss of each epoch."""
    factor = [numbers[0]]
    mlp = network_around(lambda z, Y, xp: z * factor[0])
    losses = []
    for record in run(backend, mlp, SGD(0.9), data, n_epochs=len(numbers), schedule=lambda t: 1e-5):
        if not isinstance(record, list):
            losses.append(record.train_loss)
            factor[0] = numbers[min(record.epoch, len(numbers) - 1)]
    return losses


@each_dtype
def test_a_loss_that_changes_from_epoch_to_epoch_trains_as_it_is_written(dtype):
    data = problem(network_around(None), dtype=dtype)
    numbers = [1.0 + 0.1 * epoch for epoch in range(20)]
    expected = train_with_a_number_per_epoch(numpy_as(Plain, dtype), numbers, data)
    with pytest.warns(RuntimeWarning) as caught:
        found = train_with_a_number_per_epoch(numpy_as(Watched, dtype), numbers, data)
    assert found == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
    assert [str(warning.message) for warning in caught] == [
        "xpnet records a training step once, as a fixed list of array operations, and repeats it. The step "
        "has changed: operation 8, multiply(array, 1.0), is now multiply(array, 1.1). From now on each step "
        "runs as written, which is slower. Steps that repeated the list since the last check: 2"
    ]


def test_a_loss_that_changes_after_many_epochs_is_noticed_later():
    # With four steps per epoch it is checked after 1, 4, 7, 512 and 1024 steps: at epochs 1, 2, 129 and 257.
    data = problem(network_around(None))
    numbers = [1.0] * 100 + [2.0] * 40
    expected = train_with_a_number_per_epoch(numpy_as(Plain), numbers, data)
    with pytest.warns(RuntimeWarning, match="since the last check: 504$") as caught:
        found = train_with_a_number_per_epoch(numpy_as(Watched), numbers, data)
    assert len(caught) == 1
    assert found[:100] == pytest.approx(expected[:100], rel=1e-12)
    assert found[100:128] == pytest.approx([found[99]] * 28, rel=0.1)
    assert found[128:] == pytest.approx(expected[128:], rel=0.1)
    assert expected[100] > 1.5 * expected[99]


def test_a_loss_that_cannot_be_recorded_any_more():
    mlp = network_around(counts_calls(calls_numpy_at_last))
    data, options = problem(mlp), {"batch_size": 5}
    with pytest.warns(RuntimeWarning, match="changed: it can no longer be recorded: the step") as caught:
        found = train(numpy_as(Watched), mlp, Adam(), data, **options)
    assert len(caught) == 1
    expected = train(numpy_as(Plain), network_around(lambda z, Y, xp: np.tanh(z)), Adam(), data, **options)
    check(found, expected)


def test_a_user_is_told_once_in_the_log_that_a_step_is_not_recorded(caplog):
    mlp = network_around(calls_numpy)
    with caplog.at_level("INFO", logger="xpnet"):
        train(numpy_as(Watched), mlp, SGD(), problem(mlp))  # with two sizes of a batch
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.message == (
        "the training step is not recorded but runs as written: the step reads the values of an array, or "
        "calls a function of NumPy"
    )


def test_an_error_of_the_users_own_reaches_the_user():
    def fails(z, Y, xp):
        raise LookupError("no such table")

    mlp = network_around(fails)
    with pytest.raises(LookupError, match="no such table"):
        train(numpy_as(Watched), mlp, SGD(), problem(mlp))


def test_an_error_in_the_plan_is_not_taken_for_a_step_that_cannot_be_recorded(monkeypatch):
    def fails(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(plan, "_allocate", fails)
    mlp = MLP((5, 7, 3))
    with pytest.raises(TypeError, match="a bug"):
        train(numpy_as(Watched), mlp, SGD(), problem(mlp))


# What is borrowed, and what is handed on


def reversed_rows(x):
    return x[::-1].copy()[::-1]


def every_other_column(x):
    return np.repeat(x, 2, axis=1)[:, ::2]


@weighted_or_not
@pytest.mark.parametrize("batch_size", [BATCH, None])
@parametrize("lay_out", [np.ascontiguousarray, np.asfortranarray, reversed_rows, every_other_column])
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_the_callers_data_are_not_written_to(loss, lay_out, batch_size, weighted):
    mlp = MLP((5, 7, 3), loss=ALL_LOSSES[loss])
    data = tuple(map(lay_out, problem(mlp, weighted)))
    before = [array.tobytes() for array in data]
    for array in data:
        array.flags.writeable = False
    compare_replayed(mlp, SGD(0.9), data, batch_size=batch_size)
    assert [array.tobytes() for array in data] == before


def test_data_that_the_caller_changes_between_two_steps_count():
    mlp = MLP((5, 7, 3))
    found = []
    for kind in (Plain, Watched):
        X, Y = problem(mlp)

        def change(state, X=X):
            X[...] *= 0.9

        found.append(train(numpy_as(kind), mlp, Adam(), (X, Y), after_step=change))
    check(found[1], found[0])


def test_other_data_than_at_first():
    def step(state, data, index, coefficients, *, xp):
        theta, moments, total = state
        theta += coefficients[0] * xp.sum(xp.take(data[0], index, axis=0), axis=0)
        return theta, moments, total

    compiled, rng, expected = (
        resolve("cpu", "numpy", "float64").compile_step(step, 1000, 10),
        np.random.default_rng(0),
        0,
    )
    state = np.zeros(3), (), np.zeros(())
    for X in [*rng.random((2, 5, 3))] * 2 + [*rng.random((4, 5, 3))]:
        state = compiled(state, (X,), Steps(np.array([1, 4]), 2, np.array([[0.5]])), 0, 1)
        expected += 0.5 * (X[1] + X[4])
        assert state[0] == pytest.approx(expected, rel=1e-12)


def test_parameters_put_in_between_two_steps_count():
    mlp = MLP((5, 7, 3))

    def put_in(state):
        if state.step == 2:
            state.theta = 0.5 * state.theta
        if state.step == 3:
            state.moments = tuple(m.copy() for m in state.moments[::-1])
            state.moments[1][...] = 2.0
        if state.step == 6:
            state.theta = state.theta[::-1]
            state.loss_sum = state.loss_sum * 0.0 + np.ones(())

    for batch_size in (BATCH, 5):
        compare_replayed(mlp, Adam(), problem(mlp), batch_size=batch_size, after_step=put_in)


def test_moments_that_change_places_between_two_steps():
    mlp = MLP((5, 7, 3))

    def swap(state):
        state.moments = state.moments[::-1]

    # Not Adam's, which must not be below 0.
    compare_replayed(mlp, Own(2, blends), problem(mlp), after_step=swap)


def blends(theta, g, m, v, lr, decay, xp):
    m *= 0.9
    m += g
    v *= 0.5
    v += g
    theta -= lr * (m + 0.3 * v)
    return theta, (m, v)


def test_a_loss_so_far_that_is_a_number():
    # NumPy makes numbers of 0-d arrays at each turn: `state.loss_sum + loss * n` is one.
    mlp = MLP((5, 7, 3))

    def to_number(state):
        state.loss_sum = state.loss_sum[()]

    assert isinstance(np.ones(())[()], np.float64)
    compare(mlp, Adam(), problem(mlp), after_step=to_number)
    expected, found = (first_epoch_from_a_number(kind) for kind in (Plain, Watched))
    assert found == pytest.approx(expected, rel=1e-12)


def first_epoch_from_a_number(kind):
    mlp, backend = MLP((5, 7, 3)), numpy_as(kind)
    state = start(mlp.init(1), Adam(), backend=backend)
    state.loss_sum = np.float64(0.0)
    run = epochs(
        mlp, Adam(), state, *problem(mlp), backend=backend, schedule=rate, n_epochs=1, batch_size=BATCH
    )
    return next(run).train_loss


@pytest.mark.parametrize("optimizer", [Adam(), Own(1, returns_new_arrays)], ids=["in-place", "new"])
def test_what_was_taken_at_the_end_of_an_epoch_stays(optimizer):
    mlp = MLP((5, 7, 3))
    thetas, curves = [], []
    for kind in (Plain, Watched):
        taken = []
        steps = run(
            numpy_as(kind),
            mlp,
            optimizer,
            problem(mlp),
            n_epochs=4,
            validation=problem(mlp),
            after_step=lambda state, taken=taken: taken.append(state.theta.copy()),
        )
        *records, _ = steps
        thetas.append(np.array(taken))
        curves.append([number for r in records for number in (r.train_loss, *r.validation)])
    check(thetas[1:], thetas[:1])
    assert curves[1] == pytest.approx(curves[0], rel=1e-12)
    assert len(set(curves[1])) > 8


def test_early_stopping_goes_back_to_the_best_parameters():
    mlp = MLP((5, 30, 3))
    X, Y = problem(mlp, n=30)
    options = {"validation": (X[20:], Y[20:]), "patience": 3, "n_epochs": 60, "schedule": lambda t: 0.05}
    compare_replayed(mlp, Adam(), (X[:20], Y[:20]), **options)


def test_two_networks_in_turn():
    """Each step of the one is followed by a step of the other: a full batch is an epoch."""
    both, backend = (MLP((5, 3)), MLP((5, 7, 6, 3), "tanh", "squared_error")), numpy_as(Watched)
    options = {"batch_size": None, "n_epochs": 9}
    expected = [train(numpy_as(Plain), mlp, Adam(), problem(mlp), **options) for mlp in both]
    runs = [run(backend, mlp, Adam(), problem(mlp), **options) for mlp in both]
    *_, found = zip(*runs, strict=True)
    for a, b in zip(found, expected, strict=True):
        check(a, b)
    assert len(backend.plans) == 2


def test_one_network_trains_within_the_steps_of_another():
    mlp, other = MLP((5, 7, 3)), MLP((5, 7, 3), "tanh")
    expected = train(numpy_as(Plain), mlp, Adam(), problem(mlp))
    expected_other = train(numpy_as(Plain), other, NESTEROV, problem(mlp), batch_size=None, n_epochs=8)
    backend, found = numpy_as(Watched), []
    steps = run(backend, other, NESTEROV, problem(mlp), batch_size=None, n_epochs=8)
    check(
        train(backend, mlp, Adam(), problem(mlp), after_step=lambda state: found.append(next(steps))),
        expected,
    )
    check(next(steps), expected_other)
    assert len(backend.replays) == 2


@pytest.mark.parametrize("rows", [[-1, 0, 1], [0, N], [5, 2**40], [-N]], ids=str)
@pytest.mark.parametrize("kind", [Plain, Watched])
def test_an_order_with_rows_that_are_not_there_is_refused(kind, rows):
    mlp = MLP((5, 3))
    steps = run(
        numpy_as(kind), mlp, SGD(), problem(mlp), order=lambda n, epoch: np.array(rows), batch_size=BATCH
    )
    with pytest.raises(
        InputError, match=f"order: expected rows 0 to {N - 1}, got {min(rows)} to {max(rows)}"
    ):
        next(steps)


def test_an_order_may_repeat_and_leave_out_rows():
    mlp = MLP((5, 3))
    compare_replayed(mlp, SGD(0.9), problem(mlp), order=lambda n, epoch: np.array([0, 3, 3, n - 1, 7, 0, 2]))


# Memory


def memory_of_two_steps(mlp, n, optimizer):
    """Return the bytes kept after the first step, and what the second asks for beside them."""
    seen = []

    def look(state):
        current, peak = tracemalloc.get_traced_memory()
        seen.append((current, peak))
        tracemalloc.reset_peak()

    backend = numpy_as(Watched, "float32")
    data = problem(mlp, n=n, dtype="float32")
    state = start(mlp.init(1), optimizer, backend=backend)
    tracemalloc.start()
    try:
        steps = epochs(
            mlp,
            optimizer,
            state,
            *data,
            backend=backend,
            schedule=rate,
            n_epochs=2,
            batch_size=n,
            after_step=look,
        )
        list(steps)
    finally:
        tracemalloc.stop()
    assert None not in backend.plans
    (kept, _), (_, peak) = seen
    return kept, peak - kept


def test_memory_of_a_wide_network():
    mlp = MLP((784, 800, 10))
    theta, batch = 4 * mlp.layout.n_parameters, 4 * 128 * 784
    kept, more = memory_of_two_steps(mlp, 128, Adam())
    assert kept < 1.8 * (theta + batch)
    assert more < 0.1 * theta


def test_memory_of_a_deep_network():
    """The outputs of the layers have to be kept for the way back; what else there is takes turns."""
    mlp = MLP((32,) * 8, DEEP[1:], "huber")
    layer = 4 * 8000 * 32
    kept, more = memory_of_two_steps(mlp, 8000, SGD(0.9))
    assert kept < 13 * layer
    assert more < 0.2 * layer
