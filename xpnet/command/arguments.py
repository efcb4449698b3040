"""The arguments of the command line, with their help."""

import argparse
import re
from dataclasses import fields
from typing import Any

from xpnet.backends import DTYPES, LIBRARIES
from xpnet.command.options import OPTIMIZERS, Options
from xpnet.command.recipes import recipe_names
from xpnet.data import NAMES
from xpnet.maths.initializers import INITIALIZERS
from xpnet.maths.losses import LOSSES
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.schedules import SCHEDULES

__all__ = ["OPTIONS", "add_predict_arguments", "add_train_arguments"]

OPTIONS = {field.name: field.default for field in fields(Options)}


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `xpnet train`: one for each field of `Options`, and how to start."""

    def option(group: Any, flag: str, help: str, default: str | None = None, **settings: Any) -> None:
        value = OPTIONS[flag.lstrip("-").replace("-", "_")]
        shown = default or (",".join(map(str, value)) if isinstance(value, tuple) else value)
        # What is not given is left out, so that --resume can tell what is.
        group.add_argument(flag, default=argparse.SUPPRESS, help=f"{help} (default: {shown})", **settings)

    start = parser.add_mutually_exclusive_group()
    start.add_argument("--recipe", metavar="NAME|FILE", help=f"{', '.join(recipe_names())}, or a .toml file")
    start.add_argument("--list-recipes", action="store_true", help="print the recipes and what they reach")
    start.add_argument("--resume", metavar="DIR", help="go on with the run in this folder, as it was begun")

    group = parser.add_argument_group("data")
    option(group, "--data", f"{', '.join(NAMES)}, or a .npz, .csv or .mat file", metavar="NAME|FILE")
    option(
        group, "--data-dir", "folder of the MNIST files", "the user's cache, downloaded once", metavar="DIR"
    )
    option(
        group,
        "--test",
        "share of the rows kept for testing, where the data has no test rows of its own; 0 for none",
        type=float,
        metavar="FRACTION",
    )
    option(
        group,
        "--validation",
        "share of the training rows held out; 0 for none",
        type=float,
        metavar="FRACTION",
    )

    group = parser.add_argument_group("network")
    option(group, "--hidden", "units of each hidden layer, or none", type=_sizes, metavar="N[,N...]")
    option(
        group,
        "--activation",
        f"one for all, or one for each: {', '.join(ACTIVATIONS)}",
        type=_names,
        metavar="NAME[,NAME...]",
    )
    option(
        group,
        "--init",
        f"initial distribution: {', '.join(INITIALIZERS)}; normal:0.01 sets a scale; "
        "legacy_ in front draws as numpy.random.seed did",
        "auto, what suits each activation",
        metavar="NAME",
    )

    group = parser.add_argument_group("training")
    option(group, "--loss", ", ".join(LOSSES), metavar="NAME")
    option(group, "--label-smoothing", "share of each label spread over all classes", type=float, metavar="S")
    option(group, "--l2", "adds L2/2 times the sum of squared weights to the loss", type=float, metavar="L2")
    option(group, "--optimizer", ", ".join(OPTIMIZERS), metavar="NAME")
    rates = ", ".join(f"{name} {lr:g}" for name, (_, lr) in OPTIMIZERS.items())
    option(group, "--lr", "peak learning rate", rates, type=float, metavar="RATE")
    option(group, "--momentum", "of momentum and nesterov", "0.9", type=float, metavar="M")
    option(group, "--weight-decay", "of adamw", "0.01", type=float, metavar="W")
    option(group, "--schedule", f"of the learning rate: {', '.join(SCHEDULES)}", metavar="NAME")
    option(
        group,
        "--drop-after",
        "steps after which the schedule step drops",
        "half and three quarters of all",
        type=_steps,
        metavar="N[,N...]",
    )
    option(group, "--drop-factor", "what it multiplies the rate by", "0.1", type=float, metavar="F")
    option(
        group, "--warm-up", "steps in which the learning rate rises to its start", type=int, metavar="STEPS"
    )
    option(group, "--clip-norm", "longest gradient", "no limit", type=float, metavar="NORM")
    option(group, "--batch-size", "rows a step, or full", type=_batch_size, metavar="N|full")
    option(group, "--epochs", "passes over the training rows", type=int, metavar="N")
    option(
        group,
        "--early-stopping",
        "stop after so many epochs without a lower validation loss",
        "off",
        type=int,
        metavar="PATIENCE",
    )
    option(
        group,
        "--keep",
        "parameters to keep: those of the epoch with the lowest validation loss, or the last ones",
        "best with early stopping, else last",
        metavar="best|last",
    )
    option(group, "--seed", "of the weights, the shuffles and the splits", type=int, metavar="N")

    group = parser.add_argument_group("where to compute")
    option(group, "--device", "auto, cpu, cuda or cuda:1; auto is a GPU if one is usable", metavar="NAME")
    option(
        group,
        "--backend",
        ", ".join(LIBRARIES),
        "numpy on the CPU, the first usable on a GPU",
        metavar="NAME",
    )
    option(group, "--dtype", " or ".join(DTYPES), metavar="NAME")

    group = parser.add_argument_group("output")
    option(group, "--out", "folder of the run", "runs/DATE-TIME-DATA", metavar="DIR")
    option(
        group,
        "--checkpoint-every",
        "save every so many steps, too",
        "after each epoch",
        type=int,
        metavar="STEPS",
    )
    option(
        group,
        "--quiet",
        "print nothing but warnings and errors",
        "off",
        action=argparse.BooleanOptionalAction,
    )


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `xpnet predict`."""
    parser.add_argument("model", help="folder of a run, or its model.safetensors")
    parser.add_argument("files", nargs="+", metavar="file", help="picture, or rows as they were trained on")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")
    parser.add_argument("--backend", help=f"{', '.join(LIBRARIES)} (default: as train)")


def _sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"expected numbers of units such as 800 or 800,800, or none, got {text!r}"
        )
    return sizes


def _steps(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers of steps such as 500 or 500,750, got {text!r}")
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _batch_size(text: str) -> int | None:
    if text == "full":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of rows, or full, got {text!r}")
    return int(text)
