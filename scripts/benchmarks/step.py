"""`step`: the time of one training step of four networks, float32, Adam."""

import argparse
import math
import re
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from benchmarks import data, figures, positive, tables
from benchmarks.contestants import torch, xpnet
from benchmarks.contestants.hand_written import HandWritten, products_of
from benchmarks.contestants.jax import Jax
from benchmarks.contestants.scikit_learn import ScikitLearn
from benchmarks.contestants.task import make_task
from benchmarks.peers import Peer, choose_peers, label, list_disqualified
from benchmarks.timing import ratio, summary, time_in_turns
from xpnet import MLP, Adam, evaluate, resolve
from xpnet.errors import BackendError

HELP = (
    "time per training step, compared with scikit-learn, PyTorch, JAX, hand-written NumPy and the matrix "
    "products alone"
)
REPEATS_HELP = "number of timed rounds (default: 15; 7 for the largest network)"
# The largest relative difference between a contestant's loss and xpnet's on NumPy, after the same steps.
TOLERANCE = 1e-3

PEERS = {
    "hand-written": Peer("numpy", ("cpu",), HandWritten),
    "scikit-learn": Peer("sklearn", ("cpu",), ScikitLearn, epsilon_hat=True),
    "torch-eager": Peer("torch", ("cpu", "cuda"), partial(torch.on_task, mode="eager")),
    "torch-fused": Peer("torch", ("cpu", "cuda"), partial(torch.on_task, mode="fused")),
    "torch-graph": Peer("torch", ("cuda",), partial(torch.on_task, mode="graph")),
    "torch-compile": Peer("torch", ("cuda",), partial(torch.on_task, mode="compile")),
    "jax-jit": Peer("jax", ("cpu", "cuda"), Jax),
    "floor": Peer("numpy", ("cpu", "cuda"), products_of),
}


class Network(NamedTuple):
    """Layer sizes and batch size; the number of steps and the batch size with which losses are compared."""

    sizes: tuple[int, ...]
    batch: int
    check_steps: int = 30
    check_batch: int = 200

    def __str__(self):
        return f"{'-'.join(map(str, self.sizes))}/{self.batch}"

    @property
    def flops(self):
        """Floating-point operations in the matrix products of a step."""
        pairs = [a * b for a, b in pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(pairs) - pairs[0])  # no gradient with respect to the input

    @property
    def is_large(self):
        return self.flops >= 1e10


SMALL = Network((784, 50, 20, 10), 64)
DEFAULT = Network((784, 100, 10), 200)
MIDDLE = Network((784, 800, 10), 128)
# Here rounding alone makes correct losses differ by 5e-4 after 5 steps and by 1e-2 after 15.
BIG = Network((784, 2500, 2000, 1500, 1000, 500, 10), 1000, check_steps=3)
NETWORKS = (SMALL, DEFAULT, MIDDLE, BIG)

# (contestants, peers, bar): the largest ratio allowed, time of the fastest of the contestants / time of the
# fastest of the peers. A name stands for all that begin with it.
BARS = [
    (("xpnet (numpy)",), ("hand-written",), 1.00),
    (("xpnet (numpy)",), ("scikit-learn",), 0.60),
    (("xpnet (torch)",), ("torch-",), 1.00),
    (("xpnet (jax)",), ("jax-jit",), 1.05),
    (("xpnet",), ("hand-written", "scikit-learn", "torch-", "jax-jit"), 1.00),
]
# (network, peer): reason. On this network scikit-learn takes several times as long as all others together.
NOT_MEASURED = {(BIG, "scikit-learn"): "too slow on the largest network"}


def add_arguments(parser):
    parser.add_argument(
        "--network",
        action="append",
        type=parse_network,
        metavar="SIZES/BATCH",
        help="layer sizes and batch size, as in 784-100-10/200; repeatable (default: four networks)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help="steps per measurement (default: about 0.1 s of steps, at least 10)",
    )


