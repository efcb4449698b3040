"""Losses, each combined with its output activation.

For the canonical pairs (McCullagh and Nelder, Generalized Linear Models, 1989) the gradient with respect to
the last layer's z is `prediction - Y`. Combining the two also avoids overflow: the exponentials cancel.

Every loss takes z (n, K), the targets Y and `weight`, the weight of each row: a float (1/n for the mean over
rows) or an array (n, 1). It returns the 0-d loss, Σ_rows weight · loss_row, and its gradient dz (n, K). All
but Poisson's are finite for |z| up to 1e4 in float32. A `Loss` pairs it with `predict`, which maps z to the
prediction.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from xpnet._typing import Array, Namespace
from xpnet.maths.ops import identity, logistic

__all__ = ["LOSSES", "Loss", "quantile"]


def softmax(z: Array, *, xp: Namespace) -> Array:
    """Return the probabilities p_k = e^z_k / Σ_j e^z_j, shape (n, K)."""
    p = xp.exp(z - xp.max(z, axis=1, keepdims=True))
    p /= xp.sum(p, axis=1, keepdims=True)
    return p


def softmax_cross_entropy(
    z: Array,
    Y: Array,
    weight: Array | float,
    *,
    xp: Namespace,
    label_smoothing: float = 0.0,
    ceiling: float | None = None,
) -> tuple[Array, Array]:
    """loss_row = -Σ_k Y_k log p_k,  dz = p - Y,  with p = softmax(z).

    Args:
        Y: (n, K) rows that sum to 1 (one-hot or soft labels), or (n,) integer class indices.
        label_smoothing: s replaces Y by (1 - s) Y + s / K (Szegedy et al. 2016).
        ceiling: each row's loss is capped at this value. The gradient is not affected.
    """
    if Y.ndim == 1:
        # 0 ... K-1 is derived from z because JAX arrays have no device while they are traced. It is exact
        # up to 2**24 classes.
        classes = xp.cumulative_sum(xp.ones_like(z[:1, :]), axis=1) - 1.0
        Y = xp.astype(xp.astype(xp.reshape(Y, (-1, 1)), z.dtype) == classes, z.dtype)
    if label_smoothing:
        Y = (1.0 - label_smoothing) * Y + label_smoothing / z.shape[1]
    z = z - xp.max(z, axis=1, keepdims=True)
    p = xp.exp(z)
    total = xp.sum(p, axis=1, keepdims=True)
    # -Σ_k Y_k log p_k = log Σ_j e^z_j - Σ_k Y_k z_k, since each row of Y sums to 1.
    loss_rows = xp.log(total) - xp.sum(Y * z, axis=1, keepdims=True)
    if ceiling is not None:
        loss_rows = xp.minimum(loss_rows, ceiling)
    p /= total
    p -= Y
    p *= weight
    return xp.sum(loss_rows * weight), p


def logistic_cross_entropy(
    z: Array, Y: Array, weight: Array | float, *, xp: Namespace
) -> tuple[Array, Array]:
    """loss_row = -Σ_k [Y_k log p_k + (1 - Y_k) log(1 - p_k)],  dz = p - Y,  with p = logistic(z).

    Y is (n, K) with entries from 0 to 1. K = 1 is binary classification, K > 1 one-vs-all or multi-label.
    """
    # In terms of z: max(z, 0) - Y z + log(1 + e^-|z|).
    loss_rows = xp.sum(xp.maximum(z, 0.0) - Y * z + xp.log1p(xp.exp(-xp.abs(z))), axis=1, keepdims=True)
    dz = logistic(z, xp=xp)
    dz -= Y
    dz *= weight
    return xp.sum(loss_rows * weight), dz


def squared_error(z: Array, Y: Array, weight: Array | float, *, xp: Namespace) -> tuple[Array, Array]:
    """loss_row = ½ Σ_k (z_k - Y_k)²,  dz = z - Y,  with real Y (n, K)."""
    dz = z - Y
    loss = 0.5 * xp.sum(xp.sum(dz * dz, axis=1, keepdims=True) * weight)
    dz *= weight
    return loss, dz


def huber(z: Array, Y: Array, weight: Array | float, *, xp: Namespace) -> tuple[Array, Array]:
    """loss_row = Σ_k ½ r_k² where |r_k| <= 1, else |r_k| - ½,  dz = r clipped to [-1, 1],  with r = z - Y.

    Huber 1964, with δ = 1, the default of PyTorch and Keras.
    """
    dz = z - Y
    size = xp.abs(dz)
    inside = xp.minimum(size, 1.0)
    loss_rows = xp.sum(inside * (size - 0.5 * inside), axis=1, keepdims=True)
    dz = xp.maximum(xp.minimum(dz, 1.0), -1.0)
    dz *= weight
    return xp.sum(loss_rows * weight), dz


def absolute_error(z: Array, Y: Array, weight: Array | float, *, xp: Namespace) -> tuple[Array, Array]:
    """loss_row = Σ_k |z_k - Y_k|,  dz = sign(z - Y). It is minimized by the conditional median."""
    loss, dz = pinball(z, Y, weight, q=0.5, xp=xp)
    return 2.0 * loss, 2.0 * dz


def pinball(z: Array, Y: Array, weight: Array | float, *, q: float, xp: Namespace) -> tuple[Array, Array]:
    """loss_row = Σ_k q max(Y_k - z_k, 0) + (1 - q) max(z_k - Y_k, 0),  dz = (1 - q) [z > Y] - q [z < Y].

    It is minimized by the conditional q-quantile (Koenker and Bassett 1978).
    """
    over, under = xp.maximum(z - Y, 0.0), xp.maximum(Y - z, 0.0)
    loss = xp.sum(xp.sum((1.0 - q) * over + q * under, axis=1, keepdims=True) * weight)
    dz = (1.0 - q) * xp.astype(over > 0.0, z.dtype) - q * xp.astype(under > 0.0, z.dtype)
    dz *= weight
    return loss, dz


def exponential_mean(z: Array, *, xp: Namespace) -> Array:
    """Return the Poisson mean e^z."""
    return xp.exp(z)


def poisson(z: Array, Y: Array, weight: Array | float, *, xp: Namespace) -> tuple[Array, Array]:
    """loss_row = Σ_k [μ_k - Y_k z_k + Y_k log Y_k - Y_k],  dz = μ - Y,  with μ = e^z and Y (n, K) >= 0.

    This is half the deviance, 0 for a perfect prediction. It is infinite where e^z overflows: beyond z = 88
    in float32, 709 in float64.
    """
    mean = xp.exp(z)
    saturated = Y * xp.log(xp.maximum(Y, 1e-30)) - Y
    loss_rows = xp.sum(mean - Y * z + saturated, axis=1, keepdims=True)
    dz = mean - Y
    dz *= weight
    return xp.sum(loss_rows * weight), dz


class Loss(NamedTuple):
    """A loss with its gradient, and the function that maps z (n, K) to the prediction (n, K)."""

    loss_and_grad: Callable[..., tuple[Array, Array]]
    predict: Callable[..., Array]
    classifies: bool


LOSSES = {
    "softmax_cross_entropy": Loss(softmax_cross_entropy, softmax, classifies=True),
    "logistic_cross_entropy": Loss(logistic_cross_entropy, logistic, classifies=True),
    "squared_error": Loss(squared_error, identity, classifies=False),
    "huber": Loss(huber, identity, classifies=False),
    "absolute_error": Loss(absolute_error, identity, classifies=False),
    "poisson": Loss(poisson, exponential_mean, classifies=False),
}


@lru_cache  # the same object for the same q
def quantile(q: float) -> Loss:
    """Return the loss that is minimized by the conditional q-quantile, 0 < q < 1."""
    return Loss(partial(pinball, q=q), identity, classifies=False)
