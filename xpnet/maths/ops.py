"""The layer of a multilayer perceptron: the affine map and the activations, each followed by its backward.

Every activation maps z to h elementwise. Its backward takes the *output* h and dh, the gradient of the loss
with respect to h, and returns dz = dh · h'(z). h' is written in terms of h, so that z need not be stored.

A function may overwrite and return its arguments z and dh. It does not modify the other arguments.
"""

from collections.abc import Callable
from typing import NamedTuple

from xpnet._typing import Array, Namespace

__all__ = ["ACTIVATIONS", "Activation", "affine", "affine_backward"]


def affine(h: Array, W: Array, b: Array, *, xp: Namespace) -> Array:
    """z = h W + b, with h (n, fan_in), W (fan_in, fan_out), b (fan_out,)."""
    z = xp.matmul(h, W)
    z += b
    return z


def affine_backward(
    h: Array, W: Array, dz: Array, *, xp: Namespace, need_dh: bool
) -> tuple[Array, Array, Array | None]:
    """dW = hᵀ dz,  db = Σ_rows dz,  dh = dz Wᵀ (None unless `need_dh`: the first layer needs none)."""
    dW = xp.matmul(h.T, dz)
    db = xp.sum(dz, axis=0)
    dh = xp.matmul(dz, W.T) if need_dh else None
    return dW, db, dh


def identity(z: Array, *, xp: Namespace) -> Array:
    """h = z."""
    return z


def identity_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh."""
    return dh


def logistic(z: Array, *, xp: Namespace) -> Array:
    """h = 1 / (1 + e⁻ᶻ) = eᶻ / (1 + eᶻ). The exponent is capped at 80, where h is 1, to avoid overflow."""
    h = xp.exp(xp.minimum(z, 80.0))
    h /= h + 1.0
    return h


def logistic_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · h (1 - h)."""
    dh *= h
    dh *= 1.0 - h
    return dh


def tanh(z: Array, *, xp: Namespace) -> Array:
    """h = tanh z."""
    return xp.tanh(z)


def tanh_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · (1 - h²)."""
    dh *= 1.0 - h * h
    return dh


def relu(z: Array, *, xp: Namespace) -> Array:
    """h = max(z, 0)."""
    return xp.maximum(z, 0.0)


def relu_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · [h > 0], with 0 at z = 0."""
    # A product with the mask: `where` is ten times as slow on NumPy, because of mispredicted branches.
    dh *= xp.astype(h > 0.0, dh.dtype)
    return dh


def leaky_relu(z: Array, *, xp: Namespace) -> Array:
    """h = max(z, 0.01 z) (Maas, Hannun and Ng 2013)."""
    return xp.maximum(z, 0.01 * z)


def leaky_relu_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · (0.99 [h > 0] + 0.01)."""
    slope = xp.astype(h > 0.0, dh.dtype)
    slope *= 0.99
    slope += 0.01
    dh *= slope
    return dh


def elu(z: Array, *, xp: Namespace) -> Array:
    """h = max(z, 0) + e^min(z, 0) - 1 (Clevert, Unterthiner and Hochreiter 2016, α = 1)."""
    return xp.maximum(z, 0.0) + xp.expm1(xp.minimum(z, 0.0))


def elu_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · (1 + min(h, 0)), since eᶻ = 1 + h where z < 0."""
    dh *= 1.0 + xp.minimum(h, 0.0)
    return dh


def softplus(z: Array, *, xp: Namespace) -> Array:
    """h = log(1 + eᶻ), computed as max(z, 0) + log(1 + e^-|z|) to avoid overflow."""
    return xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))


def softplus_backward(h: Array, dh: Array, *, xp: Namespace) -> Array:
    """dz = dh · (1 - e⁻ʰ), since the derivative is logistic(z) = 1 - e⁻ʰ."""
    dh *= -xp.expm1(-h)
    return dh


class Activation(NamedTuple):
    """An activation, its backward, and an initializer that preserves the variance from layer to layer."""

    forward: Callable[..., Array]
    backward: Callable[..., Array]
    initializer: str


ACTIVATIONS = {
    "identity": Activation(identity, identity_backward, "lecun_normal"),
    "logistic": Activation(logistic, logistic_backward, "glorot_uniform"),
    "tanh": Activation(tanh, tanh_backward, "glorot_uniform"),
    "relu": Activation(relu, relu_backward, "he_normal"),
    "leaky_relu": Activation(leaky_relu, leaky_relu_backward, "he_normal"),
    "elu": Activation(elu, elu_backward, "he_normal"),
    "softplus": Activation(softplus, softplus_backward, "he_normal"),
}
