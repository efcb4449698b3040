"""What the tests of stopped runs share: their data, what they leave behind, and many of them at once."""

import builtins
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
from places import Place
from safetensors.numpy import load_file

from xpnet.backends import resolve
from xpnet.command.cli import main
from xpnet.training.checkpoint import load_state

REPOSITORY = Path(__file__).parents[1]
HANGS = 600  # seconds: only a guard, for a busy machine is slow


class LongRun(NamedTuple):
    """A run that was never stopped: its options, where it computed, and its folder."""

    options: str
    place: Place
    folder: Path


def make_data(folder):
    """Write data that needs no scikit-learn, for it has a test part: the import takes longer than a run."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), np.arange(60) % 3
    np.savez(folder / "data.npz", X=X[:40], y=y[:40], X_test=X[40:], y_test=y[40:])


def words(options):
    return ["train", "--device", "cpu", "--quiet", *shlex.split(options)]


def wait_for(done, ended, every=0.001):
    """Wait until `done()`; return False if the process ended before."""
    while not done():
        if ended():
            return False
        time.sleep(every)
    return True


def checkpoint(folder):
    return load_state(folder / "checkpoint.safetensors", backend=resolve("cpu"))[0]


def bits(folder, name="model.safetensors"):
    """The tensors of a file, bit for bit, without the history, which contains times.

    Not the bytes of the file: safetensors shuffles what stands in the header.
    """
    tensors = load_file(folder / name)
    return {
        name: (x.dtype, x.shape, x.tobytes()) for name, x in tensors.items() if not name.startswith("files.")
    }


def history(folder):
    """The records without what the clock says."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    clock = {"seconds", "samples_per_second"}
    return [{name: value for name, value in record.items() if name not in clock} for record in records]


def assert_same_run(ours, theirs):
    assert bits(ours) == bits(theirs)
    assert history(ours) == history(theirs)
    assert bits(ours, "checkpoint.safetensors") == bits(theirs, "checkpoint.safetensors")
    assert not [path for path in ours.iterdir() if path.suffix in (".part", ".lock")]


def kill_at_call(n):
    """Have this process kill itself at the n-th call that changes a file: before it, or amid a write."""
    count = 0

    def tick():
        nonlocal count
        count += 1
        if count == n:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function, changes=lambda *_: True):
        def call(*args, **settings):
            if changes(*args):
                tick()
            return function(*args, **settings)

        return call

    class Halves:
        """A file that is killed after one half of what it writes."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            tick()
            return self.file.write(data[len(data) // 2 :])

    def open_file(path, mode="r", *args, open=open, **settings):
        if not set(mode) & set("wax+"):
            return open(path, mode, *args, **settings)
        tick()
        return Halves(open(path, mode, *args, **settings))

    builtins.open = open_file
    os.open = counted(os.open, lambda path, flags, *_: flags & (os.O_WRONLY | os.O_RDWR))
    for name in ("fsync", "ftruncate", "mkdir", "replace", "unlink", "write"):
        setattr(os, name, counted(getattr(os, name)))


class Ended(NamedTuple):
    """How a command ended: with an exit status, or killed by a signal; and what it wrote to stderr."""

    status: int | None
    signal: int | None
    err: str


class Forks:
    """Runs many commands in a short time.

    A new Python imports for half a second. One process has done so, and runs each command in a copy.
    """

    def __init__(self, folder):
        self.folder, self.started = folder, set()
        self.server = subprocess.Popen(
            [sys.executable, "-c", "import runs; runs.serve()"],
            cwd=folder,
            env=os.environ
            | {
                "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
                "OMP_NUM_THREADS": "1",
                "PYTHONUTF8": "1",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started:  # those that a failed test has not waited for
            os.kill(process, signal.SIGKILL)
        self.server.communicate(timeout=HANGS)

    def start(self, options, *, call=0):
        """Start training and return its process id. It kills itself at the `call`-th change of a file."""
        process = self._ask([words(options), call])
        self.started.add(process)
        return process

    def wait(self, process):
        """Wait until the process has ended."""
        status = self._ask(process)
        self.started.remove(process)
        errors = self.folder / f"errors-{process}"
        err = errors.read_text(encoding="utf-8")
        errors.unlink()
        if os.WIFSIGNALED(status):
            return Ended(None, os.WTERMSIG(status), err)
        return Ended(os.waitstatus_to_exitcode(status), None, err)

    def _ask(self, job):
        print(json.dumps(job), file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())


def serve():
    """Be the process that `Forks` copies."""
    sys.modules["matplotlib"] = None
    with redirect_stdout(None):
        main(words("--data data.npz --epochs 1 --out warm-up"))  # imports what the copies need
    for line in sys.stdin:
        job = json.loads(line)
        if isinstance(job, int):
            print(os.waitpid(job, 0)[1], flush=True)
        elif child := os.fork():
            print(child, flush=True)
        else:
            _run(*job)


def _run(words, call):
    errors = os.open(f"errors-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    status = 99
    try:
        if call:
            kill_at_call(call)
        status = main(words)
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
