"""What crosses between host and device. Each copy to the host, and each wait for the device, costs time."""

import pytest
from traffic import count_traffic

pytestmark = pytest.mark.cuda

CROSSINGS = ("copy host to device", "copy device to host", "synchronize")

MODELS = """
import cupy
import numpy as np
from xpnet import MLPClassifier, MLPRegressor

rng = np.random.default_rng(0)
X, y = rng.standard_normal((9000, 5), np.float32), rng.integers(0, 3, 9000)
there = cupy.asarray(X)

def fit(kind, y, place, **parameters):
    X_fit, y = (cupy.asarray(x) if place == "cupy" else x for x in (X, y))
    return kind(hidden_layer_sizes=(7,), max_iter=1, random_state=0, **parameters).fit(X_fit, y)

def fit_all(place, **parameters):
    return [
        fit(MLPClassifier, y, place, **parameters),
        fit(MLPClassifier, y == 0, place, **parameters),
        fit(MLPClassifier, np.eye(3, dtype=int)[y], place, **parameters),
        fit(MLPRegressor, X[:, 0], place, **parameters),
        fit(MLPRegressor, X[:, :2], place, **parameters),
    ]

def predict_all(models, X):
    for model in models:
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(model, method):
                yield getattr(model, method)(X)
"""


@pytest.mark.parametrize("fitted_with", ["cupy", "numpy"])
def test_a_prediction_on_the_gpu_copies_nothing_and_waits_for_nothing(fitted_with):
    counts = count_traffic(
        f"{MODELS}\nmodels = fit_all({fitted_with!r}, device='cuda')", "list(predict_all(models, there))"
    )
    assert counts["launch"] > 0
    assert {event: counts[event] for event in CROSSINGS} == dict.fromkeys(CROSSINGS, 0)


@pytest.mark.parametrize("fitted_with", ["cupy", "numpy"])
def test_a_prediction_for_rows_on_the_host_copies_them_and_the_answer(fitted_with):
    setup = f"{MODELS}\nmodels = [fit(MLPClassifier, y, {fitted_with!r}, device='cuda')]\nX = X[:1000]"
    counts = count_traffic(setup, "p = models[0].predict_proba(X)")
    assert counts.pop("launch") > 0
    assert counts == {
        "copy host to device": 1,
        "bytes host to device": 4 * 5 * 1000,
        "copy device to host": 1,
        "bytes device to host": 4 * 3 * 1000,
        "synchronize": 1,
    }
    assert count_traffic(setup, "y = models[0].predict(X)")["bytes device to host"] == 8 * 1000


@pytest.mark.parametrize("weight", ["None", "weight"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "logistic_cross_entropy", "squared_error"])
def test_an_evaluation_reads_one_small_array(loss, weight):
    setup = f"""
import numpy as np
from xpnet.backends import resolve
from xpnet.maths.mlp import MLP
from xpnet.training import evaluate

rng = np.random.default_rng(0)
backend, mlp = resolve("cuda", "cupy", "float32"), MLP((5, 7, 3), loss={loss!r})
X, theta = backend.asarray(rng.standard_normal((9000, 5))), backend.asarray(mlp.init(0))
Y, weight = backend.asarray(np.eye(3)[rng.integers(0, 3, 9000)]), backend.asarray(rng.random(9000))
"""
    counts = count_traffic(setup, f"evaluate(mlp, theta, X, Y, {weight}, backend=backend)")
    assert counts.pop("launch") > 0
    n_numbers = 3 if weight == "None" else 4
    assert counts == {"copy device to host": 1, "bytes device to host": 4 * n_numbers, "synchronize": 1}


def test_a_score_on_the_gpu_reads_one_number():
    setup = f"{MODELS}\nmodel, y = fit(MLPClassifier, y, 'cupy'), cupy.asarray(y)"
    counts = count_traffic(setup, "model.score(there, y)")
    assert [counts[event] for event in CROSSINGS] == [0, 1, 1]
    assert counts["bytes device to host"] == 4


