"""The interface of an array library. Each library has a module in this folder."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet._typing import Array, Device, DType, Namespace
from xpnet.backends import cuda
from xpnet.errors import InputError

__all__ = ["DTYPES", "WORTH_RECORDING", "Backend", "Steps", "split_device", "take_steps"]

F = TypeVar("F", bound=Callable[..., Any])
DTYPES = ("float32", "float64")

# Number of steps. To record one takes as long as a few steps; to replay it saves a tenth of the time or more.
WORTH_RECORDING = 32

# Temporaries of this many bytes fit in the second-level caches of a few CPU cores.
_CPU_BLOCK_BYTES = 2**20

_NO_CHANGE = nullcontext()


class Steps(NamedTuple):
    """What the training steps of an epoch use, apart from the state and the data.

    Attributes:
        rows: (n,) the rows of the data that the epoch visits, in this order, on the device; or None if each
            step uses all rows.
        batch_size: number of rows per step. The last step may have fewer.
        coefficients: (n_steps, k) the coefficients of the optimizer, on the host.
    """

    rows: Array | None
    batch_size: int
    coefficients: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Equal for two epochs with the same numbers of rows, steps and coefficients."""
        return (-1 if self.rows is None else self.rows.shape[0], self.batch_size, *self.coefficients.shape)

    @property
    def n_whole(self) -> int:
        """Number of steps whose batch is a whole one."""
        return 1 if self.rows is None else self.rows.shape[0] // self.batch_size

    def count_rows(self, i: int) -> int:
        """Return the number of rows of step i = 0, 1, ..."""
        if self.rows is None:
            return self.batch_size
        return min(self.batch_size, self.rows.shape[0] - i * self.batch_size)

    def find_rows(self, i: int) -> Array | None:
        """Return the rows of step i, or None for all rows."""
        first = i * self.batch_size
        return None if self.rows is None else self.rows[first : first + self.count_rows(i)]

    def find_coefficients(self, i: int) -> tuple[float, ...]:
        """Return the coefficients of step i."""
        return tuple(self.coefficients[i].tolist())


def take_steps(
    step: Callable[..., Any], state: Any, data: Any, steps: Steps, first: int, last: int, *, xp: Namespace
) -> Any:
    """Return the state after the steps `first` to `last` - 1 of an epoch, taken as they are written.

    Raises:
        PartlyTaken: if an exception, such as Ctrl-C, came after the first of these steps.
    """
    for i in range(first, last):
        try:
            state = step(state, data, steps.find_rows(i), steps.find_coefficients(i), xp=xp)
        except BaseException as error:
            raise count_steps(error, i - first, state)  # noqa: B904 (it may be the error itself)
    return state


class PartlyTaken(Exception):  # noqa: N818 (the error is `problem`)
    """Some of the steps of a call had been taken when an exception, such as Ctrl-C, came.

    Attributes:
        problem: this exception.
        n_steps: the number of steps taken.
        state: the state after them.
    """

    def __init__(self, problem: BaseException, n_steps: int, state: Any) -> None:
        self.problem, self.n_steps, self.state = problem, n_steps, state


def count_steps(error: BaseException, n_steps: int, state: Any) -> BaseException:
    """Return PartlyTaken with the cause `error` if `n_steps` have been taken before it, else `error`."""
    if isinstance(error, PartlyTaken):
        error.n_steps += n_steps
        return error
    if n_steps == 0:
        return error
    return PartlyTaken(error, n_steps, state)


