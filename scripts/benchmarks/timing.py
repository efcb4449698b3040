"""Timing. Contestants take turns, so that whatever slows the machine down slows all of them down."""

import gc
import time

import numpy as np

WARM_UPS = 2
# Seconds before each measurement: idle thread pools spin for a while, which slows down the next contestant.
PAUSE = 0.2


def time_in_turns(works, repeats, *, warm_ups=WARM_UPS, pause=PAUSE, clock=time.perf_counter):
    """Call all functions in turns, A B C A B C ..., and return the seconds of each call.

    Args:
        works: {name: function}. A function returns when its work is done, also on a GPU.
        repeats: timed rounds, after `warm_ups` rounds that are not timed.

    Returns:
        {name: [seconds, ...]}, where entries of the same index are from the same round.
    """
    seconds = {name: [] for name in works}
    for turn in range(warm_ups + repeats):
        gc.collect()
        gc.disable()
        try:
            for name, work in works.items():
                time.sleep(pause if turn >= warm_ups else 0.0)
                began = clock()
                work()
                seconds[name].append(clock() - began)
        finally:
            gc.enable()
    return {name: times[warm_ups:] for name, times in seconds.items()}


def summary(values):
    """Return {"median", "quartiles": [lower, upper], "best"} of some numbers, as floats; best is smallest."""
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartiles": [float(lower), float(upper)], "best": float(min(values))}


def ratio(values, others):
    """Return the `summary` of values[i] / others[i].

    Both are from the same round, so that a slow machine affects both.
    """
    return summary(np.asarray(values) / np.asarray(others))


def exponent(x, y):
    """Return the k of y = c xᵏ that fits the upper half of the points best (least squares of the logarithms).

    >>> exponent([1, 2, 4, 8], [5, 1, 4, 16])
    2.0
    """
    upper = len(x) // 2 if len(x) > 3 else 0
    slope = np.polyfit(np.log(x[upper:]), np.log(y[upper:]), 1)[0]
    return round(float(slope), 3)
