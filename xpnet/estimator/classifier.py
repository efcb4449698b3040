"""MLPClassifier."""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar, Self, cast

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from xpnet._typing import Array
from xpnet.backends import Backend, to_host
from xpnet.estimator.arrays import bind_numpy, bring_to, is_on_host, is_text, locate, read_array, send
from xpnet.estimator.base import BaseMLP, has_partial_fit
from xpnet.estimator.failures import refuse_shortage, restore_on_failure
from xpnet.estimator.inputs import Sample, check_weight, read_targets, read_X
from xpnet.estimator.labels import MULTILABEL, Labels, flatten
from xpnet.estimator.objective import find_loss
from xpnet.maths.ops import softplus
from xpnet.training.scores import accuracy

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer Perceptron classifier with the interface of scikit-learn.

    It accepts arrays of NumPy, CuPy, PyTorch, JAX and array_api_strict, trains on their device and returns
    the same array type. Lists, pandas DataFrames and SciPy sparse matrices are accepted as well.

    `fit` checks that all values are finite. So do the predictions, except for an X that is on a GPU, because
    they do not wait for the device: a row with NaN then has NaN probabilities, and its class is arbitrary.

    The parameters, attributes and defaults are those of `sklearn.neural_network.MLPClassifier`. So are the
    results for the same `random_state`. The list below describes the extensions and repeats some parameters
    of scikit-learn. The others are documented there.

    Args:
        hidden_layer_sizes: number of units in each hidden layer.
        activation: activation function of the hidden layers: "identity", "logistic", "tanh", "relu",
            "leaky_relu", "elu" or "softplus". A list specifies one for each hidden layer.
        solver: "adam", "sgd", "rmsprop", "adamw" or "lbfgs". "adamw" is Adam with decoupled weight decay
            `alpha` (Loshchilov and Hutter 2019). "lbfgs" uses all rows in each step; SciPy computes the step
            on the CPU from gradients that are computed on the device.
        alpha: strength of the L2 penalty alpha/2 Σ W², which is divided by the number of rows in the batch
            or by the sum of their weights.
        batch_size: number of rows per step. "auto" is min(200, n_samples).
        learning_rate: "constant", "invscaling", "adaptive", "cosine", "one_cycle" or a callable. "invscaling"
            and "adaptive" have no effect on "adam" and "lbfgs". "cosine" and "one_cycle" span `max_iter`
            epochs, with the peak `learning_rate_init`. A callable returns the learning rate for the step
            t = 1, 2, ... of the fit. Consecutive calls of `partial_fit` continue the count.
        max_iter: maximum number of epochs, or of iterations for "lbfgs".
        early_stopping: whether to hold out `validation_fraction` of the rows, stratified, and to stop when
            the validation score has not improved by at least `tol` for `n_iter_no_change` consecutive
            epochs. The parameters with the best validation score are kept.
        verbose: whether to print progress messages. "progress" shows a progress bar instead.
        warm_start: whether `fit` continues from the previous fit, including the state of the optimizer.
        class_weight: a mapping from class to weight, or "balanced". Classes that the mapping omits have
            weight 1. "balanced" uses n_samples / (n_classes · n_samples of the class). These weights are
            multiplied with `sample_weight`.
        label_smoothing: fraction of each label that is spread evenly over all classes, at least 0 and below 1
            (Szegedy et al. 2016).
        clip_norm: maximum Euclidean norm of the gradient in each step (Pascanu et al. 2013). None does not
            limit it.
        scoring: name of a scikit-learn scorer, or a scorer, for the validation scores. It is evaluated on
            the CPU. None uses the accuracy.
        device: where to compute. None uses the library and the device of X. "cpu", "cuda", "cuda:1" or a
            library ("torch", "torch:cpu") moves the data there, and predictions back. "cuda" is "cuda:0",
            whichever device is the current one. Moving float64 to JAX enables its 64-bit mode for the whole
            process.

    Attributes:
        classes_: (n_classes,) class labels in ascending order, on the device of X. Text labels are a NumPy
            array.
        coefs_: list of weight matrices (fan_in, fan_out), in the dtype of X, on the device that computes.
        intercepts_: list of bias vectors (fan_out,), likewise.
        loss_: mean loss of the last epoch, with the penalty. Each row's loss is capped at -log ε, where ε is
            the machine epsilon.
        best_loss_: lowest `loss_` of all epochs. None if `early_stopping=True`.
        loss_curve_: list with `loss_` of each epoch.
        validation_loss_curve_: list with the mean validation loss of each epoch, without the penalty. None
            without validation data.
        validation_scores_: list with the validation score of each epoch. None without validation data.
        best_validation_score_: highest validation score. None without validation data.
        n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: as in
            scikit-learn.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    loss = "log_loss"

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[int], float] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: str | Mapping[Any, float] | None = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        scoring: Any = None,
        device: str | None = None,
    ) -> None:
        # Equivalent to `self.name = name` for every parameter, which is all that scikit-learn allows here.
        self.__dict__.update((name, value) for name, value in locals().items() if name != "self")

    @available_if(has_partial_fit)
    @refuse_shortage
    @restore_on_failure
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Update the model with a single epoch over the given data.

        Args:
            X: (n, n_features) array or sparse matrix, the input data.
            y: class labels (n,), or a matrix (n, n_labels) of 0 and 1.
            sample_weight: (n,) sample weights.
            classes: all class labels that occur in any call. Required in the first call, optional later.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: as in `fit`; if `classes` is missing in the first call or differs in a later one; or
                if `early_stopping=True` or `class_weight="balanced"`.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' requires all rows, but partial_fit gets only some of them: pass a "
                "mapping from class to weight"
            )
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._set_labels(self._read_labels(X, y, classes))
        elif (
            classes is not None
            and self._read_labels(X, y, classes).list_classes() != self._labels.list_classes()
        ):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        return self._fit(X, y, sample_weight, incremental=True)

    @refuse_shortage
    def predict(self, X: Any) -> Any:
        """Return the predicted labels (n,), or a matrix (n, n_labels) of 0 and 1, on the device of X."""
        inputs = read_X(self, X, "predict")
        labels = self._labels
        return labels.name_classes(self._apply(labels.choose_classes, inputs), inputs.home)

    @refuse_shortage
    def predict_proba(self, X: Any) -> Any:
        """Return the class probabilities (n, n_classes), on the device of X.

        They are float64 if X or `coefs_` is, else float32.
        """

        def compute_probabilities(z: Any, xp: Any) -> Array:
            p = find_loss(self).predict(z, xp=xp)
            return xp.concat([1.0 - p, p], axis=1) if self.n_outputs_ == 1 else p

        return self._apply(compute_probabilities, read_X(self, X, "predict_proba"))

    @refuse_shortage
    def predict_log_proba(self, X: Any) -> Any:
        """Return the log-probabilities (n, n_classes). They are finite even if a probability rounds to 0."""

        def compute_logarithms(z: Any, xp: Any) -> Any:
            if self.out_activation_ == "softmax":
                z = z - xp.max(z, axis=1, keepdims=True)
                return z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
            log_p = -softplus(-z, xp=xp)
            return xp.concat([-softplus(z, xp=xp), log_p], axis=1) if self.n_outputs_ == 1 else log_p

        return self._apply(compute_logarithms, read_X(self, X, "predict_log_proba"))

    @refuse_shortage
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the (weighted) mean accuracy. A multi-label row is correct if all its labels are."""
        if is_on_host(X):
            home = locate(X)
            weight = bring_to(home, self, "sample_weight", sample_weight)
            return float(super().score(X, bring_to(home, self, "y", y), weight))
        inputs = read_X(self, X, "score")
        labels, home = self._labels, inputs.home
        xp: Any = home.xp
        predicted = labels.name_classes(self._apply(labels.choose_classes, inputs), home)
        weight = check_weight(self, sample_weight, inputs.X, home)
        if not is_on_host(predicted):
            y, y_home = read_targets(self, y, home)
            y = flatten(y, y_home)
            check_consistent_length(inputs.X, y)
        if is_on_host(predicted) or y.dtype != predicted.dtype:  # NumPy compares any two dtypes exactly
            return float(accuracy_score(to_host(y), to_host(predicted), sample_weight=to_host(weight)))
        with home.as_current():
            right = predicted == y
            right = xp.all(right, axis=1) if right.ndim == 2 else right
            return accuracy(right, weight, dtype=home.dtype, xp=xp)

    def _read_labels(self, X: Any, y: Any, classes: Any) -> Labels:
        """Return the labels of a first `partial_fit`, where X is: `classes` in ascending order."""
        home = locate(X)
        if is_on_host(y):
            is_multilabel = type_of_target(y).startswith("multilabel")
        else:
            is_multilabel = y.ndim == 2 and y.shape[1] > 1
        if is_multilabel and home.name == "numpy":
            return Labels.of(bring_to(home, self, "y", y), home)
        if is_multilabel:
            return Labels.of(*read_targets(self, y, home))
        # They are few, so that they may come from any device.
        host = np.asarray(to_host(read_array("classes", classes)[0]))
        if home.name == "numpy" or is_text(host):
            return Labels.of(host, bind_numpy("float64"))
        return Labels.of(send("classes", host, home), home)

    def _set_labels(self, labels: Labels) -> None:
        self._labels, self.classes_ = labels, labels.classes

    def _read_targets(self, given: Sample, *, incremental: bool) -> tuple[Any, Array]:
        y = flatten(given.y, given.y_home)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._set_labels(Labels.of(y, given.y_home))
        else:
            there, unknown, lacking = self._labels.compare(y, given.y_home)
            if self.warm_start and (unknown or lacking):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to "
                    f"fit. Previously got {self.classes_}, `y` has {np.asarray(there)}"
                )
            if unknown:
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has "
                    f"{np.asarray(there)}."
                )
        labels = self._labels
        if labels.kind == MULTILABEL and getattr(y, "ndim", 1) == 1:
            raise ValueError(
                f"expected y of shape (n, {labels.n_outputs}), with a column for each label, got {y.shape}"
            )
        self.n_outputs_ = labels.n_outputs
        self.out_activation_ = "softmax" if labels.kind == "multiclass" else "logistic"
        return y, self._make_targets(y, given.y_home, given.backend)

    def _make_targets(self, y: Any, home: Backend, backend: Backend) -> Array:
        Y = self._labels.make_targets(y, home, backend)
        if self.label_smoothing and self.out_activation_ == "logistic":
            with backend.as_current():
                Y = (1.0 - self.label_smoothing) * Y + 0.5 * self.label_smoothing
        return Y

    def _weigh_classes(self, data: Sample, given: Sample) -> Any:
        """Return the sample weights (n,) of data multiplied with the class weights, or None.

        The weights of the classes are those in `given`, the training data.
        """
        if self.class_weight is None:
            return data.weight
        weights = self._find_class_weights(given)
        backend = given.backend
        indices = backend.bring(self._labels.find_indices(data.y, data.y_home), data.y_home)
        with backend.as_current():
            weight = cast(Any, backend.xp).take(weights, indices, axis=0)
            return weight if data.weight is None else weight * data.weight

    def _find_class_weights(self, given: Sample) -> Array:
        """Return the weight (n_classes,) of each class, on the backend that computes."""
        labels = self._labels
        if labels.kind == MULTILABEL:
            raise ValueError("class_weight does not support multi-label targets: pass sample_weight instead")
        known = labels.list_classes()
        if self.class_weight == "balanced":
            xp: Any = given.backend.xp
            indices = given.backend.bring(labels.find_indices(given.y, given.y_home), given.y_home)
            with given.backend.as_current():
                counts = xp.astype(xp.unique_counts(indices).counts, given.backend.dtype)
                return cast(Array, given.X.shape[0] / (len(known) * counts))
        mapping = cast(Mapping[Any, float], self.class_weight)
        unknown = [name for name in mapping if name not in known]
        if unknown:
            raise ValueError(f"class_weight contains {unknown}, but the classes in y are {known}")
        numbers = np.asarray([float(mapping.get(name, 1.0)) for name in known])
        if not (np.isfinite(numbers) & (numbers >= 0.0)).all():
            raise ValueError(f"class_weight: expected finite numbers of at least 0, got {mapping}")
        return given.backend.asarray(numbers)

    def _find_strata(self, y: Any, home: Backend) -> Any:
        """Return the class indices to stratify the validation split by, on the host, or None."""
        if self._labels.kind == MULTILABEL:
            return None
        indices = home.to_numpy(self._labels.find_indices(y, home))
        return indices.astype(bool).reshape(-1, 1) if self.n_outputs_ == 1 else indices

    def _check_held_out(self, y: Any, home: Backend) -> None:
        there, unknown, _ = self._labels.compare(y, home)
        if unknown:
            raise ValueError(
                f"validation_data: y has {there}, but the classes of the fit are "
                f"{self._labels.list_classes()}"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
