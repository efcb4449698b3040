"""Model files: the format of a trained network for `xpnet train` and for the estimators.

A file contains the arrays `layers.N.weight` (fan_in, fan_out) and `layers.N.bias` (fan_out,). Everything else
that prediction needs is stored in its header, as JSON.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import DTYPES
from xpnet.data.columns import Columns
from xpnet.data.dataset import Scaling
from xpnet.data.schema import check_table
from xpnet.errors import InputError
from xpnet.maths.losses import quantile
from xpnet.maths.mlp import MLP
from xpnet.training.files import Contents, Tensors, read, write

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
            another format or format version, or if what it describes is not a model.
    """
    if path.is_dir():
        found = [path / name for name in ("model.safetensors", "checkpoint.safetensors")]
        found = [file for file in found if file.is_file()]
        if not found:
            raise InputError(
                f"{path}: no model in this folder: expected model.safetensors or checkpoint.safetensors. "
                "If it is of a run that was stopped before its first checkpoint, start it again"
            )
        path = found[0]
    contents = read(path, _READABLE)
    if contents.kind == "xpnet checkpoint" and "model" not in contents.about:
        raise InputError(
            f"{path}: this checkpoint was written by an earlier version of xpnet and cannot predict. "
            f"Finish the run with that version: xpnet train --resume {path.parent}"
        )
    try:
        return _restore(contents)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


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


def _restore(contents: Contents) -> Model:
    """Return the model in a file.

    The hash in a file only shows that it was not damaged. Whoever wrote it, its parts must fit together: that
    is checked here, so that nothing has to be checked later.

    Raises:
        InputError: if it does not.
    """
    kind, version, tensors, about = contents
    unfinished = None
    if kind == "xpnet checkpoint":
        check_table(
            about, dict.fromkeys(about, object) | dict.fromkeys(("model", "progress", "options"), dict)
        )
        done, planned = (
            about.get(part, {}).get(name) for part, name in (("progress", "epoch"), ("options", "epochs"))
        )
        check_table({"epoch": done, "epochs": planned}, {"epoch": int, "epochs": int})
        unfinished = (done, planned)
        about = about["model"]
    elif kind == "xpnet estimator" or version == "1":
        convert = _convert_estimator if kind == "xpnet estimator" else _convert_version_1
        try:
            about = convert(about, tensors)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(f"expected the description of a model of version 1, found {error!r}") from None
    check_table(about, _HINTS, required=_HINTS)
    if about["estimator"] is not None:
        check_table(about["estimator"], _ESTIMATOR, required=("name", "parameters", "fitted"))
    loss = about["loss"]
    if loss == "quantile":
        parameters = about["estimator"]["parameters"] if about["estimator"] else {}
        check_table({"quantile": parameters.get("quantile")}, {"quantile": float})
        if not 0.0 < parameters["quantile"] < 1.0:
            raise InputError(f"quantile: expected a number between 0 and 1, found {parameters['quantile']}")
        loss = quantile(parameters["quantile"])
    mlp = MLP(tuple(about["sizes"]), tuple(about["activations"]), loss)
    model = Model(
        mlp,
        _read_parameters(mlp, tensors, in_one=unfinished is not None),
        classes=_labels_from_json(about["classes"], mlp),
        picture=_picture_from_json(about["picture"], mlp.sizes[0]),
        scaling=_scaling_from_json("scaling", about["scaling"], mlp.sizes[0]),
        target_scaling=_scaling_from_json("target_scaling", about["target_scaling"], mlp.sizes[-1]),
        columns=about["columns"],
        estimator=about["estimator"],
        unfinished=unfinished,
    )
    if model.columns is not None:
        n_inputs = Columns.from_dict(model.columns).n_inputs
        if n_inputs != mlp.sizes[0]:
            raise InputError(f"columns: expected {mlp.sizes[0]} inputs of the network, found {n_inputs}")
    names = (model.estimator or {}).get("feature_names")
    if names is not None and len(names) != mlp.sizes[0]:
        raise InputError(f"feature_names: expected {mlp.sizes[0]}, found {len(names)}")
    return model


