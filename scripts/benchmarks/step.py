"""`step`: the time of one training step, float32, Adam, for four networks."""

import argparse
import math
import re
from itertools import pairwise
from typing import NamedTuple

from benchmarks import data, figures, positive, tables
from benchmarks.contestants import XPNet, chosen_peers, label, make_task
from benchmarks.timing import in_turns, ratio, summary
from xpnet import MLP, Adam, evaluate, resolve

HELP = "time per training step, beside scikit-learn, PyTorch, JAX, hand-written NumPy and the products alone"
# A loss may differ by this share of it from that of xpnet on NumPy, float32, after the same steps.
TOLERANCE = 1e-3


class Network(NamedTuple):
    """Layer sizes and batch; after how many steps, on batches of how many rows, losses are compared."""

    sizes: tuple[int, ...]
    batch: int
    check_steps: int = 30
    check_batch: int = 200

    def __str__(self):
        return f"{'-'.join(map(str, self.sizes))}/{self.batch}"

    @property
    def flops(self):
        """Floating point operations in the matrix products of a step."""
        pairs = [a * b for a, b in pairwise(self.sizes)]
        return 2 * self.batch * (3 * sum(pairs) - pairs[0])  # the first layer's input needs no gradient


SMALL = Network((784, 50, 20, 10), 64)
DEFAULT = Network((784, 100, 10), 200)
MIDDLE = Network((784, 800, 10), 128)
# Here rounding alone makes the losses of honest contestants differ by 5e-4 after 5 steps, by 1e-2 after 15.
BIG = Network((784, 2500, 2000, 1500, 1000, 500, 10), 1000, check_steps=3)
NETWORKS = (SMALL, DEFAULT, MIDDLE, BIG)

TORCH = "PyTorch, its best mode"
# The most that xpnet on NumPy may take, in units of the peer's time. For the CPU.
BARS = {
    SMALL: {"hand-written": 1.10, "scikit-learn": 0.50, TORCH: 0.50, "floor": 2.8},
    DEFAULT: {"hand-written": 1.05, "scikit-learn": 0.55, TORCH: 0.65, "floor": 1.6},
    MIDDLE: {"hand-written": 1.00, "scikit-learn": 0.60, TORCH: 1.00, "floor": 1.5},
    BIG: {"hand-written": 1.00, TORCH: 1.00, "floor": 1.15},
}
# (network, peer): scikit-learn takes several times as long as all others together there.
NOT_MEASURED = {(BIG, "scikit-learn"): "not measured on the big network"}


def add_arguments(parser):
    parser.add_argument(
        "--network",
        action="append",
        type=network,
        metavar="SIZES/BATCH",
        help="as in 784-100-10/200; repeatable (default: the four of the table)",
    )
    parser.add_argument(
        "--steps", type=positive, metavar="N", help="steps in a measurement (default: about 0.1 s of them)"
    )


def network(text):
    if not re.fullmatch(r"\d+(-\d+)+/\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected sizes and batch, as in 784-100-10/200")
    sizes, batch = text.split("/")
    sizes = tuple(map(int, sizes.split("-")))
    known = [known for known in NETWORKS if known[:2] == (sizes, int(batch))]
    return known[0] if known else Network(sizes, int(batch))


def run(arguments):
    peers, left_out = chosen_peers(arguments.peers, arguments.device)
    chosen = arguments.network or NETWORKS
    pictures = data.pictures(arguments.data_dir) if any(map(sees_pictures, chosen)) else None
    networks = [measure(each, peers, arguments, *rows_for(each, pictures)) for each in chosen]
    disqualified = [
        f"{found['name']} on {result['network']}: {found['disqualified']}"
        for result in networks
        for found in result["contestants"]
        if found["disqualified"]
    ]
    return {
        "data": pictures.what if pictures else "random data",
        "device": arguments.device,
        "tolerance": TOLERANCE,
        "networks": networks,
        "skipped": {**arguments.left_out, **left_out, **notes(networks, peers)},
        "disqualified": disqualified,
    }


def sees_pictures(network):
    return (network.sizes[0], network.sizes[-1]) == (784, 10)


def rows_for(network, pictures):
    """Return rows and labels for this network: the pictures, or random data if it has other inputs."""
    if sees_pictures(network):
        return pictures.X, pictures.y
    return data.random_rows(max(2000, 30 * network.batch), network.sizes[0], network.sizes[-1])


def notes(networks, peers):
    measured = {result["network"] for result in networks}
    return {
        f"{name} on {network}": why
        for (network, name), why in NOT_MEASURED.items()
        if name in peers and str(network) in measured
    }


