"""`scripts/benchmark.py`: it measures what it says and refuses what it cannot do, not how fast all is."""

import json
import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from xpnet import MLP, Adam, resolve
from xpnet.backends.cuda import explain_missing_driver

TINY = ["--network", "30-8-6-4/16", "--steps", "10", "--repeats", "2"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(bench, run_benchmark, monkeypatch):
    """A function that runs the benchmark in this process: (exit status, stdout, stderr)."""
    monkeypatch.setattr(bench("benchmarks.scaling"), "SECONDS", 0.001)
    monkeypatch.setattr(bench("benchmarks.step"), "warm_ups", lambda network, steps: 1)
    return run_benchmark


@pytest.fixture
def task(bench):
    contestants, data = bench("benchmarks.contestants"), bench("benchmarks.data")
    X, y = data.random_rows(400, 30, 4)
    return contestants.make_task((30, 8, 6, 4), 20, 20, X, y)


def installed(*packages):
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def step(run, *more):
    return run("step", "--device", "cpu", "--backend", "numpy", *TINY, *more)


def test_hand_written_numpy_is_xpnet(bench, task):
    contestants = bench("benchmarks.contestants")
    ours, hand = contestants.XPNet(task, resolve("cpu", "numpy")), contestants.ByHand(task)
    losses = ours.epoch(), hand.epoch()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    expected, theta = ours.theta(), hand.theta()
    assert theta.dtype == expected.dtype == np.float32
    assert np.abs(theta - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(expected - task.theta).max() > 0.01, "20 steps change something"


def test_hand_written_numpy_flushes_without_a_trace(bench, task, monkeypatch):
    module, contestants = bench("benchmarks.hand_written"), bench("benchmarks.contestants")
    plain = contestants.ByHand(task)
    monkeypatch.setattr(module, "FLUSH_EVERY", 5)
    flushed = contestants.ByHand(task)
    plain.epoch()
    monkeypatch.setattr(module, "FLUSH_EVERY", 10**9)
    flushed.epoch()
    np.testing.assert_allclose(flushed.theta(), plain.theta(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name",
    [
        "scikit-learn",
        pytest.param("torch-eager", marks=installed("torch")),
        pytest.param("torch-fused", marks=installed("torch")),
        pytest.param("jax-jit", marks=installed("jax")),
    ],
)
def test_peers_do_the_same_work(bench, task, name):
    contestants = bench("benchmarks.contestants")
    peer = contestants.PEERS[name]
    optimizer = Adam(epsilon_hat=peer.epsilon_hat)
    ours, theirs = contestants.XPNet(task, resolve("cpu", "numpy"), optimizer), peer.make(task)
    for _ in range(2):
        assert theirs.epoch() == pytest.approx(ours.epoch(), rel=1e-4)
    np.testing.assert_allclose(theirs.theta(), ours.theta(), rtol=0, atol=1e-4)


def test_the_floor_is_the_products_of_the_network(bench):
    pairs = []
    new = bench("benchmarks.hand_written").Floor(
        (7, 5, 4, 3), 2, lambda a, b, out: pairs.append((a.shape, b.shape, out.shape)), lambda *s: np.empty(s)
    )
    new.step()
    flops = sum(2 * a[0] * a[1] * b[1] for a, b, _ in pairs)
    assert all((a[0], b[1]) == out and a[1] == b[0] for a, b, out in pairs)
    assert flops == bench("benchmarks.step").Network((7, 5, 4, 3), 2).flops


def test_step_prints_what_the_json_holds(run, tmp_path):
    file = tmp_path / "step.json"
    status, out, _ = step(run, "--peers", "hand-written,scikit-learn,floor", "--json", file)
    assert status == 0
    result = json.loads(file.read_text("utf-8"))
    (network,) = result["networks"]
    names = [each["name"] for each in network["contestants"]]
    assert names == ["xpnet (numpy)", "hand-written", "scikit-learn", "floor"]
    for each in network["contestants"]:
        line = next(line for line in out.splitlines() if line.startswith(f"| {each['name']} |"))
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
    assert result["data"] in out


def test_bars_are_information(bench):
    module = bench("benchmarks.step")

    def found(name, ratio):
        return {"name": name, "ratio": {"median": ratio}, "disqualified": None}

    contestants = [
        found("hand-written", 1.104),
        found("torch-eager", 0.3),
        found("torch-fused", 0.6),
        found("floor", 2.0),
    ]
    bars = {bar["peer"]: bar for bar in module.bars(module.SMALL, "xpnet (numpy)", contestants)}
    assert bars["hand-written"]["met"]
    assert bars["floor"]["met"]
    assert bars[module.TORCH] == {"peer": module.TORCH, "bar": 0.5, "ratio": 0.6, "met": False}
    assert "scikit-learn" not in bars, "it was not measured"
    assert module.bars(module.SMALL, "xpnet (torch)", contestants) == []
    assert set(module.BARS) == set(module.NETWORKS)


def test_who_computes_something_else_is_disqualified(bench, run, monkeypatch, tmp_path):
    contestants = bench("benchmarks.contestants")

    class Hasty(contestants.ByHand):
        def epoch(self):
            self.batches = self.batches[:-1] * 2  # leaves out a batch
            return super().epoch()

    monkeypatch.setitem(contestants.PEERS, "hand-written", contestants.Peer("numpy", ("cpu",), Hasty))
    file = tmp_path / "step.json"
    status, out, _ = step(run, "--peers", "hand-written,floor", "--json", file)
    assert status == 1
    assert "DISQUALIFIED: hand-written on 30-8-6-4/16: its loss differs by" in out
    assert len(json.loads(file.read_text("utf-8"))["disqualified"]) == 1


def test_a_loss_that_is_no_number_is_disqualified(bench, run, monkeypatch):
    contestants = bench("benchmarks.contestants")

    class Broken(contestants.ByHand):
        def epoch(self):
            super().epoch()
            return math.nan

    monkeypatch.setitem(contestants.PEERS, "hand-written", contestants.Peer("numpy", ("cpu",), Broken))
    assert step(run, "--peers", "hand-written")[0] == 1


def test_a_peer_that_is_not_installed_is_named(bench, run, monkeypatch):
    contestants = bench("benchmarks.contestants")
    missing = contestants.Peer("no_such_package", ("cpu",), contestants.ByHand)
    monkeypatch.setitem(contestants.PEERS, "scikit-learn", missing)
    status, out, _ = step(run, "--peers", "scikit-learn,torch-graph")
    assert status == 0
    assert "left out: scikit-learn: no_such_package is not installed" in out
    assert "left out: torch-graph: " in out


def test_scikit_learn_is_not_measured_on_the_big_network(bench):
    module = bench("benchmarks.step")
    notes = module.notes([{"network": str(module.BIG)}, {"network": "3-2/1"}], {"scikit-learn": None})
    assert list(notes) == [f"scikit-learn on {module.BIG}"]


@pytest.mark.skipif(explain_missing_driver() is None, reason="has a GPU")
@pytest.mark.parametrize("subcommand", ["step", "scaling"])
def test_no_gpu_is_said_before_anything_runs(bench, run, monkeypatch, subcommand):
    monkeypatch.setattr(bench(f"benchmarks.{subcommand}"), "run", None)
    status, out, err = run(subcommand, "--device", "cuda")
    assert (status, out) == (2, "")
    assert "device 'cuda' is not usable" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["step", "--peers", "scikit-lern"], "Did you mean 'scikit-learn'?"),
        (["step", "--backend", "nmpy"], "Did you mean 'numpy'?"),
        (["step", "--network", "784"], "as in 784-100-10/200"),
        (["step", "--repeats", "0"], "expected at least 1, got 0"),
        (["step", "--steps", "0"], "expected at least 1, got 0"),
        (["step", "--data-dir", "nowhere", "--network", "784-5-10/8"], "nowhere"),
        (["step", "--json", "no/such/folder/step.json"], "cannot be written"),
        (["step", "--device", "gpu"], "device 'gpu'"),
        (["scaling", "--axis", "colour"], "invalid choice"),
        (["fly"], "invalid choice"),
        ([], "SUBCOMMAND"),
    ],
)
def test_bad_arguments(here, run, arguments, said):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_contestants_take_turns(bench):
    order, now = [], iter(range(100))
    works = {name: lambda name=name: order.append(name) for name in "ABC"}
    timing = bench("benchmarks.timing")
    seconds = timing.in_turns(works, 2, warm_ups=1, pause=0, clock=lambda: next(now))
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


