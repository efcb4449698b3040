"""What the tests of the benchmark share: it runs in this process, on few rows and one thread."""

import gc
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from threadpoolctl import threadpool_limits

from xpnet.command.recipes import load_recipe


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads of a busy machine wait for each other at every product."""
    with threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def little_garbage():
    """Each round of a measurement begins with a garbage collection, which is slow where many objects live."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def bench(monkeypatch):
    """A function that imports a module of the benchmark."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    return import_module


@pytest.fixture
def run(bench, capsys, monkeypatch):
    """`scripts/benchmark.py` with short measurements of small networks."""
    monkeypatch.setattr(bench("benchmarks.scaling"), "SECONDS", 0.001)
    monkeypatch.setattr(bench("benchmarks.step"), "choose_warm_ups", lambda network, steps: 1)
    monkeypatch.setattr(bench("benchmarks.predict"), "SECONDS", 0.0)
    monkeypatch.setattr(bench("benchmarks.predict"), "HIDDEN", ((7,),))
    monkeypatch.setattr(bench("benchmarks.accuracy"), "load_recipe", small_recipe)

    def run(*argv):
        try:
            status = bench("benchmarks.command").main([str(argument) for argument in argv])
        except SystemExit as end:
            status = end.code
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    return run


@pytest.fixture
def few(bench):
    """Six hundred pictures to train on, three hundred to test with."""
    data = bench("benchmarks.data")
    X, y = data.make_rows(900, 784)
    return data.Pictures(X[:600], y[:600], X[600:], y[600:], "random data")


@pytest.fixture
def run_few(bench, few, run, monkeypatch):
    """Like `run`, one round on few pictures, xpnet on NumPy."""
    monkeypatch.setattr(bench("benchmarks.data"), "load_pictures", lambda data_dir: few)
    return lambda subcommand, *more: run(
        subcommand, "--device", "cpu", "--backend", "numpy", "--repeats", "1", *more
    )


@pytest.fixture
def task(bench):
    """Twenty steps of twenty rows."""
    X, y = bench("benchmarks.data").make_rows(400, 30, 4)
    return bench("benchmarks.contestants.task").make_task((30, 8, 6, 4), 20, 20, X, y)


@pytest.fixture
def figure(tmp_path):
    """The options that draw a figure, which is there after the test; none without matplotlib."""
    if find_spec("matplotlib") is None:
        yield []
        return
    file = tmp_path / "figure.png"
    yield ["--figure", file]
    assert file.read_bytes().startswith(b"\x89PNG")


def small_recipe(name):
    recipe = load_recipe(name)
    return replace(recipe, options={**recipe.options, "hidden": [20]})
