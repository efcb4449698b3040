"""Record which NumPy calls a function of arrays makes, without making them.

The function is called once with `Traced` arrays, which know their shape and dtype and nothing else, and with
a `Recorder` for its namespace. What comes out is a list of calls, each with the array that it writes into.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Call", "Recorder", "Traced", "assign", "join", "rows_per_piece"]

# Elementwise calls work on about so many bytes of each array at once: five of them fit a core's cache.
PIECE_BYTES = 2**17

_OUT = object()
_COMPARISONS = np.greater, np.greater_equal, np.equal


class Traced:
    """An array that is not there yet. Either it has memory of its own, or it is a view of another one.

    Attributes:
        parent, view: the array that it is a view of, and the function of that array that returns it.
        memory: the array itself, as soon as there is one.
        passing: of its rows, only those of the piece at hand are ever there.
        is_number: it stands for a Python number, which is never changed but always replaced.
    """

    __slots__ = ("dtype", "is_number", "memory", "parent", "passing", "recorder", "shape", "view")

    def __init__(self, recorder: "Recorder", shape: tuple[int, ...], dtype: Any) -> None:
        self.recorder, self.shape, self.dtype = recorder, shape, np.dtype(dtype)
        self.parent: Traced | None = None
        self.view: Callable[[NDArray[Any]], NDArray[Any]] = lambda a: a
        self.memory: NDArray[Any] | None = None
        self.passing = self.is_number = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def owner(self) -> "Traced":
        """The array whose memory this is."""
        return self if self.parent is None else self.parent.owner

    @property
    def value(self) -> NDArray[Any]:
        """The array itself. Its owner has to have memory."""
        owner = self.owner
        assert owner.memory is not None
        return self.on(owner.memory)

    @property
    def covers_owner(self) -> bool:
        """Whether these are all elements of the owner in the order of its memory."""
        seen = self.on(np.empty(self.owner.shape, np.bool_))
        return seen.size == self.owner.size and seen.flags.c_contiguous

    def on(self, memory: NDArray[Any]) -> NDArray[Any]:
        """Return this array, with `memory` for its owner."""
        return memory if self.parent is None else self.view(self.parent.on(memory))

    @property
    def T(self) -> "Traced":
        return self.see(lambda a: a.T, self.shape[::-1])

    def see(self, view: Callable[[NDArray[Any]], NDArray[Any]], shape: tuple[int, ...]) -> "Traced":
        """Return a view of this array."""
        seen = Traced(self.recorder, shape, self.dtype)
        seen.parent, seen.view = self, view
        return seen

    def __getitem__(self, key: Any) -> "Traced":
        if not all(isinstance(k, slice | EllipsisType) for k in (key if isinstance(key, tuple) else (key,))):
            raise TypeError("slices are recorded, of which NumPy returns a view; got another index")
        return self.see(lambda a: a[key], np.broadcast_to(np.False_, self.shape)[key].shape)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.recorder.note(assign, (value, _OUT), self[key])

    def __neg__(self) -> "Traced":
        return self.recorder.elementwise(np.negative, self)

    def _no_value(self, *_: Any, **__: Any) -> Any:
        raise TypeError("an array has no value while it is recorded")

    __bool__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __array__ = _no_value
    __array_ufunc__ = None
    __hash__ = object.__hash__


def _operator(f: Any, *, swapped: bool = False, in_place: bool = False) -> Callable[[Traced, Any], Traced]:
    def operator(self: Traced, other: Any) -> Traced:
        a, b = (other, self) if swapped else (self, other)
        return self.recorder.elementwise(f, a, b, out=self if in_place and not self.is_number else None)

    return operator


for _name, _f in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide}.items():
    setattr(Traced, f"__{_name}__", _operator(_f))
    setattr(Traced, f"__r{_name}__", _operator(_f, swapped=True))
    setattr(Traced, f"__i{_name}__", _operator(_f, in_place=True))
for _name, _f in {"gt": np.greater, "ge": np.greater_equal, "eq": np.equal}.items():
    setattr(Traced, f"__{_name}__", _operator(_f))


@dataclass
class Call:
    """`function(*arguments)`, which writes into `out`, one of the arguments.

    Attributes:
        by_row: if the call is elementwise, the positions of the arguments of which row i is for row i of
            `out`, `out` among them; the others are for all rows alike.
    """

    function: Callable[..., Any]
    arguments: list[Any]
    out: Traced
    by_row: tuple[int, ...] = ()

    @property
    def arrays(self) -> list[Traced]:
        return [x for x in self.arguments if isinstance(x, Traced)]


def rows_per_piece(x: Traced) -> int:
    """Return how many rows of x make a piece, give or take a half."""
    return max(1, PIECE_BYTES // (math.prod(x.shape[1:]) * int(x.dtype.itemsize)))


class Recorder:
    """The namespace that notes each call in `calls`. It knows the functions of `_typing.Namespace`."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self.calls: list[Call] = []
        self._constants: dict[Any, Traced] = {}

    def array(self, shape: tuple[int, ...], dtype: Any = None) -> Traced:
        """Return a new array without content."""
        return Traced(self, shape, self.dtype if dtype is None else dtype)

    def bound(self, value: NDArray[Any]) -> Traced:
        """Return the array that is this one."""
        if not isinstance(value, np.ndarray):
            raise TypeError(f"recorded are arrays, not {type(value).__name__}")
        traced = Traced(self, value.shape, value.dtype)
        traced.memory = value
        return traced

    def number(self, value: NDArray[Any]) -> Traced:
        """Return this 0-d array as what the recorded function takes for a Python number."""
        traced = self.bound(value)
        traced.is_number = True
        return traced

    def constant(self, value: float, dtype: Any, shape: tuple[int, ...] = ()) -> Traced:
        """Return an array full of this Python number, converted once and not at each call."""
        if type(value) not in (bool, int, float) or dtype.kind != "f":
            raise TypeError(
                f"recorded are Python numbers with floating-point arrays, not {value!r} with {dtype}"
            )
        key = repr(value), dtype, shape  # 0.0 and -0.0 are equal
        if key not in self._constants:
            self._constants[key] = self.bound(np.full(shape, value, dtype))
        return self._constants[key]

    def note(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        out: Traced,
        by_row: tuple[int, ...] = (),
    ) -> Traced:
        self.calls.append(Call(function, [out if x is _OUT else x for x in arguments], out, by_row))
        return out

    def elementwise(self, f: Any, *arguments: Any, out: Traced | None = None) -> Traced:
        common = np.result_type(*(x.dtype for x in arguments if isinstance(x, Traced)))
        if common.kind != "f" and f not in _COMPARISONS:
            raise TypeError(f"{f.__name__} is recorded for floating point, not for {common}")
        inputs = [x if isinstance(x, Traced) else self.constant(x, common) for x in arguments]
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        if out is None:
            out = self.array(shape, bool if f in _COMPARISONS else common)
        if shape != out.shape:
            raise ValueError(f"{f.__name__}: {shape} does not fit {out.shape}")
        out.is_number = all(x.is_number for x in arguments if isinstance(x, Traced))
        both = [*inputs, out]
        by_row = tuple(i for i, x in enumerate(both) if x.ndim == out.ndim > 0 and x.shape[0] == out.shape[0])
        return self.note(f, both, out, by_row)

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
        return self.elementwise(_maximum, a, self._spread(b, a))

    def minimum(self, a: Traced, b: Any) -> Traced:
        return self.elementwise(_minimum, a, self._spread(b, a))

    def _spread(self, x: Any, like: Traced) -> Any:
        """A number as an array: with one NumPy takes the extreme of two in a third of the time."""
        if isinstance(x, Traced) or like.ndim == 0:
            return x
        rows = min(like.shape[0], 2 * rows_per_piece(like) + 64)
        spread = self.array(like.shape, like.dtype)
        spread.memory, spread.passing = self.constant(x, like.dtype, (rows, *like.shape[1:])).memory, True
        return spread

    def astype(self, x: Traced, dtype: Any) -> Traced:
        return self.note(_convert, (x, _OUT), self.array(x.shape, dtype), by_row=(0, 1) if x.ndim else ())

    def matmul(self, a: Traced, b: Traced) -> Traced:
        if a.dtype != b.dtype or a.dtype.kind != "f":
            raise TypeError(
                f"matmul is recorded for one floating-point dtype, not for {a.dtype} and {b.dtype}"
            )
        return self.note(np.dot, (a, b, _OUT), self.array(a.shape[:-1] + b.shape[1:], a.dtype))

    def sum(self, x: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """As a product with ones, which takes less time than NumPy's own reduction."""
        if x.ndim > 2:
            raise NotImplementedError("sum is recorded for vectors and matrices")
        shape = tuple(1 if axis is None or i == axis % x.ndim else n for i, n in enumerate(x.shape))
        if axis is None:
            x, axis = self.reshape(x, (-1,)), 0
        ones = self.constant(1.0, x.dtype, (x.shape[axis],))
        total = self.matmul(ones, x) if axis % x.ndim == 0 else self.matmul(x, ones)
        return self.reshape(total, shape) if keepdims else total

    def max(self, x: Traced, axis: int | None = None, keepdims: bool = False) -> Traced:
        """Along the first axis of a transposed copy: along a short last axis NumPy takes much longer."""
        if x.ndim != 2 or axis != 1 or not keepdims:
            raise NotImplementedError("max is recorded along the last axis of a matrix, keepdims=True")
        largest = self.note(_largest_of_rows, (x, _OUT), self.array(x.shape[:1], x.dtype))
        return self.reshape(largest, (x.shape[0], 1))

    def cumulative_sum(self, x: Traced, axis: int) -> Traced:
        return self.note(np.add.accumulate, (x, axis, None, _OUT), self.array(x.shape, x.dtype))

    def take(self, x: Traced, indices: Traced, axis: int) -> Traced:
        if axis != 0 or x.memory is None:
            raise NotImplementedError("take is recorded along the first axis of an array that is there")
        out = self.array(indices.shape + x.shape[1:], x.dtype)
        if not x.memory.flags.c_contiguous:  # NumPy's `take` would copy all of x first
            return self.note(_rows, (x, indices, _OUT), out)
        # With mode="raise" it would write into a copy of the result first.
        return self.note(x.memory.take, (indices, 0, _OUT, "clip"), out)

    def concat(self, arrays: Sequence[Traced]) -> Traced:
        if any(x.ndim != 1 or x.dtype != arrays[0].dtype for x in arrays):
            raise NotImplementedError("concat is recorded for vectors of one dtype")
        ends = list(accumulate(x.size for x in arrays))
        out = self.array((ends[-1],), arrays[0].dtype)
        for x, end in zip(arrays, ends, strict=True):
            self.note(join, (x, _OUT), out[end - x.size : end])
        return out

    def reshape(self, x: Traced, shape: tuple[int, ...]) -> Traced:
        shape = tuple(-x.size // math.prod(shape) if n == -1 else n for n in shape)
        return x.see(lambda a: a.reshape(shape, copy=False), shape)

    def zeros_like(self, x: Traced) -> Traced:
        return self.note(assign, (0.0, _OUT), self.array(x.shape, x.dtype))

    def ones_like(self, x: Traced) -> Traced:
        return self.note(assign, (1.0, _OUT), self.array(x.shape, x.dtype))


def assign(x: Any, out: NDArray[Any]) -> None:
    """Write x, an array or a number, into a part of an array."""
    np.copyto(out, x)


def join(x: NDArray[Any], out: NDArray[Any]) -> None:
    """Write x into its part of a new array."""
    np.copyto(out, x)


def _convert(x: NDArray[Any], out: NDArray[Any]) -> None:
    np.copyto(out, x, casting="unsafe")


def _rows(x: NDArray[Any], indices: NDArray[Any], out: NDArray[Any]) -> None:
    out[...] = x[indices]


def _largest_of_rows(x: NDArray[Any], out: NDArray[Any]) -> None:
    np.maximum.reduce(x.T.copy(), axis=0, out=out)


# NumPy takes no `out` by position for these two.
def _maximum(a: Any, b: Any, out: NDArray[Any]) -> None:
    np.maximum(a, b, out=out)


def _minimum(a: Any, b: Any, out: NDArray[Any]) -> None:
    np.minimum(a, b, out=out)
