"""Training steps on JAX: several in one compiled loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

from xpnet.backends.accelerate.pieces import PieceNamespace, Pieces, find_sizes
from xpnet.backends.backend import Backend, Steps

__all__ = ["ScannedStep"]


class ScannedStep:
    """A training step as `Backend.compile_step` describes it, which takes several steps in one call.

    On the CPU the loop holds the vectors of the state as `Pieces`.
    """

    def __init__(self, step: Callable[..., Any], backend: Backend) -> None:
        self.step, self.backend = step, backend
        self.steps: Steps | None = None
        self.loops: dict[Any, Callable[..., Any]] = {}

    def __call__(self, state: Any, data: Any, steps: Steps, first: int, last: int) -> Any:
        if steps is not self.steps:
            self.steps, self.table = steps, self.backend.asarray(steps.coefficients)
        shape = last - first, steps.count_rows(first), steps.batch_size
        if shape not in self.loops:
            self.loops[shape] = self.backend.compile(partial(self._loop, *shape), donate=(0,))
        return self.loops[shape](state, data, steps.rows, self.table, first)

    def _loop(
        self,
        n_steps: int,
        size: int,
        batch_size: int,
        state: Any,
        data: Any,
        rows: Any,
        table: Any,
        first: Any,
    ) -> Any:
        """Return the state after `n_steps` steps with batches of `size` rows, from step `first` on."""
        from jax import lax
        from jax.tree import map as tree_map

        xp: Any = self.backend.xp
        lines = lax.dynamic_slice_in_dim(table, first, n_steps)
        batches = None
        if rows is not None:
            batches = lax.dynamic_slice_in_dim(rows, first * batch_size, n_steps * size)
            batches = xp.reshape(batches, (n_steps, size))

        def step(state: Any, batch: Any, line: Any, *, xp: Any) -> Any:
            return self.step(state, data, batch, tuple(line[j] for j in range(line.shape[0])), xp=xp)

        theta, moments, total = state
        sizes = [theta.shape[0]]
        if not self.backend.is_on_gpu:
            first_batch = None if batches is None else batches[0, :]
            sizes = find_sizes(partial(step, state, first_batch, lines[0, :]), theta.shape[0], xp)
        namespace = PieceNamespace(xp, sizes)

        def split(x: Any) -> list[Any]:
            return Pieces.cut(x, sizes, xp).parts

        def body(carry: Any, line: Any) -> Any:
            theta, moments, total = carry
            wrapped = Pieces(theta, xp), tuple(Pieces(m, xp) for m in moments), total
            new_theta, new_moments, new_total = step(wrapped, *line, xp=namespace)
            new = split(new_theta), [split(m) for m in new_moments], new_total
            return tree_map(lambda x, old: xp.astype(x, old.dtype), new, carry), None

        carry = split(theta), [split(m) for m in moments], total
        (theta, moments, total), _ = lax.scan(body, carry, (batches, lines))
        return xp.concat(theta), tuple(xp.concat(m) for m in moments), total
