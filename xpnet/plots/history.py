"""How a network learned, epoch by epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError
from xpnet.plots.shared import BLUE, INK, ORANGE, describe, new_figure, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]


class Quantity(NamedTuple):
    """What is drawn under `train_KEY` and `validation_KEY` of a record."""

    name: str
    axis: str
    factor: float
    format: Callable[[float], str]


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e3 else f"{value:,.0f}"


QUANTITIES = {
    "loss": Quantity("loss", "loss", 1.0, _number),
    "accuracy": Quantity("accuracy", "accuracy (%)", 100.0, lambda value: percent(value / 100)),
    "r2": Quantity("R²", "R²", 1.0, _number),
}


def curves(
    history: Sequence[Mapping[str, float]],
    *,
    kept: int | None = None,
    loss_includes: Sequence[str] = (),
    ax: "Axes | None" = None,
) -> "Figure":
    """Draw the loss, and beside it the accuracy (or R²) where there is one, against the epoch.

    A star marks the epoch whose parameters were kept, a diamond the best epoch where that is another one.

    Args:
        history: one mapping per epoch with `epoch` and `train_loss`, and in any of them `validation_loss` and
            `train_accuracy`, `validation_accuracy` (0 ... 1) or `train_r2`, `validation_r2`.
        kept: the epoch whose parameters were kept; None: the last one.
        loss_includes: what is part of the training loss but not of the validation loss, such as
            "label smoothing"; the legend names it.
        ax: draw here instead of in a new figure; then only the loss is drawn.

    Raises:
        InputError: if the history holds no `train_loss` or not the epoch kept, or matplotlib is not
            installed.
    """
    epochs = [row["epoch"] for row in history if "epoch" in row and "train_loss" in row]
    if not epochs:
        raise InputError("expected a history with `epoch` and `train_loss`, got none; train before drawing")
    kept = int(epochs[-1]) if kept is None else kept
    if kept not in epochs:
        raise InputError(f"kept: expected an epoch of the history, {epochs[0]} ... {epochs[-1]}, got {kept}")
    score = None
    if ax is None:
        known = {key for row in history for key, value in row.items() if value is not None}
        score = next(
            (key for key in ("accuracy", "r2") if {f"train_{key}", f"validation_{key}"} & known), None
        )
    panels = 1 if score is None else 2
    loss_ax, *score_ax = [ax] if ax else new_figure(4.8 * panels, 3.8).subplots(1, panels, squeeze=False)[0]

    mean = "training (mean during the epoch"
    mean += f",\nwith {' and '.join(loss_includes)})" if loss_includes else ")"
    names = (mean, "validation (after the epoch)")
    _panel(loss_ax, history, "loss", kept, names)
    if score is not None:
        _panel(score_ax[0], history, score, kept, ("training", "validation"))
    return loss_ax.figure.figure


def _panel(
    ax: "Axes",
    history: Sequence[Mapping[str, float]],
    key: str,
    kept: int,
    names: tuple[str, str],
) -> None:
    """Draw `key` of training and validation under `names`, and mark the epoch kept and the best one."""
    name, label, factor, form = QUANTITIES[key]
    training = _line(ax, history, f"train_{key}", factor, label=names[0], color=BLUE, marker="o")
    validation = _line(
        ax, history, f"validation_{key}", factor, label=names[1], color=ORANGE, marker="s", linestyle="--"
    )
    part, (epochs, values) = ("Validation", validation) if len(validation[0]) else ("Training", training)
    title = f"{part} {name}"
    mark: dict[str, Any] = {"color": INK, "linestyle": "none", "zorder": 3}
    at_kept = values[epochs == kept]
    if at_kept.size:
        title += f": {form(at_kept[0])} at epoch {kept:,} (kept)"
        ax.plot(kept, at_kept[0], marker="*", markersize=13, label="kept", **mark)
    word, best = ("lowest", values.argmin()) if key == "loss" else ("highest", values.argmax())
    # A difference that the titles would not show is none worth a mark.
    if not at_kept.size or form(at_kept[0]) != form(values[best]):
        title += f"\n{word}: {form(values[best])} at epoch {epochs[best]:,.0f}"
        ax.plot(
            epochs[best], values[best], marker="D", markersize=8, markerfacecolor="none", label=word, **mark
        )

    drawn = np.concatenate([training[1], validation[1]])
    if key == "loss" and drawn.min() > 0 and drawn.max() > 20 * drawn.min():
        ax.set_yscale("log")
        label += " (log scale)"
    ax.locator_params("x", integer=True, min_n_ticks=1)
    first, last = ax.get_xlim()
    if last - first < 1:  # a single epoch
        ax.set_xlim(first - 0.5, last + 0.5)
    describe(ax, title, "epoch", label)
    ax.legend(loc="best", frameon=False, labelcolor=INK, fontsize=9)  # said, or it warns when it is slow


def _line(
    ax: "Axes", history: Sequence[Mapping[str, float]], key: str, factor: float, **look: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw `key` for the epochs that have it; return those epochs and the values drawn."""
    points = [(row["epoch"], factor * row[key]) for row in history if row.get(key) is not None]
    epochs, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    if points:
        every = max(1, len(points) // 20)
        ax.plot(epochs, values, linewidth=1.8, markersize=4, markevery=every, **look)
    return epochs, values
