"""Validation around the training loop: evaluate each epoch, keep the best parameters, and stop early::

    records = epochs(mlp, optimizer, state, X, Y, ...)
    records = validate(records, state, lambda: evaluate(mlp, state.theta, X_val, Y_val, backend=backend))
    records = keep_best(records, state, backend=backend)
    for record in stop_early(records, state, patience=5):
        ...
    restore_best(state)

Each wrapper passes the records on; what it keeps is in the state.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from xpnet.backends import Backend
from xpnet.errors import InputError
from xpnet.training.loop import Best, Epoch, TrainState, explain_divergence
from xpnet.training.scores import Evaluation

__all__ = ["is_out_of_patience", "keep_best", "keep_if_best", "restore_best", "stop_early", "validate"]


def validate(
    records: Iterator[Epoch], state: TrainState, measure: Callable[[], Evaluation]
) -> Iterator[Epoch]:
    """Add `measure()`, the evaluation of the current parameters, to each record.

    Raises:
        DivergenceError: if the validation loss is not finite.
    """
    for record in records:
        evaluation = measure()
        if not math.isfinite(evaluation.loss):
            raise explain_divergence(state, f"the validation loss is {evaluation.loss}", record.epoch)
        yield replace(record, validation=evaluation)


def keep_best(records: Iterator[Epoch], state: TrainState, *, backend: Backend) -> Iterator[Epoch]:
    """Keep the parameters with the lowest validation loss in `state.best`. Yield the records unchanged."""
    for record in records:
        if record.validation is None:
            raise InputError("keeping the best parameters requires validation data")
        keep_if_best(state, record.validation.loss, record.epoch, backend=backend)
        yield record


def stop_early(records: Iterator[Epoch], state: TrainState, *, patience: int) -> Iterator[Epoch]:
    """Yield the records until `patience` epochs have passed since the best epoch.

    Raises:
        InputError: if `patience` is below 1.
    """
    if patience < 1:
        raise InputError(f"patience: expected at least 1, got {patience}")
    while not is_out_of_patience(state, patience):
        record = next(records, None)
        if record is None:
            return
        yield record


def is_out_of_patience(state: TrainState, patience: int) -> bool:
    """Return whether `patience` epochs have passed since the best epoch."""
    return state.best is not None and state.epoch - state.best.epoch >= patience


def keep_if_best(state: TrainState, value: float, epoch: int, *, backend: Backend) -> None:
    """Copy the parameters to `state.best` if `value` is the lowest so far."""
    if state.best is None or value < state.best.value:
        state.best = Best(backend.copy(state.theta), value, epoch)


def restore_best(state: TrainState) -> None:
    """Set the parameters of the state to the best ones, if any were kept, and `state.best` to None.

    Training that continues from this state keeps and compares only what it finds itself.
    """
    if state.best is not None:
        state.theta, state.best = state.best.theta, None
