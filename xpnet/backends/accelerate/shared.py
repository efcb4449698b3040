"""A training step on PyTorch's tensors on the CPU, recorded once and repeated on the same memory.

A tensor on the CPU and a NumPy array can share memory, so each recorded call runs in the library that is
faster at it. On small arrays that is NumPy. On large arrays it is PyTorch: its elementwise functions use all
cores, which those of NumPy cannot, and its matrix products take less time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, cast

import numpy as np

from xpnet._typing import Namespace
from xpnet.backends.accelerate.plan import record_step
from xpnet.backends.accelerate.record import maximum, minimum
from xpnet.backends.accelerate.traced import NotRecordable

__all__ = ["find_memory", "record_shared_step"]

# Comparisons are not among them: in PyTorch they take four times as long as in NumPy.
_IN_PYTORCH: dict[Any, str] = {
    np.abs: "abs",
    np.add: "add",
    np.divide: "div",
    np.exp: "exp",
    np.expm1: "expm1",
    np.log: "log",
    np.log1p: "log1p",
    np.multiply: "mul",
    np.negative: "neg",
    np.sqrt: "sqrt",
    np.subtract: "sub",
    np.tanh: "tanh",
    maximum: "maximum",
    minimum: "minimum",
}

# Up to so many elements PyTorch computes an elementwise function on one core.
_LARGE_ARRAY = 2**15
# Number of multiplications of a matrix product.
_LARGE_PRODUCT = 2**17


def record_shared_step(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[list[Any], Callable[[], tuple[Any, Callable[[], None]]]]:
    """Return (what the step does, how to prepare it), as `Replay` expects of `fix`."""
    tensors: dict[int, Any] = {}

    def view(x: Any) -> Any:
        try:
            array = x.detach().numpy()
        except RuntimeError as error:  # a view of a complex tensor, for instance
            raise NotRecordable(f"a tensor without a NumPy array: {error}") from error
        tensors[id(array)] = x
        return array

    theta, moments, total = state
    arrays = (
        (view(theta), tuple(map(view, moments)), view(total)),
        tuple(map(view, data)),
        None if index is None else view(index),
        tuple(map(view, coefficients)),
    )
    description, prepare = record_step(step, *arrays, xp=xp, bind=_bind)

    def prepare_tensors() -> tuple[Any, Callable[[], None]]:
        (theta, moments, total), run = prepare()
        return (find(theta), tuple(map(find, moments)), find(total)), run

    def find(array: Any, kept: Any = arrays) -> Any:
        """Return the tensor that `array` is a view of, or a new one on its memory."""
        return tensors[id(array)] if id(array) in tensors else cast(Any, xp).from_numpy(array)

    return description, prepare_tensors


def find_memory(x: Any) -> tuple[int, int]:
    """Return the identity of a tensor and of its memory, which may move, for instance to another process."""
    return id(x), x.data_ptr()


def _bind(f: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], Sequence[Any]]:
    """Return (function, arguments) of the faster library: see `prepare`."""
    out = arguments[-1]
    is_small = out.size <= _LARGE_ARRAY
    if f is np.dot:
        is_small = out.size * arguments[0].shape[-1] <= _LARGE_PRODUCT
    if is_small or f not in (np.dot, *_IN_PYTORCH):
        return f, arguments
    torch = import_module("torch")
    *inputs, out = map(torch.from_numpy, arguments)
    if f is np.dot:
        a, b = inputs
        if a.ndim < b.ndim:
            a, b = b.T, a
        return partial({2: torch.mm, 1: torch.mv, 0: torch.dot}[a.ndim + b.ndim - 2], out=out), (a, b)
    return partial(getattr(torch, _IN_PYTORCH[f]), out=out), inputs
