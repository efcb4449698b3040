"""Where the arrays live. Only this module and `libraries` name array libraries.

`resolve` turns what a user asks for ("cuda", "torch", "float64") into a `Backend`, and says in words what is
missing where it cannot. The mathematics never imports this: it is handed `backend.xp`.
"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib import import_module
from typing import Any, TypeVar, cast

import numpy as np
from array_api_compat import device as device_of
from array_api_compat import is_cupy_array, is_jax_array, is_torch_array
from numpy.typing import ArrayLike, NDArray

from xpnet._typing import Array, Device, DType, Namespace
from xpnet.backends import libraries
from xpnet.backends.libraries import LIBRARIES, Library
from xpnet.errors import BackendError, InputError, choose

__all__ = ["DTYPES", "Backend", "backend_of", "library_of", "place", "resolve", "to_host"]

F = TypeVar("F", bound=Callable[..., Any])
DTYPES = ("float32", "float64")

# Temporaries of this many bytes still fit the second-level cache of a CPU core.
_CPU_BLOCK_BYTES = 2**19

# To record a step takes as long as a few steps, and saves a tenth of each.
_WORTH_RECORDING = 32


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
    def place(self) -> tuple[str, str]:
        """(library, device): arrays can be computed with each other where these are equal."""
        return self.name, self.device_name

    @property
    def tiny(self) -> float | None:
        """Where numbers begin to be too small for a CPU that computes eagerly; None if that is no concern."""
        if self.block is None:
            return None
        info = np.finfo(self.dtype_name)
        return float(info.tiny) / float(info.eps) ** 2

    @property
    def promotes(self) -> bool:
        """Whether the library makes integers floating point by itself where both meet in a product."""
        return self.name in ("numpy", "cupy", "jax")

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
            return np.array(cast(Any, x).detach().cpu().numpy())
        if self.name == "array_api_strict":
            import array_api_strict

            return np.array(array_api_strict.asarray(x, device=array_api_strict.Device("CPU_DEVICE")))
        return np.array(x)

    def move(self, x: Array) -> Array:
        """Return x, an array of any library in any dtype, here, and free of PyTorch's gradient graph.

        No copy where it is here already.
        """
        if place(x) == self.place:
            return cast(Any, x).detach() if self.name == "torch" else x
        source = backend_of(x)
        xp = cast(Any, self.xp)
        return cast(Array, xp.asarray(source.to_numpy(x), device=self.device))

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

    def compile_step(self, step: Callable[..., Any], n_steps: int) -> Callable[..., Any]:
        """Return a training step without its `xp`, as fast as the library can take it again and again.

        Args:
            step: (state, data, index, coefficients, *, xp) -> state, a fixed list of array operations. The
                state is (theta, moments, total), arrays that the step owns and returns; data are borrowed
                arrays, always the same; index the rows of data to use, None for all; coefficients are floats.
            n_steps: how many steps are planned.
        """
        plain = partial(step, xp=self.xp)
        if self.name == "jax":
            return cast(Callable[..., Any], import_module("jax").jit(plain, donate_argnums=0))
        fix = None
        if self.name == "numpy" and n_steps >= _WORTH_RECORDING:
            fix = "recorded"
        elif self.device_name.startswith("cuda") and os.environ.get("XPNET_CUDA_GRAPH") == "1":
            fix = f"captured_by_{self.name}"
        if fix is None:
            return plain
        accelerate = import_module("xpnet.backends.accelerate")
        return cast(Callable[..., Any], accelerate.Replay(step, self.xp, getattr(accelerate, fix)))

    @cached_property
    def for_short_rows(self) -> "Backend":
        """The backend in the form that is quickest where rows are short, as those of predictions are."""
        if self.xp is not import_module(LIBRARIES["numpy"].namespace):
            return self
        return replace(self, xp=import_module("xpnet.backends.accelerate").RowNamespace(self.xp))

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
        names = {base.__name__ for base in type(error).__mro__}
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
    candidates = [LIBRARIES[choose("backend", backend, LIBRARIES)]] if backend else list(LIBRARIES.values())
    if device == "auto":
        device = _auto_device(candidates)
    if backend is None:
        if device != "cpu" and not device.startswith("cuda"):
            raise InputError(
                f"device {device!r}: expected auto, cpu, cuda or cuda:N, unless a backend is named"
            )
        candidates = (
            [lib for lib in candidates if "cuda" in lib.devices] if device != "cpu" else [LIBRARIES["numpy"]]
        )
    problems = {}
    for library in candidates:
        problems[library.name] = library.problem(device)
        if problems[library.name] is None:
            return _bind(library, device, dtype)
    remedy = "" if device == "cpu" else "\nTo compute on the CPU choose the device cpu (--device cpu)"
    raise BackendError(f"device {device!r} is not usable:{_listed(problems)}{remedy}")


def library_of(x: object) -> str | None:
    """Return the name of the library whose array x is, or None if x is no array of those in `LIBRARIES`."""
    if isinstance(x, np.ndarray):
        return "numpy"
    if is_torch_array(x):
        return "torch"
    if is_cupy_array(x):
        return "cupy"
    if is_jax_array(x):
        return "jax"
    if type(x).__module__.partition(".")[0] == "array_api_strict":
        return "array_api_strict"
    return None


def place(x: Array) -> tuple[str, str]:
    """Return (library, device) of an array, each by its name."""
    library = library_of(x)
    if library is None:
        raise InputError(f"expected an array of {', '.join(LIBRARIES)}, got {type(x).__name__}")
    if library == "numpy":
        return library, "cpu"
    device: Any = device_of(cast(Any, x))
    if library == "cupy":
        return library, f"cuda:{device.id}"
    if library == "jax":
        return library, "cpu" if device.platform == "cpu" else f"cuda:{device.id}"
    if library == "array_api_strict":
        name = str(device).split("'")[1]
        return library, "cpu" if name == "CPU_DEVICE" else name
    return library, str(device)


def backend_of(x: Array) -> Backend:
    """Return the backend on which x lives. Its dtype is that of x, or float32 where x is not floating point.

    Raises:
        InputError: x is not an array of one of `LIBRARIES`.
    """
    name, device_name = place(x)
    dtype = "float64" if str(x.dtype).endswith("float64") else "float32"
    if name == "cupy":
        return _bind(LIBRARIES[name], device_name, dtype)  # makes the device the current one
    return _bind_once(name, device_name, dtype)


@cache
def _bind_once(name: str, device_name: str, dtype: str) -> Backend:
    return _bind(LIBRARIES[name], device_name, dtype)


def to_host(x: Any) -> Any:
    """Return an array of any library as NumPy's, and anything else as it is."""
    return x if library_of(x) in (None, "numpy") else backend_of(x).to_numpy(x)


def _auto_device(candidates: list[Library]) -> str:
    if [library.name for library in candidates] == ["cupy"]:
        return "cuda"  # it has no other
    with_cuda = [library for library in candidates if "cuda" in library.devices]
    if not with_cuda:
        return "cpu"
    if no_driver := libraries.missing_cuda_driver():
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
    block = _CPU_BLOCK_BYTES // (8 if dtype == "float64" else 4) if in_blocks else None
    return Backend(library.name, cast(Namespace, xp), handle, device, getattr(xp, dtype), block)


@cache
def _say_once(reason: str) -> None:
    logging.getLogger("xpnet").warning("computing on the CPU: %s", reason)
