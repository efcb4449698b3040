"""What `fit` and `predict` are given: checked as scikit-learn checks it, but where it lies.

Host data (lists, NumPy, pandas, SciPy sparse) goes through scikit-learn's own checks. An array of another
library is looked at on its device, with a few reductions; only where something is amiss does a host copy go
to scikit-learn, which then says it in its own words.
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
from xpnet.backends import Backend, backend_of, library_of, place, resolve, to_host
from xpnet.backends.libraries import LIBRARIES
from xpnet.errors import choose
from xpnet.estimator.host import HostNamespace

__all__ = [
    "Given",
    "backend_for",
    "elsewhere",
    "follow",
    "in_words",
    "is_text",
    "not_all_zero",
    "on_host",
    "read",
    "read_X",
]


class Given(NamedTuple):
    """The checked arguments of a fit: X and the weights in X's floating dtype, where the network computes.

    Attributes:
        X: (n, features) on `backend`; or a sparse matrix.
        y: as given (host), or on `home`.
        weight: (n,) on `backend`, or None.
        home: where X came from.
        backend: where the network computes.
    """

    X: Any
    y: Any
    weight: Any
    home: Backend
    backend: Backend


def on_host(x: Any) -> bool:
    """Whether x is NumPy's, or no array of a library at all: a list, a DataFrame, a sparse matrix."""
    return library_of(x) in (None, "numpy")


def is_text(y: Any) -> bool:
    """Whether y, from the host, holds labels that no array library but NumPy can."""
    return np.asarray(y).dtype.kind in "OUS"


def backend_for(device: str, dtype: str) -> Backend:
    """Return the backend for the parameter `device`: "cpu", "cuda:1", a library's name, or "torch:cpu"."""
    name, _, rest = device.partition(":")
    choose("device", name, ("auto", "cpu", "cuda", *LIBRARIES))
    return resolve(rest or "auto", name, dtype) if name in LIBRARIES else resolve(device, None, dtype)


