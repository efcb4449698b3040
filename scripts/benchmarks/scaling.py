"""`scaling`: time per step and peak memory as width, depth, batch size and number of rows grow.

A power of the size is fitted to the upper half of the points, and another one to what a step needs in theory,
counted exactly: operations and bytes moved for the time, bytes held for the memory. Neither time nor memory
may grow faster than that.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from benchmarks import figures, tables
from benchmarks.contestants import xpnet
from benchmarks.contestants.task import Task
from benchmarks.data import make_rows as make_data
from benchmarks.memory import choose_meter
from benchmarks.peers import choose_peers, label
from benchmarks.step import PEERS
from benchmarks.timing import exponent, summary, time_in_turns
from xpnet.data.batches import shuffle

HELP = "time per training step and peak memory as width, depth, batch size and number of rows grow"
REPEATS_HELP = "number of timed rounds (default: 5; 1 with --quick)"
# How much an exponent may exceed the theoretical one, because it is fitted to a few noisy points.
TOLERANCE = 0.15
FETCH = "fetch the batches"
# The least duration of a measurement.
SECONDS = 0.03


class Axis(NamedTuple):
    """A quantity that grows: its values, those of --quick, and the (sizes, batch, rows) of a value."""

    values: tuple[int, ...]
    quick: tuple[int, ...]
    network: Callable[[int], tuple[tuple[int, ...], int, int]]
    what: str
    fetches: bool = False  # whether to measure the time to fetch the batches from memory


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
    parser.set_defaults(peers="none")  # without them a run takes two minutes
    parser.add_argument(
        "--axis", action="append", choices=list(AXES), help="quantity to vary; repeatable (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="a few small sizes only, to see that it runs")


def run(arguments):
    peers, skipped = choose_peers(arguments.peers, arguments.device, PEERS)
    makers = {label(backend): partial(xpnet.on_task, backend=backend) for backend in arguments.backends}
    makers |= {name: peer.make for name, peer in peers.items()}
    meters = {label(backend): make_meter(backend) for backend in arguments.backends}
    axes = [
        measure_axis(name, arguments, makers, meters) for name in dict.fromkeys(arguments.axis or list(AXES))
    ]
    skipped |= {
        f"memory of {name}": "not measured for this library" for name in makers if not meters.get(name)
    }
    return {
        "data": "random rows",
        "device": arguments.device,
        "tolerance": TOLERANCE,
        "axes": axes,
        "skipped": {**arguments.skipped, **skipped},
    }


def make_meter(backend):
    """Return (make, task) -> peak megabytes of the first epoch, or None if nothing counts them."""
    measure = choose_meter(backend)
    if measure is None:
        return None

    def meter(make, task):
        shared = task.X.nbytes / 1e6 if backend.name == "numpy" else 0.0  # NumPy uses the task's own rows
        return shared + measure(lambda: make(task).epoch())

    return meter


def measure_axis(name, arguments, makers, meters):
    axis = AXES[name]
    values = axis.quick if arguments.quick else axis.values
    repeats = arguments.repeats or (1 if arguments.quick else 5)
    tasks = {value: make_task(axis, value, arguments.device) for value in values}
    # The sizes take turns as well, so that a machine that is slow for a while does not distort the curve.
    contestants = {(who, value): make(tasks[value]) for who, make in makers.items() for value in values}
    if axis.fetches:
        contestants |= {(FETCH, value): Fetch(tasks[value], arguments.backends[0]) for value in values}
    times = time_contestants(contestants, tasks, repeats)
    del contestants
    counted = [count_needs(task) for task in tasks.values()]
    arithmetic = {key: [each[key] for each in counted] for key in counted[0]}
    found = []
    for who, make in makers.items():
        meter = meters.get(who)
        points = {
            "microseconds": [summary(times[who, value]) for value in values],
            "megabytes": [meter(make, tasks[value]) for value in values] if meter else None,
        }
        fetch = [min(times[FETCH, value]) if axis.fetches else 0.0 for value in values]
        found.append({"name": who, **points, **fit_exponents(values, points, fetch, arithmetic)})
    result = {"axis": name, "what": axis.what, "values": list(values), "arithmetic": arithmetic}
    if axis.fetches:
        result["fetch"] = [summary(times[FETCH, value]) for value in values]
    return {**result, "contestants": found, "bars": make_bars(found)}


def make_task(axis, value, device):
    sizes, batch, rows = axis.network(value)
    X, y = make_data(rows, sizes[0], sizes[-1])
    return Task(sizes, batch, X, y, shuffle(rows, 0), device)


class Fetch:
    """Fetching the rows of the batches from memory, which takes longer the fewer of them fit into a cache."""

    def __init__(self, task, backend):
        self.backend, self.xp = backend, backend.xp
        self.data = backend.asarray(task.X), backend.asarray(task.Y)
        self.batches = [backend.asarray(rows) for rows in task.batches()]

    def epoch(self):
        for rows in self.batches:
            for array in self.data:
                self.xp.take(array, rows, axis=0)
        self.backend.synchronize()


def time_contestants(contestants, tasks, repeats):
    """Return {(name, value): [microseconds per step, ...]}; a measurement takes at least SECONDS."""
    works, steps = {}, {}
    for key, contestant in contestants.items():
        contestant.epoch()  # compiles, if anything is to be compiled
        began = time.perf_counter()
        contestant.epoch()
        n_epochs = max(1, math.ceil(SECONDS / (time.perf_counter() - began)))
        works[key] = lambda epoch=contestant.epoch, n=n_epochs: [epoch() for _ in range(n)]
        task = tasks[key[1]]
        steps[key] = n_epochs * math.ceil(len(task.order) / task.batch)
    return {
        key: [1e6 * t / steps[key] for t in times]
        for key, times in time_in_turns(works, repeats, warm_ups=1).items()
    }


def count_needs(task):
    """Return what a step needs: operations in its products, bytes to move, bytes to hold."""
    n, sizes = task.batch, task.sizes
    products = [a * b for a, b in pairwise(sizes)]
    n_parameters = sum(products) + sum(sizes[1:])
    # The batch, and h and dz of each layer. Of θ's size: two reads and the write of g, then seven in Adam.
    activations = n * (sizes[0] + sizes[-1] + 2 * sum(sizes[1:]))
    data = len(task.X) * (sizes[0] + sizes[-1]) + 2 * len(task.order)  # a row number is 8 bytes
    return {
        "flops": 2 * n * (3 * sum(products) - products[0]),
        "bytes": 4 * (10 * n_parameters + 2 * activations),
        "held": 4 * (4 * n_parameters + activations + data),
    }


def fit_exponents(values, points, fetch, arithmetic):
    """Return the exponents of time and memory beside the theoretical ones.

    The best times are fitted, because disturbances only add to them. `fetch` is subtracted from them.
    """
    best = [each["best"] - less for each, less in zip(points["microseconds"], fetch, strict=True)]
    theoretical = max(exponent(values, arithmetic["flops"]), exponent(values, arithmetic["bytes"]))
    found = {"time": {"exponent": exponent(values, best), "arithmetic": theoretical}}
    if points["megabytes"]:
        measured, theoretical = (exponent(values, each) for each in (points["megabytes"], arithmetic["held"]))
        found["memory"] = {"exponent": measured, "arithmetic": theoretical}
    return found


def make_bars(found):
    """Return a bar for each exponent: the theoretical one and the tolerance."""
    return [
        tables.make_bar(
            f"{each['name']}, {kind}", each[kind]["exponent"], each[kind]["arithmetic"] + TOLERANCE
        )
        for each in found
        for kind in ("time", "memory")
        if kind in each
    ]


def format_tables(result):
    """Return for each axis a table of the points, followed by the bars of the exponents."""
    lines = [
        "Time per training step (µs) and peak memory (MB), float32, Adam, "
        f"{result['data']}, device {result['device']}.",
        "The bars are for the exponents over the upper half of the sizes: at most "
        f"{result['tolerance']:g} above the theoretical one.",
    ]
    for axis in result["axes"]:
        fetch = [{"name": FETCH, "microseconds": axis["fetch"]}] if "fetch" in axis else []
        rows = [row for found in [*axis["contestants"], *fetch] for row in make_rows(found)]
        header = ["", *(f"{value:,}" for value in axis["values"])]
        lines += ["", f"### {axis['axis']}: {axis['what']}", ""]
        lines += tables.table(header, "l" + "r" * len(axis["values"]), rows)
        if fetch:
            lines += ["", f"The time to {FETCH} is subtracted before its exponent is fitted."]
        lines += tables.bar_table(axis["bars"])
    return "\n".join(lines) + "\n"


def make_rows(found):
    """Return the rows of a contestant: its times, and its memory where it is measured."""
    times = found["microseconds"]
    rows = [
        [f"{found['name']}, median (µs)", *(f"{each['median']:,.0f}" for each in times)],
        ["quartiles", *("{:,.0f} - {:,.0f}".format(*each["quartiles"]) for each in times)],
        ["best", *(f"{each['best']:,.0f}" for each in times)],
    ]
    if "memory" in found:
        rows.append(["MB", *(f"{each:,.1f}" for each in found["megabytes"])])
    return rows


def draw(result, path):
    """Draw time and memory against each axis, and the theoretical growth, dashed, through the last point."""
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
    figures.draw_scaling(panels, path)
