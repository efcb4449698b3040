"""`accuracy`: the training time to 97, 98 and 98.5 % accuracy on MNIST's test set.

All contestants have the same training set and, in each round, the same seed. The time runs from the creation
of the network to the end of the epoch after which the accuracy is reached; evaluation is not counted. The
estimators train with one call of `partial_fit` per epoch, each of which checks the data.
"""

import math
import time

from benchmarks import data, figures, positive, tables
from benchmarks.contestants import scikit_learn, torch, xpnet
from benchmarks.peers import Peer, choose_peers, label
from benchmarks.timing import PAUSE
from xpnet import MLPClassifier
from xpnet.command.options import Options
from xpnet.command.recipes import load_recipe

HELP = "training time to 97, 98 and 98.5 % test accuracy on MNIST, compared with scikit-learn and PyTorch"
REPEATS_HELP = "number of random seeds (default: 5)"
RECIPE = "mnist-fast"
TARGETS = (0.97, 0.98, 0.985)
# The largest ratio allowed: time of xpnet with its recipe / time of scikit-learn with default parameters.
BAR, BAR_TARGET, BAR_PEER = 0.25, 0.98, "scikit-learn"

PEERS = {
    "scikit-learn": Peer("sklearn", ("cpu",), scikit_learn.with_defaults),
    "torch-default": Peer("torch", ("cpu", "cuda"), torch.with_defaults),
    "torch-recipe": Peer("torch", ("cpu", "cuda"), torch.with_recipe),
}


def add_arguments(parser):
    parser.add_argument(
        "--recipe", default=RECIPE, metavar="NAME", help="training recipe of xpnet (default: %(default)s)"
    )
    parser.add_argument(
        "--cap",
        type=positive,
        default=40,
        metavar="EPOCHS",
        help="maximum number of epochs (default: %(default)s)",
    )


def run(arguments):
    options = Options.from_dict(load_recipe(arguments.recipe).options)
    peers, skipped = choose_peers(arguments.peers, arguments.device, PEERS)
    pictures = data.load_pictures(arguments.data_dir)
    makers = make_makers(arguments, options, peers)
    seeds = range(arguments.repeats or 5)
    rehearse(makers, pictures)
    curves = {name: [] for name in makers}
    for seed in seeds:
        for name, make in makers.items():
            time.sleep(PAUSE)
            curves[name].append(train(make, pictures, seed, arguments.cap))
    first = next(iter(makers))
    found = [summarize(name, curves[name], curves[first]) for name in makers]
    return {
        "data": pictures.what,
        "device": arguments.device,
        "recipe": arguments.recipe,
        "targets": TARGETS,
        "cap": arguments.cap,
        "seeds": list(seeds),
        "contestants": found,
        "bars": make_bars(found),
        "skipped": {**arguments.skipped, **skipped},
    }


def make_makers(arguments, options, peers):
    """Return {name: (pictures, seed) -> contestant}. Ratios are those of the first."""
    makers = {
        f"{label(backend)}, {arguments.recipe}": lambda pictures, seed, b=backend: xpnet.with_recipe(
            pictures, seed, options, b
        )
        for backend in arguments.backends
    }
    first = arguments.backends[0]
    makers[f"{label(first)}, MLPClassifier"] = lambda pictures, seed: scikit_learn.Estimator(
        MLPClassifier, pictures, seed, first
    )
    for name, peer in peers.items():
        makers[name] = lambda pictures, seed, make=peer.make: make(pictures, seed, options, arguments.device)
    return makers


def rehearse(makers, pictures):
    """Train all contestants for a moment, so that what happens once per process is not measured."""
    few = pictures._replace(X=pictures.X[:2000], y=pictures.y[:2000])
    for make in makers.values():
        contestant = make(few, 0)
        contestant.epoch()
        contestant.classify(few.X_test[:100])


def train(make, pictures, seed, cap, clock=time.perf_counter):
    """Return [[seconds, test accuracy], ...] after each epoch, up to the last target or the cap."""
    began = clock()
    contestant = make(pictures, seed)
    seconds, points = clock() - began, []
    while len(points) < min(cap, contestant.n_epochs):
        began = clock()
        contestant.epoch()
        seconds += clock() - began
        is_right = contestant.classify(pictures.X_test) == pictures.y_test
        points.append([round(seconds, 4), float(is_right.mean())])
        if points[-1][1] >= TARGETS[-1]:
            break
    return points