def test_what_a_step_needs_is_counted_exactly(bench, task):
    needs = bench("benchmarks.scaling").needs(task)
    n_parameters, n = MLP(task.sizes).init(0).size, task.batch
    assert needs["flops"] == 2 * n * (2 * 30 * 8 + 3 * 8 * 6 + 3 * 6 * 4)
    held = 4 * n_parameters + n * (30 + 4 + 2 * (8 + 6 + 4)) + 400 * (30 + 4 + 2)
    assert needs["held"] == 4 * held


def test_growth_beyond_the_arithmetic_is_told(bench):
    scaling, sizes = bench("benchmarks.scaling"), [1, 2, 4, 8]
    linear = {key: sizes for key in ("flops", "bytes", "held")}

    def points(power):
        return {"microseconds": [{"best": n**power} for n in sizes], "megabytes": [n**power for n in sizes]}

    fine, bad = (scaling.verdicts(sizes, points(power), [0.0] * 4, linear) for power in (1.0, 2.0))
    assert fine["time"] == {"exponent": 1.0, "arithmetic": 1.0, "within": True}
    assert fine["memory"]["within"]
    assert not bad["time"]["within"]
    assert not bad["memory"]["within"]
    assert "GROWS FASTER" in scaling.verdict("xpnet", "time", bad["time"])


