"""`scripts/benchmark.py scaling`: exponents beside those that the theory allows."""

import json

import pytest

from xpnet import MLP


def test_what_a_step_needs_is_counted_exactly(bench, task):
    needs = bench("benchmarks.scaling").count_needs(task)
    n_parameters, n = MLP(task.sizes).init(0).size, task.batch
    assert needs["flops"] == 2 * n * (2 * 30 * 8 + 3 * 8 * 6 + 3 * 6 * 4)
    held = 4 * n_parameters + n * (30 + 4 + 2 * (8 + 6 + 4)) + 400 * (30 + 4 + 2)
    assert needs["held"] == 4 * held


def test_growth_beyond_the_arithmetic_is_told(bench):
    scaling, sizes = bench("benchmarks.scaling"), [1, 2, 4, 8]
    linear = {key: sizes for key in ("flops", "bytes", "held")}

    def points(power):
        return {"microseconds": [{"best": n**power} for n in sizes], "megabytes": [n**power for n in sizes]}

    fine, bad = (
        {"name": name, **scaling.fit_exponents(sizes, points(power), [0.0] * 4, linear)}
        for name, power in (("fine", 1.0), ("bad", 2.0))
    )
    assert fine["time"] == fine["memory"] == {"exponent": 1.0, "arithmetic": 1.0}
    assert [
        (bar["name"], bar["measured"], bar["bar"], bar["met"]) for bar in scaling.make_bars([fine, bad])
    ] == [
        ("fine, time", 1.0, 1.15, True),
        ("fine, memory", 1.0, 1.15, True),
        ("bad, time", 2.0, 1.15, False),
        ("bad, memory", 2.0, 1.15, False),
    ]


def test_scaling_measures_each_axis(run, tmp_path, figure):
    file = tmp_path / "scaling.json"
    printed = run("scaling", "--device", "cpu", "--backend", "numpy", "--quick", "--json", file, *figure)
    assert printed.status == 0
    result = json.loads(file.read_text("utf-8"))
    assert [axis["axis"] for axis in result["axes"]] == ["width", "depth", "batch", "rows"]
    for axis in result["axes"]:
        (ours,) = axis["contestants"]
        assert len(ours["microseconds"]) == len(ours["megabytes"]) == len(axis["values"])
        for kind in ("time", "memory"):
            line = f"| xpnet (numpy), {kind} | {ours[kind]['exponent']:.2f} | <= "
            assert line in printed.out
    memory = result["axes"][-1]["contestants"][0]["megabytes"]
    assert memory[-1] - memory[0] == pytest.approx(3000 * (64 + 10 + 2) * 4 / 1e6, rel=0.5)
