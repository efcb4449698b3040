"""The pictures of the benchmark: bars in units of xpnet, lines in double logarithms."""

import math
from itertools import cycle
from typing import NamedTuple

import numpy as np

from xpnet.plots.shared import BLUE, INK, ORANGE, new_figure

GREY, LIGHT_BLUE, PALE = "#9a9a9a", "#6f9fd0", "#d9d9d9"


class Bar(NamedTuple):
    """A contestant: its value with quartiles, in units of the first one's, and what to write beside it."""

    name: str
    value: float
    quartiles: list[float]
    text: str
    disqualified: bool = False


def bar(found, text):
    """Return the bar of a contestant from its ratio xpnet / it."""
    ratio = found["ratio"]
    quartiles = [1 / quartile for quartile in reversed(ratio["quartiles"])]
    return Bar(found["name"], 1 / ratio["median"], quartiles, text, bool(found["disqualified"]))


def check():
    """Raise xpnet's InputError if matplotlib is not there."""
    new_figure(1, 1)


def colour(name):
    """xpnet is blue, the yardsticks are pale, all others are grey."""
    if name.startswith("xpnet"):
        return BLUE if "numpy" in name or "cupy" in name else LIGHT_BLUE
    return PALE if name in ("floor", "hand-written") else GREY


def bars(panels, title, path, *, limit=4.0):
    """Draw horizontal bars, {panel: [Bar, ...]}. What is longer than `limit` is cut, and says so."""
    tall = max(len(bars) for bars in panels.values())
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(5.2 * columns, rows * (0.9 + 0.27 * tall))
    figure.suptitle(title, color=INK, fontsize=12)
    for ax, (name, found) in zip(
        figure.subplots(rows, columns, squeeze=False).flat, panels.items(), strict=False
    ):
        _panel(ax, name, found, min(limit, 1.15 * max(bar.quartiles[1] for bar in found)))
    for ax in figure.axes[len(panels) :]:
        ax.set_axis_off()
    figure.savefig(path)


