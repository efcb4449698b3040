"""Moving fitted arrays to another device, and to and from a pickle."""

import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.backends import LIBRARIES, Backend, backend_of, library_of, resolve
from xpnet.errors import BackendError, InputError, choose
from xpnet.estimator.arrays import is_text, send

__all__ = ["find_destination", "move_arrays", "pack", "unpack"]


class Packed(NamedTuple):
    """An array in a pickle: a copy on the host, with its library and device."""

    contents: NDArray[Any]
    library: str
    device: str


def find_destination(device: str | ModuleType, now: Backend) -> Backend:
    """Return the backend that the argument of `to_device` specifies for a model on the backend `now`.

    A device alone ("cpu", "cuda:1") keeps the library if it has that device. A library alone (its name or
    its namespace) keeps the device if it has one of that kind.

    Raises:
        InputError, BackendError: as in `resolve`.
    """
    if not isinstance(device, str | ModuleType):
        raise InputError(
            f"to_device: expected cpu, cuda, cuda:N, the name of a library or its namespace, got {device!r}"
        )
    if isinstance(device, ModuleType):
        device = device.__name__.removeprefix("array_api_compat.").partition(".")[0]
        choose("namespace", device, LIBRARIES)
    name, _, rest = device.partition(":")
    choose("device", name, ("cpu", "cuda", *LIBRARIES))
    if name in LIBRARIES:
        devices = LIBRARIES[name].devices
        stays = now.device_name.partition(":")[0] in devices
        return resolve(rest or (now.device_name if stays else devices[0]), name, now.dtype_name)
    stays = name in LIBRARIES[now.name].devices
    return resolve(device, now.name if stays else None, now.dtype_name)


def move_arrays(name: str, value: Any, backend: Backend) -> Any:
    """Return the fitted attribute `name` with its numeric arrays on `backend`.

    Raises:
        ValueError: if `backend` cannot hold the class labels.
    """
    return _change(value, _is_array, lambda x: _move(name, x, backend))


def pack(value: Any) -> Any:
    """Return a fitted attribute for a pickle: arrays of libraries other than NumPy become `Packed`."""
    return _change(value, _is_array, _pack)


def unpack(name: str, value: Any) -> Any:
    """Return what `pack` was given for `name`, with arrays of the same library on the same device.

    If that is not usable on this machine, they become NumPy arrays, with a warning.

    Raises:
        ValueError: if the library cannot hold the class labels here.
    """
    return _change(value, lambda x: isinstance(x, Packed), lambda x: _unpack(name, x))


def _unpack(name: str, array: Packed) -> Any:
    contents, library, device = array
    try:
        backend = resolve(device, library, "float64" if contents.dtype == np.float64 else "float32")
    except (BackendError, InputError) as error:
        warnings.warn(
            f"a model fitted with {library} on {device} is loaded as NumPy arrays: {error}",
            stacklevel=2,
        )
        return contents
    return _move(name, contents, backend)


def _move(name: str, x: Any, backend: Backend) -> Any:
    source = backend_of(x)
    if source.name == "numpy" and is_text(x):
        return x
    if name not in ("classes_", "_labels") or backend.name == "numpy" or source.place == backend.place:
        return backend.bring(x, source)
    return send("classes_", source.to_numpy(x), backend, are_labels=True)


def _pack(x: Any) -> Any:
    source = backend_of(x)
    return x if source.name == "numpy" else Packed(source.to_numpy(x), *source.place)


def _is_array(value: Any) -> bool:
    return library_of(value) is not None


def _change(value: Any, which: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """Return a fitted attribute with `change` applied where `which` is true, including in containers."""
    if which(value):
        return change(value)
    if type(value) in (list, tuple) and any(map(which, value)):
        return type(value)(map(change, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: _change(getattr(value, f.name), which, change) for f in fields(value)}
        )
    return value
