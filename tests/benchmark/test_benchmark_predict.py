"""`scripts/benchmark.py predict`: rows per second and memory of a prediction."""

import json
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest


def test_predict_runs(run_few, tmp_path, figure):
    printed = run_few("predict", "--no-memory", "--json", tmp_path / "p.json", *figure)
    assert printed.status == 0, printed.err
    result = json.loads((tmp_path / "p.json").read_text("utf-8"))
    assert [each["network"] for each in result["networks"]] == ["784-7-10"]
    for each in result["networks"]:
        for case in each["cases"]:
            assert case["contestants"][0]["name"] == "xpnet (numpy)"
            assert {"xpnet / scikit-learn"} <= {bar["name"] for bar in case["bars"]}
            for found in case["contestants"]:
                expected = 1e6 * case["rows"] / found["microseconds"]["median"]
                assert found["rows_per_second"] == pytest.approx(expected)
                assert found["disqualified"] is None
    if find_spec("onnxruntime") is None:
        assert "skipped: onnxruntime (onnxruntime is not installed)" in printed.out


def test_a_wrong_answer_is_disqualified(bench, run_few, monkeypatch):
    predict = bench("benchmarks.predict")
    monkeypatch.setitem(predict.MAKERS, "scikit-learn", lambda *parameters: lambda X: np.ones((len(X), 10)))
    printed = run_few("predict", "--no-memory", "--peers", "scikit-learn")
    assert printed.status == 1
    assert "DISQUALIFIED: scikit-learn on 784-7-10 (difference of its probabilities" in printed.out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a call")
def test_memory_is_that_of_the_call(bench, few):
    predict = bench("benchmarks.predict")

    model = SimpleNamespace(
        coefs_=[np.zeros((784, 500), np.float32), np.zeros((500, 10), np.float32)],
        intercepts_=[np.zeros(500, np.float32), np.zeros(10, np.float32)],
    )
    found = predict.measure_memory("scikit-learn", model, np.tile(few.X_test, (34, 1))[:10_000])
    assert list(found) == ["1", "100", "10000"]
    assert found["1"] < 1.0
    assert 15.0 < found["10000"] < 80.0, "the hidden layer is 20 MB"