def _read_parameters(mlp: MLP, tensors: Tensors, *, in_one: bool) -> NDArray[Any]:
    """Return theta: of a checkpoint that array, of a model the arrays of all layers."""
    if in_one:
        expected: dict[str, tuple[int, ...]] = {"theta": (mlp.layout.n_parameters,)}
    else:
        shapes = mlp.layout.shapes
        expected = {f"layers.{i}.weight": shape for i, shape in enumerate(shapes)}
        expected |= {f"layers.{i}.bias": shape[1:] for i, shape in enumerate(shapes)}
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise InputError(f"expected an array {missing[0]}, found {', '.join(sorted(tensors)[:8]) or 'none'}")
    dtype = tensors[next(iter(expected))].dtype
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != dtype or dtype.name not in DTYPES:
            raise InputError(
                f"{name}: expected shape {shape} of {' or '.join(DTYPES)}, like the other parameters, "
                f"found {tensor.shape} of {tensor.dtype}"
            )
        if not np.isfinite(tensor).all():
            raise InputError(f"{name}: expected finite numbers")
    return np.concatenate([tensors[name].ravel() for name in expected])


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


def _labels_from_json(labels: list[Any] | None, mlp: MLP) -> NDArray[Any] | None:
    """Return the labels in the dtype that they had."""
    if (labels is None) == mlp.classifies:
        raise InputError(f"classes: expected {'names' if mlp.classifies else 'none'} with this loss")
    if labels is None:
        return None
    n = mlp.sizes[-1]
    match labels:
        case [str(dtype), list(names)] if len(names) == n or (n == 1 and len(names) == 2):
            pass
        case _:
            raise InputError(f"classes: expected a dtype and the names of {max(n, 2)} classes")
    kind = re.fullmatch(r"O|U|[<>=|]?(?:([biuf])[1248]|(U)(\d{1,6}))", dtype)
    if kind is None:
        raise InputError(f"classes: expected the dtype of text or numbers, found {dtype!r:.80}")
    if int(kind[3] or 0) * len(names) > MOST_CHARACTERS:
        raise InputError(f"classes: expected at most {MOST_CHARACTERS:,} characters, found dtype {dtype}")
    hints: dict[str, Any] = {"b": list[bool], "i": list[int], "u": list[int], "f": list[float]}
    check_table({"classes": names}, {"classes": hints.get(kind[1], list[str])})
    try:
        values = np.array(names, dtype=dtype)
        if kind[1] == "f" and not np.isfinite(values).all():
            raise ValueError("a name that is not finite")
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"classes: expected names of dtype {dtype}, found {error}") from None
    return values


def _picture_from_json(picture: list[int] | None, n_inputs: int) -> tuple[int, int] | None:
    if picture is None:
        return None
    if len(picture) != 2 or min(picture) < 1 or math.prod(picture) != n_inputs:
        raise InputError(f"picture: expected a height and a width of {n_inputs} pixels, found {picture[:8]}")
    return picture[0], picture[1]


def _scaling_from_json(name: str, numbers: list[list[float]] | None, n: int) -> Scaling | None:
    """Return the scaling of n columns."""
    if numbers is None:
        return None
    if len(numbers) != 2 or any(len(part) not in (1, n) for part in numbers):
        raise InputError(f"{name}: expected shifts and factors, 1 or {n} of each")
    shift, factor = (np.array(part, dtype=np.float64) for part in numbers)
    if not np.isfinite(shift).all() or not (np.isfinite(factor) & (factor > 0.0)).all():
        raise InputError(f"{name}: expected finite shifts, and finite factors above 0")
    return Scaling(shift, factor)


_HINTS = {
    **{"sizes": list[int], "activations": list[str], "loss": str, "classes": list | None},
    **{"picture": list[int] | None, "columns": dict | None, "estimator": dict | None},
    **dict.fromkeys(("scaling", "target_scaling"), list[list[float]] | None),
}
_ESTIMATOR = {"name": str, "parameters": dict, "fitted": dict, "feature_names": list[str]}
MOST_CHARACTERS = 1 << 24  # of class names

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
            described[name] = [tensors[f"{prefix}.{part}"].tolist() for part in ("shift", "factor")]
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
        classes = [tensors["classes"].dtype.str, tensors["classes"].tolist()]
    return {
        **_EMPTY,
        "sizes": [fitted["n_features_in_"], *biases],
        "activations": [activations] * n_hidden if isinstance(activations, str) else activations,
        "loss": parameters.get("loss", f"{fitted['out_activation_']}_cross_entropy"),
        "classes": classes,
        "estimator": {"name": about.pop("estimator"), **about},
    }
