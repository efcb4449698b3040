"""The network that an estimator trains, with the loss that scikit-learn reports."""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet._typing import Array, Namespace
from xpnet.backends import Backend
from xpnet.maths.losses import LOSSES, Loss, quantile
from xpnet.maths.mlp import MLP

__all__ = [
    "draw_parameters",
    "find_loss",
    "make_hidden_layers",
    "make_lbfgs_network",
    "make_network",
    "report_loss",
]


def make_network(estimator: Any, sizes: tuple[int, ...], backend: Backend) -> MLP:
    """Return the network for mini-batches. The penalty alpha/2 Σ W² is divided by the rows of the batch."""
    epsilon = float(np.finfo(backend.dtype_name).eps)
    return MLP(
        sizes,
        estimator.activation,
        _report_as_scikit_learn(find_loss(estimator), estimator.out_activation_, epsilon),
        l2=0.0 if estimator.solver == "adamw" else estimator.alpha,
        l2_shared=True,
        label_smoothing=_find_smoothing(estimator),
    )


@lru_cache  # the same object, so that a step of the next fit is equal and need not be compiled again
def _report_as_scikit_learn(loss: Loss, out_activation: str, epsilon: float) -> Loss:
    """Return the loss with the value that scikit-learn reports, and the same gradient.

    Probabilities are clipped to at least ε, and the losses of several numeric outputs are averaged.
    """
    if out_activation == "softmax":
        return loss._replace(loss_and_grad=partial(loss.loss_and_grad, ceiling=-math.log(epsilon)))
    if out_activation == "logistic":
        return loss._replace(loss_and_grad=partial(_clipped_log_loss, epsilon=epsilon))
    if loss is LOSSES["poisson"]:
        return loss
    return loss._replace(loss_and_grad=_average_over_outputs(loss.loss_and_grad))


def make_lbfgs_network(estimator: Any, sizes: tuple[int, ...]) -> MLP:
    """Return the network for the full batch. L-BFGS requires a loss that is consistent with its gradient."""
    return MLP(
        sizes,
        estimator.activation,
        find_loss(estimator),
        l2=estimator.alpha,
        l2_shared=True,
        label_smoothing=_find_smoothing(estimator),
    )


def report_loss(mlp: MLP, l2: float, loss: float, theta: NDArray[Any]) -> np.float64:
    """Return the loss of lbfgs as the other solvers report it: averaged over numeric outputs.

    Args:
        l2: strength of the penalty that `loss` contains.
    """
    if not mlp.classifies and mlp.loss != LOSSES["poisson"]:
        weights = theta[: mlp.layout.n_weights]
        penalty = 0.5 * l2 * float(np.dot(weights, weights))
        loss = (loss - penalty) / mlp.sizes[-1] + penalty
    return np.float64(loss)


def find_loss(estimator: Any) -> Loss:
    """Return the `Loss` of an estimator."""
    if estimator.loss == "log_loss":
        kind = "softmax" if estimator.out_activation_ == "softmax" else "logistic"
        return LOSSES[f"{kind}_cross_entropy"]
    return quantile(estimator.quantile) if estimator.loss == "quantile" else LOSSES[estimator.loss]


def draw_parameters(
    sizes: tuple[int, ...], activation: str | list[str], random_state: np.random.RandomState
) -> tuple[list[Any], list[Any]]:
    """Draw weights and biases as scikit-learn does, float64 on the host.

    They are uniform in ±√(6 / (fan_in + fan_out)) (Glorot and Bengio 2010), and ±√(2 / (fan_in + fan_out))
    for logistic layers. The weights of each layer are drawn before its biases.
    """
    names = [activation] * (len(sizes) - 1) if isinstance(activation, str) else [*activation, "identity"]
    weights, biases = [], []
    for fan_in, fan_out, name in zip(sizes[:-1], sizes[1:], names, strict=True):
        bound = math.sqrt((2.0 if name == "logistic" else 6.0) / (fan_in + fan_out))
        weights.append(random_state.uniform(-bound, bound, (fan_in, fan_out)))
        biases.append(random_state.uniform(-bound, bound, fan_out))
    return weights, biases


@lru_cache
def make_hidden_layers(sizes: tuple[int, ...], activation: str | tuple[str, ...]) -> MLP:
    """Return a network for the forward pass up to z, which does not depend on the loss."""
    return MLP(sizes, activation)


def _find_smoothing(estimator: Any) -> float:
    # With a logistic output, the targets are already smoothed.
    return estimator.label_smoothing if estimator.out_activation_ == "softmax" else 0.0


def _clipped_log_loss(
    z: Array, Y: Array, weight: Array | float, *, epsilon: float, xp: Namespace
) -> tuple[Array, Array]:
    """-Σ_k [Y_k log p_k + (1 - Y_k) log(1 - p_k)] with p clipped to [ε, 1 - ε], and the unclipped gradient.

    It is computed from p = 1 / (1 + e⁻ᶻ), not from z as in `losses.logistic_cross_entropy`, to round as
    scikit-learn does.
    """
    most = 80.0 if epsilon > 1e-10 else 700.0  # e^most is finite in float32 and in float64
    p = xp.exp(xp.minimum(-z, most))
    p += 1.0
    p = 1.0 / p
    clipped = xp.minimum(xp.maximum(p, epsilon), 1.0 - epsilon)
    loss_rows = xp.sum(Y * xp.log(clipped) + (1.0 - Y) * xp.log(1.0 - clipped), axis=1, keepdims=True)
    p -= Y
    p *= weight
    return -xp.sum(loss_rows * weight), p


def _average_over_outputs(loss: Callable[..., tuple[Array, Array]]) -> Callable[..., tuple[Array, Array]]:
    def loss_and_grad(z: Array, Y: Array, weight: Array | float, *, xp: Namespace) -> tuple[Array, Array]:
        value, dz = loss(z, Y, weight, xp=xp)
        return value / z.shape[1], dz

    return loss_and_grad
