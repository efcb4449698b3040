"""Where the output goes and which signals come: a run is trained and saved, and the exit status is right."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

if os.name == "nt":
    pytest.skip("needs a POSIX shell", allow_module_level=True)

REPOSITORY = Path(__file__).parents[2]
# The command without matplotlib, whose import would take longer than all the rest.
XPNET = "import sys; sys.modules['matplotlib'] = None; from xpnet.__main__ import main; sys.exit(main())"
CLASSES = ["größe", "klein"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A folder with a table, whose classes ASCII cannot encode, and a run of it."""
    folder = tmp_path_factory.mktemp("output")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((80, 4)), np.array(CLASSES)[np.arange(80) % 2]
    np.savez(folder / "data.npz", X=X[:60], y=y[:60], X_test=X[60:], y_test=y[60:])
    np.save(folder / "rows.npy", np.tile(X, (200, 1)))  # longer than the buffer of a pipe
    assert shell(folder, "xpnet train --device cpu --data data.npz --epochs 1 --out run").returncode == 0
    return folder


def shell(folder, line, **settings):
    """Run a line of bash, whose status is that of xpnet, not of what reads its output."""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(XPNET)}"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('xpnet', command, 1)}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""} | settings,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("| true", 0),
        ("| head -1", 0),
        ("2>&1 | true", 0),
        ("> /dev/full", 1),
        ("> /dev/full 2> /dev/full", 1),
        ("2> /dev/full", 0),
        ("2>&-", 0),
        (">&-", 0),
        ("<&- >&- 2>&-", 0),
    ],
)
def test_a_run_outlives_its_output(ground, tmp_path, to, status):
    if "/dev/full" in to and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = shell(ground, f"xpnet train --device cpu --data data.npz --epochs 3 --out {tmp_path}/run {to}")
    assert done.returncode == status, done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 3
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    problem = "error: cannot write the output: No space left on device"
    assert (problem in done.stderr) == (status == 1 and "2>" not in to)


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("xpnet predict run rows.npy | true", 1, ""),
        ("xpnet predict run rows.npy | head -1", 1, ""),
        (
            "xpnet predict run rows.npy > /dev/full",
            1,
            "error: cannot write the output: No space left on device\n",
        ),
        ("xpnet predict run rows.npy >&-", 1, "error: cannot write the output: Bad file descriptor\n"),
        ("xpnet predict run rows.npy 2>&- > /dev/null", 0, ""),
        ("xpnet predict run nothing.npy 2> /dev/full", 1, ""),
        ("xpnet predicted 2>&-", 2, ""),
        ("xpnet --help > /dev/full", 1, "error: cannot write the output: No space left on device\n"),
    ],
)
def test_output_that_cannot_be_written(ground, line, status, said):
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = shell(ground, line)
    assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_any_encoding_takes_any_class_name(ground, tmp_path, encoding):
    def run(line):
        with open(tmp_path / "out", "w") as file:
            done = shell(ground, f"{line} > {file.name}", PYTHONIOENCODING=encoding)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        return (tmp_path / "out").read_bytes().decode(encoding)

    name = "gr\\xf6\\xdfe" if encoding == "ascii" else "größe"
    assert name in run(f"xpnet train --device cpu --data data.npz --epochs 1 --out {tmp_path}/run")
    assert name in run("xpnet predict run rows.npy")
    assert name in run("xpnet predict run rows.npy --csv")
    first = json.loads(run("xpnet predict run rows.npy --json").splitlines()[0])
    assert {best["class"] for best in first["classes"]} == set(CLASSES)


def test_an_ignored_interrupt_stays_ignored(ground, tmp_path):
    # So a shell starts a job in the background of a script.
    train = f"xpnet train --device cpu --data data.npz --epochs 300 --out {tmp_path}/run --quiet"
    interrupts = "while kill -INT $! 2> /dev/null; do sleep 0.05; done; wait $!; echo status $?"
    done = shell(ground, f"trap '' INT; {train} & {interrupts}")
    assert done.stdout == "status 0\n", done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epochs"] == 300


def test_an_interrupt_while_modules_are_imported(tmp_path):
    # As some modules do, this one catches whatever is raised while it is imported.
    swallow = (
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    (tmp_path / "numpy.py").write_text(swallow)
    done = subprocess.run(
        [sys.executable, "-m", "xpnet", "info"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nStopped\n")
