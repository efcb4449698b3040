"""Resuming a run: its options, whether it is still the same, whether it is finished."""

import json
import shlex
from pathlib import Path
from typing import Any

from xpnet.command.formats import format_command, format_count
from xpnet.command.options import Options
from xpnet.errors import InputError
from xpnet.training import TrainState
from xpnet.training.checkpoint import read_about
from xpnet.training.validation import is_out_of_patience

__all__ = ["check_same", "format_resume", "is_finished", "print_finished", "read_run"]


def read_run(folder: Path, given: dict[str, Any]) -> tuple[Options, str | None]:
    """Return the options of the run in `folder`, overridden by those given now, and the name of its recipe.

    Raises:
        InputError: there is no run in the folder, or an option given would change it.
    """
    if not folder.is_dir():
        raise InputError(f"--resume {folder}: no such folder")
    about = read_about(folder / "checkpoint.safetensors")
    return Options.from_dict(about["options"]).override(given), about.get("recipe")


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
    print(f"The run in {folder} is finished after {format_count(state.epoch, 'epoch')}. To train on:")
    if state.epoch < options.epochs and options.patience is not None:
        print(f"  {format_resume(folder)} --patience {2 * options.patience}")
    else:
        print(f"  {format_resume(folder)} --epochs {2 * state.epoch or 1}")


def format_resume(folder: Path) -> str:
    """Return the command that resumes the run in `folder`."""
    return f"{format_command('train')} --resume {shlex.quote(str(folder))}"


def check_same(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise InputError unless a run has the network and the data of its checkpoint."""
    if saved["sizes"] != now["sizes"]:
        raise InputError(
            f"--resume: the run has layers of {saved['sizes']} units, but its data now needs {now['sizes']}"
        )
    if saved["data_sha256"] != now["data_sha256"]:
        raise InputError("--resume: the data is not what the run was trained on (its SHA-256 differs)")
