"""What the units of a network respond to."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xpnet.errors import InputError
from xpnet.plots.shared import GREY, INK, at_least_one, new_figure
from xpnet.plots.tiles import gallery, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["weights"]

# From the lowest weight to the highest, as even steps of lightness (CIELAB L* 93, 75, 57, 39, 21).
SHADES = ("#ffe6b8", "#dfaf6f", "#8a8a8a", "#3c6093", "#0c3260")


def weights(
    W: ArrayLike,
    picture: tuple[int, int],
    *,
    unit: str = "hidden unit",
    names: Sequence[str] = (),
    n: int = 100,
) -> "Figure":
    """Draw the weights that lead from the picture to each unit of the first layer, unit by unit.

    All share one scale, symmetric around 0, at whose ends the strongest 0.5 % of the weights look alike. Its
    lightness falls from the lowest to the highest weight, so that signs stay apart in grey print, too: as on
    paper, dark is where ink raises the unit's output.

    Args:
        W: (height * width, units), the first matrix that `mlp.layout.split` returns.
        picture: (height, width) of the row-major pictures.
        unit: what the title calls a unit: "class", where the network has no hidden layer.
        names: the names of the units, such as the classes.
        n: draw at most this many, the first ones.

    Raises:
        InputError: if the shapes do not match each other, n < 1, or matplotlib is not installed.

    """
    at_least_one(n, "unit")
    W = np.asarray(W)
    if W.ndim != 2 or len(W) != picture[0] * picture[1] or not W.size:
        raise InputError(f"expected W of shape ({picture[0] * picture[1]}, units), got {W.shape}")
    all_units = W.shape[1]
    if names and len(names) != all_units:
        raise InputError(f"expected the names of {all_units} units, got {len(names)}")
    units = min(all_units, n)
    pictures = W.T[:units].reshape(units, *picture)
    title = f"What {'each' if all_units > 1 else 'the'} {unit} responds to"
    title += f" (first {units:,} of {all_units:,})" if units < all_units else ""
    if names:
        figure, grid = gallery([[name] for name in names[:units]], title, below=0.8)
    else:
        columns = math.ceil(math.sqrt(units))
        size = 0.8 if columns <= 5 else 0.5  # inches
        figure = new_figure(max(size * columns + 0.4, 4.6), size * math.ceil(units / columns) + 1.5)
        figure.suptitle(title, color=INK, fontsize=11)
        grid = [figure.subplots()]
    from matplotlib.colors import LinearSegmentedColormap

    limit = float(np.quantile(np.abs(pictures), 0.995)) or 1.0
    shades = LinearSegmentedColormap.from_list("ink", SHADES)
    look: dict[str, Any] = {"cmap": shades, "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    if names:
        for ax, tile in zip(grid, pictures, strict=True):
            image = ax.imshow(tile, **look)
    else:
        image = mosaic(grid[0], pictures, columns, np.nan, **look)
    bar = figure.colorbar(
        image, ax=grid, location="bottom", aspect=30, shrink=0.9, extend="both", format="{x:,g}"
    )
    bar.set_label(
        "weight\nlight: ink here lowers the output; dark: ink here raises it", color=INK, fontsize=9
    )
    bar.ax.locator_params("x", nbins=5)
    bar.ax.tick_params(color=GREY, labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    return figure
