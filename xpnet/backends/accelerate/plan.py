"""A training step on NumPy as one would write it by hand: recorded once, then repeated in the same memory.

What a plain step spends beside its arithmetic falls away: Python between the calls, memory that is asked for
and page-faulted in anew at each step, the copy that joins the gradient. Elementwise calls that follow each
other go through their arrays in pieces that stay in the cache.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Namespace
from xpnet.backends.accelerate.record import Call, Recorder, Traced, assign, join, rows_per_piece

__all__ = ["record_step"]

_LINE = 64  # bytes in a line of the cache


def record_step(
    step: Callable[..., Any], state: Any, data: Any, index: Any, coefficients: Any, *, xp: Namespace
) -> tuple[Any, Callable[[], None]]:
    """Return the state after the step, and the step itself. See `Replay`."""
    theta, moments, total = state
    recorder = Recorder(theta.dtype)
    bound = recorder.bound
    new_theta, new_moments, new_total = step(
        (bound(theta), tuple(map(bound, moments)), bound(total)),
        tuple(map(bound, data)),
        None if index is None else bound(index),
        tuple(map(recorder.number, coefficients)),
        xp=recorder,
    )
    if len(new_moments) != len(moments):
        raise ValueError(f"expected {len(moments)} moments as before the step, got {len(new_moments)}")
    calls = _with_memory(recorder.calls, [new_theta, *new_moments, new_total])

    def again() -> None:
        for function, arguments in calls:
            function(*arguments)

    return (new_theta.value, tuple(m.value for m in new_moments), new_total.value), again


def _memory(n_bytes: int) -> NDArray[np.uint8]:
    """Return new memory at the beginning of a cache line: elsewhere each wide load takes two of them."""
    memory = np.empty(n_bytes + _LINE, np.uint8)
    at = -memory.ctypes.data % _LINE
    return memory[at : at + n_bytes]


def _with_memory(calls: list[Call], results: list[Traced]) -> list[tuple[Callable[..., Any], list[Any]]]:
    """Give every array its memory, and return the calls as (function, arguments)."""
    runs = _runs(_without_copies(calls, results))
    _give_memory(runs, {x.owner for x in results})
    return [
        (call.function, [_part(x, i in call.by_row, piece) for i, x in enumerate(call.arguments)])
        for run in runs
        for piece in _pieces(run)
        for call in run
    ]


def _without_copies(calls: list[Call], results: list[Traced]) -> list[Call]:
    """Leave out the copies of arrays that are joined and then not needed any more: they are made in place."""
    last = {x.owner: i for i, call in enumerate(calls) for x in call.arrays}
    last |= {x.owner: len(calls) for x in results}
    kept = []
    for i, call in enumerate(calls):
        x = call.arguments[0]
        if call.function is join and x.owner.memory is None and last[x.owner] == i and x.covers_owner:
            owner = x.owner
            owner.parent, owner.view = call.out, partial(_reshaped, owner.shape)
        elif not (call.function is assign and _is_there(x, call.out)):
            kept.append(call)
    return kept


def _is_there(x: Any, out: Traced) -> bool:
    """Whether x is the very part of an array that it is to be written into."""
    bound = isinstance(x, Traced) and x.owner is out.owner and out.owner.memory is not None
    return bound and x.value.__array_interface__ == out.value.__array_interface__


def _runs(calls: list[Call]) -> list[list[Call]]:
    """Cut into runs of elementwise calls that can go through their rows together, and single other calls."""
    runs: list[list[Call]] = []
    for call in calls:
        if runs and _go_together([*runs[-1], call]):
            runs[-1].append(call)
        else:
            runs.append([call])
    return runs


def _go_together(calls: list[Call]) -> bool:
    rows = {call.out.shape[:1] for call in calls}
    written = {call.out for call in calls}
    return len(rows) == 1 and all(c.by_row for c in calls) and all(_row_by_row(calls, x) for x in written)


def _row_by_row(calls: list[Call], x: Traced) -> bool:
    """Whether no call needs more of x than the row that it is at."""
    return all(
        y is x and i in call.by_row
        for call in calls
        for i, y in enumerate(call.arguments)
        if isinstance(y, Traced) and y.owner is x.owner
    )


def _pieces(run: list[Call]) -> list[slice]:
    """Return the rows that the calls go through at once: pieces of about the same size, or all."""
    if not _go_together(run):
        return [slice(None)]
    rows = run[0].out.shape[0]
    n_pieces = round(rows / min(rows_per_piece(call.out) for call in run))
    in_lines = _LINE // math.gcd(_LINE, run[0].out.size // rows * run[0].out.dtype.itemsize)
    step = in_lines * math.ceil(rows / max(1, n_pieces) / in_lines)
    return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]


def _give_memory(runs: list[list[Call]], needed: set[Traced]) -> None:
    """Give memory to each array that has none: if it can be, that of one that nobody needs any more."""
    numbered = list(enumerate(call for run in runs for call in run))
    last = {x.owner: i for i, call in numbered for x in call.arrays} | dict.fromkeys(needed, len(numbered))
    first = {x.owner: i for i, call in reversed(numbered) for x in call.arrays}
    free: dict[int, list[NDArray[Any]]] = {}
    ours: set[Traced] = set()
    end = 0
    for run in runs:
        begin, end = end, end + len(run)
        pieces = _pieces(run)
        for i, call in enumerate(run, begin):
            x = call.out.owner
            if x.memory is not None:
                continue
            ours.add(x)
            x.passing = len(pieces) > 1 and x is call.out and begin <= first[x] <= last[x] < end
            over = [a for a in call.arrays if a in ours and last[a] == i and _replaces(x, a, call, run)]
            if over:
                x.memory = over[0].memory
                ours.remove(over[0])
                continue
            shape = (pieces[0].stop, *x.shape[1:]) if x.passing else x.shape
            size = math.prod(shape) * x.dtype.itemsize
            memory = free[size].pop() if free.get(size) else _memory(size)
            x.memory = memory.view(x.dtype).reshape(shape)
        for x in {x.owner for call in run for x in call.arrays} & ours:
            if last[x] < end:
                ours.remove(x)
                free.setdefault(x.value.nbytes, []).append(x.value.reshape(-1).view(np.uint8))


def _replaces(x: Traced, a: Traced, call: Call, run: list[Call]) -> bool:
    """Whether x can be written over a, which nobody needs after this call."""
    fits = x.shape == a.shape and x.dtype == a.dtype and x.passing == a.passing
    return fits and bool(call.by_row) and x is call.out and _row_by_row(run, a)


def _part(x: Any, by_row: bool, rows: slice) -> Any:
    if not isinstance(x, Traced):
        return x
    if not by_row or rows == slice(None):
        return x.value
    return x.value[: rows.stop - rows.start] if x.passing else x.value[rows]


def _reshaped(shape: tuple[int, ...], a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(shape, copy=False)
