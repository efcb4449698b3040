"""Initial distributions of the weights, drawn on the host: one seed, the same weights on every backend."""

import math

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError, choose

__all__ = ["INITIALIZERS", "draw"]

# Variance of a weight by (fan_in, fan_out): He et al. 2015, Glorot and Bengio 2010, LeCun et al. 1998.
_VARIANCES = {
    "he": lambda fan_in, fan_out: 2.0 / fan_in,
    "glorot": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
}
INITIALIZERS = (
    *(f"{name}_{shape}" for name in _VARIANCES for shape in ("normal", "uniform")),
    "normal",
    "uniform",
    "zeros",
)


def draw(
    name: str, rng: np.random.Generator | np.random.RandomState, fan_in: int, fan_out: int
) -> NDArray[np.float64]:
    """Draw one weight matrix (fan_in, fan_out), float64.

    From NumPy's legacy generator it is drawn as (fan_out, fan_in) and transposed: that is how the tutorials
    of its time hold their weights, and the order in which they draw them.

    Args:
        name: `he_normal`, `he_uniform`, `glorot_...`, `lecun_...`, `zeros`; or `normal:SCALE`, with SCALE the
            standard deviation, or `uniform:SCALE`, between -SCALE and SCALE (0.05 where `:SCALE` is left
            out).

    Raises:
        InputError: unknown name, or a scale that is not a positive number.
    """
    kind, _, scale = name.partition(":")
    choose("initial distribution", kind, INITIALIZERS)
    family, _, distribution = kind.rpartition("_")
    if scale and kind not in ("normal", "uniform"):
        raise InputError(f"{kind} takes no scale, got {name!r}")
    if kind == "zeros":
        return np.zeros((fan_in, fan_out))
    if family:
        deviation = math.sqrt(_VARIANCES[family](fan_in, fan_out))
        limit = math.sqrt(3.0) * deviation  # a uniform distribution on [-a, a] has variance a² / 3
    else:
        deviation = limit = _positive(scale or "0.05", name)
    legacy = isinstance(rng, np.random.RandomState)
    shape = (fan_out, fan_in) if legacy else (fan_in, fan_out)
    if distribution == "normal":
        W = rng.standard_normal(shape) * deviation
    else:
        W = rng.uniform(-limit, limit, shape)
    return W.T if legacy else W


def _positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise InputError(
            f"initial distribution {name!r}: expected a positive number after the colon, got {text!r}"
        )
    return value
