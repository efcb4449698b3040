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
    the same array type. Lists, pandas DataFrames and SciPy sparse matrices are accepted as well. The
    predictions for an X on a GPU do not check it, so a row with NaN has a prediction of NaN.

    The parameters, attributes and defaults are those of `sklearn.neural_network.MLPRegressor`. So are the
    results for the same `random_state`. The extensions are described in `MLPClassifier`, except for those
    listed below. `class_weight` and `label_smoothing` are for the classifier only.

    Args:
        loss: "squared_error" (half the squared error), "poisson" (half the Poisson deviance), "huber" (with
            δ = 1, in the units of y; Huber 1964), "absolute_error" or "quantile" (Koenker and Bassett 1978).
            "poisson" predicts e^z, and y must not be negative. "absolute_error" predicts the median.
        quantile: the quantile that loss="quantile" predicts, above 0 and below 1.
        scoring: name of a scikit-learn scorer, or a scorer, for the validation scores. It is evaluated on
            the CPU. None uses R².

    >>> from sklearn.datasets import load_diabetes
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
