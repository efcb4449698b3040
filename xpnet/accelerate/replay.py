"""A training step on NumPy as one would write it by hand: recorded once, then replayed into the same memory.

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
from xpnet.accelerate.record import Call, Recorder, Traced, assign, rows_per_piece

__all__ = ["Replay"]


class Replay:
    """`step` as `Backend.compile_step` describes it, for NumPy."""

    def __init__(self, step: Callable[..., Any], xp: Namespace) -> None:
        self.step, self.xp = step, xp
        self.plans: dict[Any, Callable[..., Any]] = {}

    def __call__(self, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> Any:
        key = tuple(map(id, data)), None if index is None else index.shape
        if key not in self.plans:
            try:
                self.plans[key] = _Plan(self.step, state, data, index, coefficients)
            except Exception:  # whatever it is, the plain step can do it, or fails in words
                self.plans[key] = partial(self.step, xp=self.xp)
        return self.plans[key](state, data, index, coefficients)


class _Plan:
    """One recording, of which theta and all other arrays of the state become part."""

    def __init__(self, step: Any, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> None:
        theta, moments, total = state
        recorder = Recorder(theta.dtype)
        self.state = [theta, *moments, total]
        self.data = data
        self.numbers = [np.array(x, theta.dtype) for x in coefficients]
        self.index = None if index is None else np.empty_like(index)
        traced = [recorder.bound(x) for x in self.state]
        theta, moments, total = step(
            (traced[0], tuple(traced[1:-1]), traced[-1]),
            tuple(recorder.bound(x) for x in data),
            None if self.index is None else recorder.bound(self.index),
            tuple(recorder.bound(x) for x in self.numbers),
            xp=recorder,
        )
        results = [theta, *moments, total]
        self.calls = _plan(recorder.calls, results)
        values = [x.value for x in results]
        self.result = values[0], tuple(values[1:-1]), values[-1]

    def __call__(self, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> Any:
        theta, moments, total = state
        for ours, given in zip(self.state, (theta, *moments, total), strict=True):
            if given is not ours:
                ours[...] = given
        if self.index is not None:
            self.index[...] = index
        for place, number in zip(self.numbers, coefficients, strict=True):
            place[()] = number
        for function, arguments in self.calls:
            function(*arguments)
        return self.result


def _plan(calls: list[Call], results: list[Traced]) -> list[tuple[Callable[..., Any], list[Any]]]:
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
    """Leave out copies into new memory of arrays that nobody needs any more: they are made there at once."""
    last = {x.owner: i for i, call in enumerate(calls) for x in call.arrays}
    last |= {x.owner: len(calls) for x in results}
    touched: set[Traced] = set()
    kept = []
    for i, call in enumerate(calls):
        source, target = call.arguments[0], call.out.owner
        if call.function is assign and isinstance(source, Traced):
            owner = source.owner
            if owner is target and owner.memory is not None and _same(source.value, call.out.value):
                continue
            new = owner.memory is target.memory is None and target not in touched
            if new and last[owner] == i and source.dtype == call.out.dtype and source.covers_owner:
                owner.parent, owner.view = call.out, partial(_reshaped, owner.shape)
                continue
        touched.update(x.owner for x in call.arrays)
        kept.append(call)
    return kept


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.__array_interface__ == b.__array_interface__


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
    if not run[0].by_row:
        return [slice(None)]
    rows = run[0].out.shape[0]
    n_pieces = round(rows / min(rows_per_piece(call.out) for call in run))
    step = math.ceil(rows / max(1, n_pieces))
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
            shape = x.shape
            if len(pieces) > 1 and x is call.out and begin <= first[x] <= last[x] < end:
                x.passing = True
                shape = (pieces[0].stop, *shape[1:])
            elif over := [
                a for a in call.arrays if a in ours and last[a] == i and _replaces(x, a, call, run)
            ]:
                x.memory = over[0].memory
                ours.remove(over[0])
                continue
            size = math.prod(shape) * x.dtype.itemsize
            memory = free[size].pop() if free.get(size) else np.empty(size, np.uint8)
            x.memory = memory.view(x.dtype).reshape(shape)
        for x in {x.owner for call in run for x in call.arrays} & ours:
            if last[x] < end:
                ours.remove(x)
                free.setdefault(x.value.nbytes, []).append(x.value.reshape(-1).view(np.uint8))


def _replaces(x: Traced, a: Traced, call: Call, run: list[Call]) -> bool:
    """Whether x can be written over a, which nobody needs after this call."""
    fits = x.shape == a.shape and x.dtype == a.dtype and not a.passing
    return fits and bool(call.by_row) and x is call.out and _row_by_row(run, a)


def _part(x: Any, by_row: bool, rows: slice) -> Any:
    if not isinstance(x, Traced):
        return x
    if not by_row or rows == slice(None):
        return x.value
    return x.value[: rows.stop - rows.start] if x.passing else x.value[rows]


def _reshaped(shape: tuple[int, ...], a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(shape, copy=False)
