"""A run that is stopped, in whatever way, and resumed ends with the same bits as one that was not."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import Place, skip_unless_usable
from runs import (
    HANGS,
    REPOSITORY,
    LongRun,
    assert_same_run,
    bits,
    checkpoint,
    history,
    make_data,
    wait_for,
    words,
)

from xpnet.command.cli import main
from xpnet.command.progress import Progress
from xpnet.training.files import read, write
from xpnet.training.model import load_model

# 36 training rows, one a step: an epoch ends every few milliseconds.
LONG = "--data data.npz --batch-size 1 --hidden 8 --optimizer momentum --schedule one_cycle"
EPOCHS = {Place.NUMPY: 400, Place.CUPY: 40}


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder, with a space in its name, that holds data for all runs."""
    folder = tmp_path_factory.mktemp("some runs")
    make_data(folder)
    return folder


@pytest.fixture(scope="module", params=EPOCHS, ids=str)
def long_run(request, ground):
    place = request.param
    skip_unless_usable(place, request.config)
    run = LongRun(f"{LONG} --epochs {EPOCHS[place]} {place.options}", place, ground / str(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ground)
        patch.setitem(sys.modules, "matplotlib", None)
        assert main(words(f"{run.options} --out {place}")) == 0
    return run


@pytest.fixture
def train(ground, tmp_path, monkeypatch, capsys):
    """`xpnet train` in this process and in an empty folder."""
    (tmp_path / "data.npz").write_bytes((ground / "data.npz").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    def train(options):
        status = main(words(options))
        assert status == 0, capsys.readouterr().err

    return train


def start(folder, options):
    """Start training as a command of its own."""
    return subprocess.Popen(
        [sys.executable, REPOSITORY / "scripts" / "train.py", *words(options)[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


class Stop(BaseException):
    """The plug is pulled."""


def stop_after(patch, step):
    """Have training end at this step, before anything of it is saved."""
    advance = Progress.advance

    def pull(self, state):
        if state.step == step:
            raise Stop
        advance(self, state)

    patch.setattr(Progress, "advance", pull)


# The same again


@pytest.mark.parametrize("where", [Place.NUMPY, Place.CUPY], indirect=True, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", ["--data digits --epochs 3", "--data data.npz --epochs 20 --optimizer nesterov"]
)
def test_the_same_seed_gives_the_same_bits(train, tmp_path, dtype, options, where):
    options = f"{options} --dtype {dtype} {where}"
    for folder in ("one", "two"):
        train(f"{options} --seed 3 --out {folder}")
    assert_same_run(tmp_path / "one", tmp_path / "two")
    train(f"{options} --seed 4 --out other")
    assert bits(tmp_path / "other") != bits(tmp_path / "one")


def test_another_seed_is_another_shuffle(train, tmp_path):
    # The same weights and the same rows to begin with.
    options = "--data data.npz --hidden none --init zeros --validation 0 --epochs 1 --batch-size"
    for seed in (3, 4):
        train(f"{options} 5 --seed {seed} --out small-{seed}")
        train(f"{options} full --seed {seed} --out full-{seed}")
    assert bits(tmp_path / "small-3") != bits(tmp_path / "small-4")
    for name, (dtype, _, values) in bits(tmp_path / "full-3").items():
        other = bits(tmp_path / "full-4")[name][2]
        np.testing.assert_allclose(np.frombuffer(values, dtype), np.frombuffer(other, dtype), atol=1e-6)


@pytest.mark.parametrize("where", [Place.NUMPY, Place.CUPY], indirect=True, ids=str)
def test_checkpoints_change_nothing(train, tmp_path, where):
    for n in (1, 7):
        train(f"--data data.npz --epochs 4 {where} --checkpoint-every {n} --out every-{n}")
    train(f"--data data.npz --epochs 4 {where} --out plain")
    assert_same_run(tmp_path / "every-1", tmp_path / "plain")
    assert_same_run(tmp_path / "every-7", tmp_path / "plain")


# Stopped at a certain step


@pytest.mark.parametrize("where", [Place.NUMPY, Place.TORCH_CPU, Place.CUPY], indirect=True, ids=str)
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("step", [1, 6, 7, 17])
@pytest.mark.parametrize(
    "options",
    [
        "",
        "--optimizer adamw --schedule step --warm-up 4",
        "--optimizer rmsprop --dtype float64 --clip-norm 0.5",
        "--batch-size full --epochs 20",
        "--epochs 40 --lr 0.5 --patience 2",
    ],
)
def test_stopped_at_a_step(train, tmp_path, monkeypatch, options, step, every, where):
    # 36 rows, 7 a step: 6 steps an epoch, the last of them on one row.
    options = f"--data data.npz --batch-size 7 --epochs 3 {options} {where}"
    train(f"{options} --out whole")
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(Stop):
            train(f"{options} --out stopped --checkpoint-every {every}")
    assert checkpoint(tmp_path / "stopped").step < step
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    train(f"--resume stopped {where}")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("where", [Place.NUMPY, Place.CUPY], indirect=True, ids=str)
def test_early_stopping_remembers_its_best_epoch(train, tmp_path, monkeypatch, where):
    options = f"--data data.npz --batch-size 7 --epochs 500 --lr 0.1 --patience 4 --validation 0.3 {where}"
    train(f"{options} --out whole")
    losses = [record["validation_loss"] for record in history(tmp_path / "whole")]
    best = losses.index(min(losses)) + 1
    assert len(losses) == best + 4 < 500
    # Stopped after the best epoch, which the resumed run therefore never sees.
    with monkeypatch.context() as patch:
        stop_after(patch, (best + 2) * history(tmp_path / "whole")[0]["step"] + 1)
        with pytest.raises(Stop):
            train(f"{options} --out stopped")
    assert checkpoint(tmp_path / "stopped").best.epoch == best
    train(f"--resume stopped {where}")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("options", ["", "--epochs 500 --lr 0.1 --patience 2"])
def test_a_finished_run_finishes_again(train, tmp_path, options):
    train(f"--data data.npz --epochs 3 {options} --out run")
    kept = bits(tmp_path / "run"), history(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    (tmp_path / "run" / "metrics.json").unlink()
    train("--resume run")
    assert (bits(tmp_path / "run"), history(tmp_path / "run")) == kept
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == len(kept[1])


def test_a_finished_run_that_is_stopped_again_has_no_old_model(train, tmp_path, monkeypatch):
    # `xpnet predict` would take it for the result.
    train("--data data.npz --batch-size 7 --epochs 1 --out run")
    assert (tmp_path / "run" / "model.safetensors").exists()
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(Stop):
            train("--resume run --epochs 5")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_more_epochs_may_be_asked_for(train, tmp_path):
    options = "--data data.npz --schedule constant"
    train(f"{options} --epochs 7 --out long")
    train(f"{options} --epochs 3 --out short")
    assert bits(tmp_path / "short") != bits(tmp_path / "long")
    train("--resume short --epochs 7")
    assert_same_run(tmp_path / "short", tmp_path / "long")


@pytest.mark.parametrize("where", [Place.STRICT, Place.TORCH_CPU, Place.CUPY], indirect=True, ids=str)
@pytest.mark.parametrize(
    "step", [13, 16]
)  # the checkpoint is that of the step before: the end of an epoch, or not
def test_a_run_may_go_on_elsewhere(train, tmp_path, monkeypatch, where, step):
    options = "--data data.npz --batch-size 7 --epochs 6 --patience 5 --dtype float64 --checkpoint-every 1"
    train(f"{options} --out whole")
    for begun, resumed in ((where, Place.NUMPY.options), (Place.NUMPY.options, where)):
        folder = tmp_path / begun.replace(" ", "")
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(Stop):
                train(f"{options} {begun} --out {folder}")
        assert checkpoint(folder).batch == (step - 1) % 6
        train(f"--resume {folder} {resumed}")
        ours, theirs = (load_model(run / "model.safetensors").theta for run in (folder, tmp_path / "whole"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + '{"epoch": 3, "st',  # killed while it wrote a record
        lambda text: text + '{"epoch": 3, "step": 6}\n{"epoch"',
        lambda text: text.splitlines()[0],
        lambda text: "This is no JSON.\n",
        lambda text: "",
        None,
    ],
    ids=["half a record", "more", "less", "no JSON", "empty", "no file"],
)
def test_the_history_is_that_of_the_checkpoint(train, tmp_path, change):
    options = "--data data.npz --schedule constant"
    train(f"{options} --epochs 4 --out long")
    train(f"{options} --epochs 2 --out short")
    path = tmp_path / "short" / "history.jsonl"
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    train("--resume short --epochs 4")
    assert_same_run(tmp_path / "short", tmp_path / "long")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links")
def test_links_in_the_folder_of_a_run_are_not_followed(train, tmp_path):
    train("--data data.npz --epochs 1 --out run")
    for name in ("history.jsonl", "checkpoint.safetensors", "metrics.json", "model.safetensors"):
        (tmp_path / "run" / name).rename(tmp_path / name)
        (tmp_path / "run" / name).symlink_to(tmp_path / name)
    before = contents(tmp_path)
    train("--resume run --epochs 2")
    assert contents(tmp_path) == before
    assert not any(path.is_symlink() for path in (tmp_path / "run").iterdir())


@pytest.mark.parametrize("content", [None, b"", b'{"epoch": 1}\n', b'{"epoch": 1}\n{"epoch": "2"}\n', b"[[["])
def test_a_checkpoint_without_its_history_is_refused(train, tmp_path, capsys, content):
    train("--data data.npz --epochs 2 --out run")
    path = tmp_path / "run" / "checkpoint.safetensors"
    kind, version, tensors, about = read(path, {"xpnet checkpoint": ("1",)})
    del tensors["files.history.jsonl"]
    if content is not None:
        tensors["files.history.jsonl"] = np.frombuffer(content, np.uint8)
    write(path, kind, version, tensors, about)
    before = contents(tmp_path / "run")
    assert main(words("--resume run --epochs 4")) == 2
    assert "does not contain the history of its epochs" in capsys.readouterr().err
    assert contents(tmp_path / "run") == before


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Stopped from outside, at any moment


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(ground, long_run, tmp_path):
    (tmp_path / "data.npz").write_bytes((ground / "data.npz").read_bytes())
    folder = tmp_path / "a run"
    records = folder / "history.jsonl"
    process = start(tmp_path, f"{long_run.options} --out 'a run'")
    trains = wait_for(
        lambda: records.exists() and records.stat().st_size > 0, lambda: process.poll() is not None
    )
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANGS)
    assert trains, f"the run was over before it could be interrupted: {err}"
    assert process.returncode == 130, err
    assert "Traceback" not in err
    found = re.search(r"Stopped in epoch (\d+) at step ([\d,]+)\. To resume:\n  (.+)\n$", err)
    epoch, step, line = found.groups()
    state = checkpoint(folder)
    assert (state.epoch + 1, state.step) == (int(epoch), int(step.replace(",", "")))
    assert 0 < state.step < EPOCHS[long_run.place] * 36
    assert not (folder / "model.safetensors").exists()

    python, script, *rest = shlex.split(line)
    assert python == Path(sys.executable).name
    done = subprocess.run(
        [sys.executable, REPOSITORY / script, *rest],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(folder, long_run.folder)
