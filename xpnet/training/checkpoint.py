"""Checkpoints: all that a stopped run needs to continue bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.training.files import read, write
from xpnet.training.loop import Best, TrainState, explain_divergence

__all__ = ["load_state", "read_about", "save_state"]

_READABLE = {"xpnet checkpoint": ("1",)}


def save_state(path: Path, state: TrainState, about: dict[str, Any], *, backend: Backend) -> None:
    """Write a checkpoint that `load_state` continues bit for bit.

    Args:
        about: what else a later run has to know, as JSON can hold it; under "model" what `model.describe`
            returns, so that a stopped run can predict, and under "options" at least the planned `epochs`.

    Raises:
        DivergenceError: the parameters are not finite; the file that is there stays as it is.
    """
    tensors = {"theta": backend.to_numpy(state.theta), "loss": backend.to_numpy(state.loss_sum)}
    tensors |= {f"moments.{i}": backend.to_numpy(m) for i, m in enumerate(state.moments)}
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise explain_divergence(state, "the parameters are no longer finite", state.epoch + 1)
    progress: dict[str, Any] = {"step": state.step, "epoch": state.epoch, "batch": state.batch}
    progress |= {"learning_rate": state.learning_rate, "seconds": state.seconds}
    if state.best is not None:
        tensors["best.theta"] = backend.to_numpy(state.best.theta)
        progress |= {"best_loss": state.best.value, "best_epoch": state.best.epoch}
    write(path, "xpnet checkpoint", "1", tensors, {"progress": progress, **about})


def load_state(path: Path, *, backend: Backend) -> tuple[TrainState, dict[str, Any]]:
    """Read what `save_state` wrote: the state on the backend's device, and `about`.

    Raises:
        InputError: no such file, truncated, changed since it was written, of another kind or another version.
    """
    _, _, tensors, about = read(path, _READABLE)
    progress = about.pop("progress")
    best = None
    if "best.theta" in tensors:
        best = Best(
            backend.asarray(tensors["best.theta"]), progress.pop("best_loss"), progress.pop("best_epoch")
        )
    n_moments = sum(name.startswith("moments.") for name in tensors)
    moments = tuple(backend.asarray(tensors[f"moments.{i}"]) for i in range(n_moments))
    state = TrainState(
        backend.asarray(tensors["theta"]), moments, backend.asarray(tensors["loss"]), best=best, **progress
    )
    return state, about


def read_about(path: Path) -> dict[str, Any]:
    """Return what `save_state` was told about the run, after the same checks as `load_state`."""
    return read(path, _READABLE).about
