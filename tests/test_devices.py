"""Two CUDA devices: everything runs on the device of its arrays, and the caller's device and streams stay.

A test that needs CuPy and two devices is skipped without them. On an emulated device, memory of another
device cannot be read, so a wrong device is an error.
"""

import json
import logging
import pickle
import threading
from contextlib import contextmanager
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate

from xpnet import MLPClassifier, MLPRegressor
from xpnet.backends import LIBRARIES, resolve
from xpnet.command.cli import main
from xpnet.errors import DivergenceError
from xpnet.estimator.inputs import read_X
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import Adam
from xpnet.training import epochs, evaluate, keep_best, predict, restore_best, start, validate
from xpnet.training.checkpoint import load_state, save_state

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 3))
WEIGHT = rng.uniform(0.5, 2.0, 40)
BINARY = np.where(X[:, 0] > 0, 7, 3)
CLASSES = np.argmax(X, axis=1) + 2
LABELS = (X > 0.3).astype(np.int64)
TARGETS = X[:, :2] ** 2

SMALL = {"hidden_layer_sizes": (4,), "max_iter": 2, "batch_size": 20, "random_state": 0}
classifier, regressor = partial(MLPClassifier, **SMALL), partial(MLPRegressor, **SMALL)
# estimator, y
CASES = {
    "two classes, stopping": (classifier(early_stopping=True, label_smoothing=0.1), BINARY),
    "two classes, lbfgs": (classifier(solver="lbfgs"), BINARY),
    "classes, balanced, a scorer": (
        classifier(class_weight="balanced", early_stopping=True, scoring="balanced_accuracy"),
        CLASSES,
    ),
    "classes, weighed": (classifier(solver="sgd", class_weight={2: 2.0, 3: 0.5}, clip_norm=0.1), CLASSES),
    "labels": (classifier(solver="rmsprop"), LABELS),
    "a column": (regressor(solver="adamw"), TARGETS[:, 0]),
    "counts, stopping": (regressor(loss="poisson", early_stopping=True), TARGETS),
    "numbers, lbfgs": (regressor(solver="lbfgs"), TARGETS),
}
each_case = pytest.mark.parametrize(("estimator", "y"), CASES.values(), ids=CASES)


@pytest.fixture
def cupy(cupy_backend, monkeypatch):
    """CuPy, with two devices. Device 0 is the current one, and each has a current stream of the caller's."""
    monkeypatch.setenv("XPNET_CUDA_GRAPH", "0")  # a graph is captured in a stream of its own
    cupy = import_module("cupy")
    count = cupy.cuda.runtime.getDeviceCount()
    if count < 2:
        pytest.skip(f"needs two CUDA devices, this machine has {count}")
    streams = []
    for number in (1, 0):
        cupy.cuda.runtime.setDevice(number)
        streams.append(cupy.cuda.Stream(non_blocking=True))
        streams[-1].use()
    yield cupy
    for number in (1, 0):
        cupy.cuda.runtime.setDevice(number)
        cupy.cuda.Stream.null.use()


@pytest.fixture
def on(cupy):
    """A function that copies a NumPy array to a device."""

    def on(number, x):
        with cupy.cuda.Device(number):
            return cupy.asarray(x)

    return on


def find_current(cupy):
    """Return the current device, and the current stream of each device."""
    streams = []
    for number in (0, 1):
        with cupy.cuda.Device(number):
            streams.append(cupy.cuda.get_current_stream().ptr)
    return cupy.cuda.runtime.getDevice(), streams


@contextmanager
def unchanged(cupy):
    """Assert that the current device and streams are afterwards as they were, also after an exception."""
    before = find_current(cupy)
    try:
        yield
    finally:
        assert find_current(cupy) == before


@contextmanager
def watch_memory(cupy):
    """Yield a set that gets (device, current stream) of each allocation."""
    seen = set()

    class Hook(cupy.cuda.MemoryHook):
        def malloc_preprocess(self, **_):
            seen.add((cupy.cuda.runtime.getDevice(), cupy.cuda.get_current_stream().ptr))

    with Hook():
        yield seen


