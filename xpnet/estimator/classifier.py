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
from xpnet.estimator.inputs import Sample, check_weight, read_host_targets, read_targets, read_X
from xpnet.estimator.labels import MULTILABEL, Labels, flatten
from xpnet.estimator.objective import find_loss
from xpnet.maths.ops import softplus
from xpnet.training.scores import accuracy

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multi-layer Perceptron classifier with the interface of scikit-learn.

    It accepts arrays of NumPy, CuPy, PyTorch, JAX and array_api_strict, trains on their device and returns
    the same array type. Lists, DataFrames and SciPy sparse matrices are accepted as well.

    The parameters, attributes and defaults are those of `sklearn.neural_network.MLPClassifier`. So are the
    results for the same `random_state`. What scikit-learn does not have is marked as such.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Number of units in each hidden layer. An integer is one hidden layer.
    activation : str or list of str, default='relu'
        Activation function of the hidden layers. A list has one for each hidden layer.

        - 'identity': z
        - 'logistic': 1 / (1 + exp(-z))
        - 'tanh': tanh(z)
        - 'relu': max(z, 0)
        - 'leaky_relu': max(z, 0.01 z)
        - 'elu': z, or exp(z) - 1 where z < 0
        - 'softplus': log(1 + exp(z))

        Not in scikit-learn: the last three, and lists.

    solver : {'adam', 'sgd', 'lbfgs', 'adamw', 'rmsprop'}, default='adam'
        How the parameters are optimized.

        - 'adam': Adam (Kingma and Ba 2015).
        - 'sgd': stochastic gradient descent with momentum.
        - 'lbfgs': L-BFGS-B (Byrd et al. 1995), with all rows in each step. SciPy computes the step on the
          CPU, from gradients that are computed on the device.
        - 'adamw': Adam with decoupled weight decay `alpha` (Loshchilov and Hutter 2019).
        - 'rmsprop': RMSprop (Tieleman and Hinton 2012), with a decay rate of 0.99.

        Not in scikit-learn: 'adamw' and 'rmsprop'.

    alpha : float, default=0.0001
        Strength of the L2 penalty alpha/2 Σ W², which is divided by the number of rows in the batch or by the
        sum of their weights. With solver='adamw' it is the weight decay instead.
    batch_size : int or 'auto', default='auto'
        Number of rows per step. 'auto' is min(200, n_samples). Not used by 'lbfgs'.
    learning_rate : str or callable, default='constant'
        Schedule of the learning rate.

        - 'constant': `learning_rate_init`.
        - 'invscaling': learning_rate_init / (t + 1)^power_t after t training rows, changed once per epoch.
        - 'adaptive': `learning_rate_init`, divided by 5 whenever training would otherwise stop.
        - 'cosine': falls from `learning_rate_init` to 0 over `max_iter` epochs (Loshchilov and Hutter 2017).
        - 'one_cycle': rises to `learning_rate_init`, then falls, over `max_iter` epochs (Smith and Topin
          2018).
        - A callable returns the learning rate for the step t = 1, 2, ... of the fit. Consecutive calls of
          `partial_fit` continue the count.

        Each call of `partial_fit` is an epoch of 'cosine' and 'one_cycle', and raises ValueError after
        `max_iter` of them.

        'invscaling' and 'adaptive' have no effect on 'adam', as in scikit-learn. None has an effect on
        'lbfgs'. Not in scikit-learn: 'cosine', 'one_cycle' and callables.

    learning_rate_init : float, default=0.001
        Initial learning rate; for 'cosine' and 'one_cycle' the highest. Not used by 'lbfgs'.
    power_t : float, default=0.5
        Exponent of learning_rate='invscaling'.
    max_iter : int, default=200
        Maximum number of epochs, or of iterations for 'lbfgs'. An epoch visits each row once.
    shuffle : bool, default=True
        Whether to shuffle the rows in each epoch. Not used by 'lbfgs'.
    random_state : int, RandomState instance or None, default=None
        Determines the initial parameters, the held-out rows and the order of the rows. They are drawn by
        NumPy, so that an int gives the same ones on each array library and device.
    tol : float, default=0.0001
        Training stops when the training loss, or with `early_stopping` the validation score, has not improved
        by at least `tol` for `n_iter_no_change` consecutive epochs. For 'lbfgs' it is the tolerance of the
        gradient.
    verbose : bool, int or 'progress', default=False
        Whether to print the loss of each epoch. 'progress', which is not in scikit-learn, shows a progress
        bar instead.
    warm_start : bool, default=False
        Whether `fit` continues from the previous fit. Unlike in scikit-learn, it also continues the state of
        the optimizer.
    momentum : float, default=0.9
        Momentum of solver='sgd', from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether the momentum of solver='sgd' is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the rows and to stop when the validation score has not
        improved by at least `tol` for `n_iter_no_change` consecutive epochs. The parameters with the best
        validation score are kept. The held-out rows have the same share of each class, except with several
        labels. With the `validation_data` of `fit`, no rows are held out.
    validation_fraction : float, default=0.1
        Fraction of the rows to hold out if early_stopping=True, at least 0 and below 1.
    beta_1 : float, default=0.9
        Decay rate of the first moment in 'adam' and 'adamw', at least 0 and below 1.
    beta_2 : float, default=0.999
        Decay rate of the second moment in 'adam' and 'adamw', at least 0 and below 1.
    epsilon : float, default=1e-8
        Term for numerical stability in 'adam', 'adamw' and 'rmsprop'.
    n_iter_no_change : int or inf, default=10
        Number of epochs without improvement after which training stops. Not used by 'lbfgs'.
    max_fun : int, default=15000
        Maximum number of evaluations of the loss by 'lbfgs'.
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, by which `sample_weight` is multiplied. Classes that the dict omits have
        weight 1. 'balanced' uses n_samples / (n_classes · n_samples of the class). Not in scikit-learn.
    label_smoothing : float, default=0.0
        Fraction of each label that is spread evenly over all classes, at least 0 and below 1 (Szegedy et al.
        2016). Not in scikit-learn.
    clip_norm : float or None, default=None
        Maximum Euclidean norm of the gradient in each step (Pascanu et al. 2013). None does not limit it. Not
        in scikit-learn.
    scoring : str, callable or None, default=None
        Name of a scikit-learn scorer, or a scorer, for the validation scores, which is evaluated on the CPU.
        None uses the accuracy. Not in scikit-learn.
    device : str or None, default=None
        Where to compute. None uses the library and the device of X. 'cpu', 'cuda', 'cuda:1', 'auto' or a
        library ('torch', 'torch:cpu') moves the data there, and predictions back. 'cuda' is 'cuda:0',
        whichever device is the current one. 'auto' is a GPU if one is usable, else the CPU. Moving float64 to
        JAX enables its 64-bit mode for the whole process. Not in scikit-learn.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels in ascending order, on the device of X. Text labels are a NumPy array.
    coefs_ : list of arrays of shape (fan_in, fan_out)
        Weight matrices, in the dtype of X, on the device that computes.
    intercepts_ : list of arrays of shape (fan_out,)
        Bias vectors, likewise.
    loss_ : float
        Mean loss of the last epoch, with the penalty. Each row's loss is capped at -log ε, where ε is the
        machine epsilon, as in scikit-learn.
    best_loss_ : float or None
        Lowest `loss_` of all epochs. None if early_stopping=True. Not set by 'lbfgs'.
    loss_curve_ : list of shape (`n_iter_`,)
        `loss_` of each epoch. Not set by 'lbfgs'.
    validation_loss_curve_ : list of shape (`n_iter_`,) or None
        Mean validation loss of each epoch, without the penalty. None without validation data. Not in
        scikit-learn.
    validation_scores_ : list of shape (`n_iter_`,) or None
        Validation score of each epoch. None without validation data. Not set by 'lbfgs'.
    best_validation_score_ : float or None
        Highest validation score. None without validation data. Not set by 'lbfgs'.
    n_iter_ : int
        Number of epochs, or of iterations of 'lbfgs', in the last call of `fit`.
    t_ : int
        Number of rows trained on, each counted once per epoch. 0 for 'lbfgs'.
    n_layers_ : int
        Number of layers, with the input and the output layer.
    n_outputs_ : int
        Number of outputs of the network. It is 1 for two classes.
    out_activation_ : str
        Activation of the output layer: 'logistic' for two classes or several labels, else 'softmax'.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : array of shape (`n_features_in_`,)
        Names of the features, a NumPy array. Only set if X is a DataFrame with text column names.

    See Also
    --------
    MLPRegressor : Multi-layer Perceptron regressor.
    sklearn.neural_network.MLPClassifier : scikit-learn's, which computes with NumPy.

    Notes
    -----
    X of float32 or float64 is not copied, and the fitted arrays have its dtype. Predicted numbers are float64
    if X or the model is. Integers and booleans are converted to the default floating-point dtype of their
    library, float16 and bfloat16 to float32, except for NumPy's float16, which `fit` converts to float64, as
    scikit-learn does. y, weights and validation data may belong to another library than X if all are in host
    memory.

    `fit` checks that all values are finite. So do the predictions, except for an X that is on a GPU, because
    they do not wait for the device: a row with NaN then has NaN probabilities, and its class is arbitrary.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from xpnet import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> model.predict(X[:3])
    array([0, 0, 0])
    >>> model.score(X, y) > 0.9
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
        if is_on_host(y):
            y = flatten(read_host_targets(self, y, home), bind_numpy("float64"))
        else:
            y = flatten(*read_targets(self, y, home))
        check_consistent_length(y, inputs.X)
        is_alike = not is_on_host(y) and (y.dtype, y.shape) == (predicted.dtype, predicted.shape)
        if not is_alike:  # NumPy compares any two dtypes exactly, and scikit-learn refuses other shapes
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
        return Labels.of(send("classes", host, home, are_labels=True), home)

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
        labels.check_shape(y)
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
        try:
            self._labels.check_shape(y)
        except ValueError as error:
            raise ValueError(f"validation_data: {error}") from None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
