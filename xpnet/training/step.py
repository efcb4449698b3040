"""A training step: the gradient of a batch, and the optimizer's update."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from xpnet._typing import Array, Namespace
from xpnet.backends import Backend
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import Coefficients, Moments, Optimizer, clip_by_norm, update_in_blocks

__all__ = ["Step", "compile_gradient", "compile_update"]


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
        return _is_known(self.mlp) and _is_ours(self.optimizer)


def compile_gradient(mlp: MLP, backend: Backend) -> Callable[..., tuple[Array, Array]]:
    """Return `mlp.sum_loss_and_grad` as a function (theta, X, Y, share, l2), compiled.

    That of an equal network, if there was one, is not compiled again.
    """
    compiled: Callable[..., Any] = _share(_compile_gradient, mlp, backend, is_known=_is_known(mlp))
    return compiled


def compile_update(step: Step, backend: Backend) -> Callable[..., tuple[Array, Moments]]:
    """Return `step.update` as a function (theta, moments, g, coefficients), compiled likewise."""
    compiled: Callable[..., Any] = _share(_compile_update, step, backend, is_known=step.is_known)
    return compiled


@lru_cache(maxsize=64)
def _compile_gradient(mlp: MLP, backend: Backend) -> Callable[..., tuple[Array, Array]]:
    return backend.compile(partial(mlp.sum_loss_and_grad, xp=backend.xp))


@lru_cache(maxsize=64)
def _compile_update(step: Step, backend: Backend) -> Callable[..., tuple[Array, Moments]]:
    return backend.compile(partial(step.update, xp=backend.xp))


def _share(compile_it: Any, what: object, backend: Backend, *, is_known: bool) -> Any:
    """Return `compile_it(what, backend)`, that of an earlier call if it is known to do the same."""
    if is_known:
        with suppress(TypeError):  # a setting that is an array has no hash
            return compile_it(what, backend)
    return compile_it.__wrapped__(what, backend)


def _is_known(mlp: MLP) -> bool:
    if type(mlp) is not MLP:
        return False
    loss = mlp.criterion.loss_and_grad
    while isinstance(loss, partial):
        loss = loss.func
    return _is_ours(loss)


def _is_ours(x: object) -> bool:
    return str(getattr(x, "__module__", "")).startswith("xpnet.")
