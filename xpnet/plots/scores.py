"""How a network learned, and what it confuses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpnet.errors import InputError
from xpnet.plots.shared import BLUE, INK, ORANGE, indices, new_figure, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion", "curves"]


def curves(history: Sequence[Mapping[str, float]], *, ax: "Axes | None" = None) -> "Figure":
    """Draw the loss, and beside it the accuracy (or R²) where there is one, against the epoch.

    Args:
        history: one mapping per epoch with `epoch` and `train_loss`, and in any of them `validation_loss` and
            `validation_accuracy` (0 ... 1) or `validation_r2`.
        ax: draw here instead of in a new figure; then only the loss is drawn.

    Raises:
        InputError: if the history holds no `train_loss`, or matplotlib is not installed.
    """
    if not any("epoch" in row and "train_loss" in row for row in history):
        raise InputError("expected a history with `epoch` and `train_loss`, got none; train before drawing")
    scores = {"validation_accuracy": ("accuracy (%)", 100.0), "validation_r2": ("R²", 1.0)}
    score = next(
        (key for key in scores if ax is None and any(row.get(key) is not None for row in history)), None
    )
    panels = 1 if score is None else 2
    loss_ax, *score_ax = [ax] if ax else new_figure(4.8 * panels, 3.6).subplots(1, panels, squeeze=False)[0]

    _, training = _line(loss_ax, history, "train_loss", label="training", color=BLUE, marker="o")
    _, held_out = _line(
        loss_ax, history, "validation_loss", label="validation", color=ORANGE, marker="s", linestyle="--"
    )
    losses = np.concatenate([training, held_out])
    wide = losses.min() > 0 and losses.max() > 20 * losses.min()
    if wide:
        loss_ax.set_yscale("log")
        loss_ax.yaxis.set_major_formatter("{x:g}")
    _panel(loss_ax, "Loss", "loss (log scale)" if wide else "loss")
    loss_ax.legend(frameon=False, labelcolor=INK)

    if score is not None:
        label, factor = scores[score]
        style = {"color": ORANGE, "marker": "s", "linestyle": "--"}
        epochs, values = _line(score_ax[0], history, score, factor=factor, **style)
        best = int(np.argmax(values))
        score_ax[0].plot(epochs[best], values[best], "*", color=INK, markersize=12)
        shown = f"{values[best]:.1f}%" if factor == 100 else f"{values[best]:.3f}"
        _panel(score_ax[0], f"Validation: best {shown} after epoch {epochs[best]:.0f}", label)
    return loss_ax.figure.figure


def confusion(
    y_true: ArrayLike, y_pred: ArrayLike, classes: Sequence[str], *, ax: "Axes | None" = None
) -> "Figure":
    """Draw how often each class (a row) was taken for each class (a column), and each row's recall.

    Shades are the square root of the share of the row, so that rare mistakes show; an empty cell is 0.

    Args:
        y_true: (n,) class indices 0 ... K-1, the truth.
        y_pred: (n,) class indices 0 ... K-1, what the network believed.
        classes: the K class names.
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
        ax = new_figure(max(cell * (K + 1.4) + beside, 3.4), cell * K + below).subplots()
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)
    size = min(11.0, 72 * cell / (0.62 * max(len(str(counts.max())), 3) + 0.5))
    for row, column in np.argwhere(counts):
        colour = "white" if share[row, column] > 0.36 else INK
        ax.text(column, row, counts[row, column], ha="center", va="center", fontsize=size, color=colour)
    for row in range(K):
        recall = f"{share[row, row]:.0%}" if rows[row] else "–"
        ax.text(K + 0.2, row, recall, ha="center", va="center", fontsize=size, color=INK)

    ax.set_xlim(-0.5, K + 0.9)
    ax.set_xticks([*range(K), K + 0.2], [*names, "recall"])
    for text in ax.get_xticklabels()[:K]:
        text.set_rotation(90 if upright else 0)
    ax.set_yticks(range(K), names)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("what the network believed", color=INK)
    ax.set_ylabel("truth", color=INK)
    right = np.trace(counts)
    ax.set_title(f"{right} of {len(true)} right ({right / max(len(true), 1):.1%})", color=INK)
    return ax.figure.figure


def _line(
    ax: "Axes", history: Sequence[Mapping[str, float]], key: str, *, factor: float = 1.0, **style: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw `key` for the epochs that have it; return those epochs and the values drawn."""
    points = [(row["epoch"], factor * row[key]) for row in history if row.get(key) is not None]
    epochs, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    if points:
        every = max(1, len(points) // 20)
        ax.plot(epochs, values, linewidth=1.8, markersize=4, markevery=every, **style)
    return epochs, values


def _panel(ax: "Axes", title: str, label: str) -> None:
    ax.set_title(title, color=INK)
    ax.set_xlabel("epoch", color=INK)
    ax.set_ylabel(label, color=INK)
    ax.locator_params("x", integer=True, min_n_ticks=1)
    first, last = ax.get_xlim()
    if last - first < 1:  # a single epoch
        ax.set_xlim(first - 0.5, last + 0.5)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(color="#999999", labelcolor=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#999999")