@contextmanager
def only_on(cupy, *numbers):
    """As `unchanged`, and assert that memory is allocated on these devices, in the caller's streams."""
    streams = find_current(cupy)[1]
    with unchanged(cupy), watch_memory(cupy) as seen:
        yield
    assert seen == {(number, streams[number]) for number in numbers}


def device_of(*arrays):
    (number,) = {array.device.id for array in arrays}
    return number


def fitted_arrays(model):
    return [*model.coefs_, *model.intercepts_]


def assert_equal(arrays, expected):
    for ours, theirs in zip(arrays, expected, strict=True):
        assert ours.get() == pytest.approx(theirs, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("library", ["cupy", "torch", "jax"])
def test_cuda_and_cuda_0_are_one_place(library, monkeypatch):
    pytest.importorskip(library)
    library = LIBRARIES[library]
    monkeypatch.setattr(library, "find_device", classmethod(lambda _, name: name))
    first, same, other = (library.bind(name, "float32") for name in ("cuda", "cuda:0", "cuda:1"))
    assert first == same != other
    assert first.place == (library.name, "cuda:0")
    assert first.device == "cuda:0"  # PyTorch's own "cuda" is its current device


def test_cuda_is_cuda_0_while_another_device_is_current(cupy):
    with cupy.cuda.Device(1):
        backend = resolve("cuda", "cupy")
        assert device_of(backend.asarray(np.ones(3))) == 0
        assert cupy.cuda.runtime.getDevice() == 1


@pytest.mark.parametrize("current", [0, 1])
def test_a_backend_stays_on_its_device(cupy, on, current):
    backend, other = (resolve(device, "cupy", "float64") for device in ("cuda:1", "cuda:0"))
    x, elsewhere = on(1, X), on(0, X)
    with cupy.cuda.Device(current), only_on(cupy, 1):
        found = [backend.asarray(X), backend.copy(x), backend.bring(x, backend)]
        found.append(backend.bring(elsewhere, other))
        assert device_of(*found, x) == 1
        for array in (*found, x.T.T[:, ::-1][:, ::-1]):
            assert backend.to_numpy(array).tolist() == X.tolist()
        backend.synchronize()
        assert backend.count_free_bytes() > 0
        assert backend.hardware == other.hardware


def test_a_device_that_is_not_there_leaves_the_current_one(cupy):
    with unchanged(cupy), pytest.raises(Exception, match="no device cuda:9: this machine has 2"):
        resolve("cuda:9", "cupy")


@each_case
def test_an_estimator_computes_where_its_data_is(cupy, on, estimator, y):
    def run(place):
        """Return a fitted model with all that it answers, for data that `place` copies."""
        model, x, target, weight = clone(estimator), place(X), place(y), place(WEIGHT)
        held = {} if model.solver == "lbfgs" else {"validation_data": (x[:9], target[:9], weight[:9])}
        model.fit(x, target, weight, **held)
        if model.solver != "lbfgs" and not model.early_stopping:
            model.partial_fit(x, target, weight)
        answers = [model.predict(x)]
        if hasattr(model, "predict_proba"):
            answers += [model.predict_proba(x), model.predict_log_proba(x)]
        return model, answers, model.score(x, target, weight)

    with only_on(cupy, 1):
        model, answers, score = run(partial(on, 1))
    reference, expected, expected_score = run(np.array)
    assert device_of(*fitted_arrays(model), *answers) == 1
    assert_equal([*fitted_arrays(model), *answers], [*fitted_arrays(reference), *expected])
    assert score == pytest.approx(expected_score, rel=1e-8)


def test_work_goes_to_the_stream_of_a_with_statement(cupy, on):
    x, y = on(1, X), on(1, CLASSES)
    with cupy.cuda.Device(1), cupy.cuda.Stream(), only_on(cupy, 1):
        classifier().fit(x, y).predict(x)


@each_case
@pytest.mark.parametrize(("home", "device"), [(0, "cuda:1"), (1, "cuda"), (1, "cuda:1")])
def test_the_parameter_device_moves_the_data(cupy, on, estimator, y, home, device):
    x, target, number = on(home, X), on(home, y), int(device == "cuda:1")
    model = clone(estimator).set_params(device=device)
    with only_on(cupy, *{home, number}):
        answers = model.fit(x, target).predict(x)
        score = model.score(x, target)
    reference = clone(estimator).fit(X, y)
    assert device_of(*fitted_arrays(model)) == number
    assert device_of(answers) == home
    assert_equal([*fitted_arrays(model), answers], [*fitted_arrays(reference), reference.predict(X)])
    assert score == pytest.approx(reference.score(X, y), rel=1e-8)


@pytest.mark.parametrize("device", ["cuda:1", "cupy:cuda:1"])
def test_data_of_the_host_is_computed_on_the_device(cupy, device):
    model = classifier(device=device, early_stopping=True)
    with only_on(cupy, 1):
        probability = model.fit(X, CLASSES, WEIGHT).predict_proba(X)
    assert isinstance(probability, np.ndarray)
    expected = clone(model).set_params(device=None).fit(X, CLASSES, WEIGHT).predict_proba(X)
    assert probability == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_data_that_is_already_there_is_not_copied(cupy, on, device):
    x = on(0, X)
    model = classifier(device=device).fit(x, on(0, CLASSES))
    assert read_X(model, x, "predict").X is x
    model.device = None
    assert device_of(model.partial_fit(x, on(0, CLASSES)).predict(x)) == 0


def test_a_y_on_another_device_is_refused_unless_it_may_be_moved(cupy, on):
    x, y, weight = on(1, X), on(0, CLASSES), on(0, WEIGHT)
    words = "X is cupy on cuda:1, {} is cupy on cuda:0: expected both on the same device"
    with unchanged(cupy):
        with pytest.raises(ValueError, match=words.format("y")):
            classifier().fit(x, y)
        with pytest.raises(ValueError, match=words.format("sample_weight")):
            classifier().fit(x, on(1, CLASSES), weight)
        with pytest.raises(ValueError, match=words.format("validation_data")):
            classifier().fit(x, on(1, CLASSES), validation_data=(on(0, X), y))
        model = classifier(device="cuda:1").fit(x, y, weight, (on(0, X), y))
    expected = classifier().fit(X, CLASSES, WEIGHT, (X, CLASSES))
    assert model.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-8)
    assert model.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_, rel=1e-8)


