"""Saving a fitted estimator to a model file, and loading it."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.utils import check_random_state

from xpnet.backends import to_host
from xpnet.errors import InputError
from xpnet.estimator.labels import Labels
from xpnet.estimator.objective import find_loss
from xpnet.estimator.scaling import Run
from xpnet.maths.mlp import MLP
from xpnet.training.model import Model, load_model

__all__ = ["PLAIN_ATTRIBUTES", "extract_model", "load_estimator"]

# Fitted attributes that are JSON-serializable.
PLAIN_ATTRIBUTES = (
    *("n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "n_iter_", "t_", "loss_", "best_loss_"),
    *("loss_curve_", "validation_scores_", "validation_loss_curve_", "best_validation_score_"),
    "_no_improvement_count",
)


def extract_model(estimator: Any) -> Model:
    """Return the network of a fitted estimator, with everything that `load_estimator` restores.

    Parameters that are not JSON-serializable (a function, a RandomState) are left out. They only affect
    training.
    """
    parameters = {name: _encode(value) for name, value in estimator.get_params().items() if _is_plain(value)}
    about: dict[str, Any] = {
        "name": type(estimator).__name__,
        "parameters": parameters,
        "fitted": {
            name: _encode(getattr(estimator, name)) for name in PLAIN_ATTRIBUTES if hasattr(estimator, name)
        },
    }
    if hasattr(estimator, "classes_"):
        labels = estimator._labels
        about["fitted"] |= {"_target_kind": labels.kind, "_sparse_target": labels.is_sparse}
    if hasattr(estimator, "feature_names_in_"):
        about["feature_names"] = estimator.feature_names_in_.tolist()
    weights, biases = ([to_host(x) for x in arrays] for arrays in (estimator.coefs_, estimator.intercepts_))
    if estimator.loss == "log_loss":
        loss: Any = ("softmax" if estimator.out_activation_ == "softmax" else "logistic") + "_cross_entropy"
    else:
        loss = find_loss(estimator) if estimator.loss == "quantile" else estimator.loss
    run = estimator._run
    model = Model(
        MLP((weights[0].shape[0], *(b.size for b in biases)), estimator.activation, loss),
        np.concatenate([array.ravel() for array in weights + biases]),
        to_host(estimator.classes_) if hasattr(estimator, "classes_") else None,
        estimator=about,
    )
    return model if run is None else replace(model, **run._asdict())


def load_estimator(path: Path, cls: type) -> Any:
    """Load a model that `BaseMLP.save` or `xpnet train` wrote, as an instance of `cls`.

    Raises:
        InputError: if the file does not exist, is truncated, was modified after it was written, or contains
            a model of another class.
    """
    model = load_model(path)
    about = model.estimator or _describe_run(model)
    if about["name"] not in {base.__name__ for base in cls.__mro__}:
        raise InputError(
            f"{path}: expected a model of {cls.__name__}, found one of {about['name']}: "
            f"load it with {about['name']}.load"
        )
    if model.unfinished is not None:
        done, planned = model.unfinished
        warnings.warn(f"{path}: the run is unfinished, {done:,} of {planned:,} epochs", stacklevel=3)
    estimator = cls(**{name: _decode(value) for name, value in about["parameters"].items()})
    estimator._random_state = check_random_state(estimator.random_state)
    layers = cast(Any, model.mlp.layout).split(model.theta, xp=np)
    estimator.coefs_, estimator.intercepts_ = [W for W, _ in layers], [b for _, b in layers]
    fitted = dict(about["fitted"])
    if model.classes is not None:
        kind, is_sparse = fitted.pop("_target_kind"), fitted.pop("_sparse_target")
        estimator._set_labels(Labels(kind, model.classes, is_sparse))
    for name, value in fitted.items():
        if "loss_" in name and value is not None:
            value = list(map(np.float64, value)) if isinstance(value, list) else np.float64(value)
        setattr(estimator, name, value)
    if "feature_names" in about:
        estimator.feature_names_in_ = np.array(about["feature_names"], dtype=object)
    if model.scaling is not None:
        estimator._run = Run(model.scaling, model.target_scaling, model.picture, model.columns)
    return estimator


def _describe_run(model: Model) -> dict[str, Any]:
    """Return what `extract_model` would return about the network of a run."""
    n_inputs, *hidden, n_outputs = model.mlp.sizes
    parameters: dict[str, Any] = {"hidden_layer_sizes": {"tuple": hidden}}
    if hidden:
        names = list(model.mlp.activations)
        parameters["activation"] = names[0] if len(set(names)) == 1 else {"tuple": names}
    fitted: dict[str, Any] = {
        "n_features_in_": n_inputs,
        "n_outputs_": n_outputs,
        "n_layers_": len(hidden) + 2,
    }
    if model.mlp.classifies:
        # One logistic output for each of several classes (one-vs-all) is still one label for each row.
        fitted["_target_kind"], fitted["_sparse_target"] = "binary" if n_outputs == 1 else "multiclass", False
        fitted["out_activation_"] = str(model.mlp.loss).removesuffix("_cross_entropy")
        return {"name": "MLPClassifier", "parameters": parameters, "fitted": fitted}
    parameters["loss"] = model.mlp.loss
    fitted["out_activation_"] = "exp" if model.mlp.loss == "poisson" else "identity"
    return {"name": "MLPRegressor", "parameters": parameters, "fitted": fitted}


def _encode(value: Any) -> Any:
    """Encode a value for JSON, such that `_decode` restores tuples and the types of dictionary keys."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {"dict": [[_encode(key), _encode(entry)] for key, entry in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(entry) for entry in value]}
    return [_encode(entry) for entry in value] if isinstance(value, list) else value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and "dict" in value:
        return {_decode(key): _decode(entry) for key, entry in value["dict"]}
    if isinstance(value, dict):
        return tuple(_decode(entry) for entry in value["tuple"])
    return [_decode(entry) for entry in value] if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(_encode(value))
    except TypeError:
        return False
    return True
