"""Model files: the format of a trained network for `xpnet train` and for the estimators.

A file contains the arrays `layers.N.weight` (fan_in, fan_out) and `layers.N.bias` (fan_out,). Everything else
that prediction needs is stored in its header, as JSON.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.data.dataset import Scaling
from xpnet.errors import InputError
from xpnet.maths.losses import quantile
from xpnet.maths.mlp import MLP
from xpnet.training.files import Tensors, read, write

__all__ = ["Model", "describe", "load_model", "save_model"]

# Estimators wrote "xpnet estimator" before version 2 of "xpnet model".
_READABLE = {"xpnet model": ("1", "2"), "xpnet checkpoint": ("1",), "xpnet estimator": ("1",)}


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with everything that prediction needs.

    Attributes:
        theta: (n_parameters,) on the host.
        classes: (n_classes,) labels, text or numbers; None for regression.
        picture: (height, width) if the inputs are pictures.
        scaling: maps raw inputs to those of the network; None if they are not scaled.
        target_scaling: maps raw targets to the outputs of the network; None if they are not scaled.
        columns: how the columns of a table are converted to inputs, JSON-serializable.
        estimator: name, parameters and fitted attributes of the estimator that saved the model.
        unfinished: (epochs completed, epochs planned) if read from a checkpoint, else None.
    """

    mlp: MLP
    theta: NDArray[Any]
    classes: NDArray[Any] | None
    picture: tuple[int, int] | None = None
    scaling: Scaling | None = None
    target_scaling: Scaling | None = None
    columns: dict[str, Any] | None = None
    estimator: dict[str, Any] | None = None
    unfinished: tuple[int, int] | None = None

    @property
    def is_multilabel(self) -> bool:
        """Whether a row may belong to several classes, or to none."""
        fitted = (self.estimator or {}).get("fitted", {})
        return bool(fitted.get("_target_kind") == "multilabel-indicator")


def save_model(path: Path, model: Model) -> None:
    """Write a model.

    Raises:
        InputError: if class labels are neither numbers nor text, or the loss is custom.
    """
    tensors: Tensors = {}
    for i, (W, b) in enumerate(cast(Any, model.mlp.layout).split(model.theta, xp=np)):
        tensors |= {f"layers.{i}.weight": W, f"layers.{i}.bias": b}
    write(path, "xpnet model", "2", tensors, describe(model))


def load_model(path: Path) -> Model:
    """Read a model that `xpnet train` or an estimator wrote.

    Args:
        path: a model file, a checkpoint, or the folder of a run. If the folder has no model file because the
            run was stopped, its checkpoint is read.

    Raises:
        InputError: if the file does not exist, is truncated, was modified after it was written, or has
            another format or format version.
    """
    if path.is_dir():
        found = [path / name for name in ("model.safetensors", "checkpoint.safetensors")]
        found = [file for file in found if file.is_file()]
        if not found:
            raise InputError(
                f"{path}: no such file: expected model.safetensors or checkpoint.safetensors in it"
            )
        path = found[0]
    kind, version, tensors, about = read(path, _READABLE)
    if kind == "xpnet checkpoint":
        if "model" not in about:
            raise InputError(
                f"{path}: this checkpoint was written by an earlier version of xpnet and cannot predict. "
                f"Finish the run first: xpnet train --resume {path.parent}"
            )
        model = _restore(about["model"], tensors["theta"])
        return replace(model, unfinished=(about["progress"]["epoch"], about["options"]["epochs"]))
    if kind == "xpnet estimator":
        about = _convert_estimator(about, tensors)
    elif version == "1":
        about = _convert_version_1(about, tensors)
    layers = range(len(about["sizes"]) - 1)
    weights, biases = ([tensors[f"layers.{i}.{name}"] for i in layers] for name in ("weight", "bias"))
    return _restore(about, np.concatenate([array.ravel() for array in weights + biases]))


