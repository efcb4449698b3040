"""Input validation: the checks of scikit-learn, computed on the device of the data.

scikit-learn checks host data (lists, NumPy, pandas, SciPy sparse). An array of another library is checked on
its device, with a few reductions. If one of them fails, a copy on the host is passed to scikit-learn, which
raises its usual error.

This module returns arrays with their backends, so that no other has to determine them again.
"""

import math
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils.validation import (
    _check_sample_weight,
    _check_y,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from xpnet._typing import Namespace
from xpnet.backends import Backend, backend_of
from xpnet.estimator.arrays import (
    bind_numpy,
    bring_to,
    check_place,
    find_backend,
    follow,
    is_on_host,
    is_text,
    read_array,
    send,
    widen,
)
from xpnet.estimator.host import HostNamespace

__all__ = [
    "CheckedRows",
    "Inputs",
    "Sample",
    "check_some_weight",
    "check_weight",
    "read_X",
    "read_host_targets",
    "read_sample",
    "read_targets",
]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Inputs(NamedTuple):
    """The checked X of a prediction.

    Attributes:
        X: (n, features) on `home`, or a sparse matrix.
        home: the backend of the X that was passed, in its floating dtype. Results are returned on it.
        backend: the backend that computes.
        source: the backend of the fitted arrays, in their dtype.
        is_checked: whether X is known to be finite. If not, iterate over `CheckedRows`.
    """

    X: Any
    home: Backend
    backend: Backend
    source: Backend
    is_checked: bool = True


class CheckedRows:
    """X (n, features) on the host, whose rows are checked for NaN and infinity when indexed.

    They are then in the cache of the processor, where the network needs them next. To check all of X first
    would read it twice from memory, which takes a fifth of the time of a prediction.
    """

    def __init__(self, estimator: Any, X: NDArray[Any]) -> None:
        self.estimator, self.X, self.is_finite = estimator, X, False
        self.shape: tuple[int, ...] = X.shape

    def __getitem__(self, index: Any) -> NDArray[Any]:
        rows: NDArray[Any] = self.X[index]
        if not self.is_finite:
            flat = rows.reshape(-1)
            # Unlike `dot`, `vdot` does not warn of an overflow. If it is nothing else, validate_data returns.
            if not math.isfinite(np.vdot(flat, flat)):
                validate_data(self.estimator, self.X, reset=False)
                self.is_finite = True
        return rows


class Sample(NamedTuple):
    """The checked arguments of a fit.

    Attributes:
        X: (n, features) on `backend`, or a sparse matrix.
        home, backend: as in `Inputs`.
        y: the targets as the user passed them, on `y_home`.
        weight: (n,) on `backend`, in the dtype of X, or None.
        y_home: `home`, or NumPy for text labels.
    """

    X: Any
    y: Any
    weight: Any
    home: Backend
    y_home: Backend
    backend: Backend


def read_sample(estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Sample:
    """Check the arguments of `fit` and move them to the backend that computes.

    y and sample_weight are moved to the library and the device of X.

    Raises:
        ValueError: as scikit-learn's estimators; as `follow`; if an array is sparse, sharded or not in
            memory; or if X is sparse and `device` is not NumPy.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    X, library = read_array("X", X)
    if library in (None, "numpy"):
        X, y = validate_data(
            estimator,
            X,
            bring_to(bind_numpy("float64"), estimator, "y", y),
            accept_sparse="csr",
            multi_output=True,
            y_numeric=not hasattr(estimator, "predict_proba"),
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        home, y_home = _find_home(X), bind_numpy("float64")
    else:
        X, home = _check_on_device(estimator, X, reset=reset)
        y, y_home = read_targets(estimator, y, home)
        check_consistent_length(X, y)
    backend = home
    if estimator.device is not None:
        backend = find_backend(estimator.device, home.dtype_name)
        backend = home if backend.place == home.place else backend
        if issparse(X) and backend.name != "numpy":
            raise _make_sparse_error(backend.name)
    weight = check_weight(estimator, sample_weight, X, home)
    return Sample(
        X if backend is home else backend.bring(X, home),
        y,
        weight if weight is None else backend.bring(weight, home),
        home,
        y_home,
        backend,
    )


def read_X(estimator: Any, X: Any, method: str) -> Inputs:
    """Check the X of a prediction.

    X on a GPU is not checked for NaN and infinity: the host would have to wait for the device.

    Raises:
        ValueError: as scikit-learn's estimators; as `check_place`; or if X is sparse, sharded or not in
            memory.
    """
    if not hasattr(estimator, "coefs_"):
        check_is_fitted(estimator)  # raises NotFittedError
    parameters = estimator.coefs_[0]
    if type(X) is type(parameters) is np.ndarray and _is_plain(estimator, X):
        home = _find_home(X)
        source = bind_numpy("float64" if parameters.dtype == _FLOATS[1] else "float32")
        return Inputs(X, home, home, source, is_checked=False)
    source = backend_of(parameters)
    X, library = read_array("X", X)
    if library in (None, "numpy"):
        check_place(estimator, method, source, bind_numpy("float64"))
        X = validate_data(estimator, X, accept_sparse="csr", reset=False)
        home = _find_home(X)
    else:
        X, home = _check_on_device(estimator, X, reset=False, predicts=True)
        check_place(estimator, method, source, home)
    if estimator.device is None or source.place == home.place:
        return Inputs(X, home, home, source)
    if issparse(X):
        raise _make_sparse_error(source.name)
    return Inputs(X, home, source, source)


def read_targets(estimator: Any, y: Any, home: Backend) -> tuple[Any, Backend]:
    """Check the y for an X on `home`, which is not NumPy. Return y and its backend.

    This is `home`, or NumPy if y is text.
    """
    if is_on_host(y):
        y = read_host_targets(estimator, y, home)
        if is_text(y):
            return y, bind_numpy("float64")
        y = send("y", y, home, are_labels=is_classifier(estimator))
    else:
        y = bring_to(home, estimator, "y", y)
    _check_values(y, home, "y", estimator, ensure_2d=False)
    return y, home


def read_host_targets(estimator: Any, y: Any, home: Backend) -> NDArray[Any]:
    """Check the y on the host for an X on `home`, which is not NumPy. Return y as a NumPy array.

    Raises:
        ValueError: as scikit-learn's estimators; or as `follow`, if y is a NumPy array of numbers.
    """
    y, library = read_array("y", y)
    y = _check_y(y, multi_output=True, y_numeric=not is_classifier(estimator), estimator=estimator)
    if issparse(y):
        y = y.toarray()
    if library is not None and not is_text(y):
        follow(estimator, "y", bind_numpy("float64"), home)
    return cast(NDArray[Any], y)


def check_weight(estimator: Any, weight: Any, X: Any, home: Backend) -> Any:
    """Return the sample weights (n,) in the dtype of X, on its backend, or None.

    Raises:
        ValueError: if the weights are not 1-D, not finite or all 0, do not have one entry per row of X, or
            cannot be moved to X.
    """
    if weight is None:
        return None
    weight, library = read_array("sample_weight", weight)
    if home.name == "numpy":
        return _check_sample_weight(bring_to(home, estimator, "sample_weight", weight), X, dtype=home.dtype)
    if is_on_host(weight) and is_text(weight):
        weight = _check_sample_weight(weight, np.empty((X.shape[0], 0)))
    if library is None:
        weight = np.asarray(weight)
        if weight.ndim == 0:
            weight = np.full(X.shape[0], float(weight))
        weight = send("sample_weight", weight, home)
    else:
        weight = bring_to(home, estimator, "sample_weight", weight)
    if weight.ndim != 1 or weight.shape[0] != X.shape[0]:
        _check_sample_weight(home.to_numpy(weight), np.empty((X.shape[0], 0)))
    _check_values(weight, home, "sample_weight", estimator, ensure_2d=False)
    with home.as_current():
        return check_some_weight(home.xp.astype(weight, home.dtype), home)


def check_some_weight(weight: Any, backend: Backend) -> Any:
    """Return the weights, or None. Raise ValueError if they sum to 0, so that there is no weighted mean."""
    xp: Any = backend.xp
    with backend.as_current():
        if weight is not None and float(xp.sum(weight)) == 0.0:
            if not bool(xp.any(weight != 0.0)):
                raise ValueError("Sample weights must contain at least one non-zero number.")
            raise ValueError("Sample weights must not sum to 0, because the loss is a weighted mean.")
    return weight


def _is_plain(estimator: Any, X: NDArray[Any]) -> bool:
    """Return whether a NumPy array passes all of scikit-learn's checks if its numbers are finite.

    These checks take longer than predicting a row.
    """
    return (
        X.dtype in _FLOATS
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and "feature_names_in_" not in vars(estimator)
    )


def _find_home(X: Any) -> Backend:
    """Return the NumPy backend in the dtype of X, with a namespace that supports its memory layout.

    For an X that is not floating point it is the dtype of a product of X with float32.
    """
    dtype = X.dtype if X.dtype.kind == "f" else np.result_type(X.dtype, np.float32)
    backend = bind_numpy("float64" if dtype == _FLOATS[1] else "float32")
    if not issparse(X) and X.flags.c_contiguous:
        return backend
    return replace(backend, xp=cast(Namespace, HostNamespace()))


def _check_on_device(estimator: Any, X: Any, *, reset: bool, predicts: bool = False) -> tuple[Any, Backend]:
    """Return X, an array of a library other than NumPy, as float32 or float64, and its backend.

    Integers and booleans become the default floating dtype of the library, half precision float32.
    """
    home = backend_of(X)
    X = home.detach(X)
    xp: Any = home.xp
    if xp.isdtype(X.dtype, ("integral", "bool")):
        dtype = xp.__array_namespace_info__().default_dtypes(device=home.device)["real floating"]
        with home.as_current():
            X = xp.astype(X, dtype)
    X = widen("X", X, home)
    if X.dtype != home.dtype:
        home = backend_of(X)
    if X.dtype not in (xp.float32, getattr(xp, "float64", None)) and not xp.isdtype(
        X.dtype, "complex floating"
    ):
        raise ValueError(f"X is {X.dtype}, which xpnet does not support: convert X to float32 or float64")
    _check_values(X, home, "X", estimator, reads=not (predicts and home.is_on_gpu))
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return X, home


def _check_values(
    x: Any, home: Backend, name: str, estimator: Any, *, ensure_2d: bool = True, reads: bool = True
) -> None:
    """Raise scikit-learn's ValueError unless x is finite, not empty and of the right number of dimensions.

    Args:
        reads: whether to check that x is finite, which waits for the device.
    """
    xp: Any = home.xp
    is_sound = x.ndim == 2 or (not ensure_2d and x.ndim == 1)
    if is_sound and (0 not in x.shape) and xp.isdtype(x.dtype, "real floating"):
        if not reads:
            return
        with home.as_current(), np.errstate(over="ignore", invalid="ignore"):
            is_sound = math.isfinite(float(xp.sum(x)))
    elif 0 in x.shape or xp.isdtype(x.dtype, "complex floating"):
        is_sound = False
    if not is_sound:
        # If only the sum overflowed and every number is finite, this returns.
        check_array(home.to_numpy(x), ensure_2d=ensure_2d, estimator=estimator, input_name=name)


def _make_sparse_error(name: str) -> ValueError:
    return ValueError(
        f"X is a sparse matrix, which xpnet does not support with {name}: set device=None, or pass "
        "X.toarray()"
    )