def time_to(points, target):
    """Return the seconds after which the accuracy first reaches the target, or None."""
    return next((seconds for seconds, accuracy in points if accuracy >= target), None)


def median(values):
    """Return the median of numbers and None, which counts as the largest; the upper one of two."""
    return sorted(values, key=lambda value: math.inf if value is None else value)[len(values) // 2]


def summarize(name, curves, ours):
    """Return the result of a contestant: its times to each target, and xpnet's divided by them."""
    targets = []
    for target in TARGETS:
        times = [time_to(points, target) for points in curves]
        reached = [seconds for seconds in times if seconds is not None]
        our_times = [time_to(points, target) for points in ours]
        # Without reaching the target it would have taken longer than it had: the ratio is an upper bound.
        theirs = [points[-1][0] if t is None else t for t, points in zip(times, curves, strict=True)]
        ratios = [None if a is None else a / b for a, b in zip(our_times, theirs, strict=True)]
        targets.append(
            {
                "target": target,
                "times": times,
                "reached": len(reached),
                "median": median(times),
                "range": [min(reached), max(reached)] if reached else None,
                "ratio": median(ratios),
                "ratio_is_a_bound": median(times) is None,
            }
        )
    return {
        "name": name,
        "targets": targets,
        "epochs": median([len(points) for points in curves]),
        "seconds": median([points[-1][0] for points in curves]),
        "best_accuracy": median([max(accuracy for _, accuracy in points) for points in curves]),
        "curves": curves,
    }


def make_bars(found):
    """Return the bar of xpnet on NumPy with its recipe, if both contestants were measured."""
    theirs = [each for each in found if each["name"] == BAR_PEER]
    if not theirs or not found[0]["name"].startswith("xpnet (numpy)"):
        return []
    (at,) = [each for each in theirs[0]["targets"] if each["target"] == BAR_TARGET]
    bar = tables.make_bar(f"xpnet / {BAR_PEER}, time to {percent(BAR_TARGET)}", at["ratio"], BAR)
    if at["ratio"] is not None and not bar["met"] and at["ratio_is_a_bound"]:
        bar["met"] = None  # the peer was stopped too early to tell
    return [bar]


def percent(target):
    return f"{100 * target:g} %"


def format_tables(result):
    seeds = len(result["seeds"])
    first = result["contestants"][0]["name"]
    header = [title for t in result["targets"] for title in (f"{percent(t)} (s)", "min - max", "ratio")]
    lines = [
        f"Training time to a test accuracy, median of {tables.count(seeds, 'seed')}, evaluation not counted, "
        f"{result['data']}, device {result['device']}.",
        f"At most {tables.count(result['cap'], 'epoch')}, and no more than {result['recipe']} has with that "
        f"recipe. The ratio is the time of {first} divided by the contestant's.",
        "",
        *tables.table(
            ["", *header, "epochs", "best accuracy"],
            "l" + "r" * (len(header) + 2),
            [make_row(found, seeds) for found in result["contestants"]],
        ),
        *tables.bar_table(result["bars"]),
    ]
    if any(bar["met"] is None for bar in result["bars"]):
        lines += ["", f"Undecided: {BAR_PEER} was stopped before it reached the target. Raise --cap."]
    return "\n".join(lines) + "\n"


def make_row(found, seeds):
    cells = [cell for at in found["targets"] for cell in make_cells(at, seeds)]
    return [found["name"], *cells, str(found["epochs"]), f"{100 * found['best_accuracy']:.2f} %"]


def make_cells(at, seeds):
    seconds = "not reached" if at["median"] is None else f"{at['median']:.2f}"
    spread = "-" if at["range"] is None else "{:.2f} - {:.2f}".format(*at["range"])
    if 0 < at["reached"] < seeds:
        spread += f" ({at['reached']} of {seeds})"
    ratio = "-" if at["ratio"] is None else f"{'< ' * at['ratio_is_a_bound']}{at['ratio']:.2f}"
    return seconds, spread, ratio


def draw(result, path):
    """Draw the test accuracy against the training time, one line per seed."""
    panel = {each["name"]: each["curves"] for each in result["contestants"]}
    figures.draw_accuracy(panel, result["targets"], result["data"], path)
