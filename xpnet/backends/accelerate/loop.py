"""Training steps on JAX: several in one compiled loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

from xpnet.backends.accelerate.pieces import PieceNamespace, Pieces, find_sizes
from xpnet.backends.backend import Backend, Steps

__all__ = ["CompiledLoop"]


class CompiledLoop:
    """A training step as `Backend.compile_step` describes it, which takes several steps in one call.

    It is compiled once for each size of a batch. On the CPU the loop holds the vectors of the state as
    `Pieces`.
    """

    def __init__(self, step: Callable[..., Any], backend: Backend) -> None:
        self.step, self.backend = step, backend
        self.steps: Steps | None = None
        self.loops: dict[Any, Callable[..., Any]] = {}

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        if steps is not self.steps:
            self.steps, self.table = steps, self.backend.asarray(steps.coefficients)
        size = steps.count_rows(first), steps.batch_size
        if size not in self.loops:
            self.loops[size] = self.backend.compile(partial(self._loop, *size), donate=(0,))
        return self.loops[size](state, data, steps.rows, self.table, first, last)

    def _loop(
        self, size: int, batch_size: int, state: Any, data: Any, rows: Any, table: Any, first: Any, last: Any
    ) -> Any:
        """Return the state after the steps `first` to `last` - 1, with batches of `size` rows."""
        from jax import lax
        from jax.tree import map as tree_map

        xp: Any = self.backend.xp

        def step(i: Any, state: Any, xp: Any) -> Any:
            index = None if rows is None else lax.dynamic_slice_in_dim(rows, i * batch_size, size)
            coefficients = tuple(table[i, j] for j in range(table.shape[1]))
            return self.step(state, data, index, coefficients, xp=xp)

        theta, moments, total = state
        sizes = [theta.shape[0]]
        if not self.backend.is_on_gpu:
            sizes = find_sizes(partial(step, first, state), theta.shape[0], xp)
        namespace = PieceNamespace(xp, sizes)

        def split(x: Any) -> list[Any]:
            return Pieces.cut(x, sizes, xp).parts

        def body(i: Any, carry: Any) -> Any:
            theta, moments, total = carry
            pieces = Pieces(theta, xp), tuple(Pieces(m, xp) for m in moments), total
            theta, moments, total = step(i, pieces, namespace)
            new = split(theta), [split(m) for m in moments], total
            return tree_map(lambda x, old: xp.astype(x, old.dtype), new, carry)

        carry = split(theta), [split(m) for m in moments], total
        theta, moments, total = lax.fori_loop(first, last, body, carry)
        return xp.concat(theta), tuple(xp.concat(m) for m in moments), total
