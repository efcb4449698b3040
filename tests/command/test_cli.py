"""`scripts/train.py` and `python -m xpnet`: what a user types, sees and finds in the folder afterwards.

Whatever has many variants runs in this process, where a command takes milliseconds, and once as a command of
its own. Interrupting and resuming is in test_resume.py, prediction in test_predict.py.
"""

import gzip
import hashlib
import http.server
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from places import NAMED, Place

from xpnet.backends import LIBRARIES, resolve
from xpnet.command.cli import main
from xpnet.command.options import OPTIMIZERS, Options
from xpnet.data.mnist import MIRRORS, SHA256
from xpnet.errors import BackendError
from xpnet.maths.initializers import INITIALIZERS
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.schedules import SCHEDULES
from xpnet.training.checkpoint import load_state
from xpnet.training.model import load_model

REPOSITORY = Path(__file__).parents[2]
TRAIN = REPOSITORY / "scripts" / "train.py"
PNG = b"\x89PNG\r\n\x1a\n"


class Result(NamedTuple):
    status: int
    out: str
    err: str


def command(*words, cwd, **environment):
    """Run Python with these words as a user would, and return what came of it."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,  # a guard: a busy machine is slow
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def script(here):
    """The same as a command of its own."""
    return lambda options="": command(TRAIN, "--device", "cpu", *options.split(), cwd=here)


def table(n=60, classes=3, seed=0, **others):
    """A learnable table, as np.savez takes it."""
    y = np.arange(n) % classes
    centres = np.random.default_rng(1).standard_normal((classes, 4)) * 3
    return {"X": centres[y] + np.random.default_rng(seed).standard_normal((n, 4)), "y": y} | others


def put(folder, files):
    """Write each content under its name: text, bytes, or a dictionary of arrays for an .npz."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, str):
            path.write_text(content)
        else:
            path.write_bytes(content)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def assert_refused(result, *words, status=2):
    assert result.status == status, result
    assert result.err.startswith("error: ") or "\nerror: " in result.err
    for word in words:
        assert word in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


# The main job


def test_the_main_job(tmp_path):
    began, before = time.monotonic(), os.times()
    result = command(TRAIN, cwd=tmp_path, OMP_NUM_THREADS="1")
    seconds, after = time.monotonic() - began, os.times()

    assert result.status == 0, result.err
    # Of the processor, not of the clock: others may be busy on the same machine.
    assert sum(after[2:4]) - sum(before[2:4]) < 10
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-digits", folder.name)
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "checkpoint.safetensors", "history.jsonl", "metrics.json"} <= names
    assert not [name for name in names if name.endswith(".part")]

    found = metrics(folder)
    assert found["test_accuracy"] >= 0.97
    assert found["train_accuracy"] >= found["validation_accuracy"] > 0.9
    assert found["train_loss"] < found["test_loss"] < 0.5
    assert (found["data"], found["dtype"], found["seed"]) == ("digits", "float32", 0)
    assert found["sizes"] == [64, 100, 10]
    assert found["n_parameters"] == 64 * 100 + 100 + 100 * 10 + 10
    assert (found["epochs"], found["steps"]) == (50, 50 * 41)  # 1293 rows, 32 at a time
    assert 0 < found["seconds"] < seconds
    assert found["samples_per_second"] == pytest.approx(50 * 1293 / found["seconds"], rel=0.01)
    assert {"backend", "device", "xpnet_version"} <= set(found)
    assert {"python", "numpy", "array-api-compat", "scikit-learn", "safetensors"} <= set(found["versions"])

    records = history(folder)
    assert [record["epoch"] for record in records] == list(range(1, 51))
    assert records[-1]["step"] == found["steps"]
    assert records[-1]["validation_accuracy"] == found["validation_accuracy"]
    assert records[-1]["train_loss"] < records[0]["train_loss"] / 10
    assert {"learning_rate", "seconds", "samples_per_second", "validation_loss"} <= set(records[0])

    assert "1,293 training, 144 validation and 360 test rows" in result.out
    assert f"{100 * found['test_accuracy']:.2f} %" in result.out
    assert str(folder.relative_to(tmp_path)) in result.out
    summary = re.search(r"50 epochs, 2,050 steps: (.+) s of training, (.+) s in total\n", result.out)
    trained, waited = map(float, summary.groups())
    assert trained == pytest.approx(found["seconds"], abs=0.06)
    assert trained < waited < seconds

    pytest.importorskip("matplotlib")
    for name in ("curves.png", "confusion.png", "mistakes.png"):
        assert (folder / name).read_bytes().startswith(PNG)


def test_the_main_job_on_a_gpu_trains_as_on_the_cpu(cupy_backend, tmp_path):
    for device in ("cpu", "cuda"):
        (tmp_path / device).mkdir()
        result = command(TRAIN, "--device", device, cwd=tmp_path / device)
        assert result.status == 0, result.err
    ours, theirs = (next((tmp_path / device / "runs").iterdir()) for device in ("cuda", "cpu"))
    assert metrics(ours)["backend"] == "cupy"
    assert metrics(theirs)["device"] == "cpu"
    two_rows = {
        f"{part}_accuracy": 2 / n for part, n in (("train", 1293), ("validation", 144), ("test", 360))
    }
    assert_alike(ours, theirs, rel=1e-4, **two_rows)


