"""MLPRegressor."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

from scipy.sparse import issparse
from sklearn.base import RegressorMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length

from xpnet._typing import Array
from xpnet.backends import Backend
from xpnet.estimator.arrays import bring_to, is_on_host, locate
from xpnet.estimator.base import BaseMLP, has_partial_fit
from xpnet.estimator.failures import refuse_shortage, restore_on_failure
from xpnet.estimator.inputs import Inputs, Sample, check_weight, read_targets, read_X
from xpnet.estimator.labels import flatten
from xpnet.estimator.objective import find_loss
from xpnet.estimator.scaling import unscale
from xpnet.training.scores import r2

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multi-layer Perceptron regressor with the interface of scikit-learn.

    It accepts arrays of NumPy, CuPy, PyTorch, JAX and array_api_strict, trains on their device and returns
    the same array type. Lists, DataFrames and SciPy sparse matrices are accepted as well.

    The parameters, attributes and defaults are those of `sklearn.neural_network.MLPRegressor`. So are the
    results for the same `random_state`. What scikit-learn does not have is marked as such.

    Parameters
    ----------
    loss : {'squared_error', 'poisson', 'huber', 'absolute_error', 'quantile'}, default='squared_error'
        The loss to minimize.

        - 'squared_error': half the squared error.
        - 'poisson': half the Poisson deviance. The prediction is exp(z), and y must not be negative.
        - 'huber': the squared error up to δ = 1 in the units of y, linear beyond (Huber 1964).
        - 'absolute_error': its prediction is the median.
        - 'quantile': its prediction is the quantile `quantile` (Koenker and Bassett 1978).

        Not in scikit-learn: the last three.

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
        validation score are kept. With the `validation_data` of `fit`, no rows are held out.
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
    quantile : float, default=0.5
        The quantile that loss='quantile' predicts, above 0 and below 1. Not in scikit-learn.
    clip_norm : float or None, default=None
        Maximum Euclidean norm of the gradient in each step (Pascanu et al. 2013). None does not limit it. Not
        in scikit-learn.
    scoring : str, callable or None, default=None
        Name of a scikit-learn scorer, or a scorer, for the validation scores, which is evaluated on the CPU.
        None uses R². Not in scikit-learn.
    device : str or None, default=None
        Where to compute. None uses the library and the device of X. 'cpu', 'cuda', 'cuda:1', 'auto' or a
        library ('torch', 'torch:cpu') moves the data there, and predictions back. 'cuda' is 'cuda:0',
        whichever device is the current one. 'auto' is a GPU if one is usable, else the CPU. Moving float64 to
        JAX enables its 64-bit mode for the whole process. Not in scikit-learn.

    Attributes
    ----------
    coefs_ : list of arrays of shape (fan_in, fan_out)
        Weight matrices, in the dtype of X, on the device that computes.
    intercepts_ : list of arrays of shape (fan_out,)
        Bias vectors, likewise.
    loss_ : float
        Mean loss of the last epoch, with the penalty. Of several outputs it is the mean.
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
        Number of outputs of the network.
    out_activation_ : str
        Activation of the output layer: 'exp' for loss='poisson', else 'identity'.
    n_features_in_ : int
        Number of features of X.
    feature_names_in_ : array of shape (`n_features_in_`,)
        Names of the features, a NumPy array. Only set if X is a DataFrame with text column names.

    See Also
    --------
    MLPClassifier : Multi-layer Perceptron classifier.
    sklearn.neural_network.MLPRegressor : scikit-learn's, which computes with NumPy.

    Notes
    -----
    X of float32 or float64 is not copied, and the fitted arrays have its dtype. Predicted numbers are float64
    if X or the model is. Integers and booleans are converted to the default floating-point dtype of their
    library, float16 and bfloat16 to float32, except for NumPy's float16, which `fit` converts to float64, as
    scikit-learn does. y, weights and validation data may belong to another library than X if all are in host
    memory.

    `fit` checks that all values are finite. So do the predictions, except for an X that is on a GPU, because
    they do not wait for the device: a row with NaN then has a prediction of NaN.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from xpnet import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor("quantile", 2, "tanh", quantile=0.9, solver="lbfgs", random_state=0)
    >>> bool(0.85 < (y < model.fit(X, y).predict(X)).mean() < 0.95)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "huber", "absolute_error", "quantile"})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        quantile: float = 0.5,
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the model with a single epoch over the given data.

        Args:
            X: (n, n_features) array or sparse matrix, the input data.
            y: numbers (n,) or (n, n_outputs).
            sample_weight: (n,) sample weights.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: as in `fit`, or if `early_stopping=True`.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    @refuse_shortage
    def predict(self, X: Any) -> Any:
        """Return the predicted values (n,) or (n, n_outputs), on the device of X."""
        inputs = read_X(self, X, "predict")
        y = self._predict(inputs)
        return inputs.home.xp.reshape(y, (-1,)) if y.shape[1] == 1 else y

    def _predict(self, inputs: Inputs) -> Any:
        """Return the predicted values (n, n_outputs) on the backend of X."""
        predict = find_loss(self).predict
        y = self._apply(lambda z, xp: predict(z, xp=xp), inputs)
        if self._run is not None and self._run.target_scaling is not None:
            y = unscale(y, self._run.target_scaling, inputs.home)
        return y

    @refuse_shortage
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R², the mean over outputs of 1 - Σ(y - ŷ)² / Σ(y - ȳ)²."""
        if is_on_host(X):
            home = locate(X)
            weight = bring_to(home, self, "sample_weight", sample_weight)
            return float(super().score(X, bring_to(home, self, "y", y), weight))
        inputs = read_X(self, X, "score")
        home = inputs.home
        xp: Any = home.xp
        Y = self._predict(inputs)
        y = flatten(read_targets(self, y, home)[0], home)
        n = inputs.X.shape[0]
        check_consistent_length(inputs.X, y)
        if n < 2 or math.prod(y.shape) != math.prod(Y.shape):  # scikit-learn warns or raises here
            shown = Y[:, 0] if Y.shape[1] == 1 else Y
            return float(r2_score(home.to_numpy(y), home.to_numpy(shown)))
        weight = check_weight(self, sample_weight, inputs.X, home)
        with home.as_current():
            return r2(xp.astype(xp.reshape(y, (n, -1)), Y.dtype), Y, weight, xp=xp)

    def _read_targets(self, given: Sample, *, incremental: bool) -> tuple[Any, Array]:
        y = flatten(given.y, given.y_home)
        if issparse(y):
            check_array(y, input_name="y")  # which raises
        Y = self._make_targets(y, given.y_home, given.backend)
        self.n_outputs_ = Y.shape[1]
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return y, Y

    def _make_targets(self, y: Any, home: Backend, backend: Backend) -> Array:
        xp: Any = home.xp
        with home.as_current():  # and not after the move: the device that computes may lack float64
            Y = xp.astype(y, getattr(xp, backend.dtype_name))
        xp = backend.xp
        Y = xp.reshape(backend.bring(Y, home), (y.shape[0], -1))
        with backend.as_current():
            if self.loss == "poisson" and bool(xp.any(Y < 0.0)):
                raise ValueError("loss='poisson': expected y of at least 0, got a negative value")
        return Y  # type: ignore[no-any-return]

    def _weigh_classes(self, data: Sample, given: Sample) -> Any:
        return data.weight

    def _find_strata(self, y: Any, home: Backend) -> None:
        return None

    def _check_held_out(self, y: Any, home: Backend) -> None:
        n_outputs = y.shape[1] if y.ndim == 2 else 1
        if n_outputs != self.n_outputs_:
            raise ValueError(
                f"validation_data: y has {n_outputs} outputs, but y of the fit has {self.n_outputs_}"
            )
