"""All contestants of `step` do the same work."""

from importlib.util import find_spec

import numpy as np
import pytest

from xpnet import Adam, resolve


def installed(*packages):
    missing = [package for package in packages if find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def test_hand_written_numpy_is_xpnet(bench, task):
    ours = bench("benchmarks.contestants.xpnet").on_task(task, resolve("cpu", "numpy"))
    hand = bench("benchmarks.contestants.hand_written").HandWritten(task)
    losses = ours.epoch(), hand.epoch()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    expected, theta = ours.theta(), hand.theta()
    assert theta.dtype == expected.dtype == np.float32
    assert np.abs(theta - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(expected - task.theta).max() > 0.01, "20 steps change something"


def test_hand_written_numpy_flushes_without_a_trace(bench, task, monkeypatch):
    module = bench("benchmarks.contestants.hand_written")
    plain = module.HandWritten(task)
    monkeypatch.setattr(module, "FLUSH_EVERY", 5)
    flushed = module.HandWritten(task)
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
    peer = bench("benchmarks.step").PEERS[name]
    optimizer = Adam(epsilon_hat=peer.epsilon_hat)
    ours = bench("benchmarks.contestants.xpnet").on_task(task, resolve("cpu", "numpy"), optimizer)
    theirs = peer.make(task)
    for _ in range(2):
        assert theirs.epoch() == pytest.approx(ours.epoch(), rel=1e-4)
    np.testing.assert_allclose(theirs.theta(), ours.theta(), rtol=0, atol=1e-4)


def test_the_floor_is_the_products_of_the_network(bench):
    pairs = []
    new = bench("benchmarks.contestants.hand_written").Products(
        (7, 5, 4, 3), 2, lambda a, b, out: pairs.append((a.shape, b.shape, out.shape)), lambda *s: np.empty(s)
    )
    new.step()
    flops = sum(2 * a[0] * a[1] * b[1] for a, b, _ in pairs)
    assert all((a[0], b[1]) == out and a[1] == b[0] for a, b, out in pairs)
    assert flops == bench("benchmarks.step").Network((7, 5, 4, 3), 2).flops
