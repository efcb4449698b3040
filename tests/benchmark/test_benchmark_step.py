"""`scripts/benchmark.py step`: it reports what it measured and disqualifies what computes something else."""

import json
import math

import numpy as np

TINY = ["--network", "30-8-6-4/16", "--steps", "10", "--repeats", "2"]


def step(run, *more):
    return run("step", "--device", "cpu", "--backend", "numpy", *TINY, *more)


def test_step_prints_what_the_json_holds(run, tmp_path, figure):
    file = tmp_path / "step.json"
    printed = step(run, "--peers", "hand-written,scikit-learn,floor", "--json", file, *figure)
    assert printed.status == 0
    result = json.loads(file.read_text("utf-8"))
    (network,) = result["networks"]
    names = [each["name"] for each in network["contestants"]]
    assert names == ["xpnet (numpy)", "hand-written", "scikit-learn", "floor"]
    for each in network["contestants"]:
        line = next(line for line in printed.out.splitlines() if line.startswith(f"| {each['name']} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == f"{each['microseconds']['median']:,.0f}"
        assert cells[4] == f"{each['ratio']['median']:.2f}"
        lower, upper = each["microseconds"]["quartiles"]
        assert each["microseconds"]["best"] <= lower <= each["microseconds"]["median"] <= upper
        assert len(each["times"]) == network["repeats"] == 2
        assert (each["difference"] is None) == (each["name"] == "floor")
    assert network["contestants"][0]["ratio"]["median"] == 1.0
    assert {"date", "command", "versions", "machine", "skipped"} <= result.keys()
    assert result["command"].startswith("python scripts/benchmark.py step")
    assert result["machine"]["cores"] >= 1
    assert result["versions"]["numpy"] == np.__version__
    assert result["data"] in printed.out


def test_bars_are_information(bench):
    module = bench("benchmarks.step")

    def found(name, *times, disqualified=None):
        return {"name": name, "times": times, "disqualified": disqualified}

    contestants = [
        found("xpnet (numpy)", 20.0, 30.0, 10.0),
        found("xpnet (torch)", 6.0, 9.0, 3.0),
        found("hand-written", 20.0, 29.0, 11.0),
        found("torch-eager", 30.0, 30.0, 30.0),
        found("torch-fused", 10.0, 10.0, 10.0),
        found("torch-compile", 1.0, 1.0, 1.0, disqualified="wrong"),
        found("floor", 1.0, 1.0, 1.0),
    ]
    assert module.make_bars(module.SMALL, contestants) == [
        {"name": "xpnet (numpy) / hand-written", "measured": 1.0, "bar": 1.0, "met": True},
        {"name": "xpnet (torch) / torch-fused", "measured": 0.6, "bar": 1.0, "met": True},
        {"name": "fastest: xpnet (torch) / torch-fused", "measured": 0.6, "bar": 1.0, "met": True},
    ]
    assert module.make_bars(module.Network((4, 3), 2), contestants) == []


def test_who_computes_something_else_is_disqualified(bench, run, monkeypatch, tmp_path, figure):
    module = bench("benchmarks.step")

    class Hasty(module.HandWritten):
        def epoch(self):
            self.batches = self.batches[:-1] * 2  # leaves out a batch
            return super().epoch()

    monkeypatch.setitem(module.PEERS, "hand-written", module.Peer("numpy", ("cpu",), Hasty))
    file = tmp_path / "step.json"
    printed = step(run, "--peers", "hand-written,floor", "--json", file, *figure)
    assert printed.status == 1
    assert "DISQUALIFIED: hand-written on 30-8-6-4/16 (relative difference of its loss" in printed.out
    assert len(json.loads(file.read_text("utf-8"))["disqualified"]) == 1


def test_a_loss_that_is_no_number_is_disqualified(bench, run, monkeypatch):
    module = bench("benchmarks.step")

    class Broken(module.HandWritten):
        def epoch(self):
            super().epoch()
            return math.nan

    monkeypatch.setitem(module.PEERS, "hand-written", module.Peer("numpy", ("cpu",), Broken))
    assert step(run, "--peers", "hand-written").status == 1


def test_a_contestant_that_raises_is_named_and_the_others_are_measured(bench, run, monkeypatch, tmp_path):
    module = bench("benchmarks.step")

    def refuse(task):
        raise RuntimeError("cannot capture")

    monkeypatch.setitem(module.PEERS, "hand-written", module.Peer("numpy", ("cpu",), refuse))
    file = tmp_path / "step.json"
    printed = step(run, "--peers", "hand-written,floor", "--json", file)
    assert printed.status == 1
    assert "DISQUALIFIED: hand-written on 30-8-6-4/16 (RuntimeError: cannot capture)" in printed.out
    (network,) = json.loads(file.read_text("utf-8"))["networks"]
    assert [each["name"] for each in network["contestants"]] == ["xpnet (numpy)", "floor"]


def test_scikit_learn_is_not_measured_on_the_big_network(bench):
    module = bench("benchmarks.step")
    notes = module.list_not_measured(
        [{"network": str(module.BIG)}, {"network": "3-2/1"}], {"scikit-learn": None}
    )
    assert list(notes) == [f"scikit-learn on {module.BIG}"]
