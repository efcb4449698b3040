"""The arrays of a training step that is recorded: what the step computes with in place of NumPy arrays."""

import math
from collections.abc import Callable
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMPARISONS", "NotRecordable", "Traced", "assign", "reshape"]

COMPARISONS = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


class NotRecordable(Exception):  # noqa: N818
    """The step is more than a list of the array operations that a `Recorder` knows."""


class Traced:
    """An array of the recorded step: its shape and dtype, without values.

    Attributes:
        base: the array that it is a view of, or None.
        view: (function, argument) that return the view as `function(base, argument)`.
        memory: the NumPy array, once there is one; None for a view.
        description: the same for the same array in two recordings of one step.
        is_number: whether it stands for a Python number, which is replaced and never written to.
    """

    __slots__ = ("base", "description", "dtype", "is_number", "memory", "recorder", "shape", "view")

    def __init__(self, recorder: Any, shape: tuple[int, ...], dtype: Any, description: Any) -> None:
        self.recorder, self.shape, self.dtype, self.description = recorder, shape, dtype, description
        self.base: Traced | None = None
        self.view: tuple[Callable[..., Any], Any] = reshape, shape
        self.memory: NDArray[Any] | None = None
        self.is_number = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def owner(self) -> "Traced":
        """The array whose memory this is."""
        return self if self.base is None else self.base.owner

    @property
    def value(self) -> Any:
        """The NumPy array. Its owner must have memory."""
        return self.see_in(self.owner.memory)

    def see_in(self, memory: Any) -> Any:
        """Return the view of an array that is given for the owner."""
        if self.base is None:
            return memory
        function, argument = self.view
        return function(self.base.see_in(memory), argument)

    @property
    def is_whole(self) -> bool:
        """Whether these are all elements of the owner, in the order of its memory."""
        return self.base is None or (self.view[0] is reshape and self.base.is_whole)

    @property
    def T(self) -> "Traced":
        return self.see(np.transpose, None, self.shape[::-1])

    def see(self, function: Callable[..., Any], argument: Any, shape: tuple[int, ...]) -> "Traced":
        """Return the view `function(self, argument)`."""
        seen = Traced(self.recorder, shape, self.dtype, (self.description, function, argument))
        seen.base, seen.view = self, (function, argument)
        return seen

    def __getitem__(self, key: Any) -> "Traced":
        if not all(isinstance(k, slice | EllipsisType) for k in (key if isinstance(key, tuple) else (key,))):
            raise NotRecordable(f"an index of type {type(key).__name__}: expected slices")
        like = np.ndarray(self.shape, np.bool_, b"\0", strides=(0,) * self.ndim)  # an array of one byte
        return self.see(_getitem, key, like[key].shape)

    def __setitem__(self, key: Any, value: Any) -> None:
        part = self[key]
        if not isinstance(value, Traced):
            value = self.recorder.constant(value, self.dtype)
        if value.description != part.description:  # `a[key] += b` ends with a[key] = a[key]
            self.recorder.note(assign, value, part)

    def __neg__(self) -> Any:
        return self.recorder.elementwise(np.negative, self)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise NotRecordable("the step reads the values of an array, or calls a function of NumPy")

    __bool__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __str__ = __format__ = _refuse
    __array__ = __array_ufunc__ = __array_function__ = _refuse
    __hash__ = object.__hash__


def _operator(f: Any, *, swapped: bool = False, in_place: bool = False) -> Callable[[Traced, Any], Any]:
    def operator(self: Traced, other: Any) -> Any:
        a, b = (other, self) if swapped else (self, other)
        return self.recorder.elementwise(f, a, b, out=self if in_place and not self.is_number else None)

    return operator


for _name, _f in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide}.items():
    setattr(Traced, f"__{_name}__", _operator(_f))
    setattr(Traced, f"__r{_name}__", _operator(_f, swapped=True))
    setattr(Traced, f"__i{_name}__", _operator(_f, in_place=True))
for _name, _f in COMPARISONS.items():
    setattr(Traced, f"__{_name}__", _operator(_f))


def reshape(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return x in this shape, never as a copy."""
    if not isinstance(x, np.ndarray):  # CuPy: a view, because its arrays here are contiguous
        return x.reshape(shape)
    try:
        return x.reshape(shape, copy=False)
    except ValueError as error:
        raise NotRecordable(f"an array {x.shape} cannot be reshaped to {shape} without a copy") from error


def _getitem(x: NDArray[Any], key: Any) -> Any:
    return x[key]


def assign(x: Any, out: NDArray[Any]) -> None:
    """Write x into `out`, which may be a part of an array."""
    np.copyto(out, x)
