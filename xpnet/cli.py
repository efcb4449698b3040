"""The command line: `xpnet train`, `xpnet predict`, `xpnet info`.

Exit status: 0 done; 1 the run or a file failed; 2 something given cannot be used; 130 stopped by Ctrl-C.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet.backend import DTYPES, LIBRARIES, resolve
from xpnet.checkpoint import Model, load_model
from xpnet.datasets import NAMES
from xpnet.datasets.pictures import read_picture
from xpnet.datasets.table import read_rows
from xpnet.errors import BackendError, DivergenceError, InputError
from xpnet.evaluation import predict
from xpnet.initializers import INITIALIZERS
from xpnet.losses import LOSSES
from xpnet.ops import ACTIVATIONS
from xpnet.options import OPTIMIZERS, Options
from xpnet.recipes import load_recipe, recipe_names
from xpnet.schedules import SCHEDULES

__all__ = ["main"]

OPTIONS = {field.name: field.default for field in fields(Options)}
# Options that leave the figures of a recipe as they are.
NEUTRAL = {"data_dir", "device", "backend", "out", "checkpoint_every", "quiet"}
ROW_FILES = (".npy", ".npz", ".csv")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    from xpnet.run import Interrupted, OutOfMemoryError

    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except (InputError, BackendError) as error:
        return _fail(error, 2)
    except (DivergenceError, OutOfMemoryError) as error:
        return _fail(error, 1)
    except MemoryError as error:  # outside training, which says more
        return _fail(MemoryError(f"out of memory: {error or 'the data is too large'}"), 1)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written to
        return _fail(error, 1)
    except Interrupted as error:
        print(f"\n{error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nStopped", file=sys.stderr)
        return 130


def _fail(error: Exception, status: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return status


def train(arguments: argparse.Namespace) -> int:
    """Train a network, or go on with a run."""
    from xpnet import run

    if arguments.list_recipes:
        return list_recipes()
    given = {name: value for name, value in vars(arguments).items() if name in OPTIONS}
    folder = None if arguments.resume is None else Path(arguments.resume)
    if folder is not None:
        options, name = run.resumed(folder, given)
        recipe = None if name is None else load_recipe(name)
    else:
        recipe = None if arguments.recipe is None else load_recipe(arguments.recipe)
        options = Options(**{**(recipe.options if recipe else {}), **given})
    agrees = run.train(options, folder, recipe)
    # A recipe that was changed may come to other figures.
    return 0 if agrees or not given.keys() <= NEUTRAL else 1


def list_recipes() -> int:
    """Print each recipe with its article, its note and the figures it is expected to reach."""
    for name in recipe_names():
        recipe = load_recipe(name)
        print(f'{name}\n    "{recipe.title}"')
        for line in recipe.note.splitlines():
            print(f"    {line}")
        if recipe.printed is not None:
            printed = recipe.printed
            print(f"    expected: {len(printed.lines)} printed lines, to {printed.decimals} decimals")
        for figure, expected in recipe.expected.items():
            print(f"    expected: {figure.replace('_', ' ')} {expected}")
    return 0


def predict_files(arguments: argparse.Namespace) -> int:
    """Print what the model answers for each file; one that cannot be used is named, and the others go on."""
    path = Path(arguments.model)
    model = load_model(path / "model.safetensors" if path.is_dir() else path)
    backend = resolve(arguments.device, arguments.backend, str(model.theta.dtype))
    theta = backend.asarray(model.theta)
    status = 0
    for file in arguments.files:
        try:
            X = _read_inputs(file, model)
            answers = predict(model.mlp, theta, backend.asarray(X), backend=backend)
            if model.target_scaling is not None:
                answers = model.target_scaling.undo(answers)
        except InputError as error:
            status = _fail(error, 1)
            continue
        for row, answer in enumerate(answers):
            name = file if len(answers) == 1 and not file.lower().endswith(ROW_FILES) else f"{file}[{row}]"
            print(f"{name}: {_answer(answer, model.classes)}")
    return status


def _read_inputs(file: str, model: Model) -> np.ndarray[Any, Any]:
    dtype = str(model.theta.dtype)
    n_features = model.mlp.sizes[0]
    if file.lower().endswith(ROW_FILES):
        return model.scaling(read_rows(file, n_features), dtype)
    if model.picture is None:
        raise InputError(
            f"{file}: the model was trained on rows of {n_features} numbers, not on pictures: "
            f"give it a file that ends in {', '.join(ROW_FILES)}"
        )
    # Pictures were scaled to 0 ... 1 for training, whatever range their files had.
    return (read_picture(file, model.picture) / 255.0).astype(dtype)[np.newaxis]


def _answer(answer: np.ndarray[Any, Any], classes: tuple[str, ...] | None) -> str:
    if classes is None:
        return "  ".join(f"{value:.6g}" for value in answer)
    return "   ".join(f"{classes[k]} {100 * answer[k]:.2f} %" for k in np.argsort(-answer, kind="stable")[:3])


def info(arguments: argparse.Namespace) -> int:
    """Print each array library with its version and devices, or why it cannot be used and the remedy."""
    print(f"xpnet {xpnet.__version__}, Python {sys.version.split()[0]}, NumPy {np.__version__}\n")
    for library in LIBRARIES.values():
        print(f"{library.name:<17}{library.version or '-'}")
        if library.version is None:
            print(f"    not installed: {library.remedy}")
            continue
        for device in library.devices:
            print(f"    {device}: {library.problem(device) or 'usable'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xpnet", description=xpnet.__doc__)
    parser.add_argument("--version", action="version", version=xpnet.__version__)
    commands = parser.add_subparsers(required=True, metavar="train | predict | info")
    _add_train(commands)
    _add_predict(commands)
    command = commands.add_parser("info", help=info.__doc__, description=info.__doc__)
    command.set_defaults(command=info)
    return parser


def _add_train(commands: Any) -> None:
    parser = commands.add_parser("train", help=train.__doc__, description=train.__doc__)
    parser.set_defaults(command=train)

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


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="Print the three likeliest classes of pictures or rows.",
        description="Print the three likeliest classes, with probabilities, of each picture (PNG, JPEG) or "
        "each row of a .npy, .npz (its X) or .csv file; for a network that predicts numbers, the numbers.",
    )
    parser.set_defaults(command=predict_files)
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
