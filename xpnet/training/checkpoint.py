"""Checkpoints: a run that is resumed from one continues bit for bit."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backends import DTYPES, Backend
from xpnet.data.schema import check_table
from xpnet.errors import InputError
from xpnet.training.files import Tensors, read, write
from xpnet.training.loop import Best, TrainState, explain_divergence

__all__ = ["load_state", "read_about", "save_state"]

_FILE = "files."  # before the name of an array that contains the bytes of a file
_READABLE = {"xpnet checkpoint": ("1",)}


def save_state(path: Path, state: TrainState, about: dict[str, Any], *, backend: Backend) -> None:
    """Write a checkpoint, from which training continues bit for bit.

    Args:
        about: further information for resuming the run, JSON-serializable. `about["model"]` is what
            `model.describe` returns, so that the checkpoint can predict. `about["options"]` has at least the
            planned `epochs`. `about["files"]` contains other files of the run: bytes by name.

    Raises:
        DivergenceError: if the parameters are not finite. An existing file is then left unchanged.
    """
    tensors = {"theta": backend.to_numpy(state.theta), "loss": backend.to_numpy(state.loss_sum)}
    tensors |= {f"moments.{i}": backend.to_numpy(m) for i, m in enumerate(state.moments)}
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise explain_divergence(state, "the parameters are no longer finite", state.epoch + 1)
    about = dict(about)
    for name, content in about.pop("files", {}).items():
        tensors[_FILE + name] = np.frombuffer(content, np.uint8)
    progress: dict[str, Any] = {"step": state.step, "epoch": state.epoch, "batch": state.batch}
    progress |= {"learning_rate": state.learning_rate, "seconds": state.seconds}
    if state.best is not None:
        tensors["best.theta"] = backend.to_numpy(state.best.theta)
        progress |= {"best_loss": state.best.value, "best_epoch": state.best.epoch}
    write(path, "xpnet checkpoint", "1", tensors, {"progress": progress, **about})


def load_state(path: Path, *, backend: Backend) -> tuple[TrainState, dict[str, Any]]:
    """Read a checkpoint: return the state, on the backend's device, and `about`.

    Raises:
        InputError: if the file does not exist, is truncated, was modified after it was written, or has
            another format or format version, or if its arrays and numbers do not fit together.
    """
    _, _, tensors, about = read(path, _READABLE)
    files = {name: tensors.pop(name) for name in [*tensors] if name.startswith(_FILE)}
    if files:
        about["files"] = {name.removeprefix(_FILE): content.tobytes() for name, content in files.items()}
    try:
        _check(tensors, about)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    progress = about.pop("progress")
    best = None
    if "best.theta" in tensors:
        best = Best(
            backend.asarray(tensors["best.theta"]), progress.pop("best_loss"), progress.pop("best_epoch")
        )
    n_moments = len(_find_moments(tensors))
    moments = tuple(backend.asarray(tensors[f"moments.{i}"]) for i in range(n_moments))
    state = TrainState(
        backend.asarray(tensors["theta"]), moments, backend.asarray(tensors["loss"]), best=best, **progress
    )
    return state, about


def read_about(path: Path) -> dict[str, Any]:
    """Return the `about` of a checkpoint. Raises as `load_state`."""
    return read(path, _READABLE).about


def _check(tensors: Tensors, about: dict[str, Any]) -> None:
    """Raise InputError unless the arrays of a checkpoint fit together, and its counters are valid."""
    check_table(about, {**dict.fromkeys(about, object), "progress": dict}, required=["progress"])
    progress = about["progress"]
    keeps_best = "best.theta" in tensors
    best = ["best_loss", "best_epoch"] if keeps_best else []
    counts = ["step", "epoch", "batch", *best[1:]]
    numbers = ["learning_rate", "seconds", *best[:1]]
    hints = dict.fromkeys(counts, int) | dict.fromkeys(numbers, float)
    check_table(progress, hints, required=hints)
    for name in counts:
        if progress[name] < 0:
            raise InputError(f"{name}: expected a number of at least 0, found {progress[name]}")
    for name in numbers:
        if not math.isfinite(progress[name]):
            raise InputError(f"{name}: expected a finite number, found {progress[name]}")
    moments = _find_moments(tensors)
    vectors = ["theta", *moments, *(["best.theta"] if keeps_best else [])]
    if moments != [f"moments.{i}" for i in range(len(moments))] or {*tensors} != {*vectors, "loss"}:
        found = ", ".join(sorted(tensors)[:8])
        raise InputError(f"expected arrays theta, loss, moments.0, moments.1 ..., found {found}")
    theta = tensors["theta"]
    for name, tensor in tensors.items():
        shape = () if name == "loss" else (theta.size,)
        if tensor.shape != shape or tensor.dtype != theta.dtype or tensor.dtype.name not in DTYPES:
            raise InputError(
                f"{name}: expected shape {shape} of {' or '.join(DTYPES)}, like theta, "
                f"found {tensor.shape} of {tensor.dtype}"
            )
        if not np.isfinite(tensor).all():
            raise InputError(f"{name}: expected finite numbers")


def _find_moments(tensors: Tensors) -> list[str]:
    return sorted(name for name in tensors if name.startswith("moments."))