def test_without_matplotlib_there_are_no_pictures_and_one_line_says_how_to_get_them(train, here):
    result = train("--epochs 1 --out run")
    assert result.status == 0
    (line,) = [line for line in (result.out + result.err).splitlines() if "matplotlib" in line]
    assert "pip install matplotlib" in line
    assert {path.name for path in (here / "run").iterdir()} == {
        "model.safetensors",
        "checkpoint.safetensors",
        "history.jsonl",
        "metrics.json",
    }


def test_quiet_prints_nothing(train, here):
    assert train("--quiet --epochs 1 --out run") == (0, "", "")
    assert metrics(here / "run")["epochs"] == 1


def test_two_runs_in_the_same_second_have_a_folder_each(train, here):
    put(here, {"small.npz": table()})
    for _ in range(3):
        assert train("--data small.npz --epochs 1").status == 0
    assert len(list(here.glob("runs/*-small*/model.safetensors"))) == 3


# Help and information


def test_help_shows_every_option_with_its_default(train, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    result = train("--help")
    assert result.status == 0
    entries = dict(re.findall(r"^  (--[\w-]+)(.*\n(?:   .*\n)*)", result.out, flags=re.MULTILINE))
    for field in fields(Options):
        entry = entries.pop("--" + field.name.replace("_", "-"))
        assert "(default: " in entry
        if field.default not in (None, False, "auto"):
            default = field.default[0] if isinstance(field.default, tuple) else field.default
            assert f"(default: {default})" in entry
    assert set(entries) == {"--recipe", "--list-recipes", "--resume"}
    for names in (ACTIVATIONS, OPTIMIZERS, SCHEDULES, LIBRARIES, INITIALIZERS):
        assert all(name in result.out for name in names)


def test_info_lists_the_libraries(tmp_path):
    result = command("-m", "xpnet", "info", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    blocks = dict(re.findall(r"^(\w+) +(\S.*\n(?:    .*\n?)+)", result.out, flags=re.MULTILINE))
    assert list(blocks) == list(LIBRARIES)
    assert np.__version__ in blocks["numpy"]
    assert "cpu: usable" in blocks["numpy"]
    for name, library in LIBRARIES.items():
        if library.find_version() is None:
            assert f"not installed: {library.remedy}" in blocks[name]
        else:
            assert library.find_version() in blocks[name]


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)


# Every option does something

# Left the options both runs have, right the one that makes the difference.
OPTIONS = [
    *(("", f"--optimizer {name}") for name in OPTIMIZERS if name != "adam"),
    *(("", f"--schedule {name}") for name in SCHEDULES if name != "cosine"),
    *(("", f"--activation {name}") for name in ACTIVATIONS if name != "relu"),
    *(("", f"--init {name}") for name in INITIALIZERS),
    ("", "--init normal:0.5"),
    ("", "--loss logistic_cross_entropy"),
    ("", "--lr 0.1"),
    ("--optimizer momentum", "--momentum 0.5"),
    ("--optimizer nesterov", "--momentum 0.5"),
    ("--optimizer adamw", "--weight-decay 0.5"),
    ("", "--label-smoothing 0.1"),
    ("", "--l2 0.1"),
    ("--optimizer sgd", "--clip-norm 0.01"),
    ("", "--warm-up 3"),
    ("", "--batch-size full"),
    ("", "--batch-size 7"),
    ("", "--epochs 3"),
    ("", "--validation 0"),
    ("", "--validation 0.3"),
    ("", "--hidden none"),
    ("", "--hidden 5"),
    ("", "--hidden 6,5"),
    ("--hidden 6,5", "--activation tanh,elu"),
    ("", "--seed 1"),
    ("", "--dtype float64"),
]


@pytest.mark.parametrize(("common", "option"), OPTIONS, ids=lambda value: value.replace(" ", "=") or "-")
def test_every_option_makes_a_difference(train, here, common, option):
    put(here, {"small.npz": table()})
    base = f"--data small.npz --epochs 2 {common}"
    for folder, options in (("without", base), ("with", f"{base} {option}")):
        result = train(f"{options} --out {folder}")
        assert result.status == 0, result.err
    without, with_ = (load_model(here / folder / "model.safetensors") for folder in ("without", "with"))
    assert np.isfinite(with_.theta).all()
    assert not np.array_equal(without.theta, with_.theta)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--hidden none", {"sizes": [4, 3], "n_parameters": 15}),
        ("--hidden 6,5", {"sizes": [4, 6, 5, 3]}),
        ("--dtype float64", {"dtype": "float64"}),
        ("--seed 7", {"seed": 7}),
        ("--batch-size full", {"steps": 4}),
        ("--batch-size 10", {"steps": 4 * 5}),  # 43 rows: the ragged fifth batch counts
        ("--epochs 0", {"epochs": 0, "steps": 0}),
        ("--validation 0", {"validation_accuracy": None, "steps": 4 * 2}),
    ],
)
def test_metrics_say_what_was_asked_for(train, here, options, expected):
    put(here, {"small.npz": table()})
    result = train(f"--data small.npz --epochs 4 --out run {options}")
    assert result.status == 0, result.err
    found = metrics(here / "run")
    assert {name: found[name] for name in expected} == expected


