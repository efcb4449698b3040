"""What a network is shown, what it believes of a picture, and what its hidden units look for."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import InputError
from xpnet.plots.shared import BLUE, INK, ORANGE, indices, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["examples", "mistakes", "prediction", "weights"]

# From the lowest weight to the highest, as even steps of lightness (CIELAB L* 93, 75, 57, 39, 21).
SHADES = ("#ffe6b8", "#dfaf6f", "#8a8a8a", "#3c6093", "#0c3260")


def examples(
    X: ArrayLike, y: ArrayLike, classes: Sequence[str], picture: tuple[int, int], *, n: int = 100
) -> "Figure":
    """Draw the first pictures of each class, a class beside its name.

    Args:
        X: (rows, height * width) pictures, bright ink on dark, in any units; drawn as ink on paper.
        y: (rows,) class indices 0 ... K-1.
        classes: the K class names.
        picture: (height, width) of the row-major pictures.
        n: draw at most this many, but one of each class in any case.

    Raises:
        InputError: if the shapes do not match each other, there is no picture, n < 1, or matplotlib is not
            installed.

    """
    _at_least_one(n)
    X, K = np.asarray(X), len(classes)
    y = indices("y", y, K)
    expected = len(y), picture[0] * picture[1]
    if X.shape != expected or not len(X):
        raise InputError(f"expected X of shape {expected}, at least one row, got {X.shape}")
    each = min(max(n // K, 1), int(np.bincount(y).max()))
    columns = min(each, max(10, math.isqrt(n)))
    deep = each // columns  # rows of pictures for one class
    # Many classes with few pictures stand in blocks side by side, so that the page is about square.
    tall = math.ceil(K / max(1, round(math.sqrt(K * deep / columns))))  # classes in a block
    blocks = math.ceil(K / tall)

    pictures = np.full((blocks * tall, deep * columns, X.shape[1]), np.nan)
    for k in range(K):
        rows = np.flatnonzero(y == k)[: deep * columns]
        pictures[k, : len(rows)] = X[rows]
    names, size = short(classes), 0.42  # inches
    beside = 0.3 + 0.085 * max(map(len, names))
    figure = new_figure(max(blocks * (columns * size + beside), 3.4), tall * deep * size + 0.6)
    first = f"first {deep * columns} pictures" if each > 1 else "first picture"
    figure.suptitle(f"The {first} of each class", color=INK, fontsize=11)
    paper, ink = np.nanmin(pictures), np.nanmax(pictures)
    pictures = np.nan_to_num(pictures, nan=paper)
    for block, ax in enumerate(figure.subplots(1, blocks, squeeze=False)[0]):
        here = slice(block * tall, (block + 1) * tall)
        _mosaic(ax, pictures[here].reshape(-1, *picture), columns, paper, cmap="Greys", vmin=paper, vmax=ink)
        ax.set_yticks(range(0, deep * len(names[here]), deep), names[here])
        ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    return figure


def mistakes(
    X: ArrayLike,
    y_true: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    picture: tuple[int, int],
    *,
    n: int = 25,
) -> "Figure":
    """Draw the wrongly classified pictures the network was surest of, the worst first.

    Args:
        X: (rows, height * width) pictures, bright ink on dark, in any units; drawn as ink on paper.
        y_true: (rows,) class indices 0 ... K-1.
        probabilities: (rows, K), what the network believes.
        classes: the K class names.
        picture: (height, width) of the row-major pictures.
        n: draw at most this many.

    Raises:
        InputError: if the shapes do not match each other, n < 1, or matplotlib is not installed.

    """
    _at_least_one(n)
    X, p, K = np.asarray(X), np.asarray(probabilities), len(classes)
    true = indices("y_true", y_true, K)
    expected = (len(true), picture[0] * picture[1]), (len(true), K)
    if (X.shape, p.shape) != expected:
        raise InputError(f"expected X and probabilities of shapes {expected}, got {(X.shape, p.shape)}")
    believed, sureness = p.argmax(axis=1), p.max(axis=1)
    wrong = np.flatnonzero(believed != true)
    worst = wrong[np.argsort(-sureness[wrong], kind="stable")][:n]
    if not worst.size:
        figure = new_figure(4.8, 1.4)
        figure.text(0.5, 0.5, f"No mistakes: all {len(true)} are right.", ha="center", va="center", color=INK)
        return figure

    titles = [_belief(classes[believed[row]], sureness[row], classes[true[row]]) for row in worst]
    columns = min(len(worst), max(5, math.ceil(math.sqrt(len(worst)))))
    rows = math.ceil(len(worst) / columns)
    longest = max(len(line) for title in titles for line in title.split("\n"))
    deepest = max(title.count("\n") + 1 for title in titles)
    figure = new_figure(max(columns * (0.25 + 0.082 * longest), 4.6), rows * (1.2 + 0.16 * deepest) + 0.6)
    shown = f"The {len(worst)} worst of" if len(worst) < len(wrong) else "All"
    figure.suptitle(f"{shown} {len(wrong)} mistakes in {len(true)} pictures", color=INK, fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in grid:
        ax.set_axis_off()
    for ax, row, title in zip(grid, worst, titles, strict=False):
        ax.imshow(X[row].reshape(picture), cmap="Greys", interpolation="nearest")
        ax.set_title(title, fontsize=9, color=INK)
    return figure


def prediction(
    x: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    picture: tuple[int, int],
    *,
    truth: int | None = None,
) -> "Figure":
    """Draw one picture, and beside it how probable the network believes each class to be.

    Args:
        x: (height * width,) the picture, bright ink on dark, in any units; drawn as ink on paper.
        probabilities: (K,), what the network believes.
        classes: the K class names.
        picture: (height, width) of the row-major picture.
        truth: the true class index, where it is known; its bar says so.

    Raises:
        InputError: if the shapes do not match each other, or matplotlib is not installed.

    """
    x, p, K = np.asarray(x), np.asarray(probabilities), len(classes)
    expected = (picture[0] * picture[1],), (K,)
    if (x.shape, p.shape) != expected:
        raise InputError(f"expected x and probabilities of shapes {expected}, got {(x.shape, p.shape)}")
    if truth is not None:
        truth = int(indices("truth", [truth], K)[0])
    believed, names = int(p.argmax()), short(classes)

    width = 6.2 + 0.085 * max(map(len, names))
    figure = new_figure(width, max(0.24 * K + 1.2, 2.8))
    title = f"The network says {classes[believed]} ({_percent(p[believed], 1)})"
    title += "" if truth is None else f", the truth is {classes[truth]}"
    figure.suptitle(textwrap.fill(title, int(width / 0.095)), color=INK, fontsize=11)
    paper, bars = figure.subplots(1, 2, width_ratios=[2.2, 3.6])
    paper.imshow(x.reshape(picture), cmap="Greys", interpolation="nearest")
    paper.set_axis_off()
    paper.set_anchor("N")

    patches = bars.barh(range(K), 100 * p, color="#a9b4c0", height=min(0.15 * K, 0.72))
    if truth is not None:
        patches[truth].set(facecolor=ORANGE, hatch="///", edgecolor=INK, linewidth=0)
    patches[believed].set(facecolor=BLUE, hatch=None)
    for k in range(K):
        if k in (believed, truth) or p[k] >= 0.01:
            words = _percent(p[k], 1) + (", the truth" if k == truth else "")
            # More than half belongs to the class believed: there is room within its blue bar.
            side, space, colour = ("right", -1, "white") if p[k] > 0.5 else ("left", 1, INK)
            bars.text(100 * p[k] + space, k, words, ha=side, va="center_baseline", fontsize=9, color=colour)
    bars.set_xlim(0, 100)
    bars.set_ylim(K - 0.4, -0.6)
    bars.set_xlabel("probability (%)", color=INK)
    bars.set_yticks(range(K), names)
    bars.tick_params("both", color="#999999", labelcolor=INK, labelsize=9)
    bars.tick_params("y", length=0)
    if truth is not None:
        bars.get_yticklabels()[truth].set_fontweight("bold")
    bars.spines[["top", "right"]].set_visible(False)
    bars.spines[["left", "bottom"]].set_color("#999999")
    return figure


def weights(W: ArrayLike, picture: tuple[int, int], *, n: int = 100) -> "Figure":
    """Draw the weights that lead from the picture to each unit of the first hidden layer, unit by unit.

    All share one scale, symmetric around 0, at whose ends the strongest 0.5 % of the weights look alike. Its
    lightness falls from the lowest to the highest weight, so that signs stay apart in grey print, too: as on
    paper, dark is where a unit looks for ink.

    Args:
        W: (height * width, units), the first matrix that `mlp.layout.split` returns.
        picture: (height, width) of the row-major pictures.
        n: draw at most this many, the first ones.

    Raises:
        InputError: if the shapes do not match each other, n < 1, or matplotlib is not installed.

    """
    _at_least_one(n)
    W = np.asarray(W)
    if W.ndim != 2 or len(W) != picture[0] * picture[1] or not W.size:
        raise InputError(f"expected W of shape ({picture[0] * picture[1]}, units), got {W.shape}")
    units = min(W.shape[1], n)
    columns = math.ceil(math.sqrt(units))
    rows = math.ceil(units / columns)
    pictures = W.T[:units].reshape(units, *picture)

    size = 0.8 if columns <= 5 else 0.5  # inches
    figure = new_figure(max(size * columns + 0.4, 4.6), size * rows + 1.5)
    from matplotlib.colors import LinearSegmentedColormap

    shown = f"{units}" if units == W.shape[1] else f"first {units} of {W.shape[1]}"
    look = "units look" if W.shape[1] > 1 else "unit looks"
    figure.suptitle(f"What the {shown} hidden {look} for", color=INK, fontsize=11)
    ax = figure.subplots()
    limit = float(np.quantile(np.abs(pictures), 0.995)) or 1.0
    shades = LinearSegmentedColormap.from_list("ink", SHADES)
    image = _mosaic(
        ax, pictures, columns, np.nan, cmap=shades, vmin=-limit, vmax=limit, interpolation="nearest"
    )
    bar = figure.colorbar(
        image, ax=ax, location="bottom", aspect=30, shrink=0.9, extend="both", format="{x:g}"
    )
    bar.set_label(
        "weight\nlight: ink here quietens the unit; dark: ink here excites it", color=INK, fontsize=9
    )
    bar.ax.locator_params("x", nbins=5)
    bar.ax.tick_params(color="#999999", labelcolor=INK, labelsize=9)
    bar.outline.set_visible(False)
    return figure


def _mosaic(
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


def _at_least_one(n: int) -> None:
    if n < 1:
        raise InputError(f"expected to draw at least n = 1 picture, got n = {n}")


def _percent(probability: float, digits: int = 0) -> str:
    """Return `probability` in per cent, never rounded to certain or to impossible."""
    step = 10.0 ** -(digits + 2)
    if probability > 1 - step:
        return f">{1 - step:.{digits}%}"
    return f"<{step:.{digits}%}" if probability < step else f"{probability:.{digits}%}"


def _belief(believed: str, probability: float, truth: str) -> str:
    """Return the words above one mistake, folded to about the width of a picture."""
    said = f"believed {believed}, {_percent(probability)}", f"truth {truth}"
    return "\n".join(textwrap.fill(part, 24) for part in said)
