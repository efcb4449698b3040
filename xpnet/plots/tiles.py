"""Many small pictures on one page."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.plots.shared import INK, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["gallery", "mosaic"]


def gallery(
    titles: Sequence[Sequence[str]], heading: str, *, below: float = 0.0
) -> tuple["Figure", list["Axes"]]:
    """Return a new figure with axes for one picture each, and `below` inches for what comes under them.

    Args:
        titles: the lines above each picture; long ones are folded to about its width.
    """
    texts = [plain("\n".join(textwrap.fill(line, 24) for line in lines)) for lines in titles]
    columns = min(len(texts), max(5, math.ceil(math.sqrt(len(texts)))))
    rows = math.ceil(len(texts) / columns)
    longest = max(len(line) for text in texts for line in text.split("\n"))
    deepest = max(text.count("\n") + 1 for text in texts)
    width, height = max(0.25 + 0.082 * longest, 1.3), 1.15 + 0.16 * deepest
    figure = new_figure(max(columns * width, 4.6), rows * height + 0.6 + below)
    figure.suptitle(heading, color=INK, fontsize=11)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in grid:
        ax.set_axis_off()
    for ax, text in zip(grid, texts, strict=False):
        ax.set_title(text, fontsize=9, color=INK)
    return figure, grid[: len(texts)]


def mosaic(
    ax: "Axes", pictures: NDArray[np.floating[Any]], columns: int, paper: float, **style: Any
) -> "AxesImage":
    """Draw pictures (n, height, width) row by row on `paper`, the first around (0, 0), the next at (1, 0)."""
    n, height, width = pictures.shape
    rows, gap = math.ceil(n / columns), math.ceil(max(height, width) / 12)
    around = ((0, rows * columns - n), (0, gap), (0, gap))
    tiles = np.pad(pictures.astype(np.float64), around, constant_values=paper)
    height, width = height + gap, width + gap
    page = tiles.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    return ax.imshow(page, extent=extent, aspect=height / width, **style)
