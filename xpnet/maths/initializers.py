"""Initial distributions of the weights. They are drawn on the host: a seed gives equal weights everywhere."""

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
    name: str, rng: "np.random.Generator | np.random.RandomState", fan_in: int, fan_out: int
) -> NDArray[np.float64]:
    """Draw one weight matrix (fan_in, fan_out), float64.

    With NumPy's legacy generator, a matrix (fan_out, fan_in) is drawn and transposed. This reproduces the
    weights of older tutorials, which store and draw them in that shape.

    Args:
        name: `he_normal`, `he_uniform`, `glorot_...`, `lecun_...` or `zeros`; `normal:SCALE`, where SCALE is
            the standard deviation; or `uniform:SCALE`, which draws from [-SCALE, SCALE). The default scale is
            0.05.
        rng: the random number generator.

    Raises:
        InputError: if the name is unknown or the scale is not a positive number.
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
        deviation = limit = _parse_positive(scale or "0.05", name)
    legacy = isinstance(rng, np.random.RandomState)
    shape = (fan_out, fan_in) if legacy else (fan_in, fan_out)
    if distribution == "normal":
        W = rng.standard_normal(shape) * deviation
    else:
        W = rng.uniform(-limit, limit, shape)
    return W.T if legacy else W


def _parse_positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise InputError(
            f"initial distribution {name!r}: expected a positive number after the colon, got {text!r}"
        )
    return value