EPOCHS = """
import os
import numpy as np
from xpnet import MLP, Adam, epochs
from xpnet.backends import resolve
from xpnet.training import evaluate, start, validate

os.environ["XPNET_CUDA_GRAPH"] = {graph!r}
rng = np.random.default_rng(0)
backend, mlp = resolve("cuda", "cupy", "float32"), MLP((5, 7, 4, 3))
X, Y = (backend.asarray(x) for x in (rng.random(({n}, 5)), np.eye(3)[rng.integers(0, 3, {n})]))
state = start(mlp.init(0), Adam(), backend=backend)
options = dict(schedule=lambda t: 1e-3 / t, n_epochs=1000, batch_size={batch_size}, clip_norm=1.0)
records = epochs(mlp, Adam(), state, X, Y, backend=backend, **options)
"""


def count_epoch(n, batch_size=8, graph="1", more=""):
    return count_traffic(EPOCHS.format(n=n, batch_size=batch_size, graph=graph) + more, "next(records)")


def test_an_epoch_of_captured_steps_copies_two_tables_and_reads_one_number():
    # 3 and 30 steps, the last with a smaller batch, with 2 coefficients each.
    few, many = count_epoch(20), count_epoch(236)
    assert [counts.pop("bytes host to device") for counts in (few, many)] == [
        20 * 8 + 3 * 2 * 4,
        236 * 8 + 30 * 2 * 4,
    ]
    assert few == many  # launches of kernels, too: the steps are in the graphs
    assert [many[event] for event in CROSSINGS] == [2, 1, 1]
    assert many["bytes device to host"] == 4


def test_an_epoch_of_steps_as_written_copies_the_order_and_reads_one_number():
    few, many = (count_epoch(n, graph="0") for n in (20, 236))
    assert many["launch"] >= 10 * few["launch"] - 10
    for counts in (few, many):
        assert [counts[event] for event in CROSSINGS] == [1, 1, 1]
        assert counts["bytes device to host"] == 4


@pytest.mark.parametrize("graph", ["0", "1"])
def test_an_epoch_of_one_full_batch(graph):
    counts = count_epoch(20, batch_size=None, graph=graph)
    assert [counts[event] for event in CROSSINGS] == [int(graph), 1, 1]


def test_a_validation_adds_one_read_to_an_epoch():
    watch = "records = validate(records, state, lambda: evaluate(mlp, state.theta, X, Y, backend=backend))"
    counts = count_epoch(20, more=watch)
    assert [counts[event] for event in CROSSINGS] == [2, 2, 2]


UNCAPTURED = """
import os
import numpy as np
from xpnet import MLP, Adam, epochs
from xpnet.backends import resolve
from xpnet.backends.accelerate.capture import CuPyCapture
from xpnet.backends.accelerate.graph import GraphStep
from xpnet.backends.cupy import CuPy
from xpnet.training import start

class Uncaptured(CuPyCapture):
    def capture(self, work):
        def launch():
            with self._aside():
                work(self.xp)
        return launch

class Launching(CuPy):
    def compile_step(self, step, n_steps, steps_per_epoch):
        return GraphStep(step, self, Uncaptured)

rng = np.random.default_rng(0)
backend, mlp = Launching(**vars(resolve("cuda", "cupy", "float32"))), MLP((784, 50, 20, 10))
X, Y = (backend.asarray(x) for x in (rng.random(({n}, 784)), np.eye(10)[rng.integers(0, 10, {n})]))

def train():
    state = start(mlp.init(0), Adam(), backend=backend)
    options = dict(schedule=lambda t: 1e-3, n_epochs=1, batch_size=64)
    list(epochs(mlp, Adam(), state, X, Y, backend=backend, **options))
"""


def test_a_captured_step_has_twelve_kernels_beside_its_products():
    # The batch and the coefficients, 2 gathers, 2 hidden layers, the loss by rows and its sum, 3 gradients
    # of biases with those of the activations, Adam, and the counter. The products are calls of cuBLAS.
    counts = [count_traffic(UNCAPTURED.format(n=64 * n_steps), "train()") for n_steps in (1, 2, 12)]
    one, two, many = (each["launch"] for each in counts)
    assert two - one == 12
    assert many - one == 11 * 12
    assert [counts[2][event] for event in CROSSINGS] == [counts[0][event] for event in CROSSINGS]
