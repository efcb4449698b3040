"""A run that is killed, at whatever moment, leaves nothing unreadable. Resumed it ends with the same bits."""

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial

import pytest
from places import Place, skip_unless_usable
from runs import (
    Forks,
    LongRun,
    assert_same_run,
    checkpoint,
    make_data,
    wait_for,
    words,
)

from xpnet.command.cli import main
from xpnet.training.model import load_model

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

SHORT = "--data data.npz --batch-size 18 --epochs 2 --hidden 8"  # two steps an epoch
# 36 training rows, one a step: an epoch ends, and history is written, every few milliseconds. All the steps
# take a second or two; saved after each one they take far longer than all the kills.
LONG = "--data data.npz --batch-size 1 --hidden 8 --optimizer momentum --schedule one_cycle --epochs"
CUPY_KILLS = 6  # CuPy starts anew in each


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder that holds data for all runs."""
    folder = tmp_path_factory.mktemp("runs")
    make_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(sys.modules, "matplotlib", None)
        assert main(words(f"{SHORT} --out short")) == 0
    return folder


@pytest.fixture(scope="module")
def forks(ground):
    with Forks(ground) as forks:
        yield forks


def assert_readable(folder):
    """Assert that each file is absent or whole."""
    if (folder / "checkpoint.safetensors").exists():
        checkpoint(folder)
        load_model(folder)
    if (folder / "history.jsonl").exists():
        *lines, _ = (folder / "history.jsonl").read_text().split("\n")  # the last one may be cut off
        assert all(map(json.loads, lines))
    if (folder / "metrics.json").exists():
        assert json.loads((folder / "metrics.json").read_text())["epochs"] == 2


def assert_finishes(forks, folder, whole):
    """Resume a run, or start it again where it says so: it ends as one that was not killed."""
    ended = forks.wait(forks.start(f"--resume {folder.name}"))
    if not (folder / "checkpoint.safetensors").exists():
        assert ended.status == 2
        assert f"--out {folder.name}" in ended.err or not folder.exists()
        ended = forks.wait(forks.start(f"{SHORT} --out {folder.name}"))
    assert ended == (0, None, "")
    assert_same_run(folder, whole)


def test_killed_at_each_write(ground, forks):
    folder, kills = ground / "killed", 0
    for call in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        ended = forks.wait(forks.start(f"{SHORT} --out killed", call=call))
        if ended.signal is None:
            break
        kills += 1
        if folder.exists():
            assert_readable(folder)
        if call % 3 == 0:  # and once more
            again = forks.wait(forks.start("--resume killed", call=call // 3))
            kills += again.signal is not None
            assert_readable(folder)
        assert_finishes(forks, folder, ground / "short")
    assert ended.status == 0
    assert kills > 40
    print(f"{kills} kills")


@pytest.fixture(scope="module", params=[Place.NUMPY, Place.CUPY], ids=str)
def long_run(request, ground):
    """A run that lasts for all kills at random moments; saved after each step it takes far longer."""
    place = request.param
    skip_unless_usable(place, request.config)
    kills = request.config.getoption("kill")
    epochs = max(400, 10 * kills) if place is Place.NUMPY else 40
    run = LongRun(f"{LONG} {epochs} {place.options}", place, ground / str(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ground)
        patch.setitem(sys.modules, "matplotlib", None)
        assert main(words(f"{run.options} --out {place}")) == 0
    return run


def test_killed_at_random_moments(ground, forks, long_run, pytestconfig):
    folder = ground / f"moments-{long_run.place}"
    path = folder / "checkpoint.safetensors"
    seed = time.time_ns() % 1_000_000
    delays = random.Random(seed)
    options, reached = f"{long_run.options} --checkpoint-every 1 --out {folder.name}", (0, -1)
    kills = pytestconfig.getoption("kill") if long_run.place is Place.NUMPY else CUPY_KILLS

    def stamp():
        return path.stat().st_mtime_ns if path.exists() else None

    def is_writing():
        return any(name.endswith(".part") for name in os.listdir(folder))

    for kill in range(kills):
        where = f"kill {kill}, delays of seed {seed}"
        before = stamp()
        process = forks.start(options)
        ended = partial(is_gone, process)
        # From the first checkpoint on, not from the start: each round gets somewhere, on any machine.
        wait_for(lambda before=before: stamp() != before, ended)
        time.sleep(delays.uniform(0, 0.05))
        if kill % 2:  # in the middle of writing a checkpoint, as near as can be
            wait_for(is_writing, ended, every=0)
        assert not ended(), f"{where}: {forks.wait(process)}"
        os.kill(process, signal.SIGKILL)
        assert forks.wait(process) == (None, signal.SIGKILL, ""), where
        assert_readable(folder)
        # An epoch's end is saved after its last step, under the same number.
        state = checkpoint(folder)
        assert (state.epoch, state.step) > reached, where
        reached = state.epoch, state.step
        options = f"--resume {folder.name} --checkpoint-every 1 {long_run.place.options}"

    ended = forks.wait(
        forks.start(f"--resume {folder.name} --checkpoint-every 1000000 {long_run.place.options}")
    )
    assert ended == (0, None, ""), f"delays of seed {seed}"
    assert_same_run(folder, long_run.folder)


def is_gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def unfinished(ground, forks):
    """A run that was killed in its first epoch, and has hours to go."""
    folder = ground / "unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    process = forks.start(f"{LONG} 100000000 --checkpoint-every 100 --out {folder.name}")
    wait_for((folder / "checkpoint.safetensors").exists, partial(is_gone, process))
    os.kill(process, signal.SIGKILL)
    assert forks.wait(process).signal == signal.SIGKILL
    return folder


def test_a_run_is_trained_by_one_process_at_a_time(forks, unfinished):
    lock = unfinished / "run.lock"
    assert lock.exists()  # of the killed run: it is no hindrance

    for _ in range(5):
        processes = {str(forks.start(f"--resume {unfinished.name}")) for _ in range(3)}
        wait_for(lambda started=processes: lock.read_text().strip() in started, lambda: False)
        winner = lock.read_text().strip()
        for process in processes - {winner}:
            loser = forks.wait(int(process))
            assert loser.status == 2
            assert f"error: {unfinished.name}: the process {winner} is training this run" in loser.err
        os.kill(int(winner), signal.SIGKILL)
        assert forks.wait(int(winner)) == (None, signal.SIGKILL, "")
        assert_readable(unfinished)


def test_new_runs_that_start_in_one_folder_at_once(ground, forks):
    folder = ground / "new"
    processes = [forks.start(f"{SHORT} --out {folder.name}") for _ in range(3)]
    ended = [forks.wait(process) for process in processes]
    assert sorted(each.status for each in ended) == [0, 2, 2], ended
    assert_same_run(folder, ground / "short")


def test_a_run_killed_before_its_first_checkpoint_says_what_to_do(ground, capsys, monkeypatch):
    monkeypatch.chdir(ground)
    (ground / "begun").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(words("--resume begun"))
    assert "start it again: its options and --out begun" in capsys.readouterr().err
    assert main(["predict", "begun", "data.npz"]) == 2
    assert "stopped before its first checkpoint, start it again" in capsys.readouterr().err