def test_a_model_is_moved_between_devices_and_trains_on(cupy, on):
    model, reference = classifier().fit(on(0, X), on(0, CLASSES)), classifier().fit(X, CLASSES)
    with only_on(cupy, 1):
        model.to_device("cuda:1")
    assert device_of(*fitted_arrays(model), model.classes_, *model._optimizer.moments) == 1
    words = "the fitted arrays are cupy on cuda:1, X is cupy on cuda:0.*to_device.'cupy:cuda:0'"
    with unchanged(cupy), pytest.raises(ValueError, match=words):
        model.predict(on(0, X))
    x, y = on(1, X), on(1, CLASSES)
    with only_on(cupy, 1):
        model.partial_fit(x, y)
        copy = pickle.loads(pickle.dumps(model))
        assert device_of(*fitted_arrays(copy), copy.classes_) == 1
    with only_on(cupy, 0):
        model.to_device("cuda")
    reference.partial_fit(X, CLASSES)
    assert model.predict_proba(on(0, X)).get() == pytest.approx(reference.predict_proba(X), rel=1e-8)
    with only_on(cupy, 1):
        assert copy.predict_proba(x).get() == pytest.approx(reference.predict_proba(X), rel=1e-8)


def test_an_error_leaves_the_device_and_the_streams(cupy, on):
    x, y = on(1, X), on(1, TARGETS)
    holes = on(1, np.where(X > 1, np.nan, X))
    model = regressor().fit(x, y)
    for call, words in [
        (lambda: regressor().fit(holes, y), "contains NaN"),
        (lambda: model.score(x, holes[:, :2]), "contains NaN"),
        (lambda: regressor(loss="poisson").fit(x, on(1, -TARGETS)), "at least 0"),
        (lambda: regressor(learning_rate_init=1e300, solver="sgd").fit(x, y), "non-finite"),
        (lambda: regressor(learning_rate=lambda t: 1 / 0).fit(x, y), "division"),
        (lambda: classifier().fit(x, y), "label binarization"),
    ]:
        with unchanged(cupy), pytest.raises((ValueError, ZeroDivisionError), match=words):
            call()


