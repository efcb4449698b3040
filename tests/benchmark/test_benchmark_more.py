"""`scripts/benchmark.py accuracy`, `predict` and `startup`: what they measure is what they say."""

import json
import math
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet import resolve
from xpnet.command.options import Options
from xpnet.command.recipes import load_recipe

HERE = ("--device", "cpu", "--backend", "numpy", "--repeats", "1")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def few(bench):
    """Six hundred pictures to train on, three hundred to test with."""
    X, y = bench("benchmarks.data").random_rows(900, 784)
    return bench("benchmarks.data").Pictures(X[:600], y[:600], X[600:], y[600:], "random data")


@pytest.fixture
def run(bench, few, run_benchmark, monkeypatch):
    """A function that runs the benchmark in this process on few pictures: (exit status, stdout, stderr)."""
    monkeypatch.setattr(bench("benchmarks.data"), "pictures", lambda data_dir: few)
    monkeypatch.setattr(bench("benchmarks.predict"), "SECONDS", 0.0)
    monkeypatch.setattr(bench("benchmarks.predict"), "HIDDEN", ((7,),))
    monkeypatch.setattr(bench("benchmarks.accuracy"), "load_recipe", small_recipe)
    return run_benchmark


def small_recipe(name):
    recipe = load_recipe(name)
    return replace(recipe, options={**recipe.options, "hidden": [20]})


def options(**changed):
    return Options.from_dict({**load_recipe("mnist-fast").options, **changed})


def test_torch_with_the_recipe_is_xpnet(bench, few):
    pytest.importorskip("torch")
    accuracy = bench("benchmarks.accuracy")
    small = options(hidden=[20], batch_size=100, epochs=3)
    ours = accuracy.Recipe(few, 3, small, resolve("cpu", "numpy"))
    theirs = accuracy.TorchWithRecipe(few, 3, small, "cpu")
    for _ in range(3):
        ours.epoch()
        theirs.epoch()
    weights = theirs.network[0].weight.detach().numpy().T
    expected = ours.state.theta[: 784 * 20].reshape(784, 20)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-4)
    assert (ours.classify(few.X_test) == theirs.classify(few.X_test)).mean() > 0.99


def test_all_learn(bench, few):
    accuracy = bench("benchmarks.accuracy")
    backend = resolve("cpu", "numpy")
    makers = {
        "xpnet": lambda: accuracy.estimator_of_xpnet(few, 0, backend),
        "scikit-learn": lambda: accuracy.scikit_learn(few, 0, None, "cpu"),
    }
    if find_spec("torch"):
        makers["torch"] = lambda: accuracy.Torch(few, 0, None, "cpu")
    for name, make in makers.items():
        contestant = make()
        for _ in range(20):
            contestant.epoch()
        assert (contestant.classify(few.X) == few.y).mean() > 0.9, name


def test_evaluation_is_not_on_the_clock(bench, few):
    accuracy = bench("benchmarks.accuracy")
    now = [0.0]

    class Contestant:
        n_epochs, done = math.inf, 0

        def epoch(self):
            self.done += 1
            now[0] += 2.0

        def classify(self, X):
            now[0] += 100.0
            wrong = {1: 0.04, 2: 0.02, 3: 0.0}[self.done]
            return np.where(np.arange(len(X)) < round(wrong * len(X)), -1, few.y_test)

    points = accuracy.curve(lambda *_: Contestant(), few, 0, 40, clock=lambda: now[0])
    assert [seconds for seconds, _ in points] == [2.0, 4.0, 6.0]
    assert [accuracy.time_to(points, target) for target in accuracy.TARGETS] == [4.0, 4.0, 6.0]
    assert len(accuracy.curve(lambda *_: Contestant(), few, 0, 2)) == 2, "the cap"


def test_what_was_not_reached_is_said(bench):
    accuracy = bench("benchmarks.accuracy")
    ours = [[[1.0, 0.975], [2.0, 0.981]]] * 3
    theirs = [[[4.0, 0.971], [10.0, 0.979]], [[4.0, 0.9], [8.0, 0.98]], [[4.0, 0.9], [16.0, 0.979]]]
    found = [
        accuracy.summarised("xpnet (numpy), mnist-fast", ours, ours),
        accuracy.summarised("scikit-learn", theirs, ours),
    ]
    at = found[1]["targets"][1]
    assert (at["median"], at["reached"], at["ratio"]) == (None, 1, 0.2)
    assert accuracy.cells_of(at, 3) == ("not reached", "8.00 - 8.00 (1 of 3)", "< 0.20")
    assert accuracy.cells_of(found[0]["targets"][2], 3) == ("not reached", "-", "-")
    assert accuracy.bars(found) == [
        {"peer": "scikit-learn", "target": 0.98, "bar": 0.25, "ratio": 0.2, "met": True}
    ]


def test_a_peer_that_was_stopped_too_early_leaves_the_bar_open(bench):
    accuracy = bench("benchmarks.accuracy")
    ours, theirs = [[[1.0, 0.98]]], [[[2.0, 0.97]]]
    found = [
        accuracy.summarised("xpnet (numpy), mnist-fast", ours, ours),
        accuracy.summarised("scikit-learn", theirs, ours),
    ]
    assert accuracy.bars(found)[0]["met"] is None
    slower = [accuracy.summarised("scikit-learn", [[[2.0, 0.98]]], ours)]
    assert accuracy.bars([found[0], *slower])[0]["met"] is False


