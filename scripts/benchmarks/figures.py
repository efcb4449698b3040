"""The figures of the benchmark."""

import math
from itertools import cycle
from typing import NamedTuple

import numpy as np

from xpnet.plots.shared import BLUE, INK, ORANGE, new_figure

GREY, LIGHT_BLUE, PALE = "#9a9a9a", "#6f9fd0", "#d9d9d9"


class Bar(NamedTuple):
    """A contestant: its time relative to the first one's, with quartiles, and the text beside it."""

    name: str
    value: float
    quartiles: list[float]
    text: str
    disqualified: bool = False


def make_bar(found, text):
    """Return the bar of a contestant from its result."""
    ratio = found["ratio"]
    quartiles = [1 / quartile for quartile in reversed(ratio["quartiles"])]
    return Bar(found["name"], 1 / ratio["median"], quartiles, text, bool(found["disqualified"]))


def check_matplotlib():
    """Raise InputError if matplotlib is not installed."""
    new_figure(1, 1)


def choose_colour(name):
    """Return blue for xpnet, a pale grey for the baselines and grey for all others."""
    if name.startswith("xpnet"):
        return BLUE if "numpy" in name or "cupy" in name else LIGHT_BLUE
    return PALE if name in ("floor", "hand-written") else GREY


def draw_relative(panels, title, first, path, *, limit=4.0):
    """Draw times relative to those of `first` as horizontal bars, {panel: [Bar, ...]}, cut at `limit`."""
    tall = max(len(bars) for bars in panels.values())
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(5.2 * columns, rows * (0.9 + 0.27 * tall))
    figure.suptitle(f"{title} relative to {first}", color=INK, fontsize=12)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax, (name, found) in zip(axes.flat, panels.items(), strict=False):
        _draw_panel(ax, name, found, min(limit, 1.15 * max(bar.quartiles[1] for bar in found)))
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax in axes[-1]:
        ax.set_xlabel(f"time / time of {first}", color=INK, fontsize=9)
    figure.savefig(path)


def _draw_panel(ax, name, found, limit):
    places = np.arange(len(found))
    for place, bar in zip(places, found, strict=True):
        shown = min(bar.value, limit)
        ax.barh(
            place,
            shown,
            0.72,
            color=ORANGE if bar.disqualified else choose_colour(bar.name),
            hatch="//" if bar.disqualified else None,
        )
        low, high = (min(q, limit) for q in bar.quartiles)
        if bar.value < limit:
            ax.plot([low, high], [place, place], color=INK, linewidth=1.2, solid_capstyle="butt")
        beyond = f"{bar.value:.1f} ▸  " if bar.value >= limit else f"{bar.value:.2f}   "
        text = beyond + bar.text + ("   disqualified" if bar.disqualified else "")
        # On white, so that the line at 1 does not cross the letters.
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        ax.text(max(shown, high) + 0.02 * limit, place, text, bbox=white, **_SMALL)
    ax.axvline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0.5)
    ax.set_title(name, loc="left", color=INK, fontsize=10)
    ax.set_yticks(places, [bar.name for bar in found])
    ax.set_xlim(0, 1.32 * limit)
    ax.invert_yaxis()
    _style(ax)


def _style(ax):
    ax.tick_params(labelsize=8, labelcolor=INK, color=INK, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


class Line(NamedTuple):
    """A contestant: its value at each size, and the ranges to shade or None."""

    name: str
    values: list[float]
    spread: list[list[float]] | None


def draw_scaling(panels, path):
    """Draw time above memory, a column for each axis.

    Args:
        panels: (axis, sizes, time lines, theoretical time, memory lines, theoretical memory) of each axis.
    """
    figure = new_figure(max(3.3 * len(panels), 5.0), 5.6)
    title = "Time per training step (best, shaded up to the upper quartile) and peak memory"
    figure.suptitle(f"{title}\ndashed: theoretical growth", color=INK, fontsize=11)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for (above, below), (name, sizes, time, time_needs, memory, memory_needs) in zip(
        axes.T, panels, strict=True
    ):
        _draw_lines(above, sizes, time, time_needs)
        _draw_lines(below, sizes, memory, memory_needs)
        below.set_xlabel(name, color=INK, fontsize=9)
    axes[0, 0].set_ylabel("time per step (µs)", color=INK, fontsize=9)
    axes[1, 0].set_ylabel("peak memory (MB)", color=INK, fontsize=9)
    axes[0, 0].legend(frameon=False, fontsize=8, labelcolor=INK)
    figure.savefig(path)


def _draw_lines(ax, sizes, lines, needs):
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
    if high < 10 * low:  # at least a decade, so that a constant looks constant
        middle = (low * high) ** 0.5
        ax.set_ylim(middle / 10**0.5, middle * 10**0.5)
    _label_logarithms(ax.yaxis, high / low)
    _label_logarithms(ax.xaxis, sizes[-1] / sizes[0])
    ax.grid(color=PALE, linewidth=0.5)
    ax.set_axisbelow(True)
    _style(ax)


def _label_logarithms(axis, factor):
    """Label each decade of an axis, and 2 and 5 times it where the axis covers only a small factor."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if factor < 30 else (1,)))
    axis.set_major_formatter(_format_tick)
    axis.set_minor_formatter(NullFormatter())


def _format_tick(x, position):
    return f"{x:,.10g}"


def draw_accuracy(curves, targets, what, path):
    """Draw accuracy against time, {name: [[[seconds, accuracy], ...] of each seed]}."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = new_figure(7.4, 4.6)
    ax = figure.subplots()
    blues, others = cycle((BLUE, LIGHT_BLUE, "#2f7f6f", "#7a5195")), cycle((ORANGE, GREY, INK))
    for name, seeds in curves.items():
        shade = next(blues if name.startswith("xpnet") else others)
        for i, points in enumerate(seeds):
            seconds, accuracy = np.transpose(points)
            ax.plot(
                *(seconds, 1.0 - accuracy, "o-"),
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
    ax.yaxis.set_major_formatter(lambda error, _: f"{100 * (1 - error):g} %")
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(_format_tick)
    ax.set_xlabel("training time (s)", color=INK, fontsize=9)
    ax.set_ylabel("test accuracy", color=INK, fontsize=9)
    ax.set_title(f"Test accuracy on {what} after each epoch, one line per seed", color=INK, fontsize=11)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    _style(ax)
    figure.savefig(path)


def draw_milliseconds(panels, title, path):
    """Draw times as horizontal bars, {panel: {name: summary}}."""
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
        ax.xaxis.set_major_formatter(_format_tick)
        ax.invert_yaxis()
        _style(ax)
    figure.savefig(path)


_SMALL = {"va": "center", "color": INK, "fontsize": 7.5}
