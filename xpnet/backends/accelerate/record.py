"""Record which NumPy calls a training step makes, without making them.

The step is called with `Traced` arrays, which know their shape and dtype but hold no values, and with a
`Recorder` for its namespace. The result is a list of calls, each with the array that it writes into.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet.backends.accelerate.traced import COMPARISONS, NotRecordable, Traced, assign, reshape

__all__ = ["Call", "Recorder", "join", "maximum", "minimum", "trace_step"]


@dataclass(slots=True)
class Call:
    """`function(*arguments)`, whose last argument is the array that it writes into."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    @property
    def out(self) -> Traced:
        return cast(Traced, self.arguments[-1])

    @property
    def arrays(self) -> list[Traced]:
        return [x for x in self.arguments if isinstance(x, Traced)]

    @property
    def description(self) -> tuple[Any, ...]:
        """Equal for the same call in two recordings of one step."""
        return self.function, *(x.description if isinstance(x, Traced) else x for x in self.arguments)


def trace_step(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, kind: type = np.ndarray
) -> tuple[list[Call], Any]:
    """Return the calls that the step makes on these arrays, all of this kind, and the state that it returns.

    Raises:
        NotRecordable: the step is more than a list of these calls, or fails.
    """
    theta, moments, total = state
    recorder = Recorder(kind)
    bind = recorder.bind
    arguments = (
        (bind(theta), tuple(map(bind, moments)), bind(total)),
        tuple(map(bind, data)),
        None if index is None else bind(index),
        tuple(map(recorder.bind_number, coefficients)),
    )
    try:
        new_theta, new_moments, new_total = step(*arguments, xp=recorder)
    except NotRecordable:
        recorder.calls.clear()  # they are part of cycles, which would keep the arrays for a while
        raise
    except Exception as error:  # the user's code may raise anything where it expects NumPy arrays
        raise NotRecordable(f"{type(error).__name__}: {error}") from error
    results = [new_theta, *new_moments, new_total]
    if len(new_moments) != len(moments) or not all(isinstance(x, Traced) for x in results):
        raise NotRecordable("the step returns something other than arrays computed from its state")
    return recorder.calls, (new_theta, new_moments, new_total)