@dataclass(frozen=True)
class Backend:
    """An array library with a device and a dtype.

    This class implements a library that computes eagerly on the CPU. A subclass overrides what differs.

    Attributes:
        name: `numpy`, `cupy`, `torch`, `jax` or `array_api_strict`.
        namespace: the module to import for `xp`.
        remedy: how to install the library.
        devices: the kinds of devices it has, `cpu` or `cuda`, the default first.
        is_slow_stepwise: whether compiled steps should be taken several in a call. If not, one in a call is
            almost as fast.
        chunk_rows: number of rows that the network processes at once in predictions, in evaluation and in
            the gradient over many rows.
        device_name: the name of the device: `cpu`, `cuda:0`, `cuda:1` or a library-specific name. Each
            device has one name: `cuda` is `cuda:0`, and `cpu:0` is `cpu`.
        dtype_name: `float32` or `float64`.
        device: the library's own device object.
        xp: the Array API namespace that the mathematics uses.
    """

    name: ClassVar[str]
    namespace: ClassVar[str]
    remedy: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]] = ()
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    is_slow_stepwise: ClassVar[bool] = False
    chunk_rows: ClassVar[int] = 8192

    device_name: str
    dtype_name: str
    device: Device
    xp: Namespace

    @classmethod
    def bind(cls, device_name: str, dtype_name: str) -> Self:
        """Return the backend for this device and dtype. Raises as `find_device` or the library does.

        `cuda` is `cuda:0` in every library, whichever device is the current one.
        """
        kind, number = split_device(device_name)
        if kind == "cuda":
            device_name = f"cuda:{number}"
        elif device_name == "cpu:0":
            device_name = "cpu"
        xp = cast(Namespace, import_module(cls.namespace))
        return cls(device_name, dtype_name, cls.find_device(device_name), xp)

    @classmethod
    def find_version(cls) -> str | None:
        """Return the installed version, or None. The library is not imported."""
        if find_spec(cls.name) is None:
            return None
        from importlib.metadata import PackageNotFoundError, version  # as slow to import as all of xpnet

        for distribution in (cls.name, *cls.distributions):
            try:
                return version(distribution)
            except PackageNotFoundError:
                continue
        return "unknown version"

    @classmethod
    def find_problem(cls, device_name: str) -> str | None:
        """Return why this library cannot compute on the device and what to do, or None if it can."""
        if cls.find_version() is None:
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
            return f"cannot be imported ({_summarize(error)}): {cls.remedy}"
        try:
            backend = cls.bind(device_name, "float32")
        except InputError as error:
            return str(error)
        except Exception as error:  # each library raises another exception for a missing device
            return f"no such device ({_summarize(error)}): {cls.remedy}"
        return backend._test_gpu() if on_gpu else None

    def _test_gpu(self) -> str | None:
        # A visible GPU may still fail at the first kernel (CuPy without the CUDA headers) or at the first
        # matrix product.
        xp = cast(Any, self.xp)
        try:
            with self.as_current():
                x = xp.ones((2, 2), dtype=xp.float32, device=self.device)
                if float(xp.sum(x + 1.0)) != 8.0 or float(xp.sum(xp.matmul(x, x))) != 8.0:
                    return "the GPU computes wrong results"
        except Exception as error:  # as above
            return f"there is a GPU, but it cannot run kernels ({_summarize(error)}): {self.remedy}"
        return None

    @staticmethod
    def owns(x: object) -> bool:
        """Return whether x is an array of this library."""
        raise NotImplementedError

    @classmethod
    def find_device(cls, device_name: str) -> Device:
        """Return the library's device object for `cpu`, `cuda`, `cuda:1` or a library-specific name.

        Raises:
            InputError: if the library has no such device.
        """
        if device_name != "cpu":
            raise InputError(f"{cls.name} has no device {device_name!r}, only cpu")
        return "cpu"

    @staticmethod
    def name_device(x: Any) -> str:
        """Return the name of the device of x, an array of this library."""
        return "cpu"

    @staticmethod
    def explain_unreadable(x: Any) -> str | None:
        """Return why xpnet cannot use x, an array of this library, and what to do. None if it can."""
        return None

    @property
    def hardware(self) -> str | None:
        """The model of the GPU as its driver names it, or None on the CPU."""
        return None

    def as_current(self) -> AbstractContextManager[object]:
        """Return a context in which this device is the current one, and after which the previous one is.

        Some libraries compute on the current device rather than on that of the arrays. Therefore every
        function that computes with arrays of a backend does so in its context. The methods of `Backend`
        need none. The current stream of the device stays that of the caller. A generator must not yield
        inside the context, because the caller's code would run in it.
        """
        return _NO_CHANGE

    @property
    def dtype(self) -> DType:
        """The library's float32 or float64."""
        return getattr(self.xp, self.dtype_name)

    @property
    def place(self) -> tuple[str, str]:
        """(library, device). Arrays with equal places can be combined in one operation."""
        return self.name, self.device_name

    @property
    def is_in_host_memory(self) -> bool:
        """Whether the device is the CPU, from which every library can take arrays."""
        return self.device_name.partition(":")[0] == "cpu"

    @property
    def is_on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device_name.startswith("cuda")

    @property
    def block(self) -> int | None:
        """Number of elements per block for elementwise operations on long vectors; None for no blocks."""
        return None if self.is_on_gpu else _CPU_BLOCK_BYTES // np.dtype(self.dtype_name).itemsize

    @property
    def tiny(self) -> float | None:
        """The threshold for `flush_denormals`, or None if the device needs no flushing."""
        if self.block is None:
            return None
        info = np.finfo(self.dtype_name)
        return float(info.tiny) / float(info.eps) ** 2

    def asarray(self, x: ArrayLike, dtype: DType = None) -> Array:
        """Copy x from the host to this device: floating point as `dtype`, integers in their own dtype.

        The result may share memory with a NumPy array of the same dtype.
        """
        host = np.asarray(x)
        xp = cast(Any, self.xp)
        if dtype is None and host.dtype.kind == "f":
            dtype = self.dtype
            host = host.astype(self.dtype_name, copy=False)
        return cast(Array, xp.asarray(host, dtype=dtype, device=self.device))

    def to_numpy(self, x: Array) -> NDArray[Any]:
        """Copy x, an array of this library, to a new NumPy array on the host. Waits for the device."""
        return np.array(x)

    def detach(self, x: Array) -> Array:
        """Return x, an array of this library, detached from its autograd graph."""
        return x

    def bring(self, x: Array, source: "Backend") -> Array:
        """Return x, an array on `source`, on this backend: in its own dtype, without its autograd graph.

        x is not copied if both backends have the same place.
        """
        if source is self or source.place == self.place:
            return self.detach(x)
        return cast(Array, cast(Any, self.xp).asarray(source.to_numpy(x), device=self.device))

    def copy(self, x: Array) -> Array:
        """Return a copy of x, an array on this backend."""
        with self.as_current():
            return cast(Array, cast(Any, self.xp).asarray(x, copy=True))

    def synchronize(self) -> None:
        """Wait until the device has finished all its work. Call it before reading a clock."""

    def compile(self, function: F) -> F:
        """Return `function`, compiled if the library has a compiler."""
        return function

    def compile_step(
        self, step: Callable[..., Any], n_steps: int, steps_per_epoch: int
    ) -> Callable[..., Any]:
        """Return a function (state, data, steps, first, last) -> state that takes steps of an epoch.

        It takes the steps `first` to `last` - 1 of `Steps`, with batches of one size. It is compiled,
        recorded or captured if that makes it faster.

        Args:
            step: a function (state, data, index, coefficients, *, xp) -> state: a fixed sequence of array
                operations. The state is (theta, moments, total); the step may overwrite these arrays. data
                are arrays that are the same in each call. index are the rows of data to use, or None for all
                rows. coefficients are floats, or 0-d arrays.
            n_steps: planned number of steps.
            steps_per_epoch: number of steps in an epoch.

        The function raises PartlyTaken as `take_steps` does.
        """
        return partial(take_steps, step, xp=self.xp)

    @property
    def for_short_rows(self) -> "Backend":
        """The backend for predictions. Its namespace may be faster for rows as short as these."""
        return self

    def count_free_bytes(self) -> int | None:
        """Return the free memory of the device in bytes, or None if it is unknown."""
        if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None

    @staticmethod
    def is_out_of_memory(error: BaseException) -> bool:
        """Return whether `error`, of any library, says that a device or the host is out of memory."""
        names = {base.__name__ for base in type(error).__mro__}
        text = str(error).lower()
        return (
            "MemoryError" in names
            or "OutOfMemoryError" in names
            or (
                isinstance(error, RuntimeError)
                # The last is cuBLAS, which needs a workspace.
                and any(words in text for words in ("out of memory", "can't allocate memory", "alloc_failed"))
            )
            or "resource_exhausted" in text
        )


def split_device(device_name: str) -> tuple[str, int]:
    """Return the kind and number of a device: ("cuda", 1) for `cuda:1`. The default number is 0."""
    kind, _, number = device_name.partition(":")
    if number and not number.isdigit():
        raise InputError(f"device {device_name!r}: expected a number after the colon, as in cuda:1")
    return kind, int(number or 0)


def _summarize(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
