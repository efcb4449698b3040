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
        values = [_value(x) for x in results]
        self.result = values[0], tuple(values[1:-1]), values[-1]

    def __call__(self, state: Any, data: Any, index: Any, coefficients: tuple[float, ...]) -> Any:
        theta, moments, total = state
        for ours, given in zip(self.state, (theta, *moments, total), strict=True):
            if given is not ours:
                ours[...] = given
        if index is not None:
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
            if owner is target and owner.value is not None and _same(_value(source), _value(call.out)):
                continue
            new = owner.value is target.value is None and target not in touched
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
    if len({call.out.shape[:1] for call in calls}) > 1 or not all(c.elementwise and c.by_row for c in calls):
        return False
    # What one of them writes all must read in the same way, row by row.
    written = {call.out.owner: call.out for call in calls}
    return all(
        written.get(x.owner, x) is x and (i in call.by_row or x.owner not in written)
        for call in calls
        for i, x in enumerate(call.arguments)
        if isinstance(x, Traced)
    )


def _pieces(run: list[Call]) -> list[slice | None]:
    if not (run[0].elementwise and run[0].by_row):
        return [None]
    rows, step = run[0].out.shape[0], min(rows_per_piece(call.out) for call in run)
    if rows <= step:
        return [None]
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
        piece = _pieces(run)[0]
        for i, call in enumerate(run, begin):
            x = call.out.owner
            if x.value is None:
                ours.add(x)
                dying = [a for a in call.arrays if a in ours and last[a] == i and a.shape == x.shape]
                shape = x.shape
                if piece is not None and call.out is x and begin <= first[x] <= last[x] < end:
                    x.passing = True
                    shape = (piece.stop, *shape[1:])
                elif call.elementwise and dying and dying[0].dtype == x.dtype and not dying[0].passing:
                    x.value = dying[0].value
                    ours.remove(dying[0])
                    continue
                size = math.prod(shape) * x.dtype.itemsize
                memory = free[size].pop() if free.get(size) else np.empty(size, np.uint8)
                x.value = memory.view(x.dtype).reshape(shape)
        for x in {x.owner for call in run for x in call.arrays} & ours:
            if last[x] < end:
                ours.remove(x)
                free.setdefault(x.value.nbytes, []).append(x.value.reshape(-1).view(np.uint8))


def _part(x: Any, by_row: bool, piece: slice | None) -> Any:
    if not isinstance(x, Traced):
        return x
    value = _value(x)
    if piece is None or not by_row:
        return value
    return value[: piece.stop - piece.start] if x.passing else value[piece]


def _value(x: Traced) -> NDArray[Any]:
    if x.value is None:
        x.value = x.view(_value(x.parent))
    return x.value


def _reshaped(shape: tuple[int, ...], a: NDArray[Any]) -> NDArray[Any]:
    return a.reshape(shape, copy=False)