# What users ask for, together at least one of everything that reaches the mathematics.
ON_A_GPU = [
    "--dtype float32 --keep best --clip-norm 0.5 --batch-size 7 --hidden 6,5 --activation tanh,elu",
    "--loss logistic_cross_entropy --optimizer nesterov --schedule step --drop-after 5 --l2 0.01",
    "--label-smoothing 0.1 --optimizer rmsprop --lr 0.1 --patience 2 --validation 0.3 --epochs 99",
    "--data two.npz --loss logistic_cross_entropy --optimizer adamw --schedule one_cycle --batch-size full",
    "--data line.csv --loss squared_error --optimizer adagrad --activation softplus --validation 0",
    "--data line.csv --loss huber --optimizer momentum --activation leaky_relu --warm-up 3",
    "--data line.csv --loss absolute_error --optimizer sgd --activation logistic --test 0",
    "--data counts.npz --loss poisson --hidden none",
]


@pytest.mark.parametrize(
    ("where", "options"),
    [
        *((place, "") for place in NAMED[1:]),
        *((Place.CUPY, options) for options in ON_A_GPU),
    ],
    indirect=["where"],
    ids=str,
)
def test_every_place_trains_alike(train, here, where, options):
    x = np.random.default_rng(0).standard_normal((60, 2))
    line = "\n".join(f"{a},{b},{3 * a - b + 10}" for a, b in x)
    counts = {"X": x, "y": np.arange(60) % 5}
    put(here, {"small.npz": table(), "two.npz": table(classes=2), "line.csv": line, "counts.npz": counts})
    for folder, place in (("reference", Place.NUMPY.options), ("run", where)):
        result = train(f"--data small.npz --dtype float64 --epochs 5 {options} {place} --out {folder}")
        assert result.status == 0, result.err
    ours = metrics(here / "run")
    name = ours["backend"]
    assert where.startswith(f"--backend {name} --device {ours['device'].partition(':')[0]}")
    assert LIBRARIES[name].find_version() == ours["versions"][name]
    assert_alike(here / "run", here / "reference", rel=1e-10 if ours["dtype"] == "float64" else 1e-5)


def assert_alike(ours, theirs, rel, **within):
    """Two runs have the same losses and scores, relatively within `rel`, or as near as a name allows."""
    mine, others = ([metrics(folder), *history(folder)] for folder in (ours, theirs))
    assert len(mine) == len(others)
    for our, their in zip(mine, others, strict=True):
        for name, value in their.items():
            if name.endswith(("_loss", "_accuracy", "_r2")) and value is not None:
                assert our[name] == pytest.approx(value, rel=rel, abs=within.get(name, 0)), (name, our)


def test_early_stopping_restores_the_best_epoch(train, here):
    put(here, {"small.npz": table(n=40)})
    result = train("--data small.npz --epochs 500 --lr 0.1 --patience 3 --validation 0.3 --out run")
    assert result.status == 0, result.err
    losses = [record["validation_loss"] for record in history(here / "run")]
    assert len(losses) < 500
    assert losses.index(min(losses)) == len(losses) - 4
    assert metrics(here / "run")["validation_loss"] == pytest.approx(min(losses), rel=1e-6)


def test_regression_of_a_csv(train, here):
    x = np.random.default_rng(0).standard_normal((80, 2))
    lines = [f"{a},{b},{3 * a - b + 10}" for a, b in x]
    put(here, {"line.csv": "\n".join(["left,right,target", *lines])})
    result = train("--data line.csv --loss squared_error --hidden none --lr 0.3 --out run")
    assert result.status == 0, result.err
    found = metrics(here / "run")
    assert found["test_r2"] > 0.999
    assert found["sizes"] == [2, 1]
    assert "validation_r2" in history(here / "run")[0]
    assert re.search(r"r2 +[01]\.\d{4}", result.out)


def test_poisson_regression_of_an_npz(train, here):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 1))
    put(here, {"counts.npz": {"X": X, "y": rng.poisson(np.exp(2 + X[:, 0]))}})
    result = train("--data counts.npz --loss poisson --hidden none --lr 0.05 --epochs 100 --out run")
    assert result.status == 0, result.err
    model = load_model(here / "run" / "model.safetensors")
    slope, intercept = model.theta
    shift, factor = model.scaling.shift[0], model.scaling.factor[0]
    assert slope * factor == pytest.approx(1, abs=0.1)
    assert intercept - slope * shift * factor == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("classes", "outputs"), [(2, 1), (3, 3)], ids=["binary", "one-vs-all"])