def test_a_callback_runs_with_the_device_of_the_caller(cupy, on):
    seen = []

    class Callback:
        def setup(self, estimator, context): ...

        def teardown(self, estimator, context): ...

        def on_fit_task_begin(self, estimator, context):
            seen.append(find_current(cupy))

        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            seen.append(find_current(cupy))
            if context.parent is not None:
                assert device_of(*fitted_arrays(fitted_estimator)) == 1
                fitted_estimator.predict(x)

    x, y = on(1, X), on(1, CLASSES)
    for solver in ("adam", "lbfgs"):
        model = classifier(solver=solver)
        model.set_callbacks(Callback())
        with unchanged(cupy):
            model.fit(x, y)
    assert len(seen) >= 8
    assert all(current == find_current(cupy) for current in seen)


NETWORK = MLP((3, 4, 2), "relu", "squared_error")
RUN = {"schedule": lambda t: 0.01, "n_epochs": 3, "batch_size": 16}


def train_in_epochs(backend):
    """Yield the records of a run with validation, as a caller writes it, and at last its predictions."""
    data = backend.asarray(X), backend.asarray(TARGETS)
    state = start(NETWORK.init(0), Adam(), backend=backend)
    records = epochs(NETWORK, Adam(), state, *data, backend=backend, **RUN)
    records = validate(records, state, lambda: evaluate(NETWORK, state.theta, *data, backend=backend))
    yield from keep_best(records, state, backend=backend)
    yield state
    restore_best(state)
    yield predict(NETWORK, state.theta, data[0], backend=backend)


def test_the_loop_leaves_the_device_of_the_caller_between_its_records(cupy, tmp_path):
    backend = resolve("cuda:1", "cupy", "float64")
    *expected, _, answers = train_in_epochs(resolve("cpu", "numpy", "float64"))
    with only_on(cupy, 1):
        run = train_in_epochs(backend)
        for record in expected:
            with unchanged(cupy):
                ours = next(run)
            assert ours.train_loss == pytest.approx(record.train_loss, rel=1e-10)
            assert ours.validation == pytest.approx(record.validation, rel=1e-10)
        with unchanged(cupy):
            state = next(run)
        save_state(tmp_path / "checkpoint", state, {}, backend=backend)
        loaded, _ = load_state(tmp_path / "checkpoint", backend=backend)
        assert loaded.theta.tolist() == state.theta.tolist()
        assert next(run) == pytest.approx(answers, rel=1e-8)
    assert device_of(loaded.theta, *loaded.moments, loaded.best.theta) == 1


def test_a_caller_may_change_the_device_between_two_records(cupy):
    run = train_in_epochs(resolve("cuda:1", "cupy", "float64"))
    next(run)
    with cupy.cuda.Device(1), unchanged(cupy):
        next(run)
    with unchanged(cupy):
        next(run)


def test_a_loop_that_diverges_leaves_the_device(cupy):
    backend = resolve("cuda:1", "cupy")
    data = backend.asarray(X), backend.asarray(TARGETS)
    state = start(NETWORK.init(0), Adam(), backend=backend)
    options = RUN | {"schedule": lambda t: 1e30}
    with unchanged(cupy), pytest.raises(DivergenceError):
        list(epochs(NETWORK, Adam(), state, *data, backend=backend, **options))


MANY_STEPS = {"batch_size": 2, "max_iter": 6}


@pytest.fixture
def with_graphs(cupy, monkeypatch, caplog):
    """CUDA graphs are on, and a step that cannot be captured is an error."""
    monkeypatch.delenv("XPNET_CUDA_GRAPH")
    with caplog.at_level(logging.INFO, "xpnet"):
        yield
    assert not caplog.records


