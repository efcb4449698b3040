"""A training step on NumPy, recorded once and repeated in the same memory, as one would write it by hand.

This saves what a step as written spends beside its arithmetic: the Python code between the calls, memory that
is allocated and page-faulted in anew at each step, and the copies that join the gradient.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Namespace
from xpnet.backends.accelerate.record import Call, join, trace_step
from xpnet.backends.accelerate.traced import Traced, reshape

__all__ = ["prepare", "record_step"]

_CACHE_LINE = 64  # bytes


def record_step(
    step: Callable[..., Any],
    state: Any,
    data: Any,
    index: Any,
    coefficients: Any,
    *,
    xp: Namespace,
    bind: Callable[..., tuple[Callable[..., Any], Sequence[Any]]] | None = None,
) -> tuple[list[Any], Callable[[], tuple[Any, Callable[[], None]]]]:
    """Return (what the step does, how to prepare it), as `Replay` expects of `fix`.

    Args:
        bind: as in `prepare`.
    """
    calls, new_state = trace_step(step, state, data, index, coefficients)
    theta, moments, total = new_state
    results = tuple(x.description for x in (theta, *moments, total))
    description = [*(call.description for call in calls), results]
    return description, partial(prepare, calls, new_state, bind=bind)


def prepare(
    calls: list[Call],
    new_state: Any,
    *,
    emit: Callable[[list[Call], list[Traced]], list[Call]] | None = None,
    new_memory: Callable[[int], Any] | None = None,
    bind: Callable[..., tuple[Callable[..., Any], Sequence[Any]]] | None = None,
) -> tuple[Any, Callable[[], None]]:
    """Return the state after the step, and the function that runs the step.

    Args:
        emit: (calls, results) -> calls of another library, which take their place.
        new_memory: (number of bytes) -> a new array of bytes.
        bind: called with the function of each call and its arguments, the last of which is the array that it
            writes into. Returns (function, arguments) that do the same. None changes nothing.
    """
    theta, moments, total = new_state
    results = [theta, *moments, total]
    calls = _remove_copies(calls, results)
    if emit is not None:
        calls = emit(calls, results)
    _allocate(calls, results, new_memory or _new_memory)
    ready: list[tuple[Callable[..., Any], Sequence[Any]]] = []
    for call in calls:
        arguments = [x.value if isinstance(x, Traced) else x for x in call.arguments]
        ready.append((call.function, arguments) if bind is None else bind(call.function, *arguments))

    def run() -> None:
        for function, arguments in ready:
            function(*arguments)

    return (theta.value, tuple(m.value for m in moments), total.value), run


def _find_last_uses(calls: list[Call], results: Iterable[Traced]) -> dict[Traced, int]:
    """Return the index of the last call that uses each array. Results are used after all calls."""
    last = {x.owner: i for i, call in enumerate(calls) for x in call.arrays}
    return last | {x.owner: len(calls) for x in results}


def _remove_copies(calls: list[Call], results: Iterable[Traced]) -> list[Call]:
    """Return the calls without copies of arrays that are joined and not used again: these become views."""
    last = _find_last_uses(calls, results)
    kept = []
    for i, call in enumerate(calls):
        x = call.arguments[0]
        if call.function is join and x.is_whole and x.owner.memory is None and last[x.owner] == i:
            owner = x.owner
            owner.base, owner.view = call.out, (reshape, owner.shape)
        else:
            kept.append(call)
    return kept


def _allocate(calls: list[Call], results: Iterable[Traced], new_memory: Callable[[int], Any]) -> None:
    """Give each new array memory: that of an array of its size that is not used again, or else new memory."""
    last = _find_last_uses(calls, results)
    free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)
    ours: set[Traced] = set()

    def release(arrays: Iterable[Traced]) -> None:
        for a in arrays:
            memory: Any = a.memory
            free[memory.nbytes].append(memory.reshape(-1).view(np.uint8))
            ours.remove(a)

    for i, call in enumerate(calls):
        # An elementwise function reads an element before it writes it, so it may write over its argument.
        if isinstance(call.function, np.ufunc):
            x = call.out.owner
            release(
                {a for a in call.arrays if a in ours and a is not x and last[a] == i and a.shape == x.shape}
            )
        for x in dict.fromkeys(a.owner for a in call.arrays if a.owner.memory is None):
            n_bytes = x.size * x.dtype.itemsize
            memory = free[n_bytes].pop() if free[n_bytes] else new_memory(n_bytes)
            x.memory = memory.view(x.dtype).reshape(x.shape)
            ours.add(x)
        release({a.owner for a in call.arrays if a.owner in ours and last[a.owner] == i})


def _new_memory(n_bytes: int) -> NDArray[np.uint8]:
    """Return memory that starts at a cache line: elsewhere each wide load reads two lines."""
    memory = np.empty(n_bytes + _CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % _CACHE_LINE
    return memory[start : start + n_bytes]
