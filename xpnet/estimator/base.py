"""The base class of the classifier and the regressor: fitting, prediction, saving and loading."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted

from xpnet._typing import Array
from xpnet.backends import Backend, backend_of
from xpnet.data.batches import split_rows
from xpnet.errors import DivergenceError
from xpnet.estimator.arrays import check_place, has_float64
from xpnet.estimator.callbacks import Tasks
from xpnet.estimator.conversion import convert_to_sklearn
from xpnet.estimator.failures import refuse_shortage, restore_on_failure
from xpnet.estimator.inputs import CheckedRows, Inputs, Sample, check_some_weight, read_sample
from xpnet.estimator.labels import flatten
from xpnet.estimator.lbfgs import minimize_by_lbfgs
from xpnet.estimator.objective import (
    draw_parameters,
    make_hidden_layers,
    make_lbfgs_network,
    make_network,
)
from xpnet.estimator.placement import find_destination, move_arrays, pack, unpack
from xpnet.estimator.saving import extract_model, load_estimator
from xpnet.estimator.scaling import Run, ScaledRows
from xpnet.estimator.stochastic import minimize_in_batches
from xpnet.estimator.validation import Validation, read_held_out, take_rows
from xpnet.maths.mlp import MLP
from xpnet.maths.ops import ACTIVATIONS
from xpnet.training.export import find_rounding_problem, save_onnx
from xpnet.training.model import save_model
from xpnet.training.scores import PlacedRows, forward_in_chunks

__all__ = ["BaseMLP", "has_partial_fit"]

_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
    "preprocessed."
)


def has_partial_fit(estimator: Any) -> bool:
    """Return True, or raise AttributeError if the solver does not support `partial_fit`."""
    if estimator.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


class BaseMLP(CallbackSupportMixin, BaseEstimator):
    """Base class of MLPClassifier and MLPRegressor."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw", "rmsprop"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [
            StrOptions({"constant", "invscaling", "adaptive", "cosine", "one_cycle"}),
            callable,
        ],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose", StrOptions({"progress"})],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": [str, callable, None],
        "device": [str, None],
    }
    # The HTML representation links to the API reference, relative to the pages of the gallery.
    _doc_link_module = "xpnet"
    _doc_link_template = "../../api/xpnet.{estimator_name}.html"
    _run: Run | None = None

    @refuse_shortage
    @restore_on_failure
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Args:
            X: (n, n_features) array or sparse matrix, the input data.
            y: the targets. For a classifier, class labels (n,), or a matrix (n, n_labels) of 0 and 1 for
                multi-label classification. For a regressor, numbers (n,) or (n, n_outputs).
            sample_weight: (n,) sample weights.
            validation_data: (X, y) or (X, y, sample_weight), evaluated after each epoch. Early stopping uses
                it instead of holding out rows of X.

        Returns:
            The fitted estimator.

        Raises:
            ValueError: if the data or the parameters are invalid; or if `device` is None and y, sample_weight
                or validation_data is on another device than X. The estimator is then left unchanged.
            OutOfMemoryError: if the device does not have enough memory, likewise.
        """
        return self._fit(X, y, sample_weight, validation_data)

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any = None, *, incremental: bool = False
    ) -> Self:
        self._check_solver(validation_data, incremental)
        first_pass = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if self._run is not None and not first_pass:
            raise ValueError(
                "this model was loaded from a run of `xpnet train`, which scaled its inputs. `fit` and "
                "`partial_fit` do not scale. To continue that run, use `xpnet train --resume`. To train from "
                "scratch, set warm_start=False and call fit"
            )
        given, Y = self._read_data(X, y, sample_weight, first_pass=first_pass, incremental=incremental)
        sizes = self._find_sizes()
        layout = MLP(sizes, self.activation).layout
        if first_pass:
            self._initialize(given.backend, sizes)
        self._initialize_records(first_pass, watched=self.early_stopping or validation_data is not None)
        n_tasks = 1 if incremental else self.max_iter
        tasks = Tasks(self, layout, X, y, sample_weight, n_tasks, given.backend)
        try:
            theta = self._solve(given, Y, sizes, validation_data, tasks, incremental)
        except DivergenceError:
            raise ValueError(_NOT_FINITE) from None
        finally:
            tasks.close()
        xp: Any = given.backend.xp
        with given.backend.as_current():
            if not bool(xp.all(xp.isfinite(theta))):
                raise ValueError(_NOT_FINITE)
            # In the dtype of the first fit, which this one may continue.
            dtype = getattr(xp, self._dtype_name)
            weights, biases = zip(*layout.split(theta, xp=xp), strict=True)
            self.coefs_ = [xp.astype(W, dtype, copy=False) for W in weights]
            self.intercepts_ = [xp.astype(b, dtype, copy=False) for b in biases]
        tasks.finish()
        return self

    def _check_solver(self, validation_data: Any, incremental: bool) -> None:
        """Raise ValueError if the solver does not support an argument or a parameter."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs":
            for name, given in (
                ("validation_data", validation_data is not None),
                ("clip_norm", self.clip_norm is not None),
                (
                    "learning_rate",
                    callable(self.learning_rate) or self.learning_rate in ("cosine", "one_cycle"),
                ),
            ):
                if given:
                    raise ValueError(
                        f"{name} is only available for stochastic optimizers, and lbfgs is not stochastic: "
                        "omit it, or choose solver='adam'"
                    )

    def _read_data(
        self, X: Any, y: Any, sample_weight: Any, *, first_pass: bool, incremental: bool
    ) -> tuple[Sample, Array]:
        """Check the data. Return them, and the targets of the network on the backend that computes."""
        given = read_sample(self, X, y, sample_weight, reset=first_pass)
        if not first_pass:
            fitted = backend_of(self.coefs_[0])
            check_place(self, "partial_fit" if incremental else "fit", fitted, given.backend)
            if self.device is None and fitted.place != given.backend.place:
                self._move(given.backend)
            given = self._widen(given)
        y, Y = self._read_targets(given, incremental=incremental)
        given = given._replace(y=y)
        weight = check_some_weight(self._weigh_classes(given, given), given.backend)
        if not incremental or not hasattr(self, "_random_state"):
            self._random_state: np.random.RandomState = check_random_state(self.random_state)
        elif isinstance(self.random_state, Integral):
            self._random_state = deepcopy(self._random_state)  # a fit that fails must not change it
        return given._replace(weight=weight), Y

    def _widen(self, given: Sample) -> Sample:
        """Return the data in float64 if the fitted arrays are, so that they lose no digits."""
        backend = given.backend
        if backend.dtype_name == "float64" or self._dtype_name == "float32":
            return given
        xp: Any = backend.xp
        with backend.as_current():
            X, weight = (None if x is None else xp.astype(x, xp.float64) for x in (given.X, given.weight))
        return given._replace(X=X, weight=weight, backend=replace(backend, dtype_name="float64"))

    @property
    def _dtype_name(self) -> str:
        """The dtype of the fitted arrays."""
        return backend_of(self.coefs_[0]).dtype_name

    def _find_sizes(self) -> tuple[int, ...]:
        """Return the number of units in each layer."""
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if hasattr(hidden, "__iter__") else [hidden]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        return (self.n_features_in_, *hidden, self.n_outputs_)

    def _initialize(self, backend: Backend, sizes: tuple[int, ...]) -> None:
        """Set the attributes of a first fit, and draw the initial coefficients."""
        for name in ("_optimizer", "_run"):
            self.__dict__.pop(name, None)
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        # They stay on the host. Training has its own copy on the device.
        self.coefs_, self.intercepts_ = (
            [array.astype(backend.dtype_name) for array in arrays]
            for arrays in draw_parameters(sizes, self.activation, self._random_state)
        )

    def _initialize_records(self, first_pass: bool, watched: bool) -> None:
        """Set the attributes that record each epoch: empty, or copies of those of the previous fit."""

        def recall(name: str, default: Any) -> Any:
            found = None if first_pass else getattr(self, name, None)
            return default if found is None else found

        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = list(recall("loss_curve_", []))
            self.best_loss_ = None if self.early_stopping else recall("best_loss_", np.inf)
            self._no_improvement_count = recall("_no_improvement_count", 0)
            scores = recall("validation_scores_", [] if watched else None)
            self.validation_scores_ = None if scores is None else list(scores)
            self.best_validation_score_ = recall("best_validation_score_", -np.inf if watched else None)
        losses = recall("validation_loss_curve_", [] if watched and self.solver != "lbfgs" else None)
        self.validation_loss_curve_ = None if losses is None else list(losses)

    def _solve(
        self,
        given: Sample,
        Y: Array,
        sizes: tuple[int, ...],
        validation_data: Any,
        tasks: Tasks,
        incremental: bool,
    ) -> Array:
        """Train. Return the parameters as a flat vector."""
        backend = given.backend
        theta = self._join_parameters(sizes, backend)
        data: tuple[Any, ...] = (given.X, Y)
        if given.weight is not None:
            data = (*data, backend.xp.reshape(given.weight, (-1, 1)))
        if self.solver == "lbfgs":
            mlp = make_lbfgs_network(self, sizes)
            return minimize_by_lbfgs(self, mlp, theta, data, backend=backend, tasks=tasks)
        mlp = make_network(self, sizes, backend)
        rows, validation = self._hold_out(given, Y, validation_data)
        return minimize_in_batches(
            self,
            mlp,
            theta,
            data,
            rows=rows,
            validation=validation,
            backend=backend,
            tasks=tasks,
            incremental=incremental,
        )

    def _join_parameters(self, sizes: tuple[int, ...], backend: Backend) -> Array:
        """Return a copy of the parameters as a flat vector, which training may overwrite."""
        found = (self.coefs_[0].shape[0], *(W.shape[1] for W in self.coefs_))
        if found != sizes:
            raise ValueError(
                f"the fitted model has layers of {found} units, but the data and hidden_layer_sizes require "
                f"{sizes}. To train another network, set warm_start=False and call fit"
            )
        xp: Any = backend.xp
        source = backend_of(self.coefs_[0])
        with backend.as_current():
            weights, biases = (
                [xp.astype(backend.bring(array, source), backend.dtype) for array in arrays]
                for arrays in (self.coefs_, self.intercepts_)
            )
            return MLP(sizes).layout.join(weights, biases, xp=xp)

    def _hold_out(
        self, given: Sample, Y: Array, validation_data: Any
    ) -> tuple[np.ndarray[Any, Any] | None, Validation | None]:
        """Return the rows to train on (None for all) and the validation set (None if there is none)."""
        if validation_data is not None:
            data = read_held_out(self, validation_data, given)
            data = data._replace(y=flatten(data.y, data.y_home))
            self._check_held_out(data.y, data.y_home)
            Y = self._make_targets(data.y, data.y_home, given.backend)
            weight = check_some_weight(self._weigh_classes(data, given), given.backend)
            return None, Validation(data.X, Y, data.y, weight, None, data.y_home, given.backend)
        if not self.early_stopping:
            return None, None
        rows, held = split_rows(
            given.X.shape[0],
            self.validation_fraction,
            strata=self._find_strata(given.y, given.y_home),
            random_state=self._random_state,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        xp: Any = given.backend.xp
        there = given.backend.asarray(held)
        y = take_rows(given.y, given.y_home.asarray(held), given.y_home)
        with given.backend.as_current():
            weight = None if given.weight is None else xp.take(given.weight, there, axis=0)
            if weight is not None:
                check_some_weight(weight, given.backend)
                check_some_weight(xp.take(given.weight, given.backend.asarray(rows), axis=0), given.backend)
            Y = xp.take(Y, there, axis=0)
        return rows, Validation(given.X, Y, y, weight, there, given.y_home, given.backend)

    def _apply(self, function: Callable[[Any, Any], Array], inputs: Inputs) -> Array:
        """Return function(z, xp) of the last layer's z (n, n_outputs), on the backend of X.

        The function is called with one chunk of rows at a time. So X, and the result, may be larger than the
        memory of the device if they are on the host.
        """
        X, home, backend, _, is_checked = inputs
        backend = backend.for_short_rows
        layers = self._find_layers(inputs)
        sizes = (X.shape[1], *[b.shape[0] for b in self.intercepts_])
        # On a GPU nothing is read, so that the prediction does not wait for the device.
        if self._run is not None and not issparse(X) and not home.is_on_gpu:
            problem = self._run.scaling.find_problem(X, xp=home.xp)
            if problem is not None:
                warnings.warn(problem, stacklevel=4)
        if not is_checked:
            X = CheckedRows(self, X)
        if home.place != backend.place:
            X = PlacedRows(X, home, backend)
        activation = self.activation if isinstance(self.activation, str) else tuple(self.activation)
        xp: Any = backend.xp
        with backend.as_current():
            if self._run is not None:
                X = ScaledRows(X, self._run.scaling, layers[0][0].dtype, backend)
            chunks = forward_in_chunks(make_hidden_layers(sizes, activation), layers, X, backend=backend)
            found = [home.bring(function(z, xp), backend) for _, z in chunks]
        if len(found) == 1:
            return found[0]
        with home.as_current():
            return home.xp.concat(found)

    def _find_layers(self, inputs: Inputs) -> list[tuple[Array, Array]]:
        """Return (W, b) of each layer on the backend that computes, in float64 if X is."""
        backend, source = inputs.backend, inputs.source
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        if source is inputs.home:
            return layers
        if source.place != backend.place:
            layers = [(backend.bring(W, source), backend.bring(b, source)) for W, b in layers]
        if (source.dtype_name, inputs.home.dtype_name) == ("float32", "float64") and has_float64(backend):
            xp: Any = backend.xp
            with backend.as_current():
                layers = [(xp.astype(W, xp.float64), xp.astype(b, xp.float64)) for W, b in layers]
        return layers

    def to_device(self, device: str | ModuleType) -> Self:
        """Move the fitted arrays to a device or to another array library.

        Args:
            device: a device ("cpu", "cuda", "cuda:1"), a library ("torch", "torch:cpu"), or the namespace of
                a library. "cuda" is "cuda:0". A device alone keeps the current library if it has that device.

        Returns:
            The estimator itself, which is modified in place.

        Raises:
            BackendError: if the library or the device cannot be used on this machine.
            ValueError: if the library cannot hold the class labels.
        """
        check_is_fitted(self)
        now = backend_of(self.coefs_[0])
        backend = find_destination(device, now)
        self._move(backend)
        return self

    def _move(self, backend: Backend) -> None:
        """Move the fitted arrays. The parameters of the constructor stay what the user passed."""
        names = vars(self).keys() - self.get_params(deep=False).keys()
        self.__dict__.update({name: move_arrays(name, getattr(self, name), backend) for name in names})

    def save(self, path: str | PathLike[str]) -> None:
        """Save the fitted model to a safetensors file, which `load` and `xpnet predict` read.

        The state of the optimizer is not saved, nor are parameters that are functions or RandomState
        instances.

        Raises:
            NotFittedError: if the estimator is not fitted.
            InputError: if the class labels are neither numbers nor text.
        """
        check_is_fitted(self)
        save_model(Path(path), extract_model(self))

    def to_onnx(self, path: str | PathLike[str], *, dtype: str = "float32") -> None:
        """Write the fitted model to an ONNX file, which onnxruntime and other runtimes load.

        The input is `X` (n, n_features). A classifier has the outputs `label`, as `predict`, and
        `probabilities`, as `predict_proba`. A regressor has the output `variable` (n, n_outputs). Labels are
        int64, bool or strings, and double if they are floats. The metadata contain the classes and the
        feature names. The graph is of opset 17.

        Args:
            path: the file to write.
            dtype: "float32" or "float64", the type of X, of the parameters and of the predicted numbers.
                Some runtimes, on GPUs and in browsers, support float32 only.

        Raises:
            NotFittedError: if the estimator is not fitted.
            InputError: if onnx is not installed; or if the class labels are neither numbers nor text, or are
                integers that int64 cannot hold.
        """
        check_is_fitted(self)
        model = extract_model(self)
        problem = find_rounding_problem(model) if dtype == "float32" else None
        if problem is not None:
            warnings.warn(problem, stacklevel=2)
        save_onnx(Path(path), model, dtype)

    def to_sklearn(self) -> Any:
        """Return scikit-learn's `MLPClassifier` or `MLPRegressor`, fitted, with a copy of the weights.

        Its predictions are the same up to rounding, and all its arrays are NumPy arrays. It is what tools
        that convert or inspect models of scikit-learn accept, such as skl2onnx, hummingbird and skops.

        Where scikit-learn lacks a parameter or a value of it (`solver="adamw"`, `loss="huber"`,
        `class_weight`), the result has scikit-learn's default, and a warning says so: it predicts the same,
        but training it further does not do the same. Otherwise `partial_fit` continues where this model
        stopped, with the state of the optimizer.

        For a model that was loaded from a run of `xpnet train`, the scaling of inputs and targets becomes
        part of the first and the last weights, in float64. The result takes unscaled rows, too.

        Raises:
            NotFittedError: if the estimator is not fitted.
            InputError: if scikit-learn lacks the activation, or if the hidden layers have several ones.
        """
        check_is_fitted(self)
        return convert_to_sklearn(self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Load a model that `save` or `xpnet train` wrote. Its fitted attributes are NumPy arrays.

        The model of a run of `xpnet train` takes unscaled rows and scales them itself. Calling `fit` trains
        it from scratch, without scaling. If its table had text columns or missing values, the rows must be
        encoded as in training, which `xpnet predict` does. If the run used `--loss logistic_cross_entropy`
        with more than two classes (one-vs-all), the probabilities of a row do not sum to 1.

        Args:
            path: a model file, or the folder of a run. If the run is unfinished, its last checkpoint is
                loaded, with a warning.

        Returns:
            The fitted estimator.

        Raises:
            InputError: if the file does not exist, is truncated, was modified after it was written, or
                contains a model of another class.
        """
        return load_estimator(Path(path), cls)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {name: pack(value) for name, value in super().__getstate__().items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # float64 parameters switch the 64-bit types of JAX on, which the labels may need.
        names = sorted(state, key="coefs_".__ne__)
        super().__setstate__({name: unpack(name, state[name]) for name in names})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags
