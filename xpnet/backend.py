"""Where the arrays live: the one module that names array libraries.

`resolve` turns what a user asks for ("cuda", "torch", "float64") into a `Backend`, and says in words what is
missing where it cannot. The mathematics never imports this: it is handed `backend.xp`.
"""

import ctypes
import logging
import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import numpy as np
from array_api_compat import is_cupy_array, is_torch_array
from numpy.typing import ArrayLike, NDArray

from xpnet._typing import Array, Device, DType, Namespace
from xpnet.errors import BackendError, InputError, choose

__all__ = ["DTYPES", "LIBRARIES", "Backend", "Library", "resolve"]

F = TypeVar("F", bound=Callable[..., Any])
DTYPES = ("float32", "float64")

# Temporaries of this many float32 elements, 512 KiB, still fit the second-level cache of a CPU core.
_CPU_BLOCK = 131_072


@dataclass(frozen=True)
class Library:
    """An array library: the namespace to import, where it computes, what to install where it is missing."""

    name: str
    namespace: str
    remedy: str
    devices: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The installed version, or None; nothing is imported."""
        if find_spec(self.name) is None:
            return None
        for distribution in (self.name, "cupy-cuda12x", "cupy-cuda13x"):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return "unknown version"

    def problem(self, device: str) -> str | None:
        """Why this library cannot compute on `device` here, with the remedy; None if it can."""
        if self.version is None:
            return f"not installed: {self.remedy}"
        if device.startswith("cuda"):
            if "cuda" not in self.devices:
                return "has no CUDA device"
            if no_driver := _missing_cuda_driver():
                return no_driver
        try:
            import_module(self.namespace)
        except Exception as error:
            return f"does not import ({_first_line(error)}): {self.remedy}"
        try:
            handle = self.device(device)
        except InputError as error:
            return str(error)
        except Exception as error:
            return f"no such device ({_first_line(error)}): {self.remedy}"
        return _smoke_test(self, handle) if device.startswith("cuda") else None

    def device(self, device: str) -> Device:
        """Return the library's own object for "cpu", "cuda", "cuda:1" or one of its own device names."""
        kind, _, index = device.partition(":")
        if index and not index.isdigit():
            raise InputError(f"device {device!r}: expected a number after the colon, as in cuda:1")
        if self.name in ("numpy", "cupy"):
            if kind not in self.devices or (index and kind == "cpu"):
                raise InputError(f"{self.name} has no device {device!r}, only {self.devices[0]}")
            return _cupy_device(int(index or 0)) if kind == "cuda" else "cpu"
        if self.name == "torch":
            return import_module("torch").device(device)
        if self.name == "jax":
            return import_module("jax").devices(kind)[int(index or 0)]
        known = import_module(self.name).__array_namespace_info__().devices()
        names = {"cpu": known[0], **{str(d).split("'")[1]: d for d in known}}
        return names[choose(f"device of {self.name}", device, names)]


LIBRARIES = {
    library.name: library
    for library in (
        Library("numpy", "numpy", 'pip install "numpy>=2.1"', ("cpu",)),
        # Their [ctk] brings the CUDA headers and cuBLAS, without which CuPy imports but cannot compute.
        Library("cupy", "array_api_compat.cupy", 'pip install "xpnet[cuda12]" or "xpnet[cuda13]"', ("cuda",)),
        Library(
            "torch",
            "array_api_compat.torch",
            'pip install "xpnet[torch]", for a GPU its CUDA build',
            ("cpu", "cuda"),
        ),
        Library("jax", "jax.numpy", 'pip install "xpnet[jax]", for a GPU "jax[cuda13]"', ("cpu", "cuda")),
        Library("array_api_strict", "array_api_strict", "pip install array-api-strict", ("cpu",)),
    )
}


@dataclass(frozen=True)
class Backend:
    """An array library with a device and a dtype: all that is needed to place arrays and to compute on them.

    Attributes:
        name: `numpy`, `cupy`, `torch`, `jax` or `array_api_strict`.
        xp: the Array API namespace handed to the mathematics.
        device: the library's own device object.
        device_name: what the user calls it: `cpu`, `cuda`, `cuda:1` ...
        dtype: the library's own float32 or float64.
        block: elements per block for elementwise work on long vectors, None for one piece.
    """

    name: str
    xp: Namespace
    device: Device
    device_name: str
    dtype: DType
    block: int | None

    @property
    def dtype_name(self) -> str:
        """`float32` or `float64`."""
        return "float64" if self.dtype == cast(Any, self.xp).float64 else "float32"

    def asarray(self, x: ArrayLike, dtype: DType = None) -> Array:
        """Return x, from the host, on this backend's device: floating point as `self.dtype`, integers as they
        are.

        The result may share memory with a NumPy array of the same dtype.
        """
        host = np.asarray(x)
        xp = cast(Any, self.xp)
        if dtype is None and host.dtype.kind == "f":
            dtype = self.dtype
            host = host.astype(self.dtype_name, copy=False)
        return cast(Array, xp.asarray(host, dtype=dtype, device=self.device))

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """Return x as a new NumPy array on the host. Waits for the device."""
        if is_cupy_array(x):
            return cast(NDArray[Any], cast(Any, x).get())
        if is_torch_array(x):
            return np.array(cast(Any, x).cpu().numpy())
        if self.name == "array_api_strict":
            import array_api_strict

            return np.array(array_api_strict.asarray(x, device=array_api_strict.Device("CPU_DEVICE")))
        return np.array(x)

    def synchronize(self) -> None:
        """Wait until the device has done all it was given. Call it before reading a clock."""
        if self.name == "cupy":
            self.device.synchronize()
        elif self.name == "torch" and self.device.type == "cuda":
            import_module("torch").cuda.synchronize(self.device)
        elif self.name == "jax":
            import_module("jax").block_until_ready(import_module("jax.numpy").zeros(1, device=self.device))

    def compile(self, function: F, *, donate: tuple[int, ...] = ()) -> F:
        """Return `function` as fast as the library can run it: `jax.jit` on JAX, on all others as it is.

        Args:
            donate: positions of the arguments the function owns and gives back, whose memory JAX may use
                again.
        """
        if self.name == "jax":
            return cast(F, import_module("jax").jit(function, donate_argnums=donate))
        return function

    def free_bytes(self) -> int | None:
        """Free memory of the device in bytes, or None where the library cannot tell."""
        if self.name == "cupy":
            return int(self.device.mem_info[0])
        if self.name == "torch" and self.device.type == "cuda":
            return int(import_module("torch").cuda.mem_get_info(self.device)[0])
        if self.name == "jax" and (stats := self.device.memory_stats()):
            return int(stats["bytes_limit"] - stats["bytes_in_use"])
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether this is what the library raises when the device's memory does not suffice."""
        names = {type(error).__name__, *(base.__name__ for base in type(error).__mro__)}
        text = str(error).lower()
        return (
            "MemoryError" in names
            or "OutOfMemoryError" in names
            or (
                isinstance(error, RuntimeError)
                and ("out of memory" in text or "can't allocate memory" in text)
            )
            or "resource_exhausted" in text
        )


