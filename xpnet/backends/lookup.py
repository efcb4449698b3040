"""Find the backend for a device and a library, or for an array."""

import logging
import re
from functools import cache
from typing import Any

from xpnet._typing import Array, DType
from xpnet.backends import cuda
from xpnet.backends.array_api_strict import ArrayAPIStrict
from xpnet.backends.backend import DTYPES, Backend
from xpnet.backends.cupy import CuPy
from xpnet.backends.jax import Jax
from xpnet.backends.numpy import NumPy
from xpnet.backends.torch import Torch
from xpnet.errors import BackendError, InputError, choose

__all__ = ["LIBRARIES", "backend_of", "check_contradiction", "library_of", "resolve", "to_host"]

LIBRARIES: dict[str, type[Backend]] = {
    library.name: library for library in (NumPy, CuPy, Torch, Jax, ArrayAPIStrict)
}


def resolve(device: str = "auto", backend: str | None = None, dtype: str = "float32") -> Backend:
    """Return the backend for a device, a library or both.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:N`, or a device name of the library. `cuda` is `cuda:0`, also
            in PyTorch, where it usually means the current device. `auto` chooses a CUDA GPU if one is usable,
            else the CPU, and logs the reason.
        backend: `numpy`, `cupy`, `torch`, `jax` or `array_api_strict`. None chooses NumPy on the CPU, and the
            first usable of CuPy, PyTorch and JAX on a GPU.
        dtype: `float32` or `float64`. float64 on JAX enables its 64-bit mode for the whole process.

    Raises:
        InputError: if a name is unknown.
        BackendError: if no library can use the device. The message lists each library that was tried, why it
            failed, and what to do.
    """
    choose("dtype", dtype, DTYPES)
    if device == "cpu:0":
        device = "cpu"
    if device.startswith("cuda") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f"device {device!r}: expected cuda, or cuda:N with the number of the GPU")
    candidates = list(LIBRARIES.values())
    if backend is not None:
        candidates = [LIBRARIES[choose("backend", backend, LIBRARIES)]]
        check_contradiction(device, backend)
    if device == "auto":
        device = _choose_device(candidates)
    if backend is None:
        if device != "cpu" and not device.startswith("cuda"):
            choose("device", device, ("auto", "cpu", "cuda", "cuda:N"))
        candidates = (
            [lib for lib in candidates if "cuda" in lib.devices] if device != "cpu" else [LIBRARIES["numpy"]]
        )
    problems = {}
    for library in candidates:
        problems[library.name] = library.find_problem(device)
        if problems[library.name] is None:
            return library.bind(device, dtype)
    remedy = "" if device == "cpu" else "\nTo compute on the CPU, choose the device cpu (--device cpu)"
    raise BackendError(f"device {device!r} is not usable:{_format_problems(problems)}{remedy}")


def check_contradiction(device: str, backend: str, *, prefix: str = "") -> None:
    """Raise InputError if no installation of the library could compute on this kind of device.

    Args:
        prefix: `--` if the user gave both as options.
    """
    kind, devices = device.partition(":")[0], LIBRARIES[backend].devices
    if kind in ("cpu", "cuda") and kind not in devices:
        raise InputError(
            f"{prefix}backend {backend} and {prefix}device {device} contradict each other: "
            f"{backend} computes only on {' and '.join(devices)}. Leave one of them out"
        )


def _choose_device(candidates: list[type[Backend]]) -> str:
    if [library.name for library in candidates] == ["cupy"]:
        return "cuda"  # CuPy has no other device
    with_cuda = [library for library in candidates if "cuda" in library.devices]
    if not with_cuda:
        return "cpu"
    problems: dict[str, str | None] = {}
    reason = cuda.explain_missing_driver()
    for library in with_cuda if reason is None else ():
        problems[library.name] = library.find_problem("cuda")
        if problems[library.name] is None:
            return "cuda"
    reason = reason or f"there is an NVIDIA driver, but no library can use it:{_format_problems(problems)}"
    logging.getLogger("xpnet").info("computing on the CPU: %s", reason)
    return "cpu"


def _format_problems(problems: dict[str, str | None]) -> str:
    return "".join(f"\n  {name}: {problem}" for name, problem in problems.items())


def library_of(x: object) -> str | None:
    """Return the name of the library of the array x, or None if x is not an array of one of `LIBRARIES`."""
    return next((name for name, library in LIBRARIES.items() if library.owns(x)), None)


def _find_place(x: Array) -> tuple[str, str]:
    """Return the names (library, device) of an array.

    Raises:
        InputError: if x is not an array of one of `LIBRARIES`.
    """
    name = library_of(x)
    if name is None:
        raise InputError(f"expected an array of {', '.join(LIBRARIES)}, got {type(x).__name__}")
    return name, LIBRARIES[name].name_device(x)


def backend_of(x: Array) -> Backend:
    """Return the backend of x. Its dtype is that of x, or float32 if x is not floating point.

    Raises:
        InputError: if x is not an array of one of `LIBRARIES`.
    """
    return _bind(*_find_place(x), x.dtype)


@cache
def _bind(name: str, device: str, dtype: DType) -> Backend:
    # Cached because formatting a dtype takes longer than all other checks of a prediction.
    return LIBRARIES[name].bind(device, "float64" if str(dtype).endswith("float64") else "float32")


def to_host(x: Any) -> Any:
    """Return an array of any library as a NumPy array, and anything else unchanged."""
    return x if library_of(x) in (None, "numpy") else backend_of(x).to_numpy(x)
