"""CUDA graphs: a captured step computes what the step as written computes, and leaves nothing behind."""

import gc
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from places import Place, is_emulated
from trainings import (
    ALL_LOSSES,
    OPTIMIZERS,
    NewArrays,
    check,
    check_two_networks_in_turn,
    plain,
    problem,
    train,
)

from xpnet import MLP, Adam
from xpnet.backends import resolve
from xpnet.backends.accelerate.capture import CuPyCapture
from xpnet.backends.accelerate.graph import GraphStep
from xpnet.backends.accelerate.traced import NotRecordable
from xpnet.backends.cupy import CuPy
from xpnet.backends.numpy import NumPy
from xpnet.errors import DivergenceError
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.optimizers import SGD, RMSprop
from xpnet.training import start


def keep_graph(backend, step, n_steps, steps_per_epoch):
    """A `compile_step` that keeps each graph in a list."""
    backend.graphs.append(GraphStep(step, backend, backend.make_capture))
    return backend.graphs[-1]


class StandIn:
    """A capture on the CPU: each launch calls the function again."""

    def __init__(self, backend):
        self.xp = backend.xp

    def record(self, *step):
        return None

    def warm_up(self, work):
        work(self.xp)

    def capture(self, work):
        return lambda: work(self.xp)


@dataclass(frozen=True)
class Stored(NumPy):
    """NumPy with graphs of the stand-in, which are kept in a list."""

    graphs: list = field(default_factory=list)
    make_capture: type = StandIn

    compile_step = keep_graph


class OfKernels(CuPyCapture):
    """A capture of generated kernels alone."""

    def record(self, *step):
        try:
            return super().record(*step)
        except NotRecordable as reason:  # otherwise the step would be captured as written
            raise AssertionError from reason


@dataclass(frozen=True)
class OnCuPy(CuPy):
    """CuPy, which keeps its graphs in a list."""

    graphs: list = field(default_factory=list)
    make_capture: type = OfKernels

    compile_step = keep_graph


@pytest.fixture(params=["stand-in", pytest.param("cupy", marks=pytest.mark.cuda)])
def graphs(request):
    """A backend that captures each step, float64."""
    if request.param == "stand-in":
        return Stored(**vars(resolve("cpu", "numpy", "float64")))
    return OnCuPy(**vars(request.getfixturevalue("cupy_backend")))


