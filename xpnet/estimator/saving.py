"""A fitted model in a safetensors file: parameters as arrays, all else as JSON in the header. No pickle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from xpnet.backends import to_host
from xpnet.errors import InputError
from xpnet.training.checkpoint import read, write

__all__ = ["load_estimator", "save_estimator"]

# Fitted attributes that JSON can hold.
_PLAIN = (
    *("n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "n_iter_", "t_", "loss_", "best_loss_"),
    *("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_validation_score_"),
    *("_no_improvement_count", "_target_kind", "_sparse_target"),
)


def save_estimator(path: Path, estimator: Any) -> None:
    """Write a fitted model.

    Parameters of the constructor that JSON cannot hold (a function, a RandomState) are left at their default:
    they are for training.
    """
    tensors: dict[str, Any] = {}
    parameters = {name: _encoded(value) for name, value in estimator.get_params().items() if _is_plain(value)}
    for i, (W, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        tensors |= {f"layers.{i}.weight": to_host(W), f"layers.{i}.bias": to_host(b)}
    about: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "parameters": parameters,
        "fitted": {name: _encoded(getattr(estimator, name)) for name in _PLAIN if hasattr(estimator, name)},
    }
    if hasattr(estimator, "feature_names_in_"):
        about["feature_names"] = estimator.feature_names_in_.tolist()
    if hasattr(estimator, "classes_"):
        classes = to_host(estimator.classes_)
        if classes.dtype.kind in "biuf":
            tensors["classes"] = classes
        elif all(isinstance(name, str) for name in classes.tolist()):
            about["classes"] = [classes.dtype.str if classes.dtype.kind == "U" else "O", classes.tolist()]
        else:
            raise InputError(f"expected class labels that are numbers or text, got {classes!r}")
    write(path, "xpnet estimator", tensors, about)


def load_estimator(path: Path, kind: type) -> Any:
    """Read what `save_estimator` wrote: a model of class `kind` with NumPy's arrays.

    Raises:
        InputError: no such file, cut short, changed since it was written, or a model of another class.
    """
    tensors, about = read(path, "xpnet estimator")
    if about["estimator"] != kind.__name__:
        raise InputError(f"{path}: expected an {kind.__name__}, found an {about['estimator']}")
    estimator = kind(**{name: _decoded(value) for name, value in about["parameters"].items()})
    estimator._random_state = check_random_state(estimator.random_state)
    n_layers = about["fitted"]["n_layers_"] - 1
    estimator.coefs_ = [tensors[f"layers.{i}.weight"] for i in range(n_layers)]
    estimator.intercepts_ = [tensors[f"layers.{i}.bias"] for i in range(n_layers)]
    for name, value in about["fitted"].items():
        setattr(estimator, name, value)
    if "feature_names" in about:
        estimator.feature_names_in_ = np.array(about["feature_names"], dtype=object)
    if "classes" in tensors:
        estimator.classes_ = tensors["classes"]
    elif "classes" in about:
        dtype, names = about["classes"]
        estimator.classes_ = np.array(names, dtype=dtype)
    return estimator


def _encoded(value: Any) -> Any:
    """Return the value in a form that JSON keeps apart: tuples from lists, numbers from text as keys."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {"dict": [[_encoded(key), _encoded(entry)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encoded(entry) for entry in value]}
    return [_encoded(entry) for entry in value] if isinstance(value, list) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict) and "dict" in value:
        return {_decoded(key): _decoded(entry) for key, entry in value["dict"]}
    if isinstance(value, dict):
        return tuple(_decoded(entry) for entry in value["tuple"])
    return [_decoded(entry) for entry in value] if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(_encoded(value))
    except TypeError:
        return False
    return True
