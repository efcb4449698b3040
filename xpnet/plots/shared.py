"""What all figures share: colours, number formats, the style of axes, and checks of the inputs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "ORANGE",
    "at_least_one",
    "describe",
    "indices",
    "new_figure",
    "number",
    "percent",
    "plain",
    "short",
    "style",
]

# Dark blue and orange differ in lightness too, so they stay apart in grey print and to the colour-blind.
INK = "#333333"
GREY = "#999999"
BLUE = "#15518f"
ORANGE = "#e8902c"


def new_figure(width: float, height: float) -> "Figure":
    """Return a new figure (inches) that no global state knows of, laid out so that nothing is cut off."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    return figure


def style(ax: "Axes") -> None:
    """Draw the left and bottom edges only, thin, and write thousands as 10,000."""
    from matplotlib.ticker import ScalarFormatter

    ax.tick_params(color=GREY, labelcolor=INK, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    for axis in (ax.xaxis, ax.yaxis):
        # matplotlib's own labels have no commas; but they have equally many decimals, and where numbers are
        # huge or tiny a power of ten beside the axis.
        thousands = axis.get_scale() == "log" or 1e3 <= np.abs(axis.get_view_interval()).max() < 1e7
        axis.set_major_formatter("{x:,.10g}" if thousands else ScalarFormatter(useOffset=False))


def describe(ax: "Axes", title: str, x: str, y: str) -> None:
    """Title a diagram, label its axes and draw a light grid behind it."""
    style(ax)
    ax.set_title(title, color=INK, fontsize=11)
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)


def plain(text: str) -> str:
    """Return `text` so that matplotlib does not read what stands between two dollar signs as mathematics."""
    return text.replace("$", r"\$")


def short(names: Sequence[str]) -> list[str]:
    """Return `names`, those of more than 32 letters ended with an ellipsis, as `plain` text."""
    return [plain(f"{name[:31].rstrip()}…" if len(name) > 32 else name) for name in names]


def percent(share: float, digits: int = 2) -> str:
    """Return `share` (0 ... 1) as in 97.50 %; the space does not break."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def number(value: float) -> str:
    """Return `value` with four significant digits, or as a whole number from 1,000 on."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e12 else f"{value:.4g}"


def at_least_one(n: int, noun: str) -> None:
    """Raise InputError unless there is something to draw."""
    if n < 1:
        raise InputError(f"expected to draw at least n = 1 {noun}, got n = {n}")


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