class Recorder:
    """The namespace of a recorded step: each of its functions adds to `calls`. See `_typing.Namespace`."""

    def __init__(self, kind: type = np.ndarray) -> None:
        self.kind = kind
        self.calls: list[Call] = []
        self._constants: dict[Any, Traced] = {}
        self._n_arrays = 0

    def array(self, shape: tuple[int, ...], dtype: Any) -> Traced:
        """Return a new array."""
        self._n_arrays += 1
        return Traced(self, shape, np.dtype(dtype), (self._n_arrays, shape, dtype))

    def bind(self, value: NDArray[Any]) -> Traced:
        """Return the array whose memory is that of `value`."""
        if not isinstance(value, self.kind):
            raise NotRecordable(f"expected arrays of the backend, got {type(value).__name__}")
        bound = self.array(value.shape, value.dtype)
        bound.memory = value
        return bound

    def bind_number(self, value: NDArray[Any]) -> Traced:
        """Return the 0-d array whose memory is that of `value`, which the step takes for a Python number."""
        number = self.bind(value)
        number.is_number = True
        return number

    def constant(self, value: float, dtype: Any, shape: tuple[int, ...] = ()) -> Traced:
        """Return an array full of this Python number: converted once, not at each call."""
        if type(value) not in (bool, int, float) or dtype.kind != "f":
            kind = type(value).__name__
            raise NotRecordable(f"{kind} with {dtype}: expected Python numbers with floating-point arrays")
        key = repr(value), dtype, shape  # 0.0 and -0.0 are equal
        if key not in self._constants:
            constant = Traced(self, shape, dtype, key)
            constant.memory = np.full(shape, value, dtype) if shape else np.array(value, dtype)
            self._constants[key] = constant
        return self._constants[key]

    def note(self, function: Callable[..., Any], *arguments: Any) -> Traced:
        """Note `function(*arguments)`, and return the last argument, into which it writes."""
        call = Call(function, arguments)
        self.calls.append(call)
        return call.out

    def elementwise(self, f: Any, *arguments: Any, out: Traced | None = None) -> Traced:
        """Note f, with numbers converted to the dtype of the arrays."""
        arrays = [x for x in arguments if isinstance(x, Traced)]
        dtypes = {x.dtype for x in arrays}
        common = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
        if common.kind != "f" and f not in COMPARISONS.values():
            raise NotRecordable(f"{f.__name__} of {common}: expected floating-point arrays")
        inputs = [x if isinstance(x, Traced) else self.constant(x, common) for x in arguments]
        shapes = {x.shape for x in inputs if x.shape}
        shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
        if out is None:
            out = self.array(shape, np.dtype(bool) if f in COMPARISONS.values() else common)
            out.is_number = all(x.is_number for x in arrays)
        if shape != out.shape:
            raise ValueError(f"{f.__name__}: {shape} does not fit {out.shape}")
        return self.note(f, *inputs, out)

    def abs(self, x: Traced) -> Traced:
        return self.elementwise(np.abs, x)

    def exp(self, x: Traced) -> Traced:
        return self.elementwise(np.exp, x)

    def expm1(self, x: Traced) -> Traced:
        return self.elementwise(np.expm1, x)

    def log(self, x: Traced) -> Traced:
        return self.elementwise(np.log, x)

    def log1p(self, x: Traced) -> Traced:
        return self.elementwise(np.log1p, x)

    def sqrt(self, x: Traced) -> Traced:
        return self.elementwise(np.sqrt, x)

    def tanh(self, x: Traced) -> Traced:
        return self.elementwise(np.tanh, x)

    def maximum(self, a: Traced, b: Any) -> Traced:
        return self.elementwise(maximum, a, b)

    def minimum(self, a: Traced, b: Any) -> Traced:
        return self.elementwise(minimum, a, b)

    def astype(self, x: Traced, dtype: Any) -> Traced:
        return self.note(_convert, x, self.array(x.shape, dtype))

    def matmul(self, a: Traced, b: Traced) -> Traced:
        if a.dtype != b.dtype or a.dtype.kind != "f":
            raise NotRecordable(f"matmul of {a.dtype} and {b.dtype}: expected one floating-point dtype")
        return self.note(np.dot, a, b, self.array(a.shape[:-1] + b.shape[1:], a.dtype))

    def sum(self, x: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """As a product with ones, which takes less time than NumPy's own reduction."""
        if x.ndim > 2:
            raise NotRecordable(f"sum of {x.ndim} axes: expected a vector or a matrix")
        shape = tuple(1 if axis is None or i == axis % x.ndim else n for i, n in enumerate(x.shape))
        if axis is None:
            x, axis = self.reshape(x, (-1,)), 0
        ones = self.constant(1.0, x.dtype, (x.shape[axis],))
        total = self.matmul(ones, x) if axis % x.ndim == 0 else self.matmul(x, ones)
        return self.reshape(total, shape) if keepdims else total

    def max(self, x: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """Along the first axis of a transposed copy: along a short last axis NumPy takes much longer."""
        if x.ndim != 2 or axis != 1 or not keepdims:
            raise NotRecordable("max: expected a matrix, axis=1 and keepdims=True")
        largest = self.note(_largest_of_rows, x, self.array(x.shape[:1], x.dtype))
        return self.reshape(largest, (x.shape[0], 1))

    def cumulative_sum(self, x: Traced, axis: int) -> Traced:
        return self.note(np.add.accumulate, x, axis, None, self.array(x.shape, x.dtype))

    def take(self, x: Traced, indices: Traced, axis: int) -> Traced:
        if axis != 0 or x.memory is None:
            raise NotRecordable("take: expected data of the step, and axis=0")
        out = self.array(indices.shape + x.shape[1:], x.dtype)
        if not x.memory.flags.c_contiguous:  # NumPy's `take` would copy all of x first
            return self.note(_rows, x, indices, out)
        return self.note(_take, x, indices, out)

    def concat(self, arrays: Sequence[Traced]) -> Traced:
        if any(x.ndim != 1 or x.dtype != arrays[0].dtype for x in arrays):
            raise NotRecordable("concat: expected vectors of one dtype")
        ends = list(accumulate(x.size for x in arrays))
        out = self.array((ends[-1],), arrays[0].dtype)
        for x, end in zip(arrays, ends, strict=True):
            self.note(join, x, out[end - x.size : end])
        return out

    def reshape(self, x: Traced, shape: tuple[int, ...]) -> Traced:
        shape = tuple(-x.size // math.prod(shape) if n == -1 else n for n in shape)
        return x.see(reshape, shape, shape)

    def zeros_like(self, x: Traced) -> Traced:
        return self.note(assign, 0.0, self.array(x.shape, x.dtype))

    def ones_like(self, x: Traced) -> Traced:
        return self.note(assign, 1.0, self.array(x.shape, x.dtype))


def join(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Write x into its part of a longer vector."""
    np.copyto(out, x)


def _convert(x: NDArray[Any], out: NDArray[Any]) -> None:
    np.copyto(out, x, casting="unsafe")


def _rows(x: NDArray[Any], indices: NDArray[Any], out: NDArray[Any]) -> None:
    out[...] = x[indices]


def _take(x: NDArray[Any], indices: NDArray[Any], out: NDArray[Any]) -> None:
    x.take(indices, 0, out, "clip")  # with mode="raise" NumPy would write into a copy of `out` first


def _largest_of_rows(x: NDArray[Any], out: NDArray[Any]) -> None:
    np.maximum.reduce(x.T.copy(), axis=0, out=out)


def maximum(a: Any, b: Any, out: NDArray[Any]) -> None:
    """As `np.maximum`, which takes no `out` by position."""
    np.maximum(a, b, out=out)


def minimum(a: Any, b: Any, out: NDArray[Any]) -> None:
    """As `np.minimum`, which takes no `out` by position."""
    np.minimum(a, b, out=out)
