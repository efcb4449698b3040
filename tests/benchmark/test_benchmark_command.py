"""`scripts/benchmark.py`: its help, what it refuses, and what its subcommands share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.backends.cuda import explain_missing_driver

ROOT = Path(__file__).parents[2]
SUBCOMMANDS = ["step", "accuracy", "predict", "startup", "scaling"]


@pytest.mark.parametrize("subcommand", [[], *([name] for name in SUBCOMMANDS)], ids=" ".join)
def test_help(run, subcommand):
    result = run(*subcommand, "--help")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(f"usage: {' '.join(['benchmark.py', *subcommand])} ")
    assert "%%" not in result.out
    assert "98.5 % test accuracy" in result.out or subcommand not in ([], ["accuracy"])
    assert not subcommand or "--peers NAME,..." in result.out


def test_a_clone_that_is_not_installed_measures_itself(tmp_path):
    clone = tmp_path / "clone"
    for folder in ("scripts", "xpnet"):
        shutil.copytree(ROOT / folder, clone / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = clone / "xpnet" / "__init__.py"
    code.write_text(code.read_text("utf-8") + '\n__version__ = "0.0.clone"\n', "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, clone / "scripts" / "benchmark.py", "step", "--network", "4-3-2/5"]
    options = ["--device", "cpu", "--backend", "numpy", "--peers", "none", "--steps", "1", "--repeats", "1"]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "xpnet 0.0.clone," in done.stdout
    assert "| xpnet (numpy) |" in done.stdout


def test_a_markdown_table(bench):
    tables = bench("benchmarks.tables")
    lines = tables.table(["", "ms", "verdict"], "lrl", [["numpy", "1.5", "met"], ["torch", "2", ""]])
    assert lines == [
        "| | ms | verdict |",
        "|---|--:|---|",
        "| numpy | 1.5 | met |",
        "| torch | 2 | |",
    ]


def test_the_decimals_shown_decide_whether_a_bar_is_met(bench):
    tables = bench("benchmarks.tables")
    bars = [tables.make_bar("close", 1.004, 1.0), tables.make_bar("above", 1.006, 1.0)]
    bars += [tables.make_bar("not measured", None, 1.0), {**bars[0], "name": "open", "met": None}]
    assert tables.bar_table(bars)[1:] == [
        "| | measured | bar | |",
        "|---|--:|--:|---|",
        "| close | 1.00 | <= 1.00 | met |",
        "| above | 1.01 | <= 1.00 | missed |",
        "| not measured | - | <= 1.00 | missed |",
        "| open | 1.00 | <= 1.00 | undecided |",
    ]
    assert tables.bar_table([]) == []


@pytest.mark.parametrize(("n", "words"), [(1, "1 row"), (2, "2 rows"), (10_000, "10,000 rows")])
def test_singular_and_plural(bench, n, words):
    assert bench("benchmarks.tables").count(n, "row") == words


@pytest.mark.skipif(explain_missing_driver() is None, reason="has a GPU")
@pytest.mark.parametrize("subcommand", ["step", "scaling"])
def test_no_gpu_is_said_before_anything_runs(bench, run, monkeypatch, subcommand):
    monkeypatch.setattr(bench(f"benchmarks.{subcommand}"), "run", None)
    result = run(subcommand, "--device", "cuda")
    assert (result.status, result.out) == (2, "")
    assert "device 'cuda' is not usable" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["step", "--peers", "scikit-lern"], "Did you mean 'scikit-learn'?"),
        (["step", "--backend", "nmpy"], "Did you mean 'numpy'?"),
        (["step", "--network", "784"], "as in 784-100-10/200"),
        (["step", "--repeats", "0"], "expected a whole number of at least 1, got 0"),
        (["step", "--steps", "0"], "expected a whole number of at least 1, got 0"),
        (["step", "--data-dir", "nowhere", "--network", "784-5-10/8"], "nowhere"),
        (["step", "--json", "no/such/folder/step.json"], "cannot be written"),
        (["step", "--device", "gpu"], "device 'gpu'"),
        (["scaling", "--axis", "colour"], "invalid choice"),
        (["fly"], "invalid choice"),
        ([], "SUBCOMMAND"),
    ],
)
def test_bad_arguments(here, run, arguments, said):
    result = run(*arguments)
    assert (result.status, result.out) == (2, "")
    assert said in result.err


def test_without_matplotlib_a_figure_is_refused_before_anything_runs(bench, run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(bench("benchmarks.step"), "run", None)
    result = run("step", "--figure", tmp_path / "step.png")
    assert result.status == 2
    assert "matplotlib" in result.err


def test_a_peer_that_is_not_installed_is_named(bench, run, monkeypatch):
    peers = {"scikit-learn": bench("benchmarks.peers").Peer("no_such_package", ("cpu",), None)}
    monkeypatch.setattr(bench("benchmarks.step"), "PEERS", peers)
    result = run("step", "--device", "cpu", "--backend", "numpy", "--network", "4-3-2/5", "--repeats", "1")
    assert result.status == 0
    assert "skipped: scikit-learn (no_such_package is not installed)" in result.out


def test_a_peer_that_cannot_run_on_the_device_is_named(bench):
    choose = bench("benchmarks.peers").choose_peers
    peers = bench("benchmarks.step").PEERS
    found, skipped = choose(["torch"], "cpu", peers)
    assert skipped["torch-graph"] in ("runs on cuda only", "torch is not installed")
    assert {*found, *skipped} == {name for name in peers if name.startswith("torch-")}
    assert choose(["none"], "cpu", peers) == ({}, {})


def test_without_mnist_the_rows_are_random(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = bench("benchmarks.data").load_pictures()
    assert found.what == "random data of MNIST's shape"
    assert found.X.shape == (60_000, 784)
    assert found.X_test.shape == (10_000, 784)
    assert found.X.dtype == np.float32
    assert 0.75 < (found.X[:1000] == 0).mean() < 0.85
    assert set(found.y[:1000]) == set(range(10))


def test_contestants_take_turns(bench):
    order, now = [], iter(range(100))
    works = {name: lambda name=name: order.append(name) for name in "ABC"}
    timing = bench("benchmarks.timing")
    seconds = timing.time_in_turns(works, 2, warm_ups=1, pause=0, clock=lambda: next(now))
    assert "".join(order) == "ABC" * 3
    assert seconds == {"A": [1, 1], "B": [1, 1], "C": [1, 1]}


def test_summaries_and_ratios(bench):
    timing = bench("benchmarks.timing")
    assert timing.summary([1, 2, 3, 4, 5]) == {"median": 3.0, "quartiles": [2.0, 4.0], "best": 1.0}
    # Round by round: the second was slow for both.
    assert timing.ratio([1, 10, 1], [2, 20, 2])["median"] == 0.5


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponents_are_those_of_the_upper_half(bench, power):
    sizes = [1, 2, 4, 8, 16, 32]
    values = [7.0, 7.0, 7.0, *(3.0 * size**power for size in sizes[3:])]
    assert bench("benchmarks.timing").exponent(sizes, values) == pytest.approx(power, abs=2e-3)
