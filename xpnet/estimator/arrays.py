"""Arrays of any library: whose they are, whether xpnet can read them, and how they come to where X is."""

from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import is_classifier

from xpnet.backends import LIBRARIES, Backend, backend_of, library_of, resolve
from xpnet.errors import choose

__all__ = [
    "bind_numpy",
    "bring_to",
    "check_place",
    "find_backend",
    "follow",
    "has_float64",
    "is_on_host",
    "is_text",
    "locate",
    "read_array",
    "send",
    "widen",
]

_LARGEST = np.iinfo(np.int64).max


@cache
def bind_numpy(dtype: str) -> Backend:
    """Return the NumPy backend. Later calls return the same object."""
    return LIBRARIES["numpy"].bind("cpu", dtype)


def is_on_host(x: Any) -> bool:
    """Return whether x is a NumPy array, or not an array at all (a list, DataFrame or sparse matrix)."""
    return library_of(x) in (None, "numpy")


def locate(x: Any) -> Backend:
    """Return the backend of x. It is NumPy if x is not an array of a library."""
    return bind_numpy("float64") if is_on_host(x) else backend_of(x)


def is_text(y: Any) -> bool:
    """Return whether y, on the host, contains text, objects or dates, which only NumPy supports."""
    return np.asarray(y).dtype.kind not in "biufc"


def find_backend(device: str, dtype: str) -> Backend:
    """Return the backend for the parameter `device`: "cpu", "cuda:1", "torch" or "torch:cpu"."""
    name, _, rest = device.partition(":")
    choose("device", name, ("auto", "cpu", "cuda", *LIBRARIES))
    return resolve(rest or "auto", name, dtype) if name in LIBRARIES else resolve(device, None, dtype)


def bring_to(home: Backend, estimator: Any, name: str, x: Any) -> Any:
    """Return x, an array of any library, on `home`, the backend of X.

    If x is not an array and `home` is NumPy, return it unchanged, except for a list, which becomes an array.
    Half precision becomes float32, except on NumPy, and an unsigned integer that its library cannot compute
    with becomes int64.

    Raises:
        ValueError: as `follow`; if x is sparse, sharded or not in memory; or if `home` cannot hold its
            integers, or the labels of a classifier.
    """
    x, library = read_array(name, x)
    if library is not None:
        source = backend_of(x)
        follow(estimator, name, source, home)
        x = widen(name, source.detach(x), source)
        if source.place == home.place:
            return x
        x = source.to_numpy(x)
    if home.name == "numpy":
        return x
    return send(name, np.asarray(x), home, are_labels=name == "y" and is_classifier(estimator))


def follow(estimator: Any, name: str, source: Backend, home: Backend) -> None:
    """Raise ValueError unless an array on `source` may be moved to `home`, the backend of X.

    It may if both are in host memory, if the estimator has a `device`, or if scikit-learn's
    `array_api_dispatch` is on ("everything follows X").
    """
    if (
        source.place == home.place
        or (source.is_in_host_memory and home.is_in_host_memory)
        or estimator.device is not None
        or get_config()["array_api_dispatch"]
    ):
        return
    raise ValueError(
        f"X is {_describe_place(home)}, {name} is {_describe_place(source)}: expected both on the same "
        f"device. Move {name} to the device of X, or set {type(estimator).__name__}(device=...), which moves "
        "both"
    )


def check_place(estimator: Any, method: str, fitted: Backend, given: Backend) -> None:
    """Raise ValueError unless a model whose arrays are on `fitted` may be called with an X on `given`.

    It may if both are in host memory or the estimator has a `device`. While `array_api_dispatch` is on, the
    libraries must be the same, too, as scikit-learn requires of every estimator.
    """
    if fitted.place == given.place or estimator.device is not None:
        return
    expected = "be on the same device"
    if get_config()["array_api_dispatch"]:
        expected = "use the same namespace and be on the same device"
    elif fitted.is_in_host_memory and given.is_in_host_memory:
        return
    name = type(estimator).__name__
    raise ValueError(
        f"Inputs passed to {name}.{method}() must {expected} as those passed to fit(): the fitted arrays are "
        f"{_describe_place(fitted)}, X is {_describe_place(given)}. Move X, or the model with "
        f"to_device({':'.join(given.place)!r}), or fit with {name}(device=...), which moves X automatically"
    )