def test_median_counts_none_as_the_largest(bench):
    median = bench("benchmarks.accuracy").median
    assert median([3.0, None, 1.0]) == 3.0
    assert median([None, 1.0]) is None


def test_accuracy_runs(run, tmp_path):
    status, out, err = run("accuracy", *HERE, "--cap", "2", "--json", tmp_path / "a.json")
    assert status == 0, err
    result = json.loads((tmp_path / "a.json").read_text("utf-8"))
    names = [each["name"] for each in result["contestants"]]
    assert names[:2] == ["xpnet (numpy), mnist-fast", "xpnet (numpy), MLPClassifier"]
    assert ("torch-recipe" in names) != ("torch-recipe" in result["skipped"])
    for each in result["contestants"]:
        assert f"| {each['name']} | not reached |" in out
        assert each["epochs"] == 2


def test_an_unknown_recipe_is_refused(run):
    status, _, err = run("accuracy", *HERE, "--recipe", "mnist-fats")
    assert status == 2
    assert "mnist-fast" in err


def test_predict_runs(run, tmp_path):
    status, out, err = run("predict", *HERE, "--no-memory", "--json", tmp_path / "p.json")
    assert status == 0, err
    result = json.loads((tmp_path / "p.json").read_text("utf-8"))
    assert [each["network"] for each in result["networks"]] == ["784-7-10"]
    for each in result["networks"]:
        for case in each["cases"]:
            assert case["contestants"][0]["name"] == "xpnet (numpy)"
            assert {"scikit-learn"} <= {bar["peer"] for bar in case["bars"]}
            for found in case["contestants"]:
                expected = 1e6 * case["rows"] / found["microseconds"]["median"]
                assert found["rows_per_second"] == pytest.approx(expected)
                assert found["disqualified"] is None
    if find_spec("onnxruntime") is None:
        assert "left out: onnxruntime: onnxruntime is not installed" in out


def test_a_wrong_answer_is_disqualified(bench, run, monkeypatch):
    predict = bench("benchmarks.predict")
    monkeypatch.setitem(predict.MAKERS, "scikit-learn", lambda *parameters: lambda X: np.ones((len(X), 10)))
    status, out, _ = run("predict", *HERE, "--no-memory", "--peers", "scikit-learn")
    assert status == 1
    assert "DISQUALIFIED: scikit-learn on 784-7-10: its probabilities differ by" in out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a call")
def test_memory_is_that_of_the_call(bench, few):
    predict = bench("benchmarks.predict")

    model = SimpleNamespace(
        coefs_=[np.zeros((784, 500), np.float32), np.zeros((500, 10), np.float32)],
        intercepts_=[np.zeros(500, np.float32), np.zeros(10, np.float32)],
    )
    found = predict.memory_of("scikit-learn", model, np.tile(few.X_test, (34, 1))[:10_000])
    assert list(found) == ["1", "100", "10000"]
    assert found["1"] < 1.0
    assert 15.0 < found["10000"] < 80.0, "the hidden layer is 20 MB"


def test_a_whole_fit_is_timed(bench, few):
    times = bench("benchmarks.startup").whole_fit(few.X[:20, :9], few.y[:20], 1, with_peer=True)
    assert set(times) == {"xpnet", "scikit-learn"}


def test_startup_stops_before_the_first_step(bench, few):
    startup = bench("benchmarks.startup")
    times = startup.first_step(few.X, few.y, 2)
    assert set(times) == {startup.FIT, startup.CHECKS}
    assert all(0.0 < t < 1000.0 for values in times.values() for t in values)


def test_startup_prints_its_bars(bench, run, monkeypatch):
    startup = bench("benchmarks.startup")
    times = {name: [30.0] for name in startup.IMPORTS}
    times[startup.PACKAGE] = [30.0 + 79.0]
    monkeypatch.setattr(startup, "imports", lambda repeats, with_peer: times)
    monkeypatch.setattr(startup, "whole_fit", lambda *_: {"xpnet": [1.0], "scikit-learn": [2.0]})
    status, out, err = run("startup", *HERE)
    assert status == 0, err
    assert "| import xpnet beyond bare Python, ms | 79.00 | 79.00 | <= 80.00 | met |" in out
    assert "| fit, 100 rows: xpnet / scikit-learn | 0.50 | - | <= 1.00 | met |" in out


def test_an_interpreter_is_timed(bench, monkeypatch):
    startup = bench("benchmarks.startup")
    monkeypatch.setattr(startup, "IMPORTS", {startup.BARE: "pass", startup.PACKAGE: "import xpnet"})
    times = startup.imports(1, with_peer=False)
    assert times[startup.PACKAGE][0] > 1.0


def test_pictures(run, tmp_path, bench, monkeypatch):
    pytest.importorskip("matplotlib")
    startup = bench("benchmarks.startup")
    monkeypatch.setattr(startup, "IMPORTS", {startup.BARE: "pass", startup.PACKAGE: "import xpnet"})
    monkeypatch.setattr(startup, "whole_fit", lambda *_: {"xpnet": [1.0], "scikit-learn": [2.0]})
    for words in (
        ("accuracy", "--cap", "2", "--peers", "none"),
        ("predict", "--no-memory", "--peers", "none"),
        ("startup", "--peers", "none"),
    ):
        file = tmp_path / f"{words[0]}.png"
        assert run(*words, *HERE, "--figure", file)[0] == 0
        assert file.read_bytes().startswith(b"\x89PNG")
