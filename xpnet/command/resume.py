"""Resuming a run: its options, whether it is still the same, whether it is finished."""

import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.command.formats import escape, format_command, format_count
from xpnet.command.options import Options
from xpnet.data.schema import check_table
from xpnet.errors import InputError
from xpnet.maths.mlp import MLP
from xpnet.training import TrainState
from xpnet.training.checkpoint import read_about
from xpnet.training.validation import is_out_of_patience

__all__ = [
    "check_history",
    "check_same",
    "check_state",
    "find_run",
    "format_resume",
    "is_finished",
    "print_finished",
    "read_run",
]

_HINTS = {"options": dict, "data_sha256": str, "sizes": list[int], "recipe": str | None}


def find_run(name: str) -> Path:
    """Return the folder of a run that can be resumed.

    Raises:
        InputError: there is no such folder, or no checkpoint in it.
    """
    folder = Path(name)
    if not name or not folder.is_dir():
        raise InputError(f"--resume {name or repr(name)}: no such folder")
    if not (folder / "checkpoint.safetensors").exists():
        raise InputError(
            f"--resume {folder}: there is no checkpoint in this folder. If its run was stopped before the "
            f"first one, start it again: its options and --out {shlex.quote(str(folder))}"
        )
    return folder


def read_run(folder: Path, given: dict[str, Any]) -> tuple[Options, str | None]:
    """Return the options of the run in `folder`, overridden by those given now, and the name of its recipe.

    Raises:
        InputError: the checkpoint is damaged, or an option given would change the run.
    """
    path = folder / "checkpoint.safetensors"
    about = read_about(path)
    try:
        check_table(
            about, dict.fromkeys(about, object) | _HINTS, required=["options", "data_sha256", "sizes"]
        )
        options = Options.from_dict(about["options"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return options.override(given), about.get("recipe")


def check_history(files: dict[str, bytes], state: TrainState) -> None:
    """Raise InputError unless the history in a checkpoint has a record of each epoch."""
    try:
        tables = {name: [*map(json.loads, content.splitlines())] for name, content in files.items()}
        for record in itertools.chain(*tables.values()):
            check_table(record, dict.fromkeys(record, float))
        is_whole = [record["epoch"] for record in tables["history.jsonl"]] == [*range(1, state.epoch + 1)]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        is_whole = False
    if not is_whole:
        raise InputError(
            "--resume: the checkpoint does not contain the history of its epochs. "
            "Resume it with the version of xpnet that wrote it, or train again"
        )


def is_finished(folder: Path, state: TrainState, options: Options) -> bool:
    """Whether no epoch is left to train, and the results of the last one are written."""
    is_stopped = options.patience is not None and is_out_of_patience(state, options.patience)
    if state.batch or (state.epoch < options.epochs and not is_stopped):
        return False
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
    except (OSError, ValueError):
        return False
    return metrics.get("epochs") == state.epoch and (folder / "model.safetensors").exists()


def print_finished(folder: Path, state: TrainState, options: Options) -> None:
    """Say that there is nothing left to train, and how to train on."""
    print(f"The run in {escape(folder)} is finished after {format_count(state.epoch, 'epoch')}. To train on:")
    if state.epoch < options.epochs and options.patience is not None:
        print(f"  {format_resume(folder)} --patience {2 * options.patience}")
    else:
        print(f"  {format_resume(folder)} --epochs {2 * state.epoch or 1}")


def format_resume(folder: Path) -> str:
    """Return the command that resumes the run in `folder`."""
    return f"{format_command('train')} --resume {shlex.quote(escape(folder))}"


def check_same(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError unless a run has the network and the data of its checkpoint."""
    if saved["sizes"] != now["sizes"]:
        raise InputError(
            f"--resume: the run has layers of {saved['sizes']} units, but its data now needs {now['sizes']}"
        )
    if saved["data_sha256"] != now["data_sha256"]:
        raise InputError("--resume: the data is not what the run was trained on (its SHA-256 differs)")


def check_state(state: TrainState, mlp: MLP, optimizer: Any, n_batches: int) -> None:
    """Raise InputError unless the state of a checkpoint is one of a run of this network and optimizer."""
    n_moments = len(optimizer.init(np.zeros(1), xp=np))
    found = (state.theta.shape[0], len(state.moments))
    if found != (mlp.layout.n_parameters, n_moments):
        raise InputError(
            f"--resume: expected {mlp.layout.n_parameters:,} parameters and {n_moments} moments in the "
            f"checkpoint, found {found[0]:,} and {found[1]}"
        )
    if state.batch > n_batches or state.step != state.epoch * n_batches + state.batch:
        raise InputError(
            f"--resume: expected {n_batches:,} steps in each epoch, found step {state.step} "
            f"after {state.epoch} epochs and {state.batch} batches in the checkpoint"
        )