def test_logistic_classification(train, here, classes, outputs):
    put(here, {"small.npz": table(n=300, classes=classes)})
    assert train("--data small.npz --loss logistic_cross_entropy --out run").status == 0
    assert metrics(here / "run")["sizes"][-1] == outputs
    assert metrics(here / "run")["test_accuracy"] > 0.9


def test_text_labels_are_the_names_of_the_classes(train, here):
    rows = "\n".join(f"{i % 2},{i % 3},{'cat' if i % 2 else 'dog'}" for i in range(40))
    put(here, {"pets.csv": rows})
    assert train("--data pets.csv --out run").status == 0
    assert load_model(here / "run" / "model.safetensors").classes.tolist() == ["cat", "dog"]
    assert metrics(here / "run")["test_accuracy"] == 1


def test_mnist_from_a_folder_of_the_user(train, here):
    put(here, mnist())
    assert train("--data mnist --data-dir mnist --epochs 1 --out run").status == 0
    assert metrics(here / "run")["sizes"] == [16, 100, 10]


# Bad input: one entry for each thing that can be wrong, (files, options, what has to be said)


def idx(values, shape):
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(values)


PICTURES = "mnist/train-images-idx3-ubyte"
LABELS = "mnist/train-labels-idx1-ubyte"


def mnist(n=20, **broken):
    """The four files of a tiny MNIST of 4x4 pictures, in a folder `mnist`."""
    rng = np.random.default_rng(0)
    pictures = idx(rng.integers(0, 256, n * 16, np.uint8), (n, 4, 4))
    labels = idx((i % 10 for i in range(n)), (n,))
    return {
        PICTURES: broken.get("pictures", pictures),
        LABELS: broken.get("labels", labels),
        PICTURES.replace("train", "t10k"): pictures,
        LABELS.replace("train", "t10k"): labels,
    }


MNIST = "--data mnist --data-dir mnist"
SMALL = {"small.npz": table()}
NAN, INFINITY = table()["X"], table()["X"]
NAN[[7, 9], [2, 0]] = np.nan
INFINITY[3, 1] = -np.inf

