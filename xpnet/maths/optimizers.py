"""Optimizers: settings, and an update of the flat parameter vector. They hold no state::

    moments = optimizer.init(theta, xp=xp)
    theta, moments = optimizer.update(theta, g, moments, optimizer.coefficients(lr, t), xp=xp)

`update` may overwrite theta, g and the moments: use the arrays that it returns. The `coefficients` are the
floats that change from step to step, computed on the host from the learning rate and the step t = 1, 2, ...
Each optimizer agrees with PyTorch's of the same name up to rounding.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

from xpnet._typing import Array, Namespace
from xpnet.errors import InputError

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_by_norm",
    "flush_denormals",
    "update_in_blocks",
]

Moments = tuple[Array, ...]
Coefficients = tuple[float, ...]


class Optimizer(Protocol):
    """The interface of an optimizer."""

    def init(self, theta: Array, *, xp: Namespace) -> Moments:
        """Return the moments before the first step: arrays of zeros, each shaped like theta."""

    def coefficients(self, lr: float, t: int) -> Coefficients:
        """Return the coefficients of step t = 1, 2, ... for the learning rate `lr`."""

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        """Return (theta, moments) after one step with the gradient g. May overwrite theta, g and moments."""


def update_in_blocks(
    optimizer: Optimizer,
    theta: Array,
    g: Array,
    moments: Moments,
    coefficients: Coefficients,
    *,
    block: int | None,
    xp: Namespace,
) -> tuple[Array, Moments]:
    """Call `optimizer.update` block by block if theta is longer than four blocks.

    An update is elementwise, so the result is the same. On a CPU this is several times as fast: the
    temporaries of a block stay in the cache, while those of a long vector cause page faults in every step.

    Args:
        block: number of elements per block. None updates the whole vector at once, which is necessary where
            arrays are read-only.
    """
    n = theta.shape[0]
    if block is None or n <= 4 * block:
        return optimizer.update(theta, g, moments, coefficients, xp=xp)
    for start in range(0, n, block):
        part = slice(start, min(start + block, n))
        theta[part], new = optimizer.update(
            theta[part], g[part], tuple(m[part] for m in moments), coefficients, xp=xp
        )
        for m, new_part in zip(moments, new, strict=True):
            m[part] = new_part
    return theta, moments


def flush_denormals(moments: Moments, tiny: float) -> Moments:
    """Return the moments, with numbers below about `tiny` times the machine epsilon set to zero, in place.

    The momentum of a weight whose gradient is always zero, for instance that of a pixel that is always black,
    shrinks by a constant factor in every step until it is denormal. A CPU is many times slower with denormal
    numbers.
    """
    for m in moments:
        m += tiny
        m -= tiny
    return moments


def clip_by_norm(g: Array, max_norm: float, *, xp: Namespace) -> Array:
    """Return g, scaled to a Euclidean norm of at most `max_norm` (Pascanu et al. 2013). May overwrite g."""
    # Beyond a norm of 1e18 the sum of squares is close to overflow in float32: g is then scaled down first.
    # The scale is 1, and changes no bit, below.
    squares = xp.matmul(g, g)
    scale = xp.maximum(1.0 / xp.maximum(1e-36 * squares, 1.0), 2.0**-80)
    g *= scale
    norm = xp.sqrt(xp.matmul(g, g))
    g *= max_norm / xp.maximum(norm, max_norm * scale)
    return g


def _use_python_numbers(settings: Any) -> None:
    """Convert the numbers of a frozen dataclass. NumPy's would turn float32 into float64."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if not isinstance(value, bool):
            object.__setattr__(settings, field.name, float(value))


def _check_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon < math.inf:
        raise InputError(
            f"epsilon: expected a number above 0, got {epsilon}: it prevents a division by 0 for a parameter "
            "whose gradients are all 0"
        )


