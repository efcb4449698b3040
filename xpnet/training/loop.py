"""The training loop: a generator that yields a record at the end of each epoch::

    for record in epochs(mlp, Adam(), state, X, Y, schedule=schedule, n_epochs=20, ...):
        print(record.epoch, record.train_loss)

The loop does the bookkeeping on the host. All arithmetic is in `Step`, a fixed sequence of array operations
that never waits for the device. The loss is summed in a 0-d array on the device and read once per epoch.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, Schedule
from xpnet.backends import Backend, PartlyTaken, Steps
from xpnet.data.batches import Order, make_slices, shuffle
from xpnet.errors import DivergenceError, InputError
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import Moments, Optimizer, flush_denormals
from xpnet.training.scores import Evaluation
from xpnet.training.step import Step, compile_gradient, compile_update

# A full batch of at most this many rows is one compiled step.
WHOLE_ROWS = 8192

# A momentum of `tiny` times epsilon that shrinks by 0.9 a step takes 150 steps to become denormal.
_FLUSH_EVERY = 128

# Maximum number of steps in a call of the compiled step, a divisor of the number above.
_STEPS_PER_CALL = 64

__all__ = [
    "WHOLE_ROWS",
    "Best",
    "Epoch",
    "TrainState",
    "compute_gradient_in_chunks",
    "epochs",
    "explain_divergence",
    "start",
]


class Best(NamedTuple):
    """A copy of the parameters of the best epoch so far, the one with the lowest `value`."""

    theta: Array
    value: float
    epoch: int


@dataclass
class TrainState:
    """The state of training. `epochs` updates it and may overwrite its arrays: copy what you want to keep.

    The arrays belong to one training: do not put them into the state of another.

    Attributes:
        theta: (n_parameters,).
        moments: the optimizer's vectors, each shaped like theta.
        loss_sum: 0-d, the sum of the losses of the rows visited in the current epoch.
        step: number of optimizer steps taken.
        epoch: number of epochs completed.
        batch: number of batches completed in the current epoch.
        learning_rate: learning rate of the last step.
        seconds: training time so far.
        best: the parameters of the best epoch, if they are kept (see `validation`).
    """

    theta: Array
    moments: Moments
    loss_sum: Array
    step: int = 0
    epoch: int = 0
    batch: int = 0
    learning_rate: float = 0.0
    seconds: float = 0.0
    best: Best | None = None


@dataclass(frozen=True)
class Epoch:
    """The record of an epoch.

    Attributes:
        epoch: number of epochs completed.
        step: number of optimizer steps taken.
        train_loss: mean loss with the penalty, of each row at the step that trained on it.
        learning_rate: learning rate of the last step.
        seconds: training time so far.
        samples_per_second: rows trained on per second in this epoch.
        validation: the loss and score on the validation data, if there is any.
    """

    epoch: int
    step: int
    train_loss: float
    learning_rate: float
    seconds: float
    samples_per_second: float
    validation: Evaluation | None = None

    def to_dict(self, score_name: str = "accuracy") -> dict[str, float]:
        """Return the record as a flat dictionary. The validation score is `validation_<score_name>`."""
        record = asdict(self)
        if (validation := record.pop("validation")) is not None:
            record |= {"validation_loss": validation[0], f"validation_{score_name}": validation[1]}
        return record


def start(theta: NDArray[Any], optimizer: Optimizer, *, backend: Backend) -> TrainState:
    """Return the state before the first step, with a copy of theta on the backend's device.

    Raises:
        InputError: if theta is not finite in the backend's dtype.
    """
    with np.errstate(over="ignore"):
        host_theta = np.array(theta, dtype=backend.dtype_name)
    if not np.isfinite(host_theta).all():
        raise InputError(
            f"the initial parameters are not finite in {backend.dtype_name}: choose a smaller scale"
        )
    with backend.as_current():
        device_theta = backend.asarray(host_theta)
        moments = optimizer.init(device_theta, xp=backend.xp)
        return TrainState(device_theta, moments, backend.asarray(np.zeros(())))


def epochs(
    mlp: MLP,
    optimizer: Optimizer,
    state: TrainState,
    X: Array,
    Y: Array,
    weight: Array | None = None,
    *,
    backend: Backend,
    schedule: Schedule,
    n_epochs: int,
    batch_size: int | None,
    order: Order = shuffle,
    clip_norm: float | None = None,
    after_step: Callable[[TrainState], None] | None = None,
    steps_at_once: int = 1,
) -> Iterator[Epoch]:
    """Train until `state` has completed `n_epochs` epochs. Yield a record after each epoch.

    `state` is updated in place, and training continues from it.

    Args:
        X: (n, inputs) on the backend's device, in its dtype.
        Y: (n, outputs), likewise; or (n,) class indices for softmax cross-entropy.
        weight: (n, 1) sample weights, likewise.
        schedule: the learning rate as a function of the step 1, 2, ...
        batch_size: number of rows per step. The last batch of an epoch may be smaller. None uses all rows in
            each step. Beyond 8192 rows, the gradient of an `MLP` is summed over chunks of
            `backend.chunk_rows` rows; so is that of batches beyond 8192 rows on NumPy, where it is faster.
        order: a function (n, epoch) that returns the rows that epoch 0, 1, ... visits, in this order: an
            integer array on the host with 1 to n entries, or None for all rows in their given order. It
            is not called if `batch_size` is None.
        clip_norm: maximum Euclidean norm of the gradient.
        after_step: a function that is called with the state after each step. If it raises an exception,
            training stops between two steps.
        steps_at_once: maximum number of steps between two calls of `after_step`, which is called at least at
            the multiples of this number. Several steps at once are faster, above all on JAX.

    Raises:
        DivergenceError: if the loss of an epoch is not finite.
        InputError: if X has no rows, Y or weight has another number of rows than X, `batch_size` is not
            between 1 and n, `clip_norm` is not above 0, `steps_at_once` is below 1, or `order` returns no
            rows or one that does not exist.
    """
    n = X.shape[0]
    if n == 0:
        raise InputError("X: expected at least 1 row, got 0")
    for name, array in (("Y", Y), ("weight", weight)):
        if array is not None and array.shape[0] != n:
            raise InputError(f"{name}: expected as many rows as X, {n}, got {array.shape[0]}")
    if batch_size is not None and not 1 <= batch_size <= n:
        raise InputError(f"batch_size: expected 1 to {n}, the number of rows, got {batch_size}")
    if not (isinstance(steps_at_once, Integral) and steps_at_once >= 1):
        raise InputError(f"steps_at_once: expected an integer of at least 1, got {steps_at_once}")
    if clip_norm is not None:
        clip_norm = float(clip_norm)  # a NumPy number would turn float32 into float64
        if not clip_norm > 0.0:
            raise InputError(f"clip_norm: expected a number above 0, got {clip_norm}")
    data: tuple[Array, ...] = (X, Y) if weight is None else (X, Y, weight)

    xp = backend.xp
    steps_per_epoch = math.ceil(n / (batch_size or n))
    step = Step(mlp, optimizer, clip_norm, backend.block)
    compiled_step = backend.compile_step(step, n_epochs * steps_per_epoch, steps_per_epoch)
    compiled_update = compile_update(step, backend)
    has_small_chunks = backend.chunk_rows < WHOLE_ROWS
    in_chunks = (batch_size or n) > WHOLE_ROWS and (batch_size is None or has_small_chunks)
    in_chunks = in_chunks and type(mlp) is MLP  # another network has only `loss_and_grad`
    compiled_gradient = compile_gradient(mlp, backend) if in_chunks else None
    tiny = backend.tiny

    def train_on(steps: Steps, rates: NDArray[np.float64]) -> None:
        at_once = _STEPS_PER_CALL if after_step is None else steps_at_once
        while (i := state.batch) < len(rates):
            last = i + 1
            problem: BaseException | None = None
            # A loss that overflows raises DivergenceError below. NumPy need not warn as well.
            with backend.as_current(), np.errstate(all="ignore"):
                if in_chunks:
                    rows = steps.find_rows(i)
                    loss, g = compute_gradient_in_chunks(
                        mlp, compiled_gradient, state.theta, data, rows, backend=backend
                    )
                    state.theta, state.moments = compiled_update(
                        state.theta, state.moments, g, steps.find_coefficients(i)
                    )
                    state.loss_sum = state.loss_sum + loss * (n if rows is None else rows.shape[0])
                else:
                    if i < steps.n_whole:
                        n_steps = min(_STEPS_PER_CALL, at_once - state.step % at_once)
                        last = min(i + n_steps, steps.n_whole)
                    before = state.theta, state.moments, state.loss_sum
                    try:
                        after = compiled_step(before, data, steps, i, last)
                    except PartlyTaken as part:
                        after, last, problem = part.state, i + part.n_steps, part.problem
                    state.theta, state.moments, state.loss_sum = after
                flush_at = (state.step // _FLUSH_EVERY + 1) * _FLUSH_EVERY
                state.learning_rate = float(rates[last - 1])
                state.step += last - i
                state.batch = last
                if tiny is not None and state.step >= flush_at:
                    state.moments = flush_denormals(state.moments, tiny)
            if problem is not None:
                try:
                    raise problem
                finally:
                    del problem  # its traceback refers to this frame
            if after_step is not None:
                after_step(state)

    while state.epoch < n_epochs:
        began, first = time.perf_counter(), state.batch
        rows, visited = None, n
        if batch_size is not None:
            rows = _check_order(order(n, state.epoch), n)
            visited = len(rows)
        size = batch_size or n
        rates, coefficients = _plan_steps(
            schedule, optimizer, state.step - first + 1, math.ceil(visited / size)
        )
        train_on(Steps(None if rows is None else backend.asarray(rows), size, coefficients), rates)

        with backend.as_current():
            train_loss = float(state.loss_sum) / visited
            zero = xp.zeros_like(state.loss_sum)
        elapsed = time.perf_counter() - began
        state.seconds += elapsed
        if not math.isfinite(train_loss):
            raise explain_divergence(state, f"the loss is {train_loss}", state.epoch + 1)
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, zero
        speed = max(visited - first * size, 0) / elapsed
        yield Epoch(state.epoch, state.step, train_loss, state.learning_rate, state.seconds, speed)


def _check_order(rows: NDArray[np.int64] | None, n: int) -> NDArray[np.int64]:
    """Return the rows that an epoch visits, which `order` returned for n rows."""
    if rows is None:
        return np.arange(n)
    rows = np.asarray(rows)
    if rows.ndim != 1 or not 1 <= len(rows) <= n or rows.dtype.kind not in "iu":
        raise InputError(
            f"order: expected an integer array with 1 to {n} entries, got {rows.dtype} of shape {rows.shape}"
        )
    if rows.min() < 0 or rows.max() >= n:
        raise InputError(f"order: expected rows 0 to {n - 1}, got {rows.min()} to {rows.max()}")
    return rows


def _plan_steps(
    schedule: Schedule, optimizer: Optimizer, first: int, n_steps: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the learning rates (n_steps,) and the coefficients (n_steps, k) of the steps from `first` on."""
    t = range(first, first + n_steps)
    rates = np.fromiter(map(schedule, t), np.float64, n_steps)
    row = np.dtype((np.float64, len(optimizer.coefficients(float(rates[0]), first))))
    lines = map(optimizer.coefficients, rates.tolist(), t)
    return rates, np.fromiter(lines, row, n_steps)