BAD = {
    # unknown names
    "data": ({}, "--data digts", ["data set 'digts'", "mean 'digits'", "digits, mnist, fashion-mnist"]),
    "activation": ({}, "--activation rellu", ["'rellu'", "mean 'relu'", "tanh", "softplus"]),
    "one activation": ({}, "--hidden 5,5 --activation relu,tan", ["'tan'", "mean 'tanh'"]),
    "init": ({}, "--init he_norml", ["'he_norml'", "mean 'he_normal'", "glorot_uniform", "zeros"]),
    "loss": ({}, "--loss square_error", ["'square_error'", "mean 'squared_error'", "poisson"]),
    "optimizer": ({}, "--optimizer adm", ["'adm'", "mean 'adam'", "nesterov", "rmsprop"]),
    "schedule": ({}, "--schedule cosin", ["'cosin'", "mean 'cosine'", "one_cycle"]),
    "backend": ({}, "--backend nunpy", ["'nunpy'", "mean 'numpy'", "cupy", "array_api_strict"]),
    "dtype": ({}, "--dtype float46", ["'float46'", "mean 'float64'", "float32"]),
    "device": ({}, "--device gpu", ["'gpu'", "mean 'cuda'", "auto, cpu, cuda, cuda:N"]),
    # files that are not there or of no known kind
    "no file": ({}, "--data my.csv", ["my.csv: no such file"]),
    "ending": ({"my.xls": ""}, "--data my.xls", ["my.xls", ".csv, .mat, .npz, .tsv", "found '.xls'"]),
    "no folder": ({}, MNIST, ["mnist: expected the four files", "missing: train-images-idx3-ubyte.gz"]),
    # IDX
    "idx truncated": (
        mnist(pictures=idx(range(100), (20, 4, 4))),
        MNIST,
        [PICTURES, "byte 116", "20 x 4 x 4 values, up to byte 336", "found the end"],
    ),
    "idx magic": (mnist(labels=b"\1\0\x08\1"), MNIST, [LABELS, "byte 0", "magic 00 00", "found 01 00"]),
    "idx type": (mnist(labels=b"\0\0\x0d\1"), MNIST, [LABELS, "byte 2", "0x08", "found 0x0d (float)"]),
    "gzip broken": (
        mnist(labels=gzip.compress(idx([1] * 20, (20,)))[:-9]),
        MNIST,
        [LABELS, "expected more gzip data", "found the end of the file"],
    ),
    "gzip damaged": (
        mnist(labels=gzip.compress(idx([1] * 20, (20,)))[:-8] + bytes(8)),
        MNIST,
        [LABELS, "expected gzip data", "incorrect data check"],
    ),
    "idx counts": (
        mnist(labels=idx([1] * 19, (19,))),
        MNIST,
        [LABELS, "expected 20 labels", "one for each picture in train-images-idx3-ubyte", "found 19"],
    ),
    "idx label": (
        mnist(labels=idx([0] * 5 + [10] * 15, (20,))),
        MNIST,
        [LABELS, "byte 13", "picture 5", "expected 0 to 9", "found 10"],
    ),
    # .npz, .csv, .mat
    "npz pickled": (
        {"it.npz": {"X": np.eye(9), "y": np.array([None] * 9)}},
        "--data it.npz",
        ["it.npz", "pickled objects are refused"],
    ),
    "npz none": ({"it.npz": b"not a zip"}, "--data it.npz", ["it.npz", "saved by NumPy", "found"]),
    "npz no y": ({"it.npz": {"X": np.eye(9)}}, "--data it.npz", ["it.npz: expected arrays X and y, found X"]),
    "npz counts": (
        {"it.npz": {"X": np.eye(9), "y": np.arange(8)}},
        "--data it.npz",
        ["it.npz: expected as many rows in y as in X, 9, found 8"],
    ),
    "csv ragged": (
        {"it.csv": "a,b,c\n1,2,x\n1,2,3,x\n"},
        "--data it.csv",
        ["it.csv: line 3: expected 3 columns like line 1, found 4"],
    ),
    "csv text": (
        {"it.csv": "1,2,x\n" * 9 + "1,two,y\n"},
        "--data it.csv",
        ["it.csv: line 10, column 2: expected a number like 90.00 % of the column, found 'two'"],
    ),
    "csv label": (
        {"it.csv": "1,2,0\n1,2,one\n"},
        "--data it.csv",
        ["it.csv: line 2, column 3: expected a number like the target in line 1, found 'one'"],
    ),
    "mat": ({"it.mat": b"no" * 99}, "--data it.mat", ["it.mat: cannot be read as a MATLAB file"]),
    # values
    "NaN": ({"it.npz": table(X=NAN)}, "--data it.npz", ["it.npz: X: row 7, column 2", "found nan"]),
    "infinity": ({"it.npz": table(X=INFINITY)}, "--data it.npz", ["X: row 3, column 1", "found -inf"]),
    "NaN in y": (
        {"it.npz": {"X": np.eye(3), "y": np.array([1, np.nan, 2])}},
        "--data it.npz --loss squared_error",
        ["it.npz: y: row 1, column 0", "found nan"],
    ),
    "infinity in csv": ({"it.csv": "1,2,x\n1,inf,y\n"}, "--data it.csv", ["line 2, column 2", "found 'inf'"]),
    "no whole label": (
        {"it.npz": {"X": np.eye(3), "y": np.array([1, 2, 2.5])}},
        "--data it.npz",
        ["whole numbers as labels", "found 2.5", "--loss squared_error"],
    ),
    "text as target": (
        {"it.csv": "1,2,x\n1,3,y\n"},
        "--data it.csv --loss squared_error",
        ["it.csv: expected numbers as targets", "found text ('x')"],
    ),
    "negative count": (
        {"it.npz": {"X": np.eye(9), "y": np.arange(9) - 1}},
        "--data it.npz --loss poisson",
        ["poisson", "at least 0", "negative", "--loss squared_error"],
    ),
    # too few rows
    "no rows": ({"it.npz": {"X": np.zeros((0, 3)), "y": np.zeros(0)}}, "--data it.npz", ["X has no rows"]),
    "only a header": ({"it.csv": "a,b,label\n"}, "--data it.csv", ["it.csv: X has no rows"]),
    "one class": (
        {"it.npz": {"X": np.eye(9), "y": np.full(9, 4)}},
        "--data it.npz",
        ["it.npz: expected labels of at least two classes, found only '4'"],
    ),
    "fewer rows than classes": (
        mnist(n=7),
        MNIST,
        ["mnist: expected at least 10 rows, one of each class, found 7"],
    ),
    "a class with one row": (
        {"it.csv": "1,a\n2,a\n3,b\n4,b\n5,c\n"},
        "--data it.csv",
        ["it.csv: expected at least 2 rows of each of 3 classes, found 1 of class 'c'", "add rows"],
    ),
    # options that make no sense
    **{
        option: (SMALL, f"--data small.npz {option}", words)
        for option, words in {
            "--epochs -1": ["--epochs", "at least 0", "got -1"],
            "--seed -1": ["--seed", "0 to 4294967295", "got -1"],
            "--lr -1": ["--lr", "above 0", "got -1.0"],
            "--lr nan": ["--lr", "above 0", "got nan"],
            "--clip-norm 0": ["--clip-norm", "above 0", "got 0.0"],
            "--warm-up -1": ["--warm-up", "at least 0", "got -1"],
            "--patience 0": ["--patience", "at least 1", "got 0"],
            "--patience 2 --validation 0": ["--patience", "--validation", "above 0"],
            "--checkpoint-every 0": ["--checkpoint-every", "at least 1", "got 0"],
            "--validation 1.0": ["--validation", "at least 0 and below 1", "got 1.0"],
            "--test -0.1": ["--test", "at least 0 and below 1", "got -0.1"],
            "--threads 0": ["--threads", "at least 1", "got 0"],
            "--l2 -1": ["l2", "at least 0", "got -1"],
            "--label-smoothing 1": ["label_smoothing", "below 1", "got 1.0"],
            "--momentum 0.9": ["--momentum", "momentum or nesterov", "not to adam"],
            "--optimizer momentum --momentum 1": ["momentum", "below 1", "got 1.0"],
            "--weight-decay 0.1": ["--weight-decay", "adamw", "not to adam"],
            "--optimizer adamw --weight-decay -1": ["weight_decay", "at least 0", "got -1"],
            "--init normal:x": ["normal:x", "positive number", "got 'x'"],
            "--activation relu,tanh": ["one for each of the 1 hidden layers", "got 2: relu, tanh"],
            "--out small.npz/run": ["--out small.npz/run", "cannot create this folder"],
        }.items()
    },
}
# One of each row of issue 2's table is run as a command of its own.
BY_SCRIPT = ("optimizer", "idx truncated", "npz pickled", "csv ragged", "NaN", "no rows", "one class")