def measure(network, peers, arguments, X, y):
    """Check, then time, all contestants on one network."""
    makers = {label(backend): lambda task, b=backend: XPNet(task, b) for backend in arguments.backends}
    makers |= {name: peer.make for name, peer in peers.items() if (network, name) not in NOT_MEASURED}
    epsilon_hat = {name for name, peer in peers.items() if peer.epsilon_hat}
    losses = check(network, makers, epsilon_hat, X, y, arguments.device)
    steps = arguments.steps or steps_for(network, len(X))
    task = make_task(network.sizes, network.batch, steps, X, y, arguments.device)
    contestants = {name: make(task) for name, make in makers.items()}
    repeats = arguments.repeats or (15 if network.flops < 1e10 else 7)
    seconds = in_turns(
        {name: each.epoch for name, each in contestants.items()}, repeats, warm_ups=warm_ups(network, steps)
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
        "bars": bars(network, first, found),
    }


def steps_for(network, rows):
    """Return how many steps take about a tenth of a second, by a rough guess of the machine's speed."""
    guess = network.flops / 8e10 + 2e-4
    return max(1, min(rows // network.batch, round(0.1 / guess)))


def warm_ups(network, steps):
    """Return how many rounds make the first thousand steps, but 2 for a network that takes too long.

    The first steps are not like the rest: it takes some hundred of them until the moments of weights that get
    no gradient are so small that a processor computes with them slowly.
    """
    return max(2, math.ceil(1000 / steps)) if network.flops < 1e10 and steps > 20 else 2


def check(network, makers, epsilon_hat, X, y, device):
    """Return, for each contestant, its loss after the same steps and what disqualifies it, if anything.

    Two losses are compared with those of xpnet on NumPy, float32: the one it reports for its last steps,
    and the one its parameters have on all rows of the check, as computed here.
    """
    batch = min(network.batch, network.check_batch, len(X) // 10)
    task = make_task(network.sizes, batch, min(10, network.check_steps), X, y, device)
    numpy = resolve("cpu", "numpy")
    references = {
        hat: losses_of(XPNet(task, numpy, Adam(epsilon_hat=hat)), network, task) for hat in (False, True)
    }
    found = {}
    for name, make in makers.items():
        reported, own = losses_of(make(task), network, task)
        if own is None:
            found[name] = {"loss": None, "difference": None, "disqualified": None}  # the floor
            continue
        expected = references[name in epsilon_hat]
        difference = max(abs(reported / expected[0] - 1), abs(own / expected[1] - 1))
        wrong = not difference <= TOLERANCE  # also if it is not a number
        why = f"its loss differs by {difference:.1e} of it, more than {TOLERANCE:g}" if wrong else None
        found[name] = {"loss": own, "difference": difference, "disqualified": why}
    return found


def losses_of(contestant, network, task):
    """Train for the steps of the check; return the last epoch's loss as reported, and the parameters'."""
    for _ in range(network.check_steps // task.steps):
        reported = contestant.epoch()
    theta = contestant.theta()
    if theta is None:
        return reported, None
    judge = resolve("cpu", "numpy", "float64")
    X, Y = judge.asarray(task.X), judge.asarray(task.Y)
    return reported, evaluate(MLP(task.sizes), judge.asarray(theta), X, Y, backend=judge).loss


def bars(network, first, found):
    """Return the bars of the CPU for this network, each with what was measured."""
    if first != "xpnet (numpy)":
        return []
    ratios = {each["name"]: each["ratio"]["median"] for each in found if not each["disqualified"]}
    torch = [ratio for name, ratio in ratios.items() if name.startswith("torch-")]
    if torch:
        ratios[TORCH] = max(torch)
    return [
        {"peer": peer, "bar": bar, "ratio": ratios[peer], "met": bool(round(ratios[peer], 2) <= bar)}
        for peer, bar in BARS.get(network, {}).items()
        if peer in ratios
    ]


def table(result):
    """Return a table for each network, and its bars below."""
    lines = [f"Time per step, float32, Adam, {result['data']}, device {result['device']}."]
    for each in result["networks"]:
        first = each["contestants"][0]["name"]
        lines += [
            "",
            f"### {each['network']}",
            "",
            f"{each['repeats']} rounds of {each['steps']} steps. Ratio: {first} / it, in the same round.",
            "",
            "| | µs, median | quartiles | best | ratio | quartiles | loss differs by |",
            "|---|--:|--:|--:|--:|--:|--:|",
            *(row(found) for found in each["contestants"]),
        ]
        lines += tables.bars(each["bars"])
    return "\n".join(lines) + "\n"


def row(found):
    differs = "-" if found["difference"] is None else f"{found['difference']:.0e}"
    if found["disqualified"]:
        differs += ": disqualified"
    return f"| {found['name']} | {tables.cells(found['microseconds'], found['ratio'])} | {differs} |"


def draw(result, path):
    """Draw the time of each contestant in units of xpnet's, a panel for each network."""
    panels = {}
    for each in result["networks"]:
        first = each["contestants"][0]
        panels[each["network"]] = [
            figures.bar(found, f"{found['microseconds']['median']:,.0f} µs") for found in each["contestants"]
        ]
        title = f"time per training step, {first['name']} = 1"
    figures.bars(panels, title, path)
