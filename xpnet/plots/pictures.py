"""Pictures of the data, and what a network predicts for them."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from xpnet.errors import InputError, format_count
from xpnet.plots.shared import (
    BLUE,
    INK,
    ORANGE,
    at_least_one,
    indices,
    new_figure,
    percent,
    plain,
    short,
    style,
)
from xpnet.plots.tiles import gallery, mosaic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["examples", "mistakes", "prediction"]


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
    at_least_one(n, "picture")
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
        mosaic(ax, pictures[here].reshape(-1, *picture), columns, paper, cmap="Greys", vmin=paper, vmax=ink)
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
    part: str = "",
    n: int = 25,
) -> "Figure":
    """Draw the misclassified pictures whose predicted class was most probable, the most probable first.

    Args:
        X: (rows, height * width) pictures, bright ink on dark, in any units; drawn as ink on paper.
        y_true: (rows,) true class indices 0 ... K-1.
        probabilities: (rows, K) predicted probabilities.
        classes: the K class names.
        picture: (height, width) of the row-major pictures.
        part: the part of the data that the pictures are, such as "test"; the title names it.
        n: draw at most this many.

    Raises:
        InputError: if the shapes do not match each other, n < 1, or matplotlib is not installed.

    """
    at_least_one(n, "picture")
    X, p, K = np.asarray(X), np.asarray(probabilities), len(classes)
    true = indices("y_true", y_true, K)
    expected = (len(true), picture[0] * picture[1]), (len(true), K)
    if (X.shape, p.shape) != expected:
        raise InputError(f"expected X and probabilities of shapes {expected}, got {(X.shape, p.shape)}")
    predicted, confidence = p.argmax(axis=1), p.max(axis=1)
    wrong = np.flatnonzero(predicted != true)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:n]
    pictures = format_count(len(true), f"{part} picture".strip())
    if not worst.size:
        figure = new_figure(4.8, 1.4)
        figure.text(0.5, 0.5, f"No mistakes in {pictures}", ha="center", va="center", color=INK)
        return figure

    titles = [
        [
            f"predicted {classes[predicted[row]]}, {_probability(confidence[row])}",
            f"true class {classes[true[row]]}",
        ]
        for row in worst
    ]
    heading = f"{format_count(len(wrong), 'mistake')} in {pictures}"
    if len(worst) < len(wrong):
        heading = f"The {len(worst):,} most confident of {heading}"
    figure, grid = gallery(titles, heading)
    for ax, row in zip(grid, worst, strict=True):
        ax.imshow(X[row].reshape(picture), cmap="Greys", interpolation="nearest")
    return figure


def prediction(
    x: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str],
    picture: tuple[int, int],
    *,
    true_class: int | None = None,
) -> "Figure":
    """Draw one picture, and beside it the predicted probability of each class.

    Args:
        x: (height * width,) the picture, bright ink on dark, in any units; drawn as ink on paper.
        probabilities: (K,) predicted probabilities.
        classes: the K class names.
        picture: (height, width) of the row-major picture.
        true_class: the index of the true class, where it is known; its bar says so.

    Raises:
        InputError: if the shapes do not match each other, or matplotlib is not installed.

    """
    x, p, K = np.asarray(x), np.asarray(probabilities), len(classes)
    expected = (picture[0] * picture[1],), (K,)
    if (x.shape, p.shape) != expected:
        raise InputError(f"expected x and probabilities of shapes {expected}, got {(x.shape, p.shape)}")
    if true_class is not None:
        true_class = int(indices("true_class", [true_class], K)[0])
    predicted, names = int(p.argmax()), short(classes)

    width = 6.2 + 0.085 * max(map(len, names))
    figure = new_figure(width, max(0.24 * K + 1.2, 2.8))
    title = f"Predicted {plain(classes[predicted])}, {_probability(p[predicted], 1)}"
    title += "" if true_class is None else f" (true class {plain(classes[true_class])})"
    figure.suptitle(textwrap.fill(title, int(width / 0.095)), color=INK, fontsize=11)
    paper, bars = figure.subplots(1, 2, width_ratios=[2.2, 3.6])
    paper.imshow(x.reshape(picture), cmap="Greys", interpolation="nearest")
    paper.set_axis_off()
    paper.set_anchor("N")

    patches = bars.barh(range(K), 100 * p, color="#a9b4c0", height=min(0.15 * K, 0.72))
    if true_class is not None:
        patches[true_class].set(facecolor=ORANGE, hatch="///", edgecolor=INK, linewidth=0)
    patches[predicted].set(facecolor=BLUE, hatch=None)
    for k in range(K):
        if k in (predicted, true_class) or p[k] >= 0.01:
            words = _probability(p[k], 1) + (", true class" if k == true_class else "")
            # Only the predicted class can be above one half. The text then fits into its blue bar.
            side, space, colour = ("right", -1, "white") if p[k] > 0.5 else ("left", 1, INK)
            bars.text(100 * p[k] + space, k, words, ha=side, va="center_baseline", fontsize=9, color=colour)
    bars.set_xlim(0, 100)
    bars.set_ylim(K - 0.4, -0.6)
    style(bars)
    bars.set_xlabel("probability (%)", color=INK)
    bars.set_yticks(range(K), names)
    bars.tick_params("y", length=0)
    if true_class is not None:
        bars.get_yticklabels()[true_class].set_fontweight("bold")
    return figure


def _probability(p: float, digits: int = 0) -> str:
    """Return `p` in percent, never rounded to certain or to impossible."""
    step = 10.0 ** -(digits + 2)
    if p > 1 - step:
        return f">{percent(1 - step, digits)}"
    return f"<{percent(step, digits)}" if p < step else percent(p, digits)