@pytest.mark.parametrize(
    ("way", "what"),
    [*(("train", what) for what in BAD), *(("script", what) for what in BY_SCRIPT)],
)
def test_bad_input_is_refused_and_leaves_nothing(request, here, way, what):
    files, options, words = BAD[what]
    put(here, files)
    before = contents(here)
    result = request.getfixturevalue(way)(f"--epochs 2 {options}" if "--epochs" not in options else options)
    assert_refused(result, *words)
    assert contents(here) == before
    assert not (here / "runs").exists()


@pytest.mark.parametrize("option", ["--hidden 0", "--hidden 5,", "--batch-size 0", "--batch-size all"])
def test_numbers_that_are_none_are_refused_by_the_parser(train, here, option):
    result = train(option)
    assert result.status == 2
    flag, value = option.split()
    assert f"error: {flag}: expected" in result.err
    assert f"got {value!r}" in result.err
    assert contents(here) == {}


@pytest.mark.parametrize("way", ["train", "script"])
def test_a_batch_larger_than_the_data_is_clipped(request, here, way):
    put(here, SMALL)
    result = request.getfixturevalue(way)("--data small.npz --epochs 2 --batch-size 1000 --out run --quiet")
    assert result.status == 0
    assert "warning: --batch-size 1000 exceeds the 43 training rows; using 43" in result.err
    assert metrics(here / "run")["steps"] == 2


def test_a_folder_that_holds_a_run_is_not_overwritten(train, here):
    put(here, SMALL)
    assert train("--data small.npz --epochs 1 --out run").status == 0
    before = contents(here)
    assert_refused(train("--data small.npz --epochs 1 --out run"), "--out run", "--resume run")
    assert contents(here) == before


# Downloads