def parse_network(text):
    if not re.fullmatch(r"\d+(-\d+)+/\d+", text):
        raise argparse.ArgumentTypeError(
            f"expected layer sizes/batch size, as in 784-100-10/200, got {text!r}"
        )
    sizes, batch = text.split("/")
    sizes = tuple(map(int, sizes.split("-")))
    known = [known for known in NETWORKS if known[:2] == (sizes, int(batch))]
    return known[0] if known else Network(sizes, int(batch))


def run(arguments):
    peers, skipped = choose_peers(arguments.peers, arguments.device, PEERS)
    chosen = arguments.network or NETWORKS
    pictures = data.load_pictures(arguments.data_dir) if any(map(fits_pictures, chosen)) else None
    networks = [measure(each, peers, arguments, *choose_rows(each, pictures)) for each in chosen]
    return {
        "data": pictures.what if pictures else "random data",
        "device": arguments.device,
        "tolerance": TOLERANCE,
        "networks": networks,
        "skipped": {**arguments.skipped, **skipped, **list_not_measured(networks, peers)},
        "disqualified": [
            line
            for each in networks
            for line in list_disqualified(each["network"], [*each["contestants"], *each["failed"]])
        ],
    }


def fits_pictures(network):
    return (network.sizes[0], network.sizes[-1]) == (784, 10)


def choose_rows(network, pictures):
    """Return rows and labels for this network: the pictures, or random data where they do not fit."""
    if fits_pictures(network):
        return pictures.X, pictures.y
    return data.make_rows(max(2000, 30 * network.batch), network.sizes[0], network.sizes[-1])


def list_not_measured(networks, peers):
    measured = {result["network"] for result in networks}
    return {
        f"{name} on {network}": why
        for (network, name), why in NOT_MEASURED.items()
        if name in peers and str(network) in measured
    }


def measure(network, peers, arguments, X, y):
    """Check all contestants on one network, then time them."""
    makers = {label(backend): partial(xpnet.on_task, backend=backend) for backend in arguments.backends}
    makers |= {name: peer.make for name, peer in peers.items() if (network, name) not in NOT_MEASURED}
    epsilon_hat = {name for name, peer in peers.items() if peer.epsilon_hat}
    losses, failed = check_losses(network, makers, epsilon_hat, X, y, arguments.device)
    makers = {name: make for name, make in makers.items() if name in losses}
    steps = arguments.steps or choose_steps(network, len(X), arguments.device)
    task = make_task(network.sizes, network.batch, steps, X, y, arguments.device)
    contestants = {name: make(task) for name, make in makers.items()}
    repeats = arguments.repeats or (7 if network.is_large else 15)
    seconds = time_in_turns(
        {name: each.epoch for name, each in contestants.items()},
        repeats,
        warm_ups=choose_warm_ups(network, steps),
    )
    first = next(iter(makers))
    found = []
    for name, times in seconds.items():
        microseconds = [1e6 * t / steps for t in times]
        found.append(
            {
                "name": name,
                "microseconds": summary(microseconds),
                "times": [round(t, 2) for t in microseconds],
                "ratio": ratio(seconds[first], times),
                **losses[name],
            }
        )
    return {
        "network": str(network),
        "steps": steps,
        "repeats": repeats,
        "check": {"steps": network.check_steps, "batch": min(network.batch, network.check_batch)},
        "contestants": found,
        "failed": failed,
        "bars": make_bars(network, found),
    }