def test_scaling_measures_each_axis(run, tmp_path):
    file = tmp_path / "scaling.json"
    status, out, _ = run("scaling", "--device", "cpu", "--backend", "numpy", "--quick", "--json", file)
    assert status == 0
    result = json.loads(file.read_text("utf-8"))
    assert [axis["axis"] for axis in result["axes"]] == ["width", "depth", "batch", "rows"]
    for axis in result["axes"]:
        (ours,) = axis["contestants"]
        assert len(ours["microseconds"]) == len(ours["megabytes"]) == len(axis["values"])
        for kind in ("time", "memory"):
            line = f"| xpnet (numpy), {kind} | {ours[kind]['exponent']:.2f} |"
            assert line in out
    memory = result["axes"][-1]["contestants"][0]["megabytes"]
    assert memory[-1] - memory[0] == pytest.approx(3000 * (64 + 10 + 2) * 4 / 1e6, rel=0.5)


def test_pictures(run, tmp_path):
    pytest.importorskip("matplotlib")
    step(run, "--peers", "hand-written,floor", "--figure", tmp_path / "step.png")
    run(
        *("scaling", "--device", "cpu", "--backend", "numpy", "--quick", "--axis", "depth"),
        *("--peers", "hand-written", "--figure", tmp_path / "scaling.png"),
    )
    for name in ("step.png", "scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_figure_is_refused_before_anything_runs(bench, run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(bench("benchmarks.step"), "run", None)
    status, _, err = step(run, "--figure", tmp_path / "step.png")
    assert status == 2
    assert "xpnet[plot]" in err


def test_without_mnist_the_rows_are_random(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = bench("benchmarks.data").pictures()
    assert found.what == "random data of MNIST's shape"
    assert found.X.shape == (60_000, 784)
    assert found.X_test.shape == (10_000, 784)
    assert found.X.dtype == np.float32
    assert 0.75 < (found.X[:1000] == 0).mean() < 0.85
    assert set(found.y[:1000]) == set(range(10))