@pytest.fixture
def closed():
    """A local address where nobody answers."""
    with socket.socket() as taken:  # bound, so that nobody else can have it, but not listening
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def wrong():
    """A local server whose files all have the wrong content."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"wrong")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


FIRST = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("closed", ["refused"]),
        ("wrong", [f"expected SHA-256 {SHA256['mnist'][FIRST]}", hashlib.sha256(b"wrong").hexdigest()]),
    ],
)
def test_a_failed_download_says_what_was_tried(request, train, here, monkeypatch, kind, said):
    address = request.getfixturevalue(kind)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(MIRRORS, "mnist", (f"{address}/a/", f"{address}/b/"))
    folder = here / "cache" / "xpnet" / "mnist"
    assert_refused(
        train("--data mnist"),
        f"cannot download {FIRST}",
        f"{address}/a/{FIRST}: ",
        f"{address}/b/{FIRST}: ",
        f"Put {FIRST} into {folder} by hand",
        "--data-dir",
        *said,
    )
    assert contents(here) == {}


def test_a_refused_download_by_the_script(here, closed):
    # A proxy where nobody answers cuts the command off from all mirrors.
    result = command(
        *(TRAIN, "--data", "fashion-mnist"),
        cwd=here,
        XDG_CACHE_HOME=str(here / "cache"),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), closed),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
    )
    assert_refused(
        result, *(mirror + FIRST for mirror in MIRRORS["fashion-mnist"]), f"Put {FIRST} into", "by hand"
    )
    assert contents(here) == {}


# Divergence


@pytest.mark.parametrize("way", ["train", "script"])
def test_divergence_keeps_the_last_finite_checkpoint(request, here, way):
    rng = np.random.default_rng(0)
    put(here, {"line.npz": {"X": rng.standard_normal((60, 2)), "y": rng.standard_normal(60)}})
    # A linear network above its largest stable rate: the error grows by the same factor each step.
    result = request.getfixturevalue(way)(
        "--data line.npz --loss squared_error --hidden none --optimizer sgd --lr 20 --schedule constant "
        "--batch-size full --epochs 1000 --out run --quiet"
    )
    path = here / "run" / "checkpoint.safetensors"
    assert_refused(result, "loss is inf", status=1)
    place = re.search(r"epoch (\d+), by step (\d+), at learning rate (\S+)\. ", result.err)
    epoch, step, rate = map(float, place.groups())
    for word in ("Try a smaller --lr", "--clip-norm", str(path.relative_to(here))):
        assert word in result.err
    assert epoch == step > 2
    assert rate == 20

    state, _ = load_state(path, backend=resolve("cpu"))
    assert np.isfinite(state.theta).all()
    assert state.step == step - 1 == len(history(here / "run"))
    assert not (here / "run" / "model.safetensors").exists()


# --resume with options that differ


@pytest.mark.parametrize(
    ("began", "given", "expected"),
    [
        ({"backend": "cupy"}, {"device": "cpu"}, ("cpu", None, None)),
        ({"backend": "cupy", "device": "cuda:1"}, {"device": "cpu"}, ("cpu", None, None)),
        ({"device": "cuda"}, {"backend": "numpy"}, ("auto", "numpy", None)),
        ({"device": "cpu", "threads": 2}, {"device": "cuda"}, ("cuda", None, None)),
        ({"device": "cpu", "threads": 2}, {"backend": "torch"}, ("cpu", "torch", None)),
        # These go together.
        ({"backend": "torch", "device": "cuda"}, {"device": "cpu"}, ("cpu", "torch", None)),
        ({"backend": "torch", "device": "cpu"}, {"device": "cuda:1"}, ("cuda:1", "torch", None)),
        ({"backend": "numpy", "threads": 2}, {"device": "cpu", "epochs": 9}, ("cpu", "numpy", 2)),
        ({"backend": "cupy"}, {"epochs": 9}, ("auto", "cupy", None)),
    ],
)
def test_a_run_is_resumed_where_it_is_told_to(began, given, expected):
    options = Options(**began).override(given)
    assert (options.device, options.backend, options.threads) == expected


def test_a_contradiction_that_is_given_is_refused(train, run):
    words = "--backend numpy and --device cuda contradict each other"
    assert_refused(train("--resume run --backend numpy --device cuda"), words)


@pytest.fixture
def run(train, here):
    """A finished run in the folder `run`."""
    put(here, SMALL)
    assert train("--data small.npz --hidden 8 --epochs 2 --out run --quiet").status == 0
    return here / "run"


OTHER = {
    "sizes": ({}, "--hidden 9", ["--hidden: the run has 8, you gave 9"]),
    "dtype": ({}, "--dtype float64", ["--dtype: the run has float32, you gave float64"]),
    "data": ({}, "--data digits", ["--data: the run has small.npz, you gave digits"]),
    "several": ({}, "--seed 5 --lr 0.1", ["--seed: the run has 0, you gave 5", "--lr: the run has None"]),
    "values": ({"small.npz": table(seed=1)}, "", ["the data is not what the run was trained on", "SHA-256"]),
    "columns": ({"small.npz": table(X=np.eye(60, 5))}, "", ["[4, 8, 3]", "now needs [5, 8, 3]"]),
    "classes": ({"small.npz": table(classes=4)}, "", ["[4, 8, 3]", "now needs [4, 8, 4]"]),
}


@pytest.mark.parametrize(
    ("way", "what"),
    [*(("train", what) for what in OTHER), *(("script", what) for what in ("sizes", "dtype", "values"))],
)
def test_another_run_is_not_resumed(request, run, here, way, what):
    files, options, words = OTHER[what]
    put(here, files)
    before = contents(here)
    assert_refused(request.getfixturevalue(way)(f"--resume run {options}"), *words)
    assert contents(here) == before


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("nowhere", ["--resume nowhere: no such folder"]),
        ("empty", ["--resume empty", "no checkpoint in this folder", "start it again", "--out empty"]),
        ("torn", ["torn", "checkpoint.safetensors: not a complete safetensors file"]),
        ("model", ["model", "expected an xpnet checkpoint, found xpnet model"]),
    ],
)
def test_a_folder_without_a_run_is_not_resumed(train, run, here, folder, words):
    put(here, {"empty/notes.txt": ""})
    put(here, {"torn/checkpoint.safetensors": (run / "checkpoint.safetensors").read_bytes()[:-1]})
    put(here, {"model/checkpoint.safetensors": (run / "model.safetensors").read_bytes()})
    before = contents(here)
    assert_refused(train(f"--resume {folder}"), *words)
    assert contents(here) == before


# Memory and devices


def test_out_of_memory_says_how_much_is_missing(here):
    pytest.importorskip("resource", reason="only Unix limits the memory of a process")
    result = command(
        "-c",
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from xpnet.command.cli import main\n"
        "sys.exit(main('train --device cpu --batch-size 64 --hidden 50000000'.split()))",
        cwd=here,
        OPENBLAS_NUM_THREADS="1",
    )
    assert_refused(result, "numpy on cpu is out of memory", "fewer --hidden", status=1)
    needed, free = (
        int(number.replace(",", "")) for number in re.findall(r"([\d,]+) bytes(?: are free|,)", result.err)
    )
    assert needed > 4 * 5e7 * (64 + 10)
    assert free > 0
    assert int(re.search(r"Try --batch-size (\d+)", result.err)[1]) < 64
    assert contents(here) == {}


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_out_of_memory_during_a_step(train, here, monkeypatch, backend):
    # What each library raises, as it words it; only on a GPU could this be had for real.
    pytest.importorskip(backend)
    error = {
        "numpy": MemoryError("Unable to allocate 2. GiB"),
        "torch": RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        "jax": RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes"),
    }[backend]

    def full(*_, **__):
        raise error

    put(here, SMALL)
    monkeypatch.setattr("xpnet.maths.mlp.MLP.loss_and_grad", full)
    result = train(f"--data small.npz --backend {backend} --batch-size 16 --quiet")
    assert_refused(result, f"{backend} on cpu is out of memory", "bytes", "Try --batch-size 4", status=1)


LITTLE_MEMORY = """
import cupy
import numpy as np
from xpnet.command.cli import main

