"""A training step: the gradient of a batch, and the optimizer's update."""

from dataclasses import dataclass
from functools import partial

from xpnet._typing import Array, Namespace
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import Coefficients, Moments, Optimizer, clip_by_norm, update_in_blocks

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """A training step, a fixed sequence of array operations. See `Backend.compile_step`.

    Attributes:
        clip_norm: maximum Euclidean norm of the gradient, or None.
        block: as in `update_in_blocks`.
    """

    mlp: MLP
    optimizer: Optimizer
    clip_norm: float | None
    block: int | None

    def __call__(
        self,
        state: tuple[Array, Moments, Array],
        data: tuple[Array, ...],
        index: Array | None,
        coefficients: Coefficients,
        *,
        xp: Namespace,
    ) -> tuple[Array, Moments, Array]:
        theta, moments, total = state
        rows = data if index is None else tuple(xp.take(array, index, axis=0) for array in data)
        loss, g = self.mlp.loss_and_grad(theta, *rows, xp=xp)
        theta, moments = self.update(theta, moments, g, coefficients, xp=xp)
        total += loss * rows[0].shape[0]
        return theta, moments, total

    def update(
        self, theta: Array, moments: Moments, g: Array, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        """Return (theta, moments) after the update with the gradient g. May overwrite all of them."""
        if self.clip_norm is not None:
            g = clip_by_norm(g, self.clip_norm, xp=xp)
        return update_in_blocks(self.optimizer, theta, g, moments, coefficients, block=self.block, xp=xp)

    @property
    def is_known(self) -> bool:
        """Whether an equal step does the same. One with the user's own code may have changed since."""
        loss = self.mlp.criterion.loss_and_grad
        while isinstance(loss, partial):
            loss = loss.func
        code = type(self.optimizer).__module__, loss.__module__
        return all(str(module).startswith("xpnet.") for module in code)
