"""A recorded training step as a short list of CUDA kernels, written for it, and of cuBLAS products.

Calls that follow each other and go through the same matrix become one kernel, whose temporaries stay in
registers. Sources do not depend on sizes or numbers: a network of other sizes finds its kernels compiled.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from xpnet.backends.accelerate.plan import prepare
from xpnet.backends.accelerate.record import Call, trace_step
from xpnet.backends.accelerate.sources import (
    EXPRESSIONS,
    find_key,
    get_name,
    is_ones,
    write_kernel,
    write_start,
    write_take,
)
from xpnet.backends.accelerate.traced import NotRecordable, Traced

__all__ = ["emit_step"]

# Sums over more rows than this are products with ones: one block would take longer.
_TALL = 4096
_MOST_ELEMENTS = 2**30  # the kernels count in 32 bits
_THREADS = 128

# Kinds of kernels, and the kinds of calls that they may take in.
_TOGETHER = {(a, b) for b in ("rows", "columns") for a in ("flat", b)} | {
    (a, "flat") for a in ("flat", "rows", "columns")
}


def emit_step(
    step: Callable[..., Any],
    state: Any,
    data: Any,
    table: Any,
    rows: Any,
    counter: Any,
    batch_size: int,
    size: int,
    *,
    xp: Any,
    new_memory: Callable[[int], Any],
) -> tuple[Any, Callable[[], None]]:
    """Return the state after the step, and a function that runs the step on the current stream.

    Args:
        step: (state, data, index, coefficients, *, xp) -> state.
        table: (n_steps, k) the coefficients of each step.
        rows: (n,) the rows of the data that the steps visit, or None if each uses all.
        counter: (1,) int64, the number of the step. It is not advanced.
        batch_size: number of rows per step.
        size: number of rows of this step.
        xp: a `Capturable`.
        new_memory: (number of bytes) -> an array of bytes, which is kept for the step.

    Raises:
        NotRecordable: the step is more than a list of the array operations that can be recorded.
    """
    cupy = xp.cupy
    line = cupy.empty(table.shape[1:], table.dtype)
    index = None if rows is None else cupy.empty(size, rows.dtype)
    calls, new_state = trace_step(
        step, state, data, index, list(map(line.__getitem__, range(line.size))), cupy.ndarray
    )
    result, compute = prepare(calls, new_state, emit=_Emitter(xp).emit, new_memory=new_memory)
    for x in {x.owner for call in calls for x in call.arrays}:
        x.memory = None  # the recording, which is made of cycles, must not keep memory of the device
    any_rows = counter if rows is None else rows
    start = cupy.RawKernel(write_start(table.dtype, any_rows.dtype), "start")
    n = 0 if rows is None else size
    arguments = counter, table, line, np.int32(line.size), any_rows, any_rows if index is None else index
    n_blocks = -(-max(n, line.size, 1) // _THREADS)

    def run() -> None:
        start((n_blocks,), (_THREADS,), (*arguments, np.int32(batch_size), np.int32(n)))
        compute()

    return result, run


@dataclass
class _Group:
    """Calls that become one kernel of this kind, or a single call of another kind."""

    kind: str
    space: tuple[int, int]
    calls: list[Call] = field(default_factory=list)

    @property
    def arrays(self) -> Iterable[Traced]:
        return (x for call in self.calls for x in call.arrays)

    @property
    def outs(self) -> Iterable[Traced]:
        return (call.out for call in self.calls)

    def precedes(self, call: Call) -> bool:
        """Return whether the call has to come after this group."""
        return any(_overlap(call.out, x) for x in self.arrays) or any(
            _overlap(x, y) for x in call.arrays for y in self.outs
        )

    def find_kind_with(self, call: Call) -> str | None:
        """Return the kind of a kernel that computes the call after those of the group, or None."""
        kind, space = _classify(call)
        if kind == "number":
            fits = self.kind in ("number", "total")
        else:
            per_row = self.kind == "rows" and kind == "flat" and space == (self.space[0], 1)
            fits = (self.kind, kind) in _TOGETHER and (space == self.space or per_row)
        if not fits or not self._agrees_on_views(call):
            return None
        if kind in ("rows", "columns"):  # a sum of something else
            used = {x.owner for x in self.arrays}
            if all(x.owner not in used for x in call.arrays):
                return None
        return kind if self.kind == "flat" else self.kind

    def _agrees_on_views(self, call: Call) -> bool:
        """Return whether no thread of the kernel would read what another one writes."""
        summed = {find_key(c.out) for c in self.calls if _classify(c)[0] == "columns"}
        if any(find_key(x) in summed for x in call.arrays):
            return False
        pairs = [(x, call.out) for x in (*self.arrays, *call.arrays)]
        pairs += [(x, y) for x in self.outs for y in call.arrays]
        return all(find_key(x) == find_key(y) for x, y in pairs if _overlap(x, y))


def _overlap(x: Traced, y: Traced) -> bool:
    """Return whether the two may have elements in common."""
    if x.owner is not y.owner:
        return False
    (begin, end), (other_begin, other_end) = _find_bounds(x), _find_bounds(y)
    return begin < other_end and other_begin < end


def _find_bounds(x: Traced) -> tuple[int, int]:
    """Return where x begins and ends in the memory of its owner, if elements were bytes."""
    like = np.empty(x.owner.shape, np.bool_)  # is never touched
    low, high = byte_bounds(x.see_in(like))
    return low - like.ctypes.data, high - like.ctypes.data


def _classify(call: Call) -> tuple[str, tuple[int, int]]:
    """Return the kind of a call, and (n, k) of the matrix that it goes through."""
    name, out = get_name(call), call.out
    if name in EXPRESSIONS:
        return ("flat" if out.shape else "number"), _as_matrix(out)
    if name == "largest_of_rows":
        return "rows", _as_matrix(call.arguments[0])
    if name in ("take", "rows"):
        return "take", _as_matrix(out)
    if name == "dot":
        a, b, _ = call.arguments
        if is_ones(b) and a.ndim == 2:
            return "rows", _as_matrix(a)
        if is_ones(a) and b.ndim == 2:
            return ("columns" if b.shape[0] <= _TALL else "product"), _as_matrix(b)
        if is_ones(a) or is_ones(b):
            return "total", (1, a.size)
        if a.ndim == b.ndim:
            return "product", _as_matrix(out)
    raise NotRecordable(f"{name} of these arrays has no kernel")


def _as_matrix(x: Traced) -> tuple[int, int]:
    if x.ndim > 2 or x.size > _MOST_ELEMENTS:
        raise NotRecordable(f"an array {x.shape}: expected up to two axes and {_MOST_ELEMENTS} elements")
    n, k = (1,) * (2 - x.ndim) + x.shape
    return n, k


def _group(calls: list[Call]) -> list[_Group]:
    """Return the calls in groups, each of which becomes one launch.

    A call joins the latest group that it fits, unless it depends on one in between. An elementwise call does
    not go back behind a product: what it computes early would have to be kept.
    """
    groups: list[_Group] = []
    for call in calls:
        kind, space = _classify(call)
        for group in reversed(groups):
            if joint := group.find_kind_with(call):
                group.kind = joint
                group.calls.append(call)
                break
            if group.precedes(call) or (kind == "flat" and group.kind not in ("total", "number")):
                joint = None
                break
        else:
            joint = None
        if joint is None:
            *inputs, out = call.arrays
            if kind == "flat" and any(_overlap(x, out) and find_key(x) != find_key(out) for x in inputs):
                raise NotRecordable("a call writes what it reads at other places")
            groups.append(_Group(kind, space, [call]))
    return groups


class _Emitter:
    """Replaces recorded calls by launches of kernels and products of cuBLAS."""

    def __init__(self, xp: Any) -> None:
        self.xp, self.cupy = xp, xp.cupy

    def emit(self, calls: list[Call], results: list[Traced]) -> list[Call]:
        groups = _group(_fold_constants(calls, results))
        last = {x.owner: i for i, group in enumerate(groups) for x in group.arrays}
        last |= {x.owner: len(groups) for x in results}
        emitted = []
        for i, group in enumerate(groups):

            def is_used_after(owner: Traced, i: int = i) -> bool:
                return owner.memory is not None or last[owner] > i

            emitted.append(self._emit(group, is_used_after))
        return emitted

    def _emit(self, group: _Group, is_used_after: Callable[[Traced], bool]) -> Call:
        (n, k), first = group.space, group.calls[0]
        if group.kind == "product":
            return Call(self._multiply, tuple(map(self._bring, first.arguments)))
        if group.kind == "take":
            return self._take(first)
        kind = "total" if group.kind == "number" else group.kind
        source, arguments = write_kernel(kind, group.space, group.calls, is_used_after)
        kernel = self.cupy.RawKernel(source, kind)
        grid, block = {
            "flat": (-(-n * k // _THREADS), (_THREADS,)),
            "rows": (-(-n * 32 // _THREADS), (_THREADS,)),
            "columns": (-(-k // 32), (32, 16)),
            "total": (1, (512 if group.kind == "total" else 1,)),
        }[kind]
        sizes = np.int32(n), np.int32(k)

        def launch(*given: Any) -> None:
            kernel((grid,), block, (*given, *sizes))

        return Call(launch, tuple(map(self._bring, arguments)))

    def _multiply(self, a: Any, b: Any, out: Any) -> None:
        if a.ndim == 1 and b.ndim == 2:  # a sum over many rows
            a, out = a.reshape(1, -1), out.reshape(1, -1)
        self.xp.matmul(a, b, out=out)

    def _take(self, call: Call) -> Call:
        x, index, out = call.arguments
        n, k = (out.shape[0], out.size // out.shape[0])
        kernel = self.cupy.RawKernel(write_take(x, index), "take")
        by_row, *by_column = (stride // x.dtype.itemsize for stride in x.memory.strides)
        sizes = np.int64(by_row), np.int64(by_column[0] if by_column else 0), np.int32(n), np.int32(k)
        grid = -(-n * k // _THREADS)

        def launch(x: Any, index: Any, out: Any) -> None:
            kernel((grid,), (_THREADS,), (x, index, out, *sizes))

        return Call(launch, (x, index, out))

    def _bring(self, x: Any) -> Any:
        """Return an argument of a launch: an array on the device, or a number."""
        if not isinstance(x, Traced):
            return x
        memory = x.owner.memory
        if isinstance(memory, np.ndarray):
            return self.cupy.asarray(x.value)
        if memory is not None and not memory.flags.c_contiguous:
            raise NotRecordable(f"data with strides {memory.strides}: expected contiguous rows")
        return x


def _fold_constants(calls: list[Call], results: list[Traced]) -> list[Call]:
    """Return the calls without those that compute the same in each step: these are computed now."""
    varying = {x.owner for call in calls for x in call.arrays if x.owner.memory is not None}
    varying = {x for x in varying if not isinstance(x.memory, np.ndarray)} | {x.owner for x in results}
    n_before = -1
    while len(varying) > n_before:
        n_before = len(varying)
        varying |= {c.out.owner for c in calls if any(x.owner in varying for x in c.arrays)}
    kept = []
    for call in calls:
        out = call.out.owner
        if out in varying:
            kept.append(call)
            continue
        if out.memory is None:
            out.memory = np.empty(out.shape, out.dtype)
        call.function(*(x.value if isinstance(x, Traced) else x for x in call.arguments))
    return kept
