"""`scripts/benchmark.py accuracy`: the time to an accuracy, and what is said where it is not reached."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest

from xpnet import MLPClassifier, resolve
from xpnet.command.options import Options
from xpnet.command.recipes import load_recipe


def options(**changed):
    return Options.from_dict({**load_recipe("mnist-fast").options, **changed})


def test_torch_with_the_recipe_is_xpnet(bench, few):
    pytest.importorskip("torch")
    small = options(hidden=[20], batch_size=100, epochs=3)
    ours = bench("benchmarks.contestants.xpnet").with_recipe(few, 3, small, resolve("cpu", "numpy"))
    theirs = bench("benchmarks.contestants.torch").with_recipe(few, 3, small, "cpu")
    for _ in range(3):
        assert theirs.epoch() == pytest.approx(ours.epoch(), rel=1e-3)
    weights = theirs.network[0].weight.detach().numpy().T
    expected = ours.state.theta[: 784 * 20].reshape(784, 20)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-4)
    assert (ours.classify(few.X_test) == theirs.classify(few.X_test)).mean() > 0.99


def test_all_learn(bench, few):
    scikit_learn, torch = (bench(f"benchmarks.contestants.{name}") for name in ("scikit_learn", "torch"))
    backend = resolve("cpu", "numpy")
    makers = {
        "xpnet": lambda: scikit_learn.Estimator(MLPClassifier, few, 0, backend),
        "scikit-learn": lambda: scikit_learn.with_defaults(few, 0, None, "cpu"),
    }
    if find_spec("torch"):
        makers["torch"] = lambda: torch.with_defaults(few, 0, None, "cpu")
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

    points = accuracy.train(lambda *_: Contestant(), few, 0, 40, clock=lambda: now[0])
    assert [seconds for seconds, _ in points] == [2.0, 4.0, 6.0]
    assert [accuracy.time_to(points, target) for target in accuracy.TARGETS] == [4.0, 4.0, 6.0]
    assert len(accuracy.train(lambda *_: Contestant(), few, 0, 2)) == 2, "the cap"


def test_what_was_not_reached_is_said(bench):
    accuracy = bench("benchmarks.accuracy")
    ours = [[[1.0, 0.975], [2.0, 0.981]]] * 3
    theirs = [[[4.0, 0.971], [10.0, 0.979]], [[4.0, 0.9], [8.0, 0.98]], [[4.0, 0.9], [16.0, 0.979]]]
    found = [
        accuracy.summarize("xpnet (numpy), mnist-fast", ours, ours),
        accuracy.summarize("scikit-learn", theirs, ours),
    ]
    at = found[1]["targets"][1]
    assert (at["median"], at["reached"], at["ratio"]) == (None, 1, 0.2)
    assert accuracy.make_cells(at, 3) == ("not reached", "8.00 - 8.00 (1 of 3)", "< 0.20")
    assert accuracy.make_cells(found[0]["targets"][2], 3) == ("not reached", "-", "-")
    name = "xpnet / scikit-learn, time to 98 %"
    assert accuracy.make_bars(found) == [{"name": name, "measured": 0.2, "bar": 0.25, "met": True}]


def test_a_peer_that_was_stopped_too_early_leaves_the_bar_open(bench):
    accuracy = bench("benchmarks.accuracy")
    ours, theirs = [[[1.0, 0.98]]], [[[2.0, 0.97]]]
    found = [
        accuracy.summarize("xpnet (numpy), mnist-fast", ours, ours),
        accuracy.summarize("scikit-learn", theirs, ours),
    ]
    assert accuracy.make_bars(found)[0]["met"] is None
    slower = [accuracy.summarize("scikit-learn", [[[2.0, 0.98]]], ours)]
    assert accuracy.make_bars([found[0], *slower])[0]["met"] is False


def test_median_counts_none_as_the_largest(bench):
    median = bench("benchmarks.accuracy").median
    assert median([3.0, None, 1.0]) == 3.0
    assert median([None, 1.0]) is None


def test_accuracy_runs(run_few, tmp_path, figure):
    printed = run_few("accuracy", "--cap", "2", "--json", tmp_path / "a.json", *figure)
    assert printed.status == 0, printed.err
    assert "median of 1 seed," in printed.out
    result = json.loads((tmp_path / "a.json").read_text("utf-8"))
    names = [each["name"] for each in result["contestants"]]
    assert names[:2] == ["xpnet (numpy), mnist-fast", "xpnet (numpy), MLPClassifier"]
    assert ("torch-recipe" in names) != ("torch-recipe" in result["skipped"])
    for each in result["contestants"]:
        assert f"| {each['name']} | not reached |" in printed.out
        assert each["epochs"] == 2


def test_an_unknown_recipe_is_refused(run_few):
    printed = run_few("accuracy", "--recipe", "mnist-fats")
    assert printed.status == 2
    assert "mnist-fast" in printed.err
