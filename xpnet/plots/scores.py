"""Which classes a network confuses, and how far its predicted numbers are off."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xpnet.errors import InputError, format_count
from xpnet.plots.shared import (
    BLUE,
    INK,
    at_least_one,
    describe,
    indices,
    new_figure,
    number,
    percent,
    short,
)
from xpnet.training.scores import r2

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion", "regression"]

# More rows than this are drawn as hexagons that show how many they hold: dots would cover each other.
MOST_DOTS = 2000


def confusion(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    classes: Sequence[str],
    *,
    part: str = "",
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw how often each class (a row) was predicted as each class (a column), and each row's recall.

    Shades are the square root of the share of the row, so that rare mistakes show; an empty cell is 0.

    Args:
        y_true: (n,) true class indices 0 ... K-1.
        y_pred: (n,) predicted class indices 0 ... K-1.
        classes: the K class names.
        part: the part of the data that the rows are, such as "test"; the title names it.
        ax: draw here instead of in a new figure.

    Raises:
        InputError: if the two do not match each other or the classes, or matplotlib is not installed.
    """
    K = len(classes)
    true, predicted = indices("y_true", y_true, K), indices("y_pred", y_pred, K)
    if true.shape != predicted.shape:
        raise InputError(
            f"expected as many rows in y_pred as in y_true, got {len(predicted)} and {len(true)}"
        )
    counts = np.bincount(true * K + predicted, minlength=K * K).reshape(K, K)
    rows = counts.sum(axis=1)
    share = counts / np.maximum(rows, 1)[:, None]

    names = short(classes)
    cell = 0.9 if K <= 4 else 0.44 if K <= 12 else 0.34  # inches
    longest = max(map(len, names))
    upright = 0.1 * longest > cell
    if ax is None:
        beside, below = 0.9 + 0.085 * longest, 1.1 + (0.085 * longest if upright else 0)
        ax = new_figure(max(cell * (K + 1.4) + beside, 3.8), cell * K + below).subplots()
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    size = min(11.0, 72 * cell / (0.62 * max(len(f"{counts.max():,}"), 3) + 0.5))
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.36 else INK
        ax.text(
            column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=size, color=colour
        )
    for row in range(K):
        # 599 of 600 are not 100 %.
        recall = share[row, row] if share[row, row] == 1 else min(share[row, row], 0.99)
        words = percent(recall, 0) if rows[row] else "–"
        ax.text(K + 0.2, row, words, ha="center", va="center", fontsize=size, color=INK)

    ax.set_xlim(-0.5, K + 0.9)
    ax.set_xticks([*range(K), K + 0.2], [*names, "recall"])
    for text in ax.get_xticklabels()[:K]:
        text.set_rotation(90 if upright else 0)
    ax.set_yticks(range(K), names)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("predicted class", color=INK)
    ax.set_ylabel("true class", color=INK)
    right, n = int(np.trace(counts)), len(true)
    what = format_count(n, f"{part} row".strip())
    ax.set_title(f"{right:,} of {what} correct ({percent(right / max(n, 1))})", color=INK, fontsize=11)
    return ax.figure.figure


def regression(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    outputs: Sequence[str] = (),
    *,
    part: str = "",
    n: int = 6,
) -> "Figure":
    """Draw predicted against true values, and beside them the residuals, one output below the other.

    Up to 2,000 rows are drawn as dots, more as hexagons whose shade shows how many rows they hold.

    Args:
        y_true: (rows,) or (rows, outputs) true values.
        y_pred: predicted values of the same shape and in the same units.
        outputs: the names of the outputs.
        part: the part of the data that the rows are, such as "test"; the title names it.
        n: draw at most this many outputs, the first ones.

    Raises:
        InputError: if the shapes do not match each other, there is no row, a value is not finite, n < 1, or
            matplotlib is not installed.
    """
    true, predicted = (np.asarray(y, dtype=np.float64) for y in (y_true, y_pred))
    if true.shape != predicted.shape or true.ndim not in (1, 2) or not true.size:
        raise InputError(
            "expected y_true and y_pred of the same shape, (rows,) or (rows, outputs), at least one row, "
            f"got {true.shape} and {predicted.shape}"
        )
    true, predicted = true.reshape(len(true), -1), predicted.reshape(len(true), -1)
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise InputError("expected finite values in y_true and y_pred")
    K = true.shape[1]
    if outputs and len(outputs) != K:
        raise InputError(f"expected the names of {K} outputs, got {len(outputs)}")
    at_least_one(n, "output")
    names = short(outputs) or ([""] if K == 1 else [f"output {k + 1}" for k in range(K)])

    rows, as_hexagons = min(K, n), len(true) > MOST_DOTS
    figure = new_figure(8.6, 4.0 * rows + (1.1 if as_hexagons else 0.3))
    heading = format_count(len(true), f"{part} row".strip())
    heading += "" if rows == K else f", first {rows} of {K:,} outputs"
    figure.suptitle(heading, color=INK, fontsize=11)
    hexagons = []
    grid = figure.subplots(rows, 2, squeeze=False)
    for k, (left, right) in enumerate(grid):
        y, p, name = true[:, k], predicted[:, k], f"{names[k]}\n" if names[k] else ""
        for ax, across, up in ((left, y, p), (right, p, y - p)):
            if as_hexagons:
                hexagons.append(ax.hexbin(across, up, gridsize=45, mincnt=1, linewidths=0.2))
            else:
                ax.scatter(across, up, s=14, alpha=0.45, color=BLUE, linewidths=0)
        low, high = min(y.min(), p.min()), max(y.max(), p.max())
        margin = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
        ends = [low - margin, high + margin]
        left.plot(ends, ends, color=INK, linewidth=1, linestyle="--", label="predicted = true")
        left.legend(frameon=False, labelcolor=INK, fontsize=9, loc="best")
        left.set(xlim=ends, ylim=ends)
        right.axhline(0, color=INK, linewidth=1, linestyle="--")
        error = np.abs(y - p)
        score = r2(y[:, None], p[:, None], None, xp=np)
        title = f"{name}R² {score:.4f}, mean absolute error {number(error.mean())}"
        describe(left, title, "true value", "predicted value")
        title = f"{name}Largest absolute error {number(error.max())}"
        describe(right, title, "predicted value", "residual (true − predicted)")
        for ax in (left, right):
            ax.set_box_aspect(1)
            ax.locator_params("y", nbins=5)
            ax.locator_params("x", nbins=5 if np.abs(ax.get_xlim()).max() < 1e5 else 3)  # numbers are wide
    if hexagons:
        _share_shades(figure, grid, hexagons)
    return figure


def _share_shades(figure: "Figure", grid: Any, hexagons: Sequence[Any]) -> None:
    """Give all hexagons one scale of shades, and draw it."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    # The lightest shade still stands out from the paper: one row alone may be the one to look at.
    shades = LinearSegmentedColormap.from_list("rows", ["#b5d0ea", "#4a86c0", "#0b2a50"])
    norm = LogNorm(1, max(2, *(drawn.get_array().max() for drawn in hexagons)))
    for drawn in hexagons:
        drawn.set(norm=norm, cmap=shades)
    bar = figure.colorbar(hexagons[0], ax=grid, location="bottom", aspect=40, shrink=0.6, format="{x:,.10g}")
    bar.set_label("rows in a hexagon (log scale)", color=INK, fontsize=9)
    bar.ax.tick_params(labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
