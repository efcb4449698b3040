"""The training loop: a generator that yields a record at the end of each epoch.

    for record in epochs(mlp, Adam(), state, X, Y, schedule=schedule, n_epochs=20, ...):
        print(record.epoch, record.train_loss)

The loop does the bookkeeping on the host; all arithmetic is in `step`, a fixed list of array operations
without a host read. The loss of an epoch gathers in a 0-d array on the device, read once at its end.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, Namespace, Schedule
from xpnet.backends import Backend
from xpnet.data.batches import CHUNK, Order, shuffle, slices
from xpnet.errors import DivergenceError, InputError
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import (
    Coefficients,
    Moments,
    Optimizer,
    clip_by_norm,
    flush_denormals,
    update_in_blocks,
)
from xpnet.training.scores import Evaluation

# A momentum of `tiny` times epsilon that shrinks by 0.9 a step takes 150 steps to become denormal.
_FLUSH_EVERY = 128

__all__ = ["Best", "Epoch", "TrainState", "epochs", "explain_divergence", "gradient_in_chunks", "start"]


class Best(NamedTuple):
    """A copy of the parameters of the best epoch so far: the one with the lowest `value`."""

    theta: Array
    value: float
    epoch: int


@dataclass
class TrainState:
    """All that training carries from step to step. `epochs` consumes the arrays: copy what you want to keep.

    Attributes:
        theta: (n_parameters,).
        moments: the optimizer's vectors, each shaped like theta.
        loss_sum: 0-d, the sum over the rows visited in the running epoch of their loss.
        step: optimizer steps taken.
        epoch: epochs finished.
        batch: batches done in the running epoch: the position in its shuffle.
        learning_rate: of the last step.
        seconds: spent training so far.
        best: the parameters of the best epoch, where they are kept: see `validation`.
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
    """What happened in an epoch. `train_loss` is the mean over its rows when trained on, with the penalty."""

    epoch: int
    step: int
    train_loss: float
    learning_rate: float
    seconds: float
    samples_per_second: float
    validation: Evaluation | None = None

    def to_dict(self, score_name: str = "accuracy") -> dict[str, float]:
        """Return the record as one flat dictionary, the validation score under `validation_<score_name>`."""
        record = asdict(self)
        if (validation := record.pop("validation")) is not None:
            record |= {"validation_loss": validation[0], f"validation_{score_name}": validation[1]}
        return record