pool = cupy.get_default_memory_pool()
pool.set_limit(size=6 * 2**20)
train = ["train", "--device", "cuda", "--hidden", "8", "--epochs", "1", "--quiet", "--out"]
print(main([*train, "big", "--data", "big.npz"]), pool.used_bytes())
print(main([*train, "small", "--data", "small.npz", "--batch-size", "100"]))
print(main(["predict", "small", "rows.npy", "--device", "cuda", "--output", "out.txt"]))
"""


@pytest.mark.usefixtures("cupy_backend")
def test_data_that_does_not_fit_on_the_gpu_leaves_room_for_less(here):
    rng = np.random.default_rng(0)
    X, y = rng.random((20_000, 100), np.float32), rng.integers(0, 3, 20_000)
    put(here, {"big.npz": {"X": X, "y": y}, "small.npz": {"X": X[:500], "y": y[:500]}})
    np.save("rows.npy", X)
    # A process of its own: in this one, other tests have left blocks of memory that are partly free.
    done = subprocess.run([sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0", "0", "0"], done.stderr
    message, _, remedy = done.stderr.partition(" Try ")
    assert message.startswith("error: cupy on cuda:0 is out of memory: the run needs about ")
    assert remedy.startswith("fewer rows.")
    needed, free = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) bytes", message))
    assert X.nbytes < needed < 2 * X.nbytes
    assert free <= 6 * 2**20
    assert len(Path("out.txt").read_text().splitlines()) == 20_000


def test_memory_that_data_does_not_fit_into(train, here, monkeypatch):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 3. TiB")

    monkeypatch.setattr("xpnet.command.run.load", full)
    assert_refused(train(), "out of memory: Unable to allocate 3. TiB", status=1)
    assert contents(here) == {}


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_never_replaced_by_the_cpu(here, device):
    try:
        resolve("cuda")
    except BackendError:
        pass
    else:
        pytest.skip("there is a usable GPU")
    result = command(TRAIN, "--device", device, cwd=here)
    remedy = "To compute on the CPU, choose the device cpu (--device cpu)"
    assert_refused(result, f"device {device!r} is not usable", remedy)
    for name in ("cupy", "torch", "jax"):
        reason = re.search(rf"^  {name}: (.+)$", result.err, flags=re.MULTILINE)[1]
        assert reason == LIBRARIES[name].find_problem(device)
        if LIBRARIES[name].find_version() is None:
            assert LIBRARIES[name].remedy in reason
    assert contents(here) == {}


def test_the_second_gpu_computes_if_it_is_named(train, here, cupy_backend):
    try:
        resolve("cuda:1", "cupy")
    except BackendError as error:
        pytest.skip(str(error))
    put(here, {"small.npz": table()})
    for device in ("cuda:0", "cuda:1"):
        options = f"--data small.npz --schedule constant --dtype float64 --patience 9 --device {device}"
        assert train(f"{options} --epochs 3 --out {device[-1]}").status == 0
        assert train(f"--resume {device[-1]} --device {device} --epochs 5").status == 0
    assert metrics(here / "1")["device"] == "cuda:1"
    assert_alike(here / "1", here / "0", rel=1e-10)


def test_a_library_without_a_gpu_says_so(train):
    assert_refused(
        train("--backend numpy --device cuda"), "--backend numpy and --device cuda contradict each"
    )


def test_targets_far_from_zero_are_learnt(train, here):
    # Prices in the hundred thousands: a network that starts near 0 must not stay there.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3))
    np.savez("prices.npz", X=X, y=200_000 + X @ [30_000.0, -20_000.0, 10_000.0])
    assert train("--data prices.npz --loss squared_error --epochs 60 --out run").status == 0
    assert json.loads((here / "run" / "metrics.json").read_text())["test_r2"] > 0.99


def test_runs_begun_together_have_folders_of_their_own(train, here):
    put(here, {"small.npz": table()})
    (here / "runs").mkdir()
    for second in range(3):  # whichever second the run begins in, another one was there first
        stamp = datetime.now() + timedelta(seconds=second)
        (here / "runs" / f"{stamp:%Y%m%d-%H%M%S}-small").mkdir()
    assert train("--data small.npz --epochs 1").status == 0
    assert len(list(here.glob("runs/*-small-2/metrics.json"))) == 1