def explain_divergence(state: TrainState, what: str, epoch: int) -> DivergenceError:
    """Return the error that says when training diverged and suggests what to try."""
    return DivergenceError(
        f"{what} in epoch {epoch}, by step {state.step}, at learning rate {state.learning_rate:.3g}. "
        "Try a smaller --lr, or --clip-norm 1, or --warm-up 1000"
    )


def compute_gradient_in_chunks(
    mlp: MLP,
    gradient: Callable[..., tuple[Array, Array]],
    theta: Array,
    data: tuple[Array, ...],
    index: Array | None = None,
    *,
    backend: Backend,
) -> tuple[Array, Array]:
    """Return `mlp.loss_and_grad`, as the sum over chunks of `backend.chunk_rows` rows.

    Args:
        gradient: `mlp.sum_loss_and_grad` as a function (theta, X, Y, share, l2) -> (loss, g).
        data: (X, Y) or (X, Y, weight).
        index: the rows of data to use, or None for all rows.
    """
    xp: Any = backend.xp

    def take(array: Any, chunk: slice) -> Any:
        return array[chunk, ...] if index is None else xp.take(array, index[chunk], axis=0)

    X, Y, *weights = data
    n = (X if index is None else index).shape[0]
    weight = take(weights[0], slice(0, n)) if weights else None
    share, l2 = mlp.normalize(weight, n, xp=xp)
    loss: Any = 0.0
    g: Any = None
    for chunk in make_slices(n, backend.chunk_rows):
        rows = take(X, chunk)
        chunk_share = share if weight is None else cast(Array, share)[chunk, ...]
        penalty = l2 * (rows.shape[0] / n)
        chunk_loss, chunk_g = gradient(theta, rows, take(Y, chunk), chunk_share, penalty)
        loss = loss + chunk_loss
        g = chunk_g if g is None else g + chunk_g
    return loss, g
