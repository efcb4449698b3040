"""Learning-rate schedules: functions of the step t = 1, 2, ..., computed on the host.

Each takes the peak learning rate `lr` and the number of steps `total`. Training takes a function of t alone,
such as `functools.partial(cosine, lr=1e-3, total=1000)`.
"""

import math

from xpnet._typing import Schedule

__all__ = [
    "SCHEDULES",
    "constant",
    "cosine",
    "exponential",
    "inverse_scaling",
    "one_cycle",
    "step",
    "warm_up",
]


def constant(t: int, *, lr: float, total: int) -> float:
    """lr."""
    return lr


def step(
    t: int, *, lr: float, total: int, factor: float = 0.1, after: tuple[int, ...] | None = None
) -> float:
    """lr, multiplied by `factor` after each of the steps `after` (He et al. 2016).

    By default `after` is one half and three quarters of `total`.
    """
    if after is None:
        after = (math.ceil(total / 2), math.ceil(3 * total / 4))
    return lr * math.pow(factor, sum(t > end for end in after))


def exponential(t: int, *, lr: float, total: int, final: float = 0.01) -> float:
    """lr · final^((t-1)/total): decays by a constant factor per step to final · lr."""
    return lr * math.pow(final, (t - 1) / total)


def inverse_scaling(t: int, *, lr: float, total: int, power: float = 0.5) -> float:
    """lr / t^power (scikit-learn's `invscaling`; Robbins and Monro 1951 for power 1)."""
    return lr / math.pow(t, power)


def cosine(t: int, *, lr: float, total: int) -> float:
    """½ lr (1 + cos(π (t-1)/total)), decays to 0 (Loshchilov and Hutter 2017)."""
    return 0.5 * lr * (1.0 + math.cos(math.pi * min(t - 1, total) / total))


def one_cycle(
    t: int, *, lr: float, total: int, rise: float = 0.3, start: float = 1 / 25, end: float = 1 / 250_000
) -> float:
    """The one-cycle policy (Smith and Topin 2018), with the shape and defaults of PyTorch's OneCycleLR.

    The rate rises from start · lr to lr over the first fraction `rise` of the steps, then falls to end · lr.
    Both parts are half cosines.
    """
    peak, last = rise * total - 1.0, total - 1.0
    if t - 1 < peak:
        low, high, progress = start * lr, lr, (t - 1) / peak
    elif t - 1 <= last:
        low, high, progress = lr, end * lr, (t - 1 - peak) / max(last - peak, 1e-9)
    else:
        low, high, progress = lr, end * lr, 1.0
    return low + (high - low) * 0.5 * (1.0 - math.cos(math.pi * progress))


def warm_up(t: int, *, schedule: Schedule, steps: int) -> float:
    """Rise linearly for `steps` steps, then follow `schedule` (Goyal et al. 2017)."""
    return schedule(1) * t / steps if t <= steps else schedule(t - steps)


SCHEDULES = {f.__name__: f for f in (constant, step, exponential, inverse_scaling, cosine, one_cycle)}
