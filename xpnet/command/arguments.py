"""The arguments of the command line, with their help."""

import argparse
import re
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from xpnet.backends import DTYPES, LIBRARIES
from xpnet.command.options import OPTIMIZERS, Options
from xpnet.command.recipes import recipe_names
from xpnet.data.loading import NAMES
from xpnet.maths.initializers import INITIALIZERS
from xpnet.maths.losses import LOSSES
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.schedules import SCHEDULES

__all__ = ["OPTIONS", "add_export_arguments", "add_predict_arguments", "add_train_arguments"]

OPTIONS = {field.name: field.default for field in fields(Options)}
HINTS = get_type_hints(Options)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `xpnet train`: one for each field of `Options`, and how to start."""

    def option(
        group: Any, flag: str, help: str, default: str | None = None, *aliases: str, **settings: Any
    ) -> None:
        name = flag.lstrip("-").replace("-", "_")
        value = OPTIONS[name]
        text = default or (",".join(map(str, value)) if isinstance(value, tuple) else value)
        for kind in get_args(HINTS[name]) or (HINTS[name],):
            if kind in PARSERS:
                settings.setdefault("type", PARSERS[kind])
        # What is not given is left out, so that --resume can tell what is.
        settings |= {"dest": name, "default": argparse.SUPPRESS, "help": f"{help} (default: {text})"}
        group.add_argument(flag, *aliases, **settings)

    start = parser.add_mutually_exclusive_group()
    start.add_argument("--recipe", metavar="NAME|FILE", help=f"{', '.join(recipe_names())}, or a .toml file")
    start.add_argument("--list-recipes", action="store_true", help="print the recipes with their results")
    start.add_argument("--resume", metavar="DIR", help="resume a run with its original options")

    group = parser.add_argument_group("data")
    option(group, "--data", f"{', '.join(NAMES)}, or a .csv, .tsv, .npz or .mat file", metavar="NAME|FILE")
    option(group, "--target", "column of a .csv or .tsv file to predict", "the last", metavar="NAME")
    option(
        group, "--data-dir", "folder of the MNIST files", "the user's cache; downloaded once", metavar="DIR"
    )
    option(
        group,
        "--test",
        "fraction of the rows used for testing if the data has no test rows of its own; 0 for none",
        metavar="FRACTION",
    )
    option(
        group,
        "--validation",
        "fraction of the training rows held out for validation; 0 for none",
        metavar="FRACTION",
    )

    group = parser.add_argument_group("network")
    option(group, "--hidden", "units of each hidden layer, or 'none'", type=_parse_sizes, metavar="N[,N...]")
    option(
        group,
        "--activation",
        f"one for all hidden layers, or one for each: {', '.join(ACTIVATIONS)}",
        type=_parse_names,
        metavar="NAME[,NAME...]",
    )
    option(
        group,
        "--init",
        f"distribution of the initial weights: {', '.join(INITIALIZERS)}; normal:0.01 sets the scale; "
        "the prefix legacy_ draws them with numpy.random.seed",
        "auto, which suits each activation",
        metavar="NAME",
    )

    group = parser.add_argument_group("training")
    option(group, "--loss", ", ".join(LOSSES), metavar="NAME")
    option(group, "--label-smoothing", "fraction of each label spread evenly over all classes", metavar="S")
    option(group, "--l2", "L2 penalty: adds L2/2 times the sum of squared weights to the loss", metavar="L2")
    option(group, "--optimizer", ", ".join(OPTIMIZERS), metavar="NAME")
    rates = ", ".join(f"{name} {lr:g}" for name, (_, lr) in OPTIMIZERS.items())
    option(group, "--lr", "peak learning rate", rates, metavar="RATE")
    option(group, "--momentum", "for the optimizers momentum and nesterov", "0.9", metavar="M")
    option(group, "--weight-decay", "for the optimizer adamw", "0.01", metavar="W")
    option(group, "--schedule", f"learning rate schedule: {', '.join(SCHEDULES)}", metavar="NAME")
    option(
        group,
        "--drop-after",
        "for the schedule step: the steps after which the learning rate drops",
        "after a half and three quarters of all steps",
        type=_parse_steps,
        metavar="N[,N...]",
    )
    option(group, "--drop-factor", "factor applied to the learning rate at each drop", "0.1", metavar="F")
    option(group, "--warm-up", "steps over which the learning rate rises linearly from 0", metavar="STEPS")
    option(
        group,
        "--clip-norm",
        "largest gradient norm; longer gradients are scaled down",
        "no limit",
        metavar="NORM",
    )
    option(
        group,
        "--batch-size",
        "rows per step, or 'full' for all rows",
        type=_parse_batch_size,
        metavar="N|full",
    )
    option(group, "--epochs", "maximum number of epochs", metavar="N")
    option(
        group,
        "--patience",
        "early stopping: stop after N epochs without a lower validation loss",
        "off",
        "--early-stopping",
        metavar="N",
    )
    option(
        group,
        "--keep",
        "parameters to keep: those of the epoch with the lowest validation loss, or the last ones",
        "best with early stopping, else last",
        metavar="best|last",
    )
    option(group, "--seed", "seed of the initial weights, shuffles and splits", metavar="N")

    group = parser.add_argument_group("where to compute")
    option(
        group,
        "--device",
        "auto, cpu, cuda or cuda:1; auto is the GPU if there is a usable one",
        metavar="NAME",
    )
    option(
        group,
        "--backend",
        ", ".join(LIBRARIES),
        "numpy on the CPU, the first usable one on a GPU",
        metavar="NAME",
    )
    option(group, "--dtype", " or ".join(DTYPES), metavar="NAME")
    option(
        group,
        "--threads",
        "number of BLAS threads of the backend numpy; an error with any other backend",
        "all CPU cores",
        metavar="N",
    )

    group = parser.add_argument_group("output")
    option(group, "--out", "folder of the run", "runs/DATE-TIME-DATA", metavar="DIR")
    option(
        group,
        "--checkpoint-every",
        "also save a checkpoint every N steps",
        "after each epoch only",
        metavar="N",
    )
    option(group, "--quiet", "print only warnings and errors", "off", action=argparse.BooleanOptionalAction)


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `xpnet predict`."""
    _add_model(parser)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="file",
        help="picture, folder of pictures, or rows with their values as stored (.npy, .npz, .csv, .tsv)",
    )
    parser.add_argument(
        "--top",
        default=3,
        type=_parse_top,
        metavar="N",
        help="number of classes to show, the most probable first (default: %(default)s)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write a JSON object on a line for each prediction")
    form.add_argument("--csv", action="store_true", help="write a table of comma-separated values")
    parser.add_argument("--output", metavar="FILE", help="write to this file (default: standard output)")
    parser.add_argument(
        "--save-prepared", metavar="DIR", help="save each picture as the network gets it, as PNG"
    )
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:1 (default: cpu, or auto with --backend)")
    parser.add_argument("--backend", help=f"{', '.join(LIBRARIES)} (default: as train)")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `xpnet export`."""
    _add_model(parser)
    parser.add_argument("--to", default="onnx", metavar="NAME", help="format: onnx (default: %(default)s)")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write to this file (default: named as the model file, with the ending .onnx)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        metavar="NAME",
        help=f"type of the inputs, parameters and predictions: {' or '.join(DTYPES)} (default: %(default)s)",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder of a run, or a model file of a run or of an estimator")


def _parse_sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = (0,)
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(
            f"expected numbers of units such as 800 or 800,800, or 'none', got {text!r}"
        )
    return sizes


def _parse_steps(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers of steps such as 500 or 500,750, got {text!r}")
    return tuple(int(part) for part in text.split(","))


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _parse_batch_size(text: str) -> int | None:
    if text == "full":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of rows, or 'full', got {text!r}")
    return int(text)


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None


def _parse_top(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


PARSERS = {int: _parse_int, float: _parse_number}
