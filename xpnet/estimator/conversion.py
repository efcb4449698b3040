"""Conversion of a fitted estimator to scikit-learn's own."""

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn import neural_network
from sklearn.base import is_classifier
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

from xpnet.backends import to_host
from xpnet.errors import InputError
from xpnet.estimator.labels import MULTILABEL, Labels
from xpnet.estimator.saving import PLAIN_ATTRIBUTES
from xpnet.estimator.scaling import Run
from xpnet.estimator.stochastic import SolverState
from xpnet.maths.layout import Layout
from xpnet.maths.optimizers import SGD, Adam

__all__ = ["convert_to_sklearn"]

_OPTIMIZERS = {"sgd": SGD, "adam": Adam}
_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
# Parameters that scikit-learn lacks and that do not change the result of training, or only with `loss`.
_HARMLESS = ("device", "quantile", "verbose")


def convert_to_sklearn(estimator: Any) -> Any:
    """Return scikit-learn's estimator with the fitted attributes of `estimator`, as copies on the host.

    Warns if the parameters of `estimator` include some that scikit-learn lacks.

    Raises:
        InputError: if scikit-learn lacks the activation, or if the hidden layers have several ones.
    """
    name = "MLPClassifier" if is_classifier(estimator) else "MLPRegressor"
    parameters, lacking = _translate_parameters(estimator, getattr(neural_network, name))
    if lacking:
        warnings.warn(
            f"scikit-learn's {name} has no {', '.join(lacking)}. It predicts the same as this model, but fit "
            "and partial_fit do not train it the same",
            stacklevel=3,
        )
    model = getattr(neural_network, name)(**parameters)
    fitted: dict[str, Any] = {}
    if model.solver != "lbfgs":
        fitted = {"loss_curve_": [], "best_loss_": np.inf, "_no_improvement_count": 0}
        fitted |= {"validation_scores_": None, "best_validation_score_": None}
    fitted |= {"n_iter_": 0, "t_": 0}
    fitted |= {name: getattr(estimator, name) for name in PLAIN_ATTRIBUTES if hasattr(estimator, name)}
    if hasattr(estimator, "feature_names_in_"):
        fitted["feature_names_in_"] = estimator.feature_names_in_
    vars(model).update(deepcopy(fitted))
    weights, biases = ([np.array(to_host(x)) for x in xs] for xs in (estimator.coefs_, estimator.intercepts_))
    if estimator._run is not None:
        _fold_scaling(weights, biases, estimator._run)
    if name == "MLPClassifier":
        model._label_binarizer = _make_binarizer(estimator._labels)
        model.classes_ = model._label_binarizer.classes_
        if model.out_activation_ == "softmax" and len(model.classes_) == 2:
            # scikit-learn has one output for two classes: p₂ = logistic(z₂ - z₁).
            weights[-1], biases[-1] = np.diff(weights[-1]), np.diff(biases[-1])
            model.out_activation_, model.n_outputs_ = "logistic", 1
    model.coefs_, model.intercepts_ = weights, biases
    model._best_coefs, model._best_intercepts = deepcopy((weights, biases))
    state = getattr(estimator, "_optimizer", None)
    if state is not None and type(state.optimizer) is _OPTIMIZERS.get(estimator.solver):
        model._optimizer = _convert_optimizer(state, model)
    return model


def _translate_parameters(estimator: Any, cls: type) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters for scikit-learn's class, and those of `estimator` that it lacks, as text."""
    given = estimator.get_params(deep=False)
    activation = given["activation"]
    names = {activation} if isinstance(activation, str) else set(activation)
    if len(names) > 1:
        raise InputError(
            "scikit-learn has one activation for all hidden layers, but this model has "
            f"{', '.join(activation)}: export it with to_onnx"
        )
    given["activation"] = names.pop() if names else "relu"
    if given["activation"] not in _ACTIVATIONS:
        raise InputError(
            f"scikit-learn has no activation {given['activation']!r}, only {', '.join(_ACTIVATIONS)}: "
            "export the model with to_onnx"
        )
    parameters: dict[str, Any] = cls().get_params()
    lacking = [name for name in given if name not in parameters and given[name] not in (None, 0.0)]
    for name in parameters:
        if _is_accepted(cls, name, given[name]):
            parameters[name] = given[name]
        else:
            lacking.append(name)
    return parameters, [f"{name}={given[name]!r}" for name in lacking if name not in _HARMLESS]


def _is_accepted(cls: Any, name: str, value: Any) -> bool:
    try:
        validate_parameter_constraints(cls._parameter_constraints, {name: value}, cls.__name__)
    except InvalidParameterError:
        return False
    return True


def _fold_scaling(weights: list[NDArray[Any]], biases: list[NDArray[Any]], run: Run) -> None:
    """Replace the first and the last layer by those that take and return unscaled values, in float64."""
    for layers in weights, biases:
        layers[:] = [array.astype(np.float64) for array in layers]
    shift, factor = (np.broadcast_to(array, weights[0].shape[0]) for array in run.scaling)
    weights[0] *= factor[:, np.newaxis]
    biases[0] -= shift @ weights[0]
    if run.target_scaling is not None:
        shift, factor = run.target_scaling
        weights[-1] /= factor
        biases[-1] = biases[-1] / factor + shift


def _make_binarizer(labels: Labels) -> LabelBinarizer:
    """Return what scikit-learn's classifier converts labels with."""
    if labels.kind != MULTILABEL:
        return LabelBinarizer().fit(to_host(labels.classes))
    Y = np.eye(labels.n_outputs, dtype=int)
    return LabelBinarizer().fit(csr_matrix(Y) if labels.is_sparse else Y)


def _convert_optimizer(state: SolverState, model: Any) -> AdamOptimizer | SGDOptimizer:
    """Return scikit-learn's optimizer with the moments and the learning rate of `state`."""
    parameters = [*model.coefs_, *model.intercepts_]
    moments = [_split(np.array(to_host(moment)), model) for moment in state.moments]
    rate = model.learning_rate_init
    if isinstance(state.optimizer, Adam):
        optimizer = AdamOptimizer(parameters, rate, model.beta_1, model.beta_2, model.epsilon)
        # xpnet stores the moments without these factors.
        optimizer.ms = [(1.0 - state.optimizer.beta_1) * m for m in moments[0]]
        optimizer.vs = [(1.0 - state.optimizer.beta_2) * v for v in moments[1]]
        optimizer.t = state.step
        return optimizer
    optimizer = SGDOptimizer(
        parameters, rate, model.learning_rate, model.momentum, model.nesterovs_momentum, model.power_t
    )
    optimizer.learning_rate = state.learning_rate
    for moment in moments:  # none without momentum
        optimizer.velocities = [-m for m in moment]
    return optimizer


def _split(vector: NDArray[Any], model: Any) -> list[NDArray[Any]]:
    """Return the parts of a vector that belong to each of `coefs_` and `intercepts_`."""
    layout = Layout((model.n_features_in_, *(b.size for b in model.intercepts_)))
    layers: Any = layout.split(vector, xp=np)  # type: ignore[arg-type]
    return [W for W, _ in layers] + [b for _, b in layers]