def start(theta: NDArray[Any], optimizer: Optimizer, *, backend: Backend) -> TrainState:
    """Return the state before the first step, with a copy of theta on the backend's device.

    Raises:
        InputError: theta does not fit the backend's dtype.
    """
    with np.errstate(over="ignore"):
        host_theta = np.array(theta, dtype=backend.dtype_name)
    if not np.isfinite(host_theta).all():
        raise InputError(
            f"the initial parameters are not finite in {backend.dtype_name}: choose a smaller scale"
        )
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
) -> Iterator[Epoch]:
    """Train from `state` on, in place, until `n_epochs` epochs are finished; yield a record after each.

    Args:
        X, Y, weight: (n, inputs), (n, outputs) and (n, 1) on the backend's device, in its dtype. Borrowed.
        schedule: learning rate as a function of the step 1, 2, ...
        batch_size: rows per step; the last batch of an epoch may be smaller and is trained on, too. None: all
            rows, gone through in chunks of 8192 whose gradients are added up.
        order: (n, epoch) -> the rows that the epoch 0, 1, ... visits, one after the other: an integer array
            (at most n,) on the host, or None for all in their order. Not asked for a full batch.
        clip_norm: largest Euclidean norm of the gradient.
        after_step: called with the state after every step; an exception it raises stops training between two
            steps.

    Raises:
        DivergenceError: the loss of an epoch is not finite.
        InputError: Y or weight with other rows than X, batch_size below 1 or above n, or clip_norm not
            above 0.
    """
    n = X.shape[0]
    for name, array in (("Y", Y), ("weight", weight)):
        if array is not None and array.shape[0] != n:
            raise InputError(f"{name}: expected as many rows as X, {n}, got {array.shape[0]}")
    if batch_size is not None and not 1 <= batch_size <= n:
        raise InputError(f"batch_size: expected 1 to {n}, the number of rows, got {batch_size}")
    if clip_norm is not None and not clip_norm > 0.0:
        raise InputError(f"clip_norm: expected a number above 0, got {clip_norm}")
    data: tuple[Array, ...] = (X, Y) if weight is None else (X, Y, weight)

    def update(
        theta: Array, moments: Moments, g: Array, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        if clip_norm is not None:
            g = clip_by_norm(g, clip_norm, xp=xp)
        return update_in_blocks(optimizer, theta, g, moments, coefficients, block=backend.block, xp=xp)

    def step(
        state: tuple[Array, Moments, Array],
        data: tuple[Array, ...],
        index: Array | None,
        coefficients: Coefficients,
        *,
        xp: Namespace,
    ) -> tuple[Array, Moments, Array]:
        theta, moments, total = state
        rows = data if index is None else tuple(xp.take(array, index, axis=0) for array in data)
        loss, g = mlp.loss_and_grad(theta, *rows, xp=xp)
        theta, moments = update(theta, moments, g, coefficients, xp=xp)
        total += loss * rows[0].shape[0]
        return theta, moments, total

    xp = backend.xp
    steps_per_epoch = math.ceil(n / (batch_size or n))
    compiled_step = backend.compile_step(step, n_epochs * steps_per_epoch, steps_per_epoch)
    compiled_update = backend.compile(partial(update, xp=xp), donate=(0, 1))
    compiled_gradient = backend.compile(lambda theta, rows: mlp.loss_and_grad(theta, *rows, xp=xp))
    in_chunks = batch_size is None and n > CHUNK
    tiny = backend.tiny

    def visit(rows: NDArray[np.int64] | None, batches: list[slice]) -> None:
        on_device = None if rows is None else backend.asarray(rows)
        # A loss that overflows is reported below, in words; NumPy need not warn as well.
        with np.errstate(all="ignore"):
            for batch in batches:
                state.learning_rate = schedule(state.step + 1)
                coefficients = optimizer.coefficients(state.learning_rate, state.step + 1)
                if in_chunks:
                    loss, g = gradient_in_chunks(compiled_gradient, state.theta, data, xp)
                    state.theta, state.moments = compiled_update(state.theta, state.moments, g, coefficients)
                    state.loss_sum = state.loss_sum + loss * n
                else:
                    index = None if on_device is None else on_device[batch]
                    state.theta, state.moments, state.loss_sum = compiled_step(
                        (state.theta, state.moments, state.loss_sum), data, index, coefficients
                    )
                state.step += 1
                state.batch += 1
                if tiny is not None and state.step % _FLUSH_EVERY == 0:
                    state.moments = flush_denormals(state.moments, tiny)
                if after_step is not None:
                    after_step(state)

    while state.epoch < n_epochs:
        began, first = time.perf_counter(), state.batch
        rows = None
        if batch_size is not None:
            rows = order(n, state.epoch)
            rows = np.arange(n) if rows is None else rows
            if rows.min() < 0 or rows.max() >= n:
                raise InputError(f"order: expected rows 0 to {n - 1}, got {rows.min()} to {rows.max()}")
        visited = n if rows is None else len(rows)
        visit(rows, slices(visited, batch_size or n)[first:])

        train_loss = float(state.loss_sum) / visited
        elapsed = time.perf_counter() - began
        state.seconds += elapsed
        if not math.isfinite(train_loss):
            raise explain_divergence(state, f"the loss is {train_loss}", state.epoch + 1)
        state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, xp.zeros_like(state.loss_sum)
        speed = max(visited - first * (batch_size or n), 0) / elapsed
        yield Epoch(state.epoch, state.step, train_loss, state.learning_rate, state.seconds, speed)


def explain_divergence(state: TrainState, what: str, epoch: int) -> DivergenceError:
    """Return the error that says where training broke down and what to try."""
    return DivergenceError(
        f"{what} in epoch {epoch}, by step {state.step}, at learning rate {state.learning_rate:.3g}. "
        "Try a smaller --lr, or --clip-norm 1, or --warm-up 1000"
    )


def gradient_in_chunks(
    gradient: Callable[..., tuple[Array, Array]], theta: Array, data: tuple[Array, ...], xp: Any
) -> tuple[Array, Array]:
    """Return loss and gradient over all rows: the mean over chunks, each with its share of the rows' weight.

    Args:
        gradient: (theta, rows) -> (loss, g), `MLP.loss_and_grad` without `l2_shared`.
        data: (X, Y) or (X, Y, weight).
    """
    n = data[0].shape[0]
    loss: Any = 0.0
    g: Any = None
    for chunk in slices(n, CHUNK):
        rows = tuple(array[chunk, ...] for array in data)
        if len(data) == 2:
            share = rows[0].shape[0] / n
        else:
            total = xp.sum(data[2])
            share = xp.sum(rows[2]) / (total + xp.astype(total == 0.0, total.dtype))
        chunk_loss, chunk_g = gradient(theta, rows)
        chunk_g *= share
        loss = loss + share * chunk_loss
        g = chunk_g if g is None else g + chunk_g
    return loss, g
