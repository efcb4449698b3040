"""Whatever a user types ends with a message, never with a traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.command.cli import main

REPOSITORY = Path(__file__).parents[2]
TRAIN = "train --device cpu --epochs 1 --data data.npz"
DIGITS = "9" * 400
LONG = "é" * 256
COUNTS = (
    *("hidden", "epochs", "batch-size", "warm-up"),
    *("patience", "seed", "threads", "checkpoint-every"),
)


@pytest.fixture
def ground(here):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 4)), np.arange(40) % 3
    np.savez("data.npz", X=X, y=y, X_test=X, y_test=y)
    np.savez("rows.npz", X=X, y=y)
    np.save("rows.npy", X)
    return here


def refuse(words, capsys):
    """Run a command that ends with status 2, and return its message."""
    try:
        status = main(words)
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ")
    assert "Errno" not in err
    return err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("train --data ~nosuchuser/data.npz", "~nosuchuser/data.npz: no such file"),
        ("train --data mnist --data-dir ~nosuchuser", "~nosuchuser: expected the four files of mnist"),
        ("train --recipe ~nosuchuser/my.toml", "~nosuchuser/my.toml: no such file"),
        ("train --device cpu --data rows.npz --test 0.9999", "expected at least 1 row to train on"),
        (
            "train --device cpu --data rows.npz --test 0.9999 --loss squared_error",
            "expected at least 1 row to train on",
        ),
        (f"{TRAIN} --hidden {10**18}", "--hidden: expected 1 to 2147483647"),
        (f"{TRAIN} --hidden {','.join([str(2**31 - 1)] * 3)}", "more parameters than any memory holds"),
        *((f"{TRAIN} --{name} {DIGITS}", f"--{name}: expected") for name in COUNTS),
        (f"{TRAIN} --lr {DIGITS}", "--lr: expected a number above 0, got inf"),
        (f"{TRAIN} --schedule step --drop-after {DIGITS}", "--drop-after: expected 0 to"),
        (f"{TRAIN} --device cpu:{DIGITS}", "unknown device"),
        (f"{TRAIN} --out {LONG}", "File name too long"),
        (f"train --data {LONG}.npz", "File name too long"),
        (f"train --recipe {LONG}.toml", "File name too long"),
        (f"train --resume {LONG}", "File name too long"),
        (f"predict {LONG} rows.npy", "File name too long"),
        (f"{TRAIN} --out data.npz/run", "Not a directory"),
        (f"{TRAIN} --out data.npz", "File exists"),
        ("train --data a\0b.npz", "NUL"),
        ("predict a\0b rows.npy", "NUL"),
    ],
    ids=lambda text: text[:40].replace("\0", "NUL"),
)
def test_what_is_typed(ground, capsys, typed, message):
    assert message in refuse(typed.split(" "), capsys)


@pytest.mark.parametrize("option", ["--out", "--data-dir", "--data", "--resume", "--recipe"])
def test_an_empty_path(ground, capsys, option):
    words = ["train", option, ""]
    assert "''" in refuse(words, capsys)
    assert {path.name for path in ground.iterdir()} == {"data.npz", "rows.npz", "rows.npy"}


@pytest.mark.parametrize("command", [TRAIN, "predict run rows.npy"])
@pytest.mark.parametrize("device", ["meta", "meta:0", "lazy", "xla", "mps", "nonsense"])
def test_a_device_without_values(ground, capsys, command, device):
    pytest.importorskip("torch")
    if command.startswith("predict"):
        assert main(f"{TRAIN} --quiet --out run".split()) == 0
        capsys.readouterr()
    message = refuse([*command.split(), "--backend", "torch", "--device", device], capsys)
    assert f"device '{device}' is not usable" in message


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (f"[options]\nhidden = {'[' * 5000}{']' * 5000}", "not a TOML file"),
        (f"[options]\nepochs = {'9' * 5000}", "not a TOML file"),
        (f"[options]\nepochs = {DIGITS}", "epochs: expected a whole number"),
        (f"[options]\nlr = {DIGITS}", "lr: expected a number"),
        ("[options]\nschedule = 'step'\ndrop_after = [-5]", "--drop-after: expected at least 0, got -5"),
        ("[options]\nhidden = [-5]", "expected"),
        ("[options]\nout = ''", "--out: expected a path, got ''"),
        ('[options]\ndata = "a\\u0000b.npz"', "--data: expected a path"),
        (f"[expected]\ntest_accuracy = {{ article = {DIGITS} }}", "article: expected a number"),
        ("[printed]\nevery = 1\ndecimals = 1000000000\nlines = [[1, 2]]", "decimals from 0 to 17"),
    ],
)
def test_a_recipe(ground, capsys, toml, message):
    (ground / "my.toml").write_text(toml)
    assert message in refuse(["train", "--recipe", "my.toml"], capsys)


ALL = """
import os, sys
from xpnet.command.cli import main
for line in sys.stdin:
    print(line, end="", file=sys.stderr)
    try:
        status = main(line.split())
    except SystemExit as end:
        status = end.code
    print("status", status, file=sys.stderr)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_folders_and_files_without_permission(ground):
    assert main(f"{TRAIN} --quiet --out closed".split()) == 0
    shutil.copytree("closed", "locked")
    commands = {
        "train --resume locked --epochs 9": "locked/run.lock: Permission denied",
        f"{TRAIN} --out locked/new": "--out locked/new: cannot create this folder (Permission denied)",
        f"{TRAIN} --out locked": "locked/run.lock: Permission denied",
        "train --resume closed --epochs 9": "closed/checkpoint.safetensors: Permission denied",
        "predict closed rows.npy": "Permission denied",
        "predict locked rows.npy --output locked/out.txt": "locked/out.txt: Permission denied",
        "train --data closed/data.npz": "closed/data.npz: Permission denied",
        "train --recipe closed/my.toml": "closed/my.toml: Permission denied",
    }
    drop = []
    if os.geteuid() == 0:  # root may read and write anything
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to give its privileges up")
        rights = "-dac_override,-dac_read_search"
        drop = ["setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}"]
    (ground / "closed").chmod(0)
    (ground / "locked").chmod(0o500)
    try:
        done = subprocess.run(
            [*drop, sys.executable, "-c", ALL],
            input="\n".join(commands),
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        (ground / "closed").chmod(0o700)
        (ground / "locked").chmod(0o700)
    said = done.stderr
    for command, message in commands.items():
        found, said = said.split("status 2\n", 1)
        assert command in found
        assert message in found
