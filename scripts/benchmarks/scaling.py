"""`scaling`: time per step and peak memory as width, depth, batch and rows grow.

A power of the size is fitted to the upper half of the points. The same is done with what the arithmetic asks
for, counted exactly: operations and bytes moved for the time, bytes held for the memory. Nothing may grow
faster than that.
"""

import gc
import math
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from benchmarks import figures
from benchmarks.contestants import Task, XPNet, chosen_peers, label
from benchmarks.data import random_rows
from benchmarks.timing import exponent, in_turns, summary
from xpnet.data.batches import shuffle

HELP = "time per step and peak memory against width, depth, batch and number of rows"
# An exponent may be larger than that of the arithmetic by this much: a fit to a few noisy points.
TOLERANCE = 0.15
FETCH = "the batch from memory alone"
# A measurement takes at least this long.
SECONDS = 0.03


class Axis(NamedTuple):
    """What grows: its values, those of --quick, and the (sizes, batch, rows) that belong to a value."""

    values: tuple[int, ...]
    quick: tuple[int, ...]
    network: Callable[[int], tuple[tuple[int, ...], int, int]]
    what: str
    fetches: bool = False  # whether to measure how long the batches take to come from memory


def doubling(first, last, factor=2):
    return tuple(first * factor**i for i in range(round(math.log(last / first, factor)) + 1))