def read(estimator: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Given:
    """Check the arguments of `fit` and place them.

    Raises:
        ValueError: what scikit-learn's estimators raise; X and y or sample_weight in different places, unless
            the estimator has a `device` or scikit-learn's `array_api_dispatch` is on ("everything follows
            X"); sparse X with a `device` that is not NumPy.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    numeric = not hasattr(estimator, "predict_proba")
    if on_host(X):
        y = follow(estimator, "y", y, X)
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=numeric,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        home = _home(X)
    else:
        X = _sound_X(estimator, X, reset=reset)
        home = backend_of(X)
        if on_host(y) and is_text(y):
            y = np.asarray(y)
        else:
            y = home.asarray(np.asarray(y)) if library_of(y) is None else follow(estimator, "y", y, X)
            _sound(y, "y", estimator, ensure_2d=False)
        check_consistent_length(X, y)
    backend = _backend(estimator, X, home)
    weight = _read_weight(estimator, sample_weight, X, home)
    return Given(
        X if issparse(X) else backend.move(X),
        y,
        weight if weight is None else backend.move(weight),
        home,
        backend,
    )


def read_X(estimator: Any, X: Any, method: str) -> tuple[Any, Backend, Backend]:
    """Check the argument of a method that predicts. Return X where the parameters live, its home, and the
    backend that computes.

    Raises:
        ValueError: what scikit-learn's estimators raise; X in another place than the parameters, unless the
            estimator has a `device`.
    """
    if not hasattr(estimator, "coefs_"):
        check_is_fitted(estimator)  # which raises
    parameters = estimator.coefs_[0]
    if type(X) is type(parameters) is np.ndarray and _is_beyond_doubt(estimator, X):
        home = _home(X)
        return X, home, home
    fitted = place(parameters)
    if on_host(X):
        if fitted[0] != "numpy" and estimator.device is None:
            raise elsewhere(estimator, method, fitted, ("numpy", "cpu"))
        X = validate_data(estimator, X, accept_sparse="csr", reset=False)
        home = _home(X)
    else:
        X = _sound_X(estimator, X, reset=False)
        home = backend_of(X)
        if fitted != home.place and estimator.device is None:
            raise elsewhere(estimator, method, fitted, home.place)
    if fitted[0] == home.name == "numpy":
        return X, home, home
    if issparse(X):
        raise _no_sparse(fitted[0])
    backend = backend_of(parameters)
    return backend.move(X), home, backend


def _read_weight(estimator: Any, weight: Any, X: Any, home: Backend) -> Any:
    """Return sample weights (n,) in the dtype of X, on its home; None if there are none.

    Raises:
        ValueError: not 1-D, another number of rows than X, not finite; or in another place than X.
    """
    if weight is None:
        return None
    if on_host(X):
        return _check_sample_weight(follow(estimator, "sample_weight", weight, X), X)
    if library_of(weight) is None:
        weight = np.asarray(weight)
        if weight.ndim == 0:
            weight = np.full(X.shape[0], float(weight))
        weight = home.asarray(weight)
    else:
        weight = follow(estimator, "sample_weight", weight, X)
    if weight.ndim != 1 or weight.shape[0] != X.shape[0]:
        _check_sample_weight(home.to_numpy(weight), np.empty((X.shape[0], 0)))
    _sound(weight, "sample_weight", estimator, ensure_2d=False)
    return not_all_zero(home.xp.astype(weight, X.dtype), home)


def not_all_zero(weight: Any, backend: Backend) -> Any:
    """Return the weights. Raises ValueError, as scikit-learn does, if none of them counts."""
    if weight is not None and not bool(cast(Any, backend.xp).any(weight != 0.0)):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight


def _is_beyond_doubt(estimator: Any, X: NDArray[Any]) -> bool:
    """Whether a NumPy array needs none of scikit-learn's checks, which take longer than to predict a row."""
    if (
        X.dtype not in (np.float32, np.float64)
        or X.ndim != 2
        or X.shape[0] == 0
        or X.shape[1] != estimator.n_features_in_
        or hasattr(estimator, "feature_names_in_")
    ):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(np.add.reduce(X, axis=None))


@cache
def _numpy(double: bool) -> Backend:
    return backend_of(np.empty(0, np.float64 if double else np.float32))


def _home(X: Any) -> Backend:
    """Return NumPy's backend in the dtype of X, and in the form that suits X."""
    backend = _numpy(X.dtype == np.float64)
    if not issparse(X) and X.flags.c_contiguous:
        return backend
    return replace(backend, xp=cast(Namespace, HostNamespace()))


def _backend(estimator: Any, X: Any, home: Backend) -> Backend:
    """Return where the network is to compute."""
    if estimator.device is None:
        return home
    backend = backend_for(estimator.device, home.dtype_name)
    if issparse(X) and backend.name != "numpy":
        raise _no_sparse(backend.name)
    return home if backend.place == home.place else backend


def follow(estimator: Any, name: str, x: Any, X: Any) -> Any:
    """Return x, an array or None, where X is. Raises ValueError if it is elsewhere and may not be moved."""
    if library_of(x) is None:
        return x
    here = ("numpy", "cpu") if on_host(X) else place(X)
    if place(x) != here and estimator.device is None and not get_config()["array_api_dispatch"]:
        raise ValueError(
            f"X is {in_words(here)}, {name} is {in_words(place(x))}: expected both in one place. Move "
            f"{name} to where X is, or set {type(estimator).__name__}(device=...), which moves both"
        )
    return to_host(x) if on_host(X) else backend_of(X).move(x)


def _sound_X(estimator: Any, X: Any, *, reset: bool) -> Any:
    backend = backend_of(X)
    X = backend.move(X)
    xp: Any = backend.xp
    if xp.isdtype(X.dtype, ("integral", "bool")) and backend.promotes:
        X = xp.astype(X, xp.asarray(1.0, device=backend.device).dtype)
    if X.dtype not in (xp.float32, getattr(xp, "float64", None)) and not xp.isdtype(
        X.dtype, "complex floating"
    ):
        raise _no_float(X, backend)
    _sound(X, "X", estimator)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return X


def _sound(x: Any, name: str, estimator: Any, *, ensure_2d: bool = True) -> None:
    """Raise scikit-learn's ValueError unless x is finite, not empty and of the right number of dimensions."""
    backend = backend_of(x)
    xp: Any = backend.xp
    sound = x.ndim == 2 or (not ensure_2d and x.ndim == 1)
    if sound and (0 not in x.shape) and xp.isdtype(x.dtype, "real floating"):
        with np.errstate(over="ignore", invalid="ignore"):
            sound = math.isfinite(float(xp.sum(x)))
    elif 0 in x.shape or xp.isdtype(x.dtype, "complex floating"):
        sound = False
    if not sound:
        # A sum may overflow though every number is finite: then this returns.
        check_array(backend.to_numpy(x), ensure_2d=ensure_2d, estimator=estimator, input_name=name)


def _no_float(X: Any, backend: Backend) -> ValueError:
    return ValueError(
        f"X is {X.dtype}, expected float32 or float64: {backend.name} does not say which of the two to take, "
        "so convert X"
    )


def _no_sparse(name: str) -> ValueError:
    return ValueError(
        f"X is a sparse matrix, which {name} cannot compute with here: leave out `device`, or pass "
        "X.toarray()"
    )


def in_words(where: tuple[str, str]) -> str:
    """Return "library on device"."""
    return f"{where[0]} on {where[1]}"


def elsewhere(estimator: Any, method: str, fitted: tuple[str, str], given: tuple[str, str]) -> ValueError:
    """Return the error that says where the parameters are, where X is, and what brings them together."""
    name = type(estimator).__name__
    return ValueError(
        f"Inputs passed to {name}.{method}() must use the same namespace and the same device as those passed "
        f"to fit(): the fitted arrays are {in_words(fitted)}, X is {in_words(given)}. Move X, or the model "
        f"with to_device({':'.join(given)!r}), or fit with {name}(device=...), which moves X by itself"
    )