def _panel(ax, name, found, limit):
    places = np.arange(len(found))
    for place, bar in zip(places, found, strict=True):
        shown = min(bar.value, limit)
        ax.barh(
            place,
            shown,
            0.72,
            color=ORANGE if bar.disqualified else colour(bar.name),
            hatch="//" if bar.disqualified else None,
        )
        low, high = (min(q, limit) for q in bar.quartiles)
        if bar.value < limit:
            ax.plot([low, high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        beyond = f"{bar.value:.1f} ▸  " if bar.value >= limit else f"{bar.value:.2f}   "
        text = beyond + bar.text + ("   disqualified" if bar.disqualified else "")
        # Its white paper keeps the line at 1 out of the letters.
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        ax.text(
            *(max(shown, high) + 0.02 * limit, place, text), va="center", color=INK, fontsize=7.5, bbox=paper
        )
    ax.axvline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.5)
    ax.set_title(name, loc="left", color=INK, fontsize=10)
    ax.set_yticks(places, [bar.name for bar in found])
    ax.set_xlim(0, 1.32 * limit)
    ax.invert_yaxis()
    _plain(ax)


def _plain(ax):
    ax.tick_params(labelsize=8, labelcolor=INK, color=INK, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


class Line(NamedTuple):
    """A contestant: its value at each size, with the range to shade or None."""

    name: str
    values: list[float]
    spread: list[list[float]] | None


def scaling(panels, path):
    """Draw (axis, sizes, time lines, arithmetic of the time, memory lines, of the memory), a column each."""
    figure = new_figure(max(3.3 * len(panels), 5.0), 5.6)
    figure.suptitle(
        "time per step (best, shaded to the upper quartile) and peak memory; dashed: arithmetic",
        color=INK,
        fontsize=12,
    )
    axes = figure.subplots(2, len(panels), squeeze=False)
    for (above, below), (name, sizes, time, time_needs, memory, memory_needs) in zip(
        axes.T, panels, strict=True
    ):
        _lines(above, sizes, time, time_needs)
        _lines(below, sizes, memory, memory_needs)
        above.set_title(name, color=INK, fontsize=10)
        below.set_xlabel(name, color=INK, fontsize=9)
    axes[0, 0].set_ylabel("µs per step", color=INK, fontsize=9)
    axes[1, 0].set_ylabel("MB at the peak", color=INK, fontsize=9)
    axes[0, 0].legend(frameon=False, fontsize=8, labelcolor=INK)
    figure.savefig(path)


def _lines(ax, sizes, lines, needs):
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    shades = iter((BLUE, ORANGE, LIGHT_BLUE, GREY, INK, PALE))
    for line, shade in zip(lines, shades, strict=False):
        ax.plot(sizes, line.values, "o-", color=shade, markersize=3.5, linewidth=1.4, label=line.name)
        if line.spread:
            ax.fill_between(sizes, *np.transpose(line.spread), color=shade, alpha=0.2, linewidth=0)
    if lines:
        upper = slice(len(sizes) // 2 if len(sizes) > 3 else 0, None)
        through = lines[0].values[-1] / needs[-1]
        ax.plot(sizes[upper], [through * need for need in needs[upper]], "--", color=INK, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high < 10 * low:  # a decade at least, so that what is flat looks flat
        middle = (low * high) ** 0.5
        ax.set_ylim(middle / 10**0.5, middle * 10**0.5)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(color=PALE, linewidth=0.5)
    ax.set_axisbelow(True)
    _plain(ax)


def accuracy(curves, targets, what, path):
    """Draw accuracy against seconds, {name: [[[seconds, accuracy], ...] of each seed]}."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = new_figure(7.4, 4.6)
    ax = figure.subplots()
    blues, others = cycle((BLUE, LIGHT_BLUE, "#2f7f6f", "#7a5195")), cycle((ORANGE, GREY, INK))
    for name, seeds in curves.items():
        shade = next(blues if name.startswith("xpnet") else others)
        for i, points in enumerate(seeds):
            seconds, right = np.transpose(points)
            ax.plot(
                *(seconds, 1.0 - right, "o-"),
                **{"color": shade, "markersize": 2.5, "linewidth": 1.1, "alpha": 0.8},
                label=None if i else name,
            )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.invert_yaxis()
    for target in targets:
        ax.axhline(1.0 - target, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.5)
    ticks = [each for each in (0.9, 0.95) if 1.0 - each < max(ax.get_ylim())]
    ax.set_yticks([1.0 - tick for tick in (*ticks, *targets)])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{100 * (1 - error):g} %"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    ax.set_xlabel("seconds of training", color=INK, fontsize=9)
    ax.set_title(f"test accuracy on {what} after each epoch, a line for each seed", color=INK, fontsize=11)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    _plain(ax)
    figure.savefig(path)


def milliseconds(panels, title, path):
    """Draw horizontal bars, {panel: {name: summary}}, each panel with an axis of its own from 0."""
    figure = new_figure(9.6, 1.6 + 1.9 * math.ceil(len(panels) / 2))
    figure.suptitle(title, color=INK, fontsize=12)
    axes = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False).flat
    for ax, (name, found) in zip(axes, panels.items(), strict=False):
        for place, (what, times) in enumerate(found.items()):
            shade = BLUE if "xpnet" in what else GREY
            ax.barh(place, times["median"], 0.72, color=shade)
            ax.plot(times["quartiles"], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
            text = f"  {times['median']:,.{0 if times['median'] >= 100 else 1}f}"
            ax.text(max(times["median"], times["quartiles"][1]), place, text, **_SMALL)
        ax.set_yticks(range(len(found)), list(found))
        ax.set_xlim(0, 1.2 * max(times["quartiles"][1] for times in found.values()))
        ax.set_title(name, loc="left", color=INK, fontsize=10)
        ax.invert_yaxis()
        _plain(ax)
    figure.savefig(path)


_SMALL = {"va": "center", "color": INK, "fontsize": 7.5}