AXES = {
    "width": Axis(
        doubling(16, 4096), (16, 32, 64), lambda k: ((784, k, k, 10), 128, 512), "784-k-k-10, batch 128"
    ),
    "depth": Axis(
        doubling(1, 16),
        (1, 2, 4),
        lambda k: ((784, *(256,) * k, 10), 128, 1024),
        "784, k layers of 256, 10, batch 128",
    ),
    "batch": Axis(doubling(1, 16384), (1, 8, 64), lambda k: ((784, 100, 10), k, max(k, 1024)), "784-100-10"),
    "rows": Axis(
        (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        (1000, 2000, 4000),
        lambda k: ((64, 100, 10), 100, k),
        "64-100-10, batch 100",
        fetches=True,
    ),
}


def add_arguments(parser):
    parser.add_argument("--axis", action="append", choices=list(AXES), help="repeatable (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few small sizes: to see that it runs")


def run(arguments):
    # Peers are for those who ask: without them a run takes two minutes.
    peers, left_out = chosen_peers(arguments.peers or ["none"], arguments.device)
    makers = {label(backend): lambda task, b=backend: XPNet(task, b) for backend in arguments.backends}
    makers |= {name: peer.make for name, peer in peers.items()}
    memory = {label(backend): memory_meter(backend) for backend in arguments.backends}
    axes = [
        measure_axis(name, arguments, makers, memory) for name in dict.fromkeys(arguments.axis or list(AXES))
    ]
    left_out |= {f"memory of {name}": "nothing counts it" for name in makers if not memory.get(name)}
    return {
        "data": "random rows",
        "device": arguments.device,
        "tolerance": TOLERANCE,
        "axes": axes,
        "skipped": {**arguments.left_out, **left_out},
    }


def measure_axis(name, arguments, makers, memory):
    axis = AXES[name]
    values = axis.quick if arguments.quick else axis.values
    repeats = arguments.repeats or (1 if arguments.quick else 5)
    tasks = {value: task_of(axis, value, arguments.device) for value in values}
    # All sizes take turns, too: what slows the machine for a while must not bend the curve.
    contestants = {(who, value): make(tasks[value]) for who, make in makers.items() for value in values}
    if axis.fetches:
        contestants |= {(FETCH, value): Fetch(tasks[value], arguments.backends[0]) for value in values}
    times = timed(contestants, tasks, repeats)
    del contestants
    counted = [needs(task) for task in tasks.values()]
    arithmetic = {key: [each[key] for each in counted] for key in counted[0]}
    found = []
    for who, make in makers.items():
        meter = memory.get(who)
        points = {
            "microseconds": [summary(times[who, value]) for value in values],
            "megabytes": [meter(make, tasks[value]) for value in values] if meter else None,
        }
        fetch = [min(times[FETCH, value]) if axis.fetches else 0.0 for value in values]
        found.append({"name": who, **points, **verdicts(values, points, fetch, arithmetic)})
    result = {"axis": name, "what": axis.what, "values": list(values), "arithmetic": arithmetic}
    if axis.fetches:
        result["fetch"] = [summary(times[FETCH, value]) for value in values]
    return {**result, "contestants": found}


def task_of(axis, value, device):
    sizes, batch, rows = axis.network(value)
    X, y = random_rows(rows, sizes[0], sizes[-1])
    return Task(sizes, batch, X, y, shuffle(rows, 0), device)


class Fetch:
    """What it costs to bring the rows of the batches from memory: more, the less of them a cache holds."""

    def __init__(self, task, backend):
        self.backend, self.xp = backend, backend.xp
        self.data = backend.asarray(task.X), backend.asarray(task.Y)
        self.batches = [backend.asarray(rows) for rows in task.batches()]

    def epoch(self):
        for rows in self.batches:
            for array in self.data:
                self.xp.take(array, rows, axis=0)
        self.backend.synchronize()


def timed(contestants, tasks, repeats):
    """Return {(name, value): [microseconds a step, ...]}; a measurement is as many epochs as take SECONDS."""
    works, steps = {}, {}
    for key, contestant in contestants.items():
        contestant.epoch()  # compiles, where something is compiled
        began = time.perf_counter()
        contestant.epoch()
        n_epochs = max(1, math.ceil(SECONDS / (time.perf_counter() - began)))
        works[key] = lambda epoch=contestant.epoch, n=n_epochs: [epoch() for _ in range(n)]
        task = tasks[key[1]]
        steps[key] = n_epochs * math.ceil(len(task.order) / task.batch)
    return {
        key: [1e6 * t / steps[key] for t in times]
        for key, times in in_turns(works, repeats, warm_ups=1).items()
    }


def memory_meter(backend):
    """Return (make, task) -> peak megabytes of an epoch on this backend, or None if nothing counts them."""
    if backend.name == "numpy":
        return lambda make, task: traced(make, task)
    if not backend.device_name.startswith("cuda"):
        return None
    return {"torch": torch_peak, "cupy": cupy_peak}.get(backend.name)


def traced(make, task):
    """Return the peak of what NumPy allocates up to the end of the first epoch, and the data."""
    gc.collect()
    tracemalloc.start()
    try:
        make(task).epoch()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return (peak + task.X.nbytes) / 1e6


def torch_peak(make, task):
    cuda = sys.modules["torch"].cuda
    gc.collect()
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    make(task).epoch()
    return cuda.max_memory_allocated() / 1e6


def cupy_peak(make, task):
    # The pool keeps what is freed, so its size after the epoch is the peak.
    pool = sys.modules["cupy"].get_default_memory_pool()
    gc.collect()
    pool.free_all_blocks()
    make(task).epoch()
    return pool.total_bytes() / 1e6


def needs(task):
    """Count what a step asks for: operations of its products, bytes it must move, bytes it must hold."""
    n, sizes = task.batch, task.sizes
    products = [a * b for a, b in pairwise(sizes)]
    n_parameters = sum(products) + sum(sizes[1:])
    # The batch, and h and dz of each layer; of θ: read forwards and backwards, g written, then Adam's seven.
    activations = n * (sizes[0] + sizes[-1] + 2 * sum(sizes[1:]))
    data = len(task.X) * (sizes[0] + sizes[-1]) + 2 * len(task.order)  # a row number is 8 bytes
    return {
        "flops": 2 * n * (3 * sum(products) - products[0]),
        "bytes": 4 * (10 * n_parameters + 2 * activations),
        "held": 4 * (4 * n_parameters + activations + data),
    }


def verdicts(values, points, fetch, arithmetic):
    """Return exponents of time and memory beside those of the arithmetic, and whether they are no larger.

    The best times are fitted, because what disturbs a measurement only adds. `fetch` is what to subtract.
    """
    best = [each["best"] - less for each, less in zip(points["microseconds"], fetch, strict=True)]
    allowed = max(exponent(values, arithmetic["flops"]), exponent(values, arithmetic["bytes"]))
    found = {"time": _verdict(exponent(values, best), allowed)}
    if points["megabytes"]:
        allowed = exponent(values, arithmetic["held"])
        found["memory"] = _verdict(exponent(values, points["megabytes"]), allowed)
    return found


def _verdict(measured, allowed):
    return {"exponent": measured, "arithmetic": allowed, "within": measured <= allowed + TOLERANCE}


def table(result):
    """Return a table for each axis: points, then exponents with their verdicts."""
    lines = [f"float32, Adam, {result['data']}, device {result['device']}; µs per step, MB at the peak."]
    for axis in result["axes"]:
        fetch = [{"name": FETCH, "microseconds": axis["fetch"]}] if "fetch" in axis else []
        lines += ["", f"### {axis['axis']}: {axis['what']}", ""]
        lines += ["| | " + " | ".join(f"{value:,}" for value in axis["values"]) + " |"]
        lines += ["|---|" + "--:|" * len(axis["values"])]
        for found in [*axis["contestants"], *fetch]:
            cells = [f"{each['median']:,.0f}" for each in found["microseconds"]]
            lines.append(f"| {found['name']}, µs, median | " + " | ".join(cells) + " |")
            cells = ["{:,.0f} - {:,.0f}".format(*each["quartiles"]) for each in found["microseconds"]]
            lines.append("| quartiles | " + " | ".join(cells) + " |")
            cells = [f"{each['best']:,.0f}" for each in found["microseconds"]]
            lines.append("| best | " + " | ".join(cells) + " |")
            if "memory" in found:
                cells = [f"{each:,.1f}" for each in found["megabytes"]]
                lines.append("| MB | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"| exponent, upper half{', without the fetch' if fetch else ''} | measured | arithmetic | |",
            "|---|--:|--:|---|",
        ]
        for found in axis["contestants"]:
            lines += [
                verdict(found["name"], kind, found[kind]) for kind in ("time", "memory") if kind in found
            ]
    return "\n".join(lines) + "\n"


def verdict(name, kind, found):
    words = "grows no faster than its arithmetic" if found["within"] else "GROWS FASTER than its arithmetic"
    return f"| {name}, {kind} | {found['exponent']:.2f} | {found['arithmetic']:.2f} | {words} |"


def draw(result, path):
    """Draw time and memory against each axis, with the arithmetic as a dashed line through the last point."""
    panels = []
    for axis in result["axes"]:
        values, counted = axis["values"], axis["arithmetic"]
        times = [
            figures.Line(
                each["name"],
                [point["best"] for point in each["microseconds"]],
                [[point["best"], point["quartiles"][1]] for point in each["microseconds"]],
            )
            for each in axis["contestants"]
        ]
        memory = [
            figures.Line(each["name"], each["megabytes"], None)
            for each in axis["contestants"]
            if "memory" in each
        ]
        steeper = max(("flops", "bytes"), key=lambda key: exponent(values, counted[key]))
        panels.append((axis["axis"], values, times, counted[steeper], memory, counted["held"]))
    figures.scaling(panels, path)
