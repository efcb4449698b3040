"""What all figures share: paper, ink, and the checks of what is drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "INK", "ORANGE", "indices", "new_figure", "short"]

# Dark blue and orange differ in lightness too, so they stay apart in grey print and to the colour-blind.
INK = "#333333"
BLUE = "#15518f"
ORANGE = "#e8902c"


def new_figure(width: float, height: float) -> "Figure":
    """Return a new figure (inches) that no global state knows of, laid out so that nothing is cut off."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError('figures need matplotlib: pip install "xpnet[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return figure


def short(names: Sequence[str]) -> list[str]:
    """Return `names`, those of more than 32 letters ended with an ellipsis."""
    return [f"{name[:31].rstrip()}…" if len(name) > 32 else name for name in names]


def indices(name: str, y: ArrayLike, K: int) -> NDArray[np.int64]:
    """Return `y` as the class indices it must be."""
    found = np.asarray(y)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise InputError(f"expected {name} of shape (n,) and integers, got {found.shape} of {found.dtype}")
    if found.size and not 0 <= found.min() <= found.max() < K:
        raise InputError(
            f"expected {name} in 0 ... {K - 1}, the {K} classes, got {found.min()} ... {found.max()}"
        )
    return found.astype(np.int64)