def compare(backend, mlp, optimizer, data, n_graphs=2, **options):
    found = train(backend, mlp, optimizer, data, **options)
    check(found, train(plain(), mlp, optimizer, data, **options))
    assert [len(graph.launches) for graph in backend.graphs] == [n_graphs]


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("batch_size", "n_graphs"), [(6, 2), (5, 1), (None, 1)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_optimizer(optimizer, batch_size, n_graphs, weighted, graphs):
    mlp = MLP((5, 7, 3), l2=0.1)
    data = problem(mlp, weighted)
    compare(graphs, mlp, optimizer, data, n_graphs, batch_size=batch_size, clip_norm=1.0)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_each_loss_and_activation(loss, graphs):
    mlp = MLP((5, *[4] * len(ACTIVATIONS), 3), list(ACTIVATIONS), ALL_LOSSES[loss], l2=0.1, l2_shared=True)
    compare(graphs, mlp, Adam(), problem(mlp), 2)


def test_label_smoothing_and_class_indices(graphs):
    mlp = MLP((5, 7, 3), label_smoothing=0.1)
    X, Y = problem(mlp)
    compare(graphs, mlp, Adam(), (X, Y.argmax(axis=1)))


def test_float32(cupy_backend):
    backend = OnCuPy(**vars(resolve("cuda", "cupy", "float32")))
    mlp = MLP((5, 7, 3))
    found = train(backend, mlp, Adam(), problem(mlp))
    assert found[0].dtype == np.float32
    check(found, train(plain("float32"), mlp, Adam(), problem(mlp)), rel=1e-4)
    assert len(backend.graphs[0].launches) == 2


def test_an_epoch_resumed_in_its_middle(graphs):
    def stop(state):
        if state.step == 6:
            raise InterruptedError

    mlp = MLP((5, 7, 3))
    state = start(mlp.init(1), Adam(), backend=graphs)
    with pytest.raises(InterruptedError):
        train(graphs, mlp, Adam(), problem(mlp), state, after_step=stop)
    assert (state.epoch, state.batch) == (1, 2)
    found = train(graphs, mlp, Adam(), problem(mlp), state)
    expected = train(plain(), mlp, Adam(), problem(mlp))
    check(found[:-1], expected[:-1])
    check(found[-1:], [expected[-1][1:]])


def test_the_order_of_the_rows_is_that_of_the_epoch(graphs):
    mlp = MLP((5, 7, 3))
    orders = [np.arange(20), np.arange(20)[::-1], np.array([3, 3, 1, 0, 7, 12, 19])]
    compare(graphs, mlp, Adam(), problem(mlp), 2, order=lambda n, epoch: orders[epoch])


def test_what_the_caller_puts_into_the_state_counts(graphs):
    def put_in(state):
        if state.step == 2:
            state.theta = 0.5 * state.theta
        if state.step == 5:
            state.moments = tuple(2.0 * m for m in state.moments[::-1])

    mlp, adam = MLP((5, 7, 3)), RMSprop()
    compare(graphs, mlp, adam, problem(mlp), 2, after_step=put_in)


def test_two_networks_in_turn(graphs):
    check_two_networks_in_turn(graphs)


class FailingCapture(StandIn):
    def capture(self, work):
        raise RuntimeError("a kernel that cannot be captured")


class SilentlyWrong(StandIn):
    """Captures the step with another exponential function."""

    def capture(self, work):
        names = {name: getattr(self.xp, name) for name in dir(self.xp) if not name.startswith("_")}
        wrong = SimpleNamespace(**names | {"exp": lambda x: 1.01 * self.xp.exp(x)})
        return lambda: work(wrong)


def test_a_step_that_cannot_be_captured_runs_as_written(caplog):
    backend = Stored(**vars(resolve("cpu", "numpy", "float64")), make_capture=FailingCapture)
    mlp = MLP((5, 7, 3))
    with caplog.at_level("INFO", logger="xpnet"):
        compare(backend, mlp, Adam(), problem(mlp), 0)
    (record,) = caplog.records
    assert record.message == (
        "the training step is not captured as a CUDA graph but runs as written: "
        "a kernel that cannot be captured"
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_graph_that_computes_something_else_is_noticed(optimizer):
    backend = Stored(**vars(resolve("cpu", "numpy", "float64")), make_capture=SilentlyWrong)
    mlp = MLP((5, 7, 3), "tanh", "poisson")
    with pytest.warns(RuntimeWarning) as caught:
        compare(backend, mlp, optimizer, problem(mlp), 0)
    (warning,) = caught
    assert str(warning.message).startswith(
        "the CUDA graph of the training step and the step as written differ"
    )
    assert str(warning.message).endswith("XPNET_CUDA_GRAPH=0 switches CUDA graphs off")


def test_a_network_that_diverges_is_no_fault_of_the_graph(graphs):
    mlp = MLP((5, 7, 3), loss="squared_error")
    with pytest.raises(DivergenceError):
        train(graphs, mlp, SGD(), problem(mlp), schedule=lambda t: 1e200)


# On a CUDA device, or an emulated one


def fit(backend, **options):
    return train(backend, MLP((5, 7, 3)), Adam(), problem(MLP((5, 7, 3))), **options)


def test_graphs_are_the_default_of_a_long_training(cupy_backend, monkeypatch):
    def step(state, data, index, coefficients, *, xp):
        return state

    assert isinstance(cupy_backend.compile_step(step, 32, 4), GraphStep)
    assert not isinstance(cupy_backend.compile_step(step, 31, 4), GraphStep)
    monkeypatch.setenv("XPNET_CUDA_GRAPH", "0")
    assert not isinstance(cupy_backend.compile_step(step, 32, 4), GraphStep)


def test_the_cpu_captures_nothing():
    pytest.importorskip("torch")
    step = resolve("cpu", "torch").compile_step(lambda *state, xp: xp, 1000, 10)
    assert not isinstance(step, GraphStep)


class UsesTheHost(SGD):
    """An update that reads a value, which synchronizes the stream that is captured."""

    def update(self, theta, g, moments, coefficients, *, xp):
        if float(xp.sum(g)) > 1e9:
            return theta, moments
        return super().update(theta, g, moments, coefficients, xp=xp)


def test_the_stream_is_usable_after_a_capture_that_fails(cupy_backend, caplog):
    import cupy

    backend = OnCuPy(**vars(cupy_backend), make_capture=CuPyCapture)
    mlp = MLP((5, 7, 3))
    with cupy.cuda.Stream() as stream, caplog.at_level("INFO", logger="xpnet"):
        found = train(backend, mlp, UsesTheHost(), problem(mlp))
        assert cupy.cuda.get_current_stream() == stream
        assert not stream.is_capturing()
        assert float(cupy.arange(5.0).sum()) == 10.0
    check(found, train(plain(), mlp, SGD(), problem(mlp)))
    messages = [record.message for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("the training step is captured as written, not as generated kernels")
    assert messages[1].startswith("the training step is not captured as a CUDA graph but runs as written")
    assert backend.graphs[0].launches == {}
    fit(backend)
    assert len(backend.graphs[1].launches) == 2


def test_a_step_without_kernels_is_captured_as_written(cupy_backend):
    class Clips(SGD):
        """An update with a function that is not recorded."""

        def update(self, theta, g, moments, coefficients, *, xp):
            return super().update(theta, xp.where(g > 0.1, 0.1, g), moments, coefficients, xp=xp)

    backend = OnCuPy(**vars(cupy_backend), make_capture=CuPyCapture)
    compare(backend, MLP((5, 7, 3)), Clips(), problem(MLP((5, 7, 3))))


def test_a_graph_is_launched_on_the_callers_stream(cupy_backend):
    import cupy

    backend = OnCuPy(**vars(cupy_backend))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        found = fit(backend)
        assert cupy.cuda.get_current_stream() == stream
    check(found, fit(plain()))


def test_several_threads_capture_at_once(cupy_backend):
    backend = OnCuPy(**vars(cupy_backend))
    found = [None] * 4

    def work(i):
        found[i] = fit(backend, n_epochs=10)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = fit(plain(), n_epochs=10)
    for each in found:
        check(each, expected)
    assert [len(graph.launches) for graph in backend.graphs] == [2] * 4


LITTLE_MEMORY = """
import warnings
import cupy
import numpy as np
from xpnet import MLPRegressor

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, Y = (cupy.asarray(rng.standard_normal((512, k), np.float32)) for k in (50, 10))
MLPRegressor(hidden_layer_sizes=5000, batch_size=128, max_iter=9).fit(X, Y)
"""


@pytest.mark.parametrize("n_bytes", [36_000_000, 40_000_000, 44_000_000, 60_000_000])
def test_a_fit_that_needs_no_graph_fits_in_memory_with_graphs_too(n_bytes, cupy_backend):
    if not is_emulated(Place.CUPY):
        pytest.skip("needs an emulated device, whose memory can be chosen")
    environment = os.environ | {"EMU_CUDA_MEM_BYTES": str(n_bytes)}
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("device", [0, 1])
@pytest.mark.parametrize("optimizer", [Adam(), NewArrays()], ids=["in-place", "new-arrays"])
def test_a_hundred_fits_leave_no_memory_behind(optimizer, device, cupy_backend):
    import cupy

    if device >= cupy.cuda.runtime.getDeviceCount():
        pytest.skip("needs two CUDA devices")
    backend = resolve(f"cuda:{device}", "cupy", "float64")

    def measure():
        with cupy.cuda.Device(device) as there:
            cupy.get_default_memory_pool().free_all_blocks()
            return there.mem_info[0]

    def fit_and_forget():
        mlp = MLP((5, 7, 3))
        train(backend, mlp, optimizer, problem(mlp), n_epochs=8)  # 32 steps, which are captured

    fit_and_forget()
    gc.collect()
    free = measure()
    for _ in range(100):
        fit_and_forget()
    assert measure() == free
