"""What every array library offers to the rest of xpnet. Each library has a file beside this one."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet._typing import Array, Device, DType, Namespace
from xpnet.backends import cuda
from xpnet.errors import InputError

__all__ = ["DTYPES", "Backend", "split_device"]

F = TypeVar("F", bound=Callable[..., Any])
DTYPES = ("float32", "float64")

# Temporaries of this many bytes still fit the second-level cache of a CPU core.
_CPU_BLOCK_BYTES = 2**19


@dataclass(frozen=True)
class Backend:
    """An array library with a device and a dtype: all that is needed to place arrays and to compute on them.

    A subclass says what is particular to its library. What is here holds for a library that computes eagerly
    on the CPU.

    Attributes:
        name: `numpy`, `cupy`, `torch`, `jax` or `array_api_strict`.
        namespace: the module to import for `xp`.
        remedy: what to install where the library is missing.
        devices: the kinds of devices it has, `cpu` or `cuda`, the usual one first.
        promotes: whether the library itself turns integers into floating point where both meet in a product.
        device_name: what the user calls the device: `cpu`, `cuda`, `cuda:1` ...
        dtype_name: `float32` or `float64`.
        device: the library's own device object.
        xp: the Array API namespace handed to the mathematics.
    """

    name: ClassVar[str]
    namespace: ClassVar[str]
    remedy: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    promotes: ClassVar[bool] = False

    device_name: str
    dtype_name: str
    device: Device
    xp: Namespace

    @classmethod
    def bind(cls, device_name: str, dtype_name: str) -> Self:
        """Return the backend for this device and dtype. Raises as `find_device`, or as the library itself."""
        xp = cast(Namespace, import_module(cls.namespace))
        return cls(device_name, dtype_name, cls.find_device(device_name), xp)

    @classmethod
    def version(cls) -> str | None:
        """Return the installed version, or None. Nothing is imported."""
        if find_spec(cls.name) is None:
            return None
        from importlib.metadata import PackageNotFoundError, version  # as slow to import as all of xpnet

        for distribution in (cls.name, "cupy-cuda12x", "cupy-cuda13x"):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return "unknown version"

    @classmethod
    def problem(cls, device_name: str) -> str | None:
        """Return why this library cannot compute on the device, with the remedy; None if it can."""
        if cls.version() is None:
            return f"not installed: {cls.remedy}"
        on_gpu = device_name.startswith("cuda")
        if on_gpu:
            if "cuda" not in cls.devices:
                return "has no CUDA device"
            if no_driver := cuda.explain_missing_driver():
                return no_driver
        try:
            import_module(cls.namespace)
        except Exception as error:  # a broken installation may raise anything
            return f"does not import ({_first_line(error)}): {cls.remedy}"
        try:
            backend = cls.bind(device_name, "float32")
        except InputError as error:
            return str(error)
        except Exception as error:  # each library has exceptions of its own for a missing device
            return f"no such device ({_first_line(error)}): {cls.remedy}"
        return backend._test_gpu() if on_gpu else None

    def _test_gpu(self) -> str | None:
        # A visible GPU may still fail at the first kernel (CuPy without the CUDA headers), or at the first
        # product.
        xp = cast(Any, self.xp)
        try:
            x = xp.ones((2, 2), dtype=xp.float32, device=self.device)
            if float(xp.sum(x + 1.0)) != 8.0 or float(xp.sum(xp.matmul(x, x))) != 8.0:
                return "the GPU answers, but with wrong results"
        except Exception as error:  # as above
            return f"there is a GPU, but kernels do not run ({_first_line(error)}): {self.remedy}"
        return None

    @staticmethod
    def owns(x: object) -> bool:
        """Return whether x is an array of this library."""
        raise NotImplementedError

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        """Return the library's own object for `cpu`, `cuda`, `cuda:1` or one of its own device names.

        Raises:
            InputError: the library has no such device.
        """
        if device_name != "cpu":
            raise InputError(f"{cls.name} has no device {device_name!r}, only cpu")
        return "cpu"

    @staticmethod
    def name_device(x: Any) -> str:
        """Return the name of the device on which x, an array of this library, lives."""
        return "cpu"

    @property
    def dtype(self) -> DType:
        """The library's own float32 or float64."""
        return getattr(self.xp, self.dtype_name)

    @property
    def place(self) -> tuple[str, str]:
        """(library, device): arrays can be computed with each other where these are equal."""
        return self.name, self.device_name

    @property
    def is_on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device_name.startswith("cuda")

    @property
    def block(self) -> int | None:
        """Elements per block for elementwise work on long vectors, None for one piece."""
        return None if self.is_on_gpu else _CPU_BLOCK_BYTES // np.dtype(self.dtype_name).itemsize

    @property
    def tiny(self) -> float | None:
        """Where numbers begin to be too small for a CPU that computes eagerly; None if that is no concern."""
        if self.block is None:
            return None
        info = np.finfo(self.dtype_name)
        return float(info.tiny) / float(info.eps) ** 2

    def asarray(self, x: ArrayLike, dtype: DType = None) -> Array:
        """Return x, from the host, on this device: floating point as `dtype`, integers as they are.

        The result may share memory with a NumPy array of the same dtype.
        """
        host = np.asarray(x)
        xp = cast(Any, self.xp)
        if dtype is None and host.dtype.kind == "f":
            dtype = self.dtype
            host = host.astype(self.dtype_name, copy=False)
        return cast(Array, xp.asarray(host, dtype=dtype, device=self.device))

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """Return x, an array of this library, as a new NumPy array on the host. Waits for the device."""
        return np.array(x)

    def detach(self, x: Array) -> Array:
        """Return x, an array of this library, free of a gradient graph."""
        return x

    def bring(self, x: Array, source: "Backend") -> Array:
        """Return x, which lives on `source`, here, in its own dtype and free of a gradient graph.

        No copy where both are one place.
        """
        if source.place == self.place:
            return self.detach(x)
        return cast(Array, cast(Any, self.xp).asarray(source.to_numpy(x), device=self.device))

    def copy(self, x: Array) -> Array:
        """Return a copy of x, an array on this backend."""
        return cast(Array, cast(Any, self.xp).asarray(x, copy=True))

    def synchronize(self) -> None:
        """Wait until the device has done all it was given. Call it before reading a clock."""

    def compile(self, function: F, *, donate: tuple[int, ...] = ()) -> F:
        """Return `function` as fast as the library can run it.

        Args:
            donate: positions of the arguments that the function owns and gives back, whose memory the library
                may use again.
        """
        return function

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        """Return a training step without its `xp`, as fast as the library can take it again and again.

        Args:
            step: (state, data, index, coefficients, *, xp) -> state, a fixed list of array operations. The
                state is (theta, moments, total), arrays that the step owns and returns; data are borrowed
                arrays, always the same; index the rows of data to use, None for all; coefficients are floats.
            n_steps: how many steps are planned.
            steps_per_epoch: after how many of them an epoch ends.
        """
        return partial(step, xp=self.xp)

    @property
    def for_short_rows(self) -> "Backend":
        """The backend in the form that is quickest where rows are short, as those of predictions are."""
        return self

    def free_bytes(self) -> int | None:
        """Return the free memory of the device in bytes, or None where the library cannot tell."""
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Return whether this is what the library raises when the device's memory does not suffice."""
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


def split_device(device_name: str) -> tuple[str, int]:
    """Return kind and number of a device: ("cuda", 1) for `cuda:1`, number 0 where none is given."""
    kind, _, number = device_name.partition(":")
    if number and not number.isdigit():
        raise InputError(f"device {device_name!r}: expected a number after the colon, as in cuda:1")
    return kind, int(number or 0)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