def resolve(device: str = "auto", backend: str | None = None, dtype: str = "float32") -> Backend:
    """Return the backend for a device, a library or both.

    Args:
        device: `auto` (a CUDA GPU if one is usable, else the CPU, and why is logged once), `cpu`, `cuda`,
            `cuda:N`, or a name of the library's own.
        backend: one of `LIBRARIES`; None takes NumPy on the CPU, and on a GPU the first usable of CuPy,
            PyTorch, JAX.
        dtype: `float32` or `float64`. float64 on JAX switches on its 64-bit mode for the whole process.

    Raises:
        InputError: an unknown name.
        BackendError: nothing usable; the message lists each library tried, why it failed, and the remedy.
    """
    choose("dtype", dtype, DTYPES)
    if device.startswith("cuda") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise InputError(f"device {device!r}: expected cuda, or cuda:N with the number of the GPU")
    libraries = [LIBRARIES[choose("backend", backend, LIBRARIES)]] if backend else list(LIBRARIES.values())
    if device == "auto":
        device = _auto_device(libraries)
    if backend is None:
        if device != "cpu" and not device.startswith("cuda"):
            raise InputError(
                f"device {device!r}: expected auto, cpu, cuda or cuda:N, unless a backend is named"
            )
        libraries = (
            [lib for lib in libraries if "cuda" in lib.devices] if device != "cpu" else [LIBRARIES["numpy"]]
        )
    problems = {}
    for library in libraries:
        problems[library.name] = library.problem(device)
        if problems[library.name] is None:
            return _bind(library, device, dtype)
    remedy = "" if device == "cpu" else "\nTo compute on the CPU: --device cpu"
    raise BackendError(f"device {device!r} is not usable:{_listed(problems)}{remedy}")


def _auto_device(libraries: list[Library]) -> str:
    if [library.name for library in libraries] == ["cupy"]:
        return "cuda"  # it has no other
    with_cuda = [library for library in libraries if "cuda" in library.devices]
    if not with_cuda:
        return "cpu"
    if no_driver := _missing_cuda_driver():
        _say_once(no_driver)
        return "cpu"
    problems: dict[str, str | None] = {}
    for library in with_cuda:
        problems[library.name] = library.problem("cuda")
        if problems[library.name] is None:
            return "cuda"
    _say_once(f"there is an NVIDIA driver, but no library can use it:{_listed(problems)}")
    return "cpu"


def _listed(problems: dict[str, str | None]) -> str:
    return "".join(f"\n  {name}: {problem}" for name, problem in problems.items())


def _bind(library: Library, device: str, dtype: str) -> Backend:
    xp = import_module(library.namespace)
    if library.name == "jax" and dtype == "float64":
        import_module("jax").config.update("jax_enable_x64", True)
    handle = library.device(device)
    if library.name == "cupy":
        handle.use()  # CuPy computes on the thread's current device, wherever the arrays are
    in_blocks = library.name in ("numpy", "torch", "array_api_strict") and not device.startswith("cuda")
    block = _CPU_BLOCK if in_blocks else None
    return Backend(library.name, cast(Namespace, xp), handle, device, getattr(xp, dtype), block)


def _cupy_device(index: int) -> Device:
    cupy = import_module("cupy")
    count = cupy.cuda.runtime.getDeviceCount()  # raises, with the reason, where there is none
    if index >= count:
        raise InputError(f"no device cuda:{index}: this machine has {count}, cuda:0 to cuda:{count - 1}")
    return cupy.cuda.Device(index)


@cache
def _missing_cuda_driver() -> str | None:
    # Asking the loader takes 2 ms; importing PyTorch to be told the same takes a second.
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return f"no NVIDIA driver on this machine ({name} not found)"
    return None


def _smoke_test(library: Library, device: Device) -> str | None:
    # A visible GPU may still fail at the first kernel (CuPy without the CUDA headers) or at the first
    # product.
    xp = import_module(library.namespace)
    try:
        with device if library.name == "cupy" else nullcontext():
            x = xp.ones((2, 2), dtype=xp.float32, device=device)
            if float(xp.sum(x + 1.0)) != 8.0 or float(xp.sum(xp.matmul(x, x))) != 8.0:
                return "the GPU answers, but with wrong results"
    except Exception as error:
        return f"there is a GPU, but kernels do not run ({_first_line(error)}): {library.remedy}"
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@cache
def _say_once(reason: str) -> None:
    logging.getLogger("xpnet").warning("computing on the CPU: %s", reason)
