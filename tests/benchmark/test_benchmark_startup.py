"""`scripts/benchmark.py startup`: imports, the time to the first step, and a short fit."""

from pathlib import Path

import xpnet


def test_a_whole_fit_is_timed(bench, few):
    times = bench("benchmarks.startup").time_fit(few.X[:20, :9], few.y[:20], 1, with_peer=True)
    assert set(times) == {"xpnet", "scikit-learn"}


def test_startup_stops_before_the_first_step(bench, few):
    startup = bench("benchmarks.startup")
    times = startup.time_first_step(few.X, few.y, 2)
    assert set(times) == {startup.FIT, startup.CHECKS}
    assert all(0.0 < t < 1000.0 for values in times.values() for t in values)


def test_startup_prints_its_bars(bench, run_few, monkeypatch, figure):
    startup = bench("benchmarks.startup")
    times = {name: [30.0] for name in startup.IMPORTS}
    times[startup.PACKAGE] = [30.0 + 79.0]
    monkeypatch.setattr(startup, "time_imports", lambda repeats, with_peer: times)
    monkeypatch.setattr(startup, "time_fit", lambda *_: {"xpnet": [1.0], "scikit-learn": [2.0]})
    printed = run_few("startup", *figure)
    assert printed.status == 0, printed.err
    assert "| import xpnet, minus bare Python (ms) | 79.00 | <= 80.00 | met |" in printed.out
    assert "| fit, 100 rows, xpnet / scikit-learn | 0.50 | <= 1.00 | met |" in printed.out


def test_an_interpreter_is_timed_that_imports_this_clone(bench, here, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    startup = bench("benchmarks.startup")
    root = str(Path(xpnet.__file__).parents[1])
    code = f"import xpnet; assert xpnet.__file__.startswith({root!r})"
    monkeypatch.setattr(startup, "IMPORTS", {startup.BARE: "pass", startup.PACKAGE: code})
    times = startup.time_imports(1, with_peer=False)
    assert times[startup.PACKAGE][0] > 1.0
