"""Checkpoints and models on disk: safetensors, never pickle.

A file is either whole or not there: it is written beside its place, flushed to the disk, then renamed. Its
header holds a SHA-256 over everything else, so that a damaged or edited file is refused before any array is
used.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import Backend
from xpnet.data import Scaling
from xpnet.errors import InputError
from xpnet.maths.mlp import MLP
from xpnet.training.loop import Best, TrainState, explain_divergence

__all__ = ["Model", "load_model", "load_state", "read", "read_about", "save_model", "save_state", "write"]

Tensors = dict[str, NDArray[Any]]
_VERSION = "1"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with all that prediction needs.

    Attributes:
        theta: (n_parameters,) on the host.
        classes: names of the classes, None where it predicts numbers.
        picture: (height, width) where its inputs are pictures.
        scaling: maps inputs as stored to inputs as trained on.
        target_scaling: maps numeric targets as stored to what the network answers, None if they are the same.
        columns: how the columns of a table became inputs, as JSON can hold it.
    """

    mlp: MLP
    theta: NDArray[Any]
    classes: tuple[str, ...] | None
    picture: tuple[int, int] | None
    scaling: Scaling
    target_scaling: Scaling | None = None
    columns: dict[str, Any] | None = None


def save_model(path: Path, model: Model) -> None:
    """Write a model: per layer `layers.N.weight` (fan_in, fan_out) and `layers.N.bias` (fan_out,)."""
    tensors: Tensors = {"scaling.shift": model.scaling.shift, "scaling.factor": model.scaling.factor}
    if model.target_scaling is not None:
        tensors |= {
            "targets.shift": model.target_scaling.shift,
            "targets.factor": model.target_scaling.factor,
        }
    layers = cast(Any, model.mlp.layout).split(model.theta, xp=np)
    for i, (W, b) in enumerate(layers):
        tensors |= {f"layers.{i}.weight": W, f"layers.{i}.bias": b}
    about = {
        "sizes": model.mlp.sizes,
        "activations": model.mlp.activations,
        "loss": model.mlp.loss,
        "classes": model.classes,
        "picture": model.picture,
        "columns": model.columns,
    }
    write(path, "xpnet model", tensors, about)


def load_model(path: Path) -> Model:
    """Read what `save_model` wrote.

    Raises:
        InputError: no such file, truncated, changed since it was written, of another kind or another version.
    """
    tensors, about = read(path, "xpnet model")
    mlp = MLP(tuple(about["sizes"]), tuple(about["activations"]), about["loss"])
    layers = range(len(mlp.sizes) - 1)
    theta = cast(Any, mlp.layout).join(
        [tensors[f"layers.{i}.weight"] for i in layers], [tensors[f"layers.{i}.bias"] for i in layers], xp=np
    )
    classes, picture = about["classes"], about["picture"]
    return Model(
        mlp,
        theta,
        None if classes is None else tuple(classes),
        None if picture is None else (picture[0], picture[1]),
        Scaling(tensors["scaling.shift"], tensors["scaling.factor"]),
        Scaling(tensors["targets.shift"], tensors["targets.factor"]) if "targets.shift" in tensors else None,
        about.get("columns"),
    )


def save_state(path: Path, state: TrainState, about: dict[str, Any], *, backend: Backend) -> None:
    """Write a checkpoint that `load_state` continues bit for bit.

    Args:
        about: what else a later run has to know, as JSON can hold it.

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
    write(path, "xpnet checkpoint", tensors, {"progress": progress, **about})


def load_state(path: Path, *, backend: Backend) -> tuple[TrainState, dict[str, Any]]:
    """Read what `save_state` wrote: the state on the backend's device, and `about`.

    Raises:
        InputError: as `load_model`.
    """
    tensors, about = read(path, "xpnet checkpoint")
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
    return read(path, "xpnet checkpoint")[1]


def write(path: Path, kind: str, tensors: Tensors, about: dict[str, Any]) -> None:
    """Write arrays, and what JSON can hold about them, as one whole file of this kind, or leave none."""
    from safetensors.numpy import save

    # safetensors 0.8 silently scrambles arrays that are not C-contiguous.
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    header = {"format": kind, "version": _VERSION, "about": json.dumps(about)}
    header["sha256"] = _digest(tensors, header)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(save(tensors, header))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # the rename itself reaches the disk with the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path, kind: str) -> tuple[Tensors, dict[str, Any]]:
    """Read what `write` wrote.

    Raises:
        InputError: no such file, truncated, changed since it was written, of another kind or another version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("format") != kind:
                raise InputError(
                    f"{path}: expected an {kind}, found {header.get('format', 'some other safetensors file')}"
                )
            if header.get("version") != _VERSION:
                raise InputError(
                    f"{path}: expected format version {_VERSION}, found {header.get('version')}: "
                    "use the xpnet that wrote it, or train again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that NumPy alone does not know
        raise InputError(
            f"{path}: not a whole safetensors file ({error}); it was cut short or is something else"
        ) from None
    if header.pop("sha256", None) != _digest(tensors, header):
        raise InputError(
            f"{path}: the contents do not match their SHA-256: the file was changed after it was written"
        )
    return tensors, json.loads(header["about"])


def _digest(tensors: Tensors, header: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