def describe(model: Model) -> dict[str, Any]:
    """Return everything but the parameters of a model, JSON-serializable.

    Raises:
        InputError: as in `save_model`.
    """
    loss = model.mlp.loss
    if not isinstance(loss, str):
        if "quantile" not in (model.estimator or {}).get("parameters", {}):
            raise InputError("a model with a custom loss cannot be saved: expected one of losses.LOSSES")
        loss = "quantile"
    return {
        "sizes": model.mlp.sizes,
        "activations": model.mlp.activations,
        "loss": loss,
        "classes": _labels_to_json(model.classes),
        "picture": model.picture,
        "scaling": _scaling_to_json(model.scaling),
        "target_scaling": _scaling_to_json(model.target_scaling),
        "columns": model.columns,
        "estimator": model.estimator,
    }


def _restore(about: dict[str, Any], theta: NDArray[Any]) -> Model:
    """Return the model that `describe` described."""
    loss = about["loss"]
    if loss == "quantile":
        loss = quantile(about["estimator"]["parameters"]["quantile"])
    classes, picture = about["classes"], about["picture"]
    return Model(
        MLP(about["sizes"], tuple(about["activations"]), loss),
        theta,
        classes=None if classes is None else np.array(classes[1], dtype=classes[0]),
        picture=None if picture is None else (picture[0], picture[1]),
        scaling=_scaling_from_json(about["scaling"]),
        target_scaling=_scaling_from_json(about["target_scaling"]),
        columns=about["columns"],
        estimator=about["estimator"],
    )


def _labels_to_json(classes: NDArray[Any] | None) -> list[Any] | None:
    """Return [dtype, labels]. In JSON alone the dtype would be lost."""
    if classes is None:
        return None
    if classes.dtype.kind not in "biufU" and not all(isinstance(name, str) for name in classes.tolist()):
        raise InputError(f"expected class labels that are numbers or text, got {classes!r}")
    return ["O" if classes.dtype.kind == "O" else classes.dtype.str, classes.tolist()]


def _scaling_to_json(scaling: Scaling | None) -> list[list[float]] | None:
    # JSON preserves floats exactly.
    return None if scaling is None else [scaling.shift.tolist(), scaling.factor.tolist()]


def _scaling_from_json(numbers: Any) -> Scaling | None:
    return None if numbers is None else Scaling(np.array(numbers[0]), np.array(numbers[1]))


_EMPTY: dict[str, Any] = dict.fromkeys(
    ("classes", "picture", "scaling", "target_scaling", "columns", "estimator")
)


def _convert_version_1(about: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """Return the description of a model that a run saved before version 2, with its scaling as arrays."""
    described = {**_EMPTY, **about}
    if about["classes"] is not None:
        described["classes"] = ["U", about["classes"]]
    for name, prefix in ("scaling", "scaling"), ("target_scaling", "targets"):
        if f"{prefix}.shift" in tensors:
            described[name] = [tensors[f"{prefix}.shift"], tensors[f"{prefix}.factor"]]
    return described


def _convert_estimator(about: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """Return the description of a model that an estimator saved before version 2."""
    parameters, fitted = about["parameters"], about["fitted"]
    n_hidden = fitted["n_layers_"] - 2
    biases = [tensors[f"layers.{i}.bias"].size for i in range(n_hidden + 1)]
    activations = parameters["activation"]
    if isinstance(activations, dict):
        activations = activations["tuple"]
    classes = about.pop("classes", None)
    if "classes" in tensors:
        classes = [tensors["classes"].dtype.str, tensors["classes"]]
    return {
        **_EMPTY,
        "sizes": [fitted["n_features_in_"], *biases],
        "activations": [activations] * n_hidden if isinstance(activations, str) else activations,
        "loss": parameters.get("loss", f"{fitted['out_activation_']}_cross_entropy"),
        "classes": classes,
        "estimator": {"name": about.pop("estimator"), **about},
    }