@pytest.mark.usefixtures("with_graphs")
def test_a_graph_is_captured_on_the_device_of_the_data(cupy, on):
    x, y = on(1, X), on(1, TARGETS)
    with unchanged(cupy), watch_memory(cupy) as seen:
        model = regressor(**MANY_STEPS).fit(x, y)
    assert {device for device, _ in seen} == {1}
    assert len(seen) == 1  # the stream of the caller: nothing is allocated where the step is captured
    reference = regressor(**MANY_STEPS).fit(X, TARGETS)
    assert_equal(fitted_arrays(model), fitted_arrays(reference))


@pytest.mark.parametrize("graphs", [None, "with_graphs"])
def test_two_threads_train_on_two_devices(cupy, on, graphs, request):
    if graphs:
        request.getfixturevalue(graphs)
    barrier, failures = threading.Barrier(2), []
    expected = regressor(**MANY_STEPS).fit(X, TARGETS).predict(X)

    def work(current, number):
        try:
            cupy.cuda.Device(current).use()
            x, y = on(number, X), on(number, TARGETS)
            for _ in range(3):
                barrier.wait(60)
                with unchanged(cupy):
                    model = regressor(**MANY_STEPS).fit(x, y)
                    answers = model.predict(x)
                assert device_of(answers, *fitted_arrays(model)) == number
                assert answers.get() == pytest.approx(expected, rel=1e-8)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=pair) for pair in ((0, 1), (1, 0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_models_of_a_search_are_on_the_device_of_each(cupy):
    devices = {"device": ["cuda:0", "cuda:1"]}
    with unchanged(cupy):
        search = GridSearchCV(classifier(), devices, cv=2, n_jobs=2).fit(X, CLASSES)
        found = cross_validate(classifier(device="cuda:1"), X, CLASSES, cv=2, n_jobs=2, return_estimator=True)
    assert search.cv_results_["mean_test_score"][0] == search.cv_results_["mean_test_score"][1]
    for model in found["estimator"]:
        assert device_of(*fitted_arrays(model)) == 1


def test_a_run_on_the_second_device_is_that_on_the_cpu(cupy, here, train):
    options = "--data digits --epochs 2 --hidden 8 --batch-size 500 --validation 0.2 --quiet --out"
    with only_on(cupy, 1):
        result = train(f"{options} second --device cuda:1 --checkpoint-every 2 --patience 5")
    assert result.status == 0, result.err
    assert train(f"{options} first").status == 0
    ours, theirs = (json.loads((here / name / "metrics.json").read_text()) for name in ("second", "first"))
    assert (ours["backend"], ours["device"]) == ("cupy", "cuda:1")
    assert ours["test_loss"] == pytest.approx(theirs["test_loss"], rel=1e-4)
    np.save("row.npy", np.zeros((1, 64)))
    with only_on(cupy, 1):
        assert main(["predict", "second", "row.npy", "--backend", "cupy", "--device", "cuda:1"]) == 0


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_the_model_of_a_run_is_moved_to_the_second_device(cupy, on, here, train, kind):
    y, loss = (CLASSES, "softmax_cross_entropy") if kind is MLPClassifier else (TARGETS, "squared_error")
    np.savez("data.npz", X=X, y=y)
    assert train(f"--data data.npz --loss {loss} --epochs 2 --hidden 4 --quiet --out run").status == 0
    reference, model = kind.load("run"), kind.load("run")
    with only_on(cupy, 1):
        answers = model.to_device("cupy:cuda:1").predict(on(1, X.astype(np.float32)))
    assert answers.get() == pytest.approx(reference.predict(X.astype(np.float32)), rel=1e-4, abs=1e-5)


def test_integers_become_floating_point_on_their_device(cupy, on):
    x, y = on(1, X.round().astype(np.int64)), on(1, CLASSES)
    with only_on(cupy, 1):
        answers = classifier().fit(x, y).predict(x)
    assert device_of(answers) == 1
