"""The stochastic solvers: scikit-learn's bookkeeping and stopping rules around xpnet's training loop."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from xpnet._typing import Array, Schedule
from xpnet.backends import Backend, backend_of
from xpnet.data.batches import Order
from xpnet.errors import DivergenceError
from xpnet.estimator.callbacks import Tasks
from xpnet.estimator.validation import Validation
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import SGD, Adam, AdamW, Moments, Optimizer, RMSprop
from xpnet.maths.schedules import SCHEDULES
from xpnet.training.loop import TrainState, epochs
from xpnet.training.validation import keep_if_best, restore_best

__all__ = ["SolverState", "minimize_in_batches"]


@dataclass
class SolverState:
    """The state of a solver, which `warm_start` and `partial_fit` continue."""

    optimizer: Optimizer
    moments: Moments
    step: int
    learning_rate: float
    epoch: int = 0  # epochs since the last `fit` began


def minimize_in_batches(
    estimator: Any,
    mlp: MLP,
    theta: Array,
    data: tuple[Any, ...],
    *,
    rows: NDArray[np.int64] | None,
    validation: Validation | None,
    backend: Backend,
    tasks: Tasks,
    incremental: bool,
) -> Array:
    """Train for at most `max_iter` epochs. Return the parameters, and set the attributes of the estimator.

    Args:
        theta: the initial parameters, which may be overwritten.
        data: (X, Y) or (X, Y, weight).
        rows: the rows of X to train on, or None for all rows.
        incremental: whether this is a `partial_fit`, which trains for one epoch and continues the schedule.

    Raises:
        DivergenceError: if the loss is not finite, unless early stopping has kept parameters.
        ValueError: if this is a `partial_fit` and the schedule has ended.
    """
    n = data[0].shape[0] if rows is None else len(rows)
    batch_size = _find_batch_size(estimator.batch_size, n)
    solver = _resume(estimator, theta, backend, incremental)
    state = TrainState(theta, solver.moments, backend.asarray(0.0), step=solver.step)
    if estimator.early_stopping:
        keep_if_best(state, -estimator.best_validation_score_, 0, backend=backend)
    n_epochs = 1 if incremental else estimator.max_iter
    records = epochs(
        mlp,
        solver.optimizer,
        state,
        *data,
        backend=backend,
        schedule=_make_schedule(estimator, solver, incremental, math.ceil(n / batch_size)),
        n_epochs=n_epochs,
        batch_size=batch_size,
        order=_make_order(estimator, n, rows),
        clip_norm=estimator.clip_norm,
    )
    estimator.n_iter_ = 0
    try:
        for _ in range(n_epochs):
            tasks.begin()
            record = next(records)
            _record_loss(estimator, record.train_loss, n)
            if validation is not None:
                scores = validation.evaluate(estimator, mlp, state.theta)
                improved = _record_validation(estimator, *scores)
                if estimator.early_stopping:
                    keep_if_best(state, -scores.score, record.epoch, backend=backend)
            if not estimator.early_stopping:
                improved = _update_best_loss(estimator)
            estimator._no_improvement_count = 0 if improved else estimator._no_improvement_count + 1
            if _changes_rate(estimator, "invscaling"):
                solver.learning_rate = _compute_rate(estimator)
            stop = _should_stop(estimator, solver)
            if tasks.end(state.theta) or stop or incremental:
                break
        else:
            if estimator.learning_rate not in ("cosine", "one_cycle"):  # these schedules end at max_iter
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=2,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    except DivergenceError:
        if not estimator.early_stopping or not math.isfinite(estimator.best_validation_score_):
            raise
        _record_divergence(estimator, n)
        vars(estimator).pop("_optimizer", None)  # its moments are not finite
        restore_best(state)
        return state.theta
    solver.moments, solver.step = state.moments, state.step
    solver.epoch += state.epoch
    estimator._optimizer = solver
    restore_best(state)
    return state.theta


def _resume(estimator: Any, theta: Array, backend: Backend, incremental: bool) -> SolverState:
    """Return the solver state of the previous fit if the optimizer is the same, else a new one."""
    xp: Any = backend.xp
    optimizer = _make_optimizer(estimator)
    with backend.as_current():
        fresh = SolverState(optimizer, optimizer.init(theta, xp=xp), 0, estimator.learning_rate_init)
        old = getattr(estimator, "_optimizer", None)
        if (
            old is None
            or type(old.optimizer) is not type(optimizer)
            or len(old.moments) != len(fresh.moments)
        ):
            return fresh
        moments = tuple(
            xp.asarray(backend.bring(m, backend_of(m)), dtype=backend.dtype, copy=True) for m in old.moments
        )
    if incremental:
        return SolverState(optimizer, moments, old.step, old.learning_rate, old.epoch)
    return SolverState(optimizer, moments, old.step, estimator.learning_rate_init)


def _make_optimizer(estimator: Any) -> Optimizer:
    e = estimator
    if e.solver == "sgd":
        return SGD(e.momentum, nesterov=e.nesterovs_momentum and e.momentum > 0.0, velocity=True)
    if e.solver == "adam":
        return Adam(e.beta_1, e.beta_2, e.epsilon, epsilon_hat=True)
    if e.solver == "adamw":
        return AdamW(e.beta_1, e.beta_2, e.epsilon, weight_decay=e.alpha)
    return RMSprop(epsilon=e.epsilon)


def _find_batch_size(batch_size: int | str, n: int) -> int:
    if isinstance(batch_size, str):
        return min(200, n)
    if batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=2,
        )
    return int(min(batch_size, n))


def _make_schedule(estimator: Any, solver: SolverState, incremental: bool, steps_per_epoch: int) -> Schedule:
    """Return the learning rate as a function of the step. A `fit` starts the schedule anew.

    Raises:
        ValueError: if the schedule has ended.
    """
    kind, peak, n_epochs = estimator.learning_rate, estimator.learning_rate_init, estimator.max_iter
    first = solver.step
    if callable(kind):
        return lambda t: float(kind(t if incremental else t - first))
    if kind not in ("cosine", "one_cycle"):
        return lambda t: solver.learning_rate
    if solver.epoch >= n_epochs:
        raise ValueError(
            f"learning_rate={kind!r} spans max_iter={n_epochs} epochs (each call of partial_fit is one), and "
            f"the model has been trained for {solver.epoch}. Set a larger max_iter, or another learning_rate "
            "such as 'constant'"
        )
    first -= solver.epoch * steps_per_epoch
    return lambda t: SCHEDULES[kind](t - first, lr=peak, total=n_epochs * steps_per_epoch)


def _changes_rate(estimator: Any, kind: str) -> bool:
    # scikit-learn ignores these schedules with Adam.
    return bool(estimator.learning_rate == kind and estimator.solver != "adam")


def _compute_rate(estimator: Any) -> float:
    return float(estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t)


def _make_order(estimator: Any, n: int, rows: NDArray[np.int64] | None) -> Order:
    """Return the shuffles of scikit-learn: each permutes the order of the previous epoch."""

    def order(_: int, epoch: int) -> NDArray[np.int64] | None:
        nonlocal rows
        if estimator.shuffle:
            indices = np.arange(n)
            estimator._random_state.shuffle(indices)
            rows = indices if rows is None else rows[indices]
        return rows

    return order


def _record_loss(estimator: Any, loss: float, n: int) -> None:
    estimator.n_iter_ += 1
    estimator.t_ += n
    estimator.loss_ = np.float64(loss)
    estimator.loss_curve_.append(estimator.loss_)
    _print(estimator, f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")


def _update_best_loss(estimator: Any) -> bool:
    """Update the best training loss. Return whether it improved by at least `tol`."""
    improved = not estimator.loss_ > estimator.best_loss_ - estimator.tol
    estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
    return improved


def _record_validation(estimator: Any, loss: float, score: float) -> bool:
    """Record the validation loss and score. Return whether the score improved by at least `tol`."""
    estimator.validation_loss_curve_.append(np.float64(loss))
    estimator.validation_scores_.append(score)
    _print(estimator, f"Validation score: {score:f}")
    improved = not score < estimator.best_validation_score_ + estimator.tol
    if score > estimator.best_validation_score_:
        estimator.best_validation_score_ = score
    return improved


def _record_divergence(estimator: Any, n: int) -> None:
    _record_loss(estimator, math.nan, n)
    _record_validation(estimator, math.nan, math.nan)
    warnings.warn(
        f"Training diverged in iteration {estimator.n_iter_}. The parameters with the best validation score "
        "are kept. Scale the features, or try a smaller learning_rate_init or clip_norm=1.0",
        ConvergenceWarning,
        stacklevel=2,
    )


def _should_stop(estimator: Any, solver: SolverState) -> bool:
    """Return whether to stop because there was no improvement for more than `n_iter_no_change` epochs.

    With the schedule "adaptive", reduce the learning rate instead until it is too small.
    """
    if not estimator._no_improvement_count > estimator.n_iter_no_change:
        return False
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} for "
        f"{estimator.n_iter_no_change:d} consecutive epochs."
    )
    stop = True
    if not _changes_rate(estimator, "adaptive"):
        message += " Stopping."
    elif solver.learning_rate <= 1e-6:
        message += " Learning rate too small. Stopping."
    else:
        solver.learning_rate /= 5.0
        message += f" Setting learning rate to {solver.learning_rate:f}"
        estimator._no_improvement_count = 0
        stop = False
    _print(estimator, message)
    return stop


def _print(estimator: Any, line: str) -> None:
    if estimator.verbose and estimator.verbose != "progress":
        print(line)