def read_array(name: str, x: Any) -> tuple[Any, str | None]:
    """Return x, a list as an array, and the library that x is from. Raise ValueError if it is unreadable."""
    library = library_of(x)
    if library is not None:
        if problem := LIBRARIES[library].explain_unreadable(x):
            raise ValueError(f"{name} {problem}")
    elif isinstance(x, list | tuple):
        try:
            return np.asarray(x), None
        except ValueError as error:
            if "inhomogeneous" not in str(error):
                raise
            raise ValueError(
                f"{name}: expected rows of equal length, got a ragged list. Pad the rows, or convert lists "
                "of labels with sklearn.preprocessing.MultiLabelBinarizer"
            ) from None
    elif hasattr(x, "__dask_graph__") and x.__dask_graph__() is not None:
        raise ValueError(
            f"{name} is a dask collection, which is not in memory: pass {name}.compute(), or call "
            "partial_fit with one block of rows at a time"
        )
    return x, library


def send(name: str, host: NDArray[Any], home: Backend, *, are_labels: bool = False) -> Any:
    """Return a NumPy array on `home`: in its own dtype if the library has it, else in another one.

    Raises:
        ValueError: if `home` cannot hold its integers, or whole numbers that are labels.
    """
    kind, size = host.dtype.kind, host.dtype.itemsize
    dtype: Any = host.dtype.newbyteorder("=")
    if kind == "f":
        dtype = np.float64 if size > 4 and has_float64(home) else np.float32
    elif kind == "u" and not _has_dtype(home, dtype.name):
        if host.size and host.max() > _LARGEST:
            raise _make_unsigned_error(name, home)
        dtype = np.int64
    sent = host.astype(dtype, copy=False)
    there: Any = home.bring(cast(Any, sent), bind_numpy("float64"))
    # JAX has no 64-bit types outside its 64-bit mode, and cuts them. Labels with fractions are refused later.
    wanted = (host if kind == "f" else sent).dtype.name
    is_narrower = not str(there.dtype).endswith(wanted)
    must_fit = kind in "iu" or (kind == "f" and are_labels and (host == np.rint(host)).all())
    if is_narrower and must_fit and (home.to_numpy(there) != host).any():
        raise ValueError(
            f"{name}: {home.name} has no {wanted} here, and not every number fits in {there.dtype}. "
            "Pass smaller numbers, or switch its 64-bit types on"
        )
    return there


def has_float64(backend: Backend) -> bool:
    """Return whether the library has float64 on this device. JAX has it in its 64-bit mode only."""
    return _has_dtype(backend, "float64")


def _has_dtype(backend: Backend, name: str) -> bool:
    """Return whether the library computes with a dtype on this device."""
    return name in cast(Any, backend.xp).__array_namespace_info__().dtypes(device=backend.device)


def widen(name: str, x: Any, home: Backend) -> Any:
    """Return x in a dtype that its library computes with.

    float16 and bfloat16 become float32, except on NumPy, where scikit-learn's rules apply. On PyTorch,
    uint16, uint32 and uint64 become int64.

    Raises:
        ValueError: if int64 cannot hold the numbers.
    """
    dtype = str(x.dtype).rpartition(".")[2]
    is_half = dtype.endswith("float16")
    if home.name == "numpy" or not (is_half or (dtype.startswith("uint") and not _has_dtype(home, dtype))):
        return x
    xp: Any = home.xp
    with home.as_current():
        wide = xp.astype(x, xp.float32 if is_half else xp.int64)
        if dtype == "uint64" and bool(xp.any(wide < 0)):
            raise _make_unsigned_error(name, home)
    return wide


def _make_unsigned_error(name: str, home: Backend) -> ValueError:
    return ValueError(
        f"{name}: {home.name} has no uint64 here: expected numbers of at most {_LARGEST}, got a larger one. "
        "Pass smaller numbers"
    )


def _describe_place(backend: Backend) -> str:
    return f"{backend.name} on {backend.device_name}"
