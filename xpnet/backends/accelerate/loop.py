"""Training steps on JAX: several in one compiled loop."""

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import numpy as np

from xpnet.backends.accelerate.pieces import PieceNamespace, Pieces, find_sizes
from xpnet.backends.backend import Backend, Steps

__all__ = ["CompiledLoop"]


class CompiledLoop:
    """A training step as `Backend.compile_step` describes it, which takes several steps in one call.

    It is compiled once for each number of rows of the data and size of a batch, and not again for an equal
    step of a later training. The state that is given stays valid: should a call be interrupted, nothing is
    lost.
    """

    def __init__(self, step: Callable[..., Any], backend: Backend) -> None:
        self.step, self.backend = step, backend
        self.steps: Steps | None = None
        self.loops: dict[Any, Callable[..., Any]] = {}
        if getattr(step, "is_known", False):
            with suppress(TypeError):  # a setting that is an array has no hash
                self.loops = _share_loops(step, backend)

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        if steps is not self.steps:
            self._load(steps, data[0].shape[0])
        size = steps.count_rows(first), steps.batch_size
        if size not in self.loops:
            self.loops[size] = self.backend.compile(partial(_take_steps, self.step, self.backend, *size))
        return self.loops[size](state, data, self.rows, self.table, first, last)

    def _load(self, steps: Steps, n: int) -> None:
        """Bring rows and coefficients to the lengths that they have at most: others are compiled anew."""
        table = np.zeros((-(-n // steps.batch_size), steps.coefficients.shape[1]))
        table[: len(steps.coefficients)] = steps.coefficients
        self.steps, self.table, self.rows = steps, self.backend.asarray(table), steps.rows
        if steps.rows is not None and (missing := n - steps.rows.shape[0]):
            self.rows = self.backend.asarray(np.pad(self.backend.to_numpy(steps.rows), (0, missing)))


@lru_cache(maxsize=64)
def _share_loops(step: Callable[..., Any], backend: Backend) -> dict[Any, Callable[..., Any]]:
    return {}


def _take_steps(
    step: Callable[..., Any],
    backend: Backend,
    size: int,
    batch_size: int,
    state: Any,
    data: Any,
    rows: Any,
    table: Any,
    first: Any,
    last: Any,
) -> Any:
    """Return the state after the steps `first` to `last` - 1, with batches of `size` rows.

    On the CPU the loop holds the vectors of the state as `Pieces`, if the step allows it.
    """
    from jax import eval_shape, lax

    xp: Any = backend.xp

    def at(i: Any, state: Any, xp: Any) -> Any:
        index = None if rows is None else lax.dynamic_slice_in_dim(rows, i * batch_size, size)
        coefficients = tuple(table[i, j] for j in range(table.shape[1]))
        return step(state, data, index, coefficients, xp=xp)

    def take_step(i: Any, state: Any) -> Any:
        return _cast_like(state, at(i, state, xp), xp)

    theta, moments, _ = state
    if backend.is_on_gpu:
        return lax.fori_loop(first, last, take_step, state)
    sizes = find_sizes(partial(at, first, state), theta.shape[0], xp)
    namespace = PieceNamespace(xp, sizes)

    def split(state: Any) -> Any:
        theta, moments, total = state
        return Pieces.cut(theta, sizes).parts, [Pieces.cut(m, sizes).parts for m in moments], total

    def take_step_in_pieces(i: Any, parts: Any) -> Any:
        theta, moments, total = parts
        state = Pieces(theta), tuple(map(Pieces, moments)), total
        return _cast_like(parts, split(at(i, state, namespace)), xp)

    parts = split(state)
    try:
        eval_shape(take_step_in_pieces, first, parts)
    except Exception:  # the user's code may do anything with theta
        return lax.fori_loop(first, last, take_step, state)
    theta, moments, total = lax.fori_loop(first, last, take_step_in_pieces, parts)
    return xp.concat(theta), tuple(xp.concat(m) for m in moments), total


def _cast_like(old: Any, new: Any, xp: Any) -> Any:
    """Return the new state in the dtypes of the old one, which a compiled loop requires."""
    from jax.tree import map as tree_map

    return tree_map(lambda a, b: xp.astype(b, a.dtype), old, new)