def _check_fractions(**fractions: float) -> None:
    for name, value in fractions.items():
        if not 0.0 <= value < 1.0:
            raise InputError(f"{name}: expected at least 0 and below 1, got {value}")


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, optionally with momentum (Polyak 1964; Nesterov: Sutskever et al. 2013).

    m ← μ m + g;  θ ← θ - lr m, or with `nesterov` θ ← θ - lr (g + μ m), as in PyTorch.

    With `velocity` m includes the learning rate, as in the papers and in scikit-learn: m ← μ m + lr g;
    θ ← θ - m. Both are equal while lr is constant. With `velocity` a change of lr affects only new gradients.
    """

    momentum: float = 0.0
    nesterov: bool = False
    velocity: bool = False

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        if not (self.velocity and self.momentum == 1.0):  # scikit-learn allows a momentum of 1
            _check_fractions(momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov requires a momentum above 0, for instance 0.9")

    def init(self, theta: Array, *, xp: Namespace) -> Moments:
        return (xp.zeros_like(theta),) if self.momentum else ()

    def coefficients(self, lr: float, t: int) -> Coefficients:
        return (lr,)

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        (lr,) = coefficients
        if moments:
            (m,) = moments
            if self.velocity:
                g *= lr
                lr = 1.0
            m *= self.momentum
            m += g
            moments = (m,)
            if self.nesterov:
                g += self.momentum * m
                g *= lr
            else:
                g = lr * m
        else:
            g *= lr
        theta -= g
        return theta, moments


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1).

    m ← β₁ m + (1-β₁) g;  v ← β₂ v + (1-β₂) g²;  θ ← θ - lr m̂ / (√v̂ + ε),  m̂ = m/(1-β₁ᵗ),  v̂ = v/(1-β₂ᵗ).
    The moments are stored without the factors 1-β, as m' = m/(1-β₁) and v' = v/(1-β₂). The update is then
    θ ← θ - α_t m' / (√v' + ε_t), where r_t = √((1-β₂ᵗ)/(1-β₂)), α_t = lr r_t (1-β₁)/(1-β₁ᵗ) and ε_t = ε r_t.

    With `epsilon_hat`, ε_t = ε / √(1-β₂), as at the end of the paper's section 2 and in scikit-learn.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        _check_fractions(beta_1=self.beta_1, beta_2=self.beta_2)
        _check_epsilon(self.epsilon)

    def init(self, theta: Array, *, xp: Namespace) -> Moments:
        return xp.zeros_like(theta), xp.zeros_like(theta)

    def coefficients(self, lr: float, t: int) -> Coefficients:
        kept = 1.0 - self.beta_2
        root = math.sqrt((1.0 - self.beta_2**t) / kept)
        alpha = lr * root * (1.0 - self.beta_1) / (1.0 - self.beta_1**t)
        return alpha, self.epsilon * (1.0 / math.sqrt(kept) if self.epsilon_hat else root)

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        m, v = moments
        alpha, epsilon = coefficients
        m *= self.beta_1
        m += g
        g *= g
        v *= self.beta_2
        v += g
        step = xp.sqrt(v)
        step += epsilon
        step = m / step
        step *= alpha
        theta -= step
        return theta, (m, v)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): θ ← θ (1 - lr λ), then Adam's step."""

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay: expected a number of at least 0, got {self.weight_decay}")

    def coefficients(self, lr: float, t: int) -> Coefficients:
        return *super().coefficients(lr, t), 1.0 - lr * self.weight_decay

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        *adam, decay = coefficients
        theta *= decay
        return super().update(theta, g, moments, tuple(adam), xp=xp)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Tieleman and Hinton 2012): v ← ρ v + (1-ρ) g²;  θ ← θ - lr g / (√v + ε)."""

    rho: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        _check_fractions(rho=self.rho)
        _check_epsilon(self.epsilon)

    def init(self, theta: Array, *, xp: Namespace) -> Moments:
        return (xp.zeros_like(theta),)

    def coefficients(self, lr: float, t: int) -> Coefficients:
        return (lr,)

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        (v,) = moments
        (lr,) = coefficients
        v *= self.rho
        v += (1.0 - self.rho) * g * g
        scale = xp.sqrt(v)
        scale += self.epsilon
        theta -= lr * g / scale
        return theta, (v,)


@dataclass(frozen=True)
class Adagrad:
    """Adagrad (Duchi, Hazan and Singer 2011): s ← s + g²;  θ ← θ - lr g / (√s + ε)."""

    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        _use_python_numbers(self)
        _check_epsilon(self.epsilon)

    def init(self, theta: Array, *, xp: Namespace) -> Moments:
        return (xp.zeros_like(theta),)

    def coefficients(self, lr: float, t: int) -> Coefficients:
        return (lr,)

    def update(
        self, theta: Array, g: Array, moments: Moments, coefficients: Coefficients, *, xp: Namespace
    ) -> tuple[Array, Moments]:
        (s,) = moments
        (lr,) = coefficients
        s += g * g
        scale = xp.sqrt(s)
        scale += self.epsilon
        theta -= lr * g / scale
        return theta, (s,)