def choose_steps(network, rows, device):
    """Return how many steps take about 0.1 s, by a rough guess of the device's speed, but at least 10.

    An epoch of training has many steps, and what it does once should not count as if it did it in each step.
    """
    guess = network.flops / (2e13 if device.startswith("cuda") else 8e10) + 2e-4
    return max(1, min(rows // network.batch, max(10, round(0.1 / guess))))


def choose_warm_ups(network, steps):
    """Return the number of rounds in the first thousand steps, or 2 if that would take too long.

    Later steps differ from the first ones: after some hundred steps, the moments of weights without gradient
    are so small that a processor computes with them slowly.
    """
    return max(2, math.ceil(1000 / steps)) if steps > 20 and not network.is_large else 2


def check_losses(network, makers, epsilon_hat, X, y, device):
    """Return ({name: its loss after the same steps and, if it is disqualified, why}, [those that raised]).

    Two losses are compared with those of xpnet on NumPy in float32: the loss that the contestant reports for
    its last steps, and the loss of its parameters on all rows of the check, computed by xpnet in float64.
    """
    batch = min(network.batch, network.check_batch, len(X) // 10)
    task = make_task(network.sizes, batch, min(10, network.check_steps), X, y, device)
    numpy = resolve("cpu", "numpy")
    references = {
        hat: train_and_evaluate(xpnet.on_task(task, numpy, Adam(epsilon_hat=hat)), network, task)
        for hat in (False, True)
    }
    found, failed = {}, []
    for name, make in makers.items():
        try:
            reported, own = train_and_evaluate(make(task), network, task)
        except Exception as error:  # the others can still be measured
            failed.append({"name": name, "disqualified": f"{type(error).__name__}: {error}"})
            continue
        if own is None:  # the floor
            found[name] = {"loss": None, "difference": None, "disqualified": None}
            continue
        expected = references[name in epsilon_hat]
        difference = max(abs(reported / expected[0] - 1), abs(own / expected[1] - 1))
        is_wrong = not difference <= TOLERANCE  # true for NaN
        why = (
            f"relative difference of its loss {difference:.1e}, tolerance {TOLERANCE:g}" if is_wrong else None
        )
        found[name] = {"loss": own, "difference": difference, "disqualified": why}
    if not found:
        raise BackendError(f"no contestant could train {network}: {failed[0]['disqualified']}")
    return found, failed


def train_and_evaluate(contestant, network, task):
    """Train for the steps of the check; return the last epoch's loss as reported, and the parameters'."""
    for _ in range(network.check_steps // task.steps):
        reported = contestant.epoch()
    theta = contestant.theta()
    if theta is None:
        return reported, None
    judge = resolve("cpu", "numpy", "float64")
    X, Y = judge.asarray(task.X), judge.asarray(task.Y)
    return reported, evaluate(MLP(task.sizes), judge.asarray(theta), X, Y, backend=judge).loss


def make_bars(network, found):
    """Return the bars of this network, which are for the four networks that are measured by default."""
    times = {each["name"]: each["times"] for each in found if not each["disqualified"]}

    def find_fastest(names):
        chosen = [name for name in times if name.startswith(names)]
        return min(chosen, key=lambda name: summary(times[name])["median"], default=None)

    bars = []
    for ours, peers, bar in BARS if network in NETWORKS else []:
        own, peer = find_fastest(ours), find_fastest(peers)
        if own and peer:
            measured = ratio(times[own], times[peer])["median"]
            one_of_many = "fastest: " if ours == ("xpnet",) else ""
            bars.append(tables.make_bar(f"{one_of_many}{own} / {peer}", measured, bar))
    return bars


def format_tables(result):
    """Return a table for each network, followed by its bars."""
    lines = [f"Time per training step, float32, Adam, {result['data']}, device {result['device']}."]
    for each in result["networks"]:
        first = each["contestants"][0]["name"]
        rounds, steps = tables.count(each["repeats"], "round"), tables.count(each["steps"], "step")
        lines += [
            "",
            f"### {each['network']}",
            "",
            f"{rounds} of {steps}. The ratio is the time of {first} divided by the contestant's.",
            "",
            *tables.table(
                ["", "median (µs)", *tables.SPREAD, "loss difference"],
                "lrrrrrr",
                [make_row(found) for found in each["contestants"]],
            ),
            *tables.bar_table(each["bars"]),
        ]
    return "\n".join(lines) + "\n"


def make_row(found):
    difference = "-" if found["difference"] is None else f"{found['difference']:.0e}"
    if found["disqualified"]:
        difference += " (disqualified)"
    return [found["name"], *tables.cells(found["microseconds"], found["ratio"]), difference]


def draw(result, path):
    """Draw the time of each contestant relative to xpnet's, one panel per network."""
    panels = {}
    for each in result["networks"]:
        first = each["contestants"][0]
        panels[each["network"]] = [
            figures.make_bar(found, f"{found['microseconds']['median']:,.0f} µs")
            for found in each["contestants"]
        ]
    figures.draw_relative(panels, "Time per training step", first["name"], path)
