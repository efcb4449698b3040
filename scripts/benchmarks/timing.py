"""Timing of several contestants in one run, in turns, so that what slows the machine slows them all."""

import gc
import time

import numpy as np

WARM_UPS = 2
# Thread pools wait for more work before they sleep, at the cost of whoever comes next.
PAUSE = 0.03


def in_turns(contestants, repeats, *, warm_ups=WARM_UPS, pause=PAUSE, clock=time.perf_counter):
    """Run all contestants A B C A B C ... and return the seconds of each call.

    Args:
        contestants: {name: function}; a function returns when its work is done, on a GPU, too.
        repeats: rounds that count, after `warm_ups` that do not.

    Returns:
        {name: [seconds, ...]}: entry i of all names is from the same round.
    """
    seconds = {name: [] for name in contestants}
    for turn in range(warm_ups + repeats):
        gc.collect()
        gc.disable()
        try:
            for name, work in contestants.items():
                time.sleep(pause if turn >= warm_ups else 0.0)
                began = clock()
                work()
                seconds[name].append(clock() - began)
        finally:
            gc.enable()
    return {name: times[warm_ups:] for name, times in seconds.items()}


def summary(values):
    """Return {"median", "quartiles": [lower, upper], "best"} of some numbers, as floats."""
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "quartiles": [float(lower), float(upper)], "best": float(min(values))}


def ratio(values, others):
    """Return the `summary` of values[i] / others[i].

    Taken round by round: what slowed the machine in a round slowed both.
    """
    return summary(np.asarray(values) / np.asarray(others))


def exponent(x, y):
    """Return k of y = c xᵏ, fitted to the upper half of the points by least squares between the logarithms.

    >>> exponent([1, 2, 4, 8], [5, 1, 4, 16])
    2.0
    """
    upper = len(x) // 2 if len(x) > 3 else 0
    slope = np.polyfit(np.log(x[upper:]), np.log(y[upper:]), 1)[0]
    return round(float(slope), 3)
