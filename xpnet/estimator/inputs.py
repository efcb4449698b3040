"""Input validation: the checks of scikit-learn, computed on the device of the data.

scikit-learn checks host data (lists, NumPy, pandas, SciPy sparse). An array of another library is checked on
its device, with a few reductions. If one of them fails, a copy on the host is passed to scikit-learn, which
raises its usual error.

Only this module determines the library and the device of what a user passes. It returns arrays with their
backends.
"""

import math
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from xpnet._typing import Namespace
from xpnet.backends import LIBRARIES, Backend, backend_of, library_of, resolve
from xpnet.errors import choose
from xpnet.estimator.host import HostNamespace

__all__ = [
    "CheckedRows",
    "Inputs",
    "Sample",
    "bring_to",
    "check_some_weight",
    "check_weight",
    "describe_place",
    "find_backend",
    "is_on_host",
    "is_text",
    "locate",
    "make_place_error",
    "read_X",
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
        is_checked: whether X is known to be finite. If not, iterate over `CheckedRows`.
    """

    X: Any
    home: Backend
    backend: Backend
    is_checked: bool = True


class CheckedRows:
    """X (n, features) on the host, whose rows are checked for NaN and infinity when indexed.

    They are then in the cache of the processor, where the network needs them next. To check all of X first
    would read it twice from memory, which takes a fifth of the time of a prediction.
    """

    def __init__(self, estimator: Any, X: NDArray[Any]) -> None:
        self.estimator, self.X = estimator, X
        self.shape: tuple[int, ...] = X.shape

    def __getitem__(self, index: Any) -> NDArray[Any]:
        rows: NDArray[Any] = self.X[index]
        flat = rows.reshape(-1)
        # Unlike `dot`, `vdot` does not warn of an overflow. If nothing else is wrong, validate_data returns.
        if not math.isfinite(np.vdot(flat, flat)):
            validate_data(self.estimator, self.X, reset=False)
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


@cache
def _bind_numpy(dtype: str) -> Backend:
    return LIBRARIES["numpy"].bind("cpu", dtype)


def is_on_host(x: Any) -> bool:
    """Return whether x is a NumPy array, or not an array at all (a list, DataFrame or sparse matrix)."""
    return library_of(x) in (None, "numpy")


def locate(x: Any) -> Backend:
    """Return the backend of x. It is NumPy if x is not an array of a library."""
    return _bind_numpy("float64") if is_on_host(x) else backend_of(x)


def is_text(y: Any) -> bool:
    """Return whether y, on the host, contains text or objects, which only NumPy supports."""
    return np.asarray(y).dtype.kind in "OUS"


def find_backend(device: str, dtype: str) -> Backend:
    """Return the backend for the parameter `device`: "cpu", "cuda:1", "torch" or "torch:cpu"."""
    name, _, rest = device.partition(":")
    choose("device", name, ("auto", "cpu", "cuda", *LIBRARIES))
    return resolve(rest or "auto", name, dtype) if name in LIBRARIES else resolve(device, None, dtype)


def read_sample(estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Sample:
    """Check the arguments of `fit` and move them to the backend that computes.

    Raises:
        ValueError: as scikit-learn's estimators; if y or sample_weight is of another library or on another
            device than X, unless the estimator has a `device` or scikit-learn's `array_api_dispatch` is on
            ("everything follows X"); or if X is sparse and `device` is not NumPy.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    if is_on_host(X):
        X, y = validate_data(
            estimator,
            X,
            bring_to(_bind_numpy("float64"), estimator, "y", y),
            accept_sparse="csr",
            multi_output=True,
            y_numeric=not hasattr(estimator, "predict_proba"),
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        home, y_home = _find_home(X), _bind_numpy("float64")
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
        ValueError: as scikit-learn's estimators; or if X is of another library or on another device than the
            fitted arrays, unless the estimator has a `device`.
    """
    if not hasattr(estimator, "coefs_"):
        check_is_fitted(estimator)  # raises NotFittedError
    parameters = estimator.coefs_[0]
    if type(X) is type(parameters) is np.ndarray and _is_plain(estimator, X):
        home = _find_home(X)
        return Inputs(X, home, home, is_checked=False)
    backend = backend_of(parameters)
    if is_on_host(X):
        if backend.name != "numpy" and estimator.device is None:
            raise make_place_error(estimator, method, backend.place, ("numpy", "cpu"))
        X = validate_data(estimator, X, accept_sparse="csr", reset=False)
        home = _find_home(X)
    else:
        X, home = _check_on_device(estimator, X, reset=False, predicts=True)
        if backend.place != home.place and estimator.device is None:
            raise make_place_error(estimator, method, backend.place, home.place)
    if backend.name == home.name == "numpy":
        return Inputs(X, home, home)
    if issparse(X):
        raise _make_sparse_error(backend.name)
    return Inputs(X, home, backend)


def read_targets(estimator: Any, y: Any, home: Backend) -> tuple[Any, Backend]:
    """Check the y for an X on `home`, which is not NumPy. Return y and its backend."""
    if is_on_host(y) and is_text(y):
        return np.asarray(y), _bind_numpy("float64")
    y = home.asarray(np.asarray(y)) if library_of(y) is None else bring_to(home, estimator, "y", y)
    _check_values(y, home, "y", estimator, ensure_2d=False)
    return y, home


def check_weight(estimator: Any, weight: Any, X: Any, home: Backend) -> Any:
    """Return the sample weights (n,) in the dtype of X, on its backend, or None.

    Raises:
        ValueError: if the weights are not 1-D, not finite or all 0, do not have one entry per row of X, or
            are of another library or on another device than X.
    """
    if weight is None:
        return None
    if home.name == "numpy":
        return _check_sample_weight(bring_to(home, estimator, "sample_weight", weight), X, dtype=home.dtype)
    if library_of(weight) is None:
        weight = np.asarray(weight)
        if weight.ndim == 0:
            weight = np.full(X.shape[0], float(weight))
        weight = home.asarray(weight)
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


def bring_to(home: Backend, estimator: Any, name: str, x: Any) -> Any:
    """Return x, an array of any library, on `home`, the backend of X. Return anything else unchanged.

    Raises:
        ValueError: if x has another place than X, and neither `device` nor `array_api_dispatch` allows
            moving it.
    """
    if library_of(x) is None:
        return x
    source = backend_of(x)
    if source.place != home.place and estimator.device is None and not get_config()["array_api_dispatch"]:
        raise ValueError(
            f"X is {describe_place(home.place)}, {name} is {describe_place(source.place)}: expected both to "
            f"have the same library and device. Move {name} to the device of X, or set "
            f"{type(estimator).__name__}(device=...), which moves both"
        )
    return home.bring(x, source)


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
    """Return the NumPy backend in the dtype of X, with a namespace that supports its memory layout."""
    backend = _bind_numpy("float64" if X.dtype == _FLOATS[1] else "float32")
    if not issparse(X) and X.flags.c_contiguous:
        return backend
    return replace(backend, xp=cast(Namespace, HostNamespace()))


def _check_on_device(estimator: Any, X: Any, *, reset: bool, predicts: bool = False) -> tuple[Any, Backend]:
    """Return X, an array of a library other than NumPy, as floating point, and its backend."""
    home = backend_of(X)
    X = home.detach(X)
    xp: Any = home.xp
    if xp.isdtype(X.dtype, ("integral", "bool")) and home.promotes:
        dtype = xp.__array_namespace_info__().default_dtypes(device=home.device)["real floating"]
        with home.as_current():
            X = xp.astype(X, dtype)
        home = backend_of(X)
    if X.dtype not in (xp.float32, getattr(xp, "float64", None)) and not xp.isdtype(
        X.dtype, "complex floating"
    ):
        raise ValueError(
            f"X is {X.dtype}, expected float32 or float64: {home.name} does not define which of the two it "
            "converts to, so convert X"
        )
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
        f"X is a sparse matrix, which xpnet does not support with {name}: omit `device`, or pass X.toarray()"
    )


def describe_place(place: tuple[str, str]) -> str:
    """Return a place as text: "library on device"."""
    return f"{place[0]} on {place[1]}"


def make_place_error(
    estimator: Any, method: str, fitted: tuple[str, str], given: tuple[str, str]
) -> ValueError:
    """Return the error for an X whose place is not that of the fitted arrays."""
    name = type(estimator).__name__
    return ValueError(
        f"Inputs passed to {name}.{method}() must use the same namespace and the same device as those passed "
        f"to fit(): the fitted arrays are {describe_place(fitted)}, X is {describe_place(given)}. Move X, or "
        f"the model with to_device({':'.join(given)!r}), or fit with {name}(device=...), which moves X "
        "automatically"
    )
