"""The memory that an estimator uses on NumPy and on a GPU, and what holds when there is too little."""

import gc
import re
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

from xpnet import MLPClassifier, MLPRegressor
from xpnet.backends.accelerate import cublas
from xpnet.errors import OutOfMemoryError

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")
MEGABYTE = 2**20
WORKSPACE = 32 * MEGABYTE  # what cuBLAS gets for a CUDA graph at most


@pytest.fixture
def pool(cupy_backend):
    """CuPy's memory pool, with the cyclic garbage collector off: what stays allocated is seen at once."""
    import cupy

    gc.collect()
    gc.disable()
    yield cupy.get_default_memory_pool()
    gc.enable()


@contextmanager
def limit(pool, n_bytes):
    """Let `n_bytes` more be allocated, as if the device had no more."""
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + n_bytes)
    try:
        yield
    finally:
        pool.set_limit(size=0)


def find_peak(function):
    """Return the result of a function, and how much device memory it had allocated at most at a time."""
    from cupy.cuda import MemoryHook

    class Meter(MemoryHook):
        now = peak = 0

        def malloc_postprocess(self, device_id, size, mem_size, mem_ptr, pmem_id):
            self.now += mem_size
            self.peak = max(self.peak, self.now)

        def free_postprocess(self, device_id, mem_size, mem_ptr, pmem_id):
            self.now -= mem_size

    with Meter() as meter:
        result = function()
    return result, meter.peak


def draw(n, n_features):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, n_features), np.float32), rng.integers(0, 3, n)


def make(**parameters):
    defaults = {"hidden_layer_sizes": (8,), "max_iter": 1, "batch_size": 100, "random_state": 0}
    return MLPClassifier(**defaults | parameters)


def read_message(error, needed):
    """Check that the message gives what is needed, within 10 %, and what is free. Return what is free."""
    found = re.search(
        r"cupy on cuda.* is out of memory: \w+ needs about ([\d,]+) bytes, ([\d,]+) bytes are free. Try",
        str(error),
    )
    said, free = (int(number.replace(",", "")) for number in found.groups())
    assert said == pytest.approx(needed, rel=0.1)
    return free


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_rows_that_do_not_fit_are_refused_and_fewer_are_fitted(pool, method):
    X, y = draw(40_000, 100)
    options = {"classes": np.unique(y)} if method == "partial_fit" else {}
    model = make(device="cuda")
    with limit(pool, 4 * MEGABYTE):
        before = pool.used_bytes()
        with pytest.raises(OutOfMemoryError, match=r"Try fewer rows, or partial_fit") as refused:
            getattr(model, method)(X, y, **options)
        assert isinstance(refused.value, MemoryError)
        assert refused.value.__cause__ is refused.value.__context__ is None
        assert pool.used_bytes() == before
        assert read_message(refused.value, X.nbytes) == pytest.approx(4 * MEGABYTE, rel=0.01)
        assert not hasattr(model, "coefs_")
        getattr(model, method)(X[:2000], y[:2000], **options)
    assert model.score(X[:2000], y[:2000]) >= 0.0


def test_a_network_that_does_not_fit_is_refused(pool):
    import cupy

    X, y = draw(64, 256)
    X, y = cupy.asarray(X), cupy.asarray(y)
    n_parameters = 256 * 4096
    with limit(pool, 16 * MEGABYTE):
        before = pool.used_bytes()
        with pytest.raises(OutOfMemoryError, match=r"Try batch_size=16, or fewer hidden units\.") as refused:
            make(hidden_layer_sizes=(4096,), batch_size=64).fit(X, y)
        assert pool.used_bytes() == before
        read_message(refused.value, 4 * (6 * n_parameters + 2 * 64 * 4096))
        make(batch_size=64).fit(X, y)


def test_a_refit_that_does_not_fit_leaves_the_model_as_it_was(pool):
    X, y = draw(40_000, 100)
    model = make(device="cuda", warm_start=True).fit(X[:2000], y[:2000])
    p = model.predict_proba(X[:5])
    with limit(pool, 4 * MEGABYTE), pytest.raises(OutOfMemoryError):
        model.fit(X, y)
    assert model.predict_proba(X[:5]).tolist() == p.tolist()


def test_a_prediction_that_does_not_fit_is_refused_and_a_smaller_one_is_made(pool):
    import cupy

    X, y = draw(4000, 50)
    model = make(hidden_layer_sizes=(500,)).fit(*map(cupy.asarray, (X[:200], y[:200])))
    X = cupy.asarray(X)
    with limit(pool, 4 * MEGABYTE):
        before = pool.used_bytes()
        with pytest.raises(
            OutOfMemoryError, match=r"predict_proba needs .* Try fewer rows at a time"
        ) as refused:
            model.predict_proba(X)
        assert refused.value.__context__ is None
        assert pool.used_bytes() == before
        assert model.predict_proba(X[:500]).shape == (500, 3)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_rows_on_the_host_that_do_not_fit_are_predicted_in_chunks(pool, method):
    X, y = draw(40_000, 200)
    model = make(device="cuda").fit(X[:200], y[:200])
    with limit(pool, X.nbytes // 3):
        found = getattr(model, method)(X)
    expected = getattr(model.to_device("numpy").set_params(device=None), method)(X)
    # A network that has just begun is sometimes undecided.
    assert np.mean(np.isclose(found, expected, atol=1e-5)) > 0.999


def test_a_regressor_predicts_more_outputs_than_fit_on_the_device(pool):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((60_000, 5)), rng.standard_normal((60_000, 40))
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=1, random_state=0, device="cuda")
    model.fit(X[:200], Y[:200])
    with limit(pool, Y.nbytes // 2):
        found = model.predict(X)
    np.testing.assert_allclose(found, model.to_device("numpy").predict(X), atol=1e-10)


def count_parameters(model):
    return sum(array.size for array in (*model.coefs_, *model.intercepts_))


@pytest.mark.parametrize("graph", ["0", "1"], ids=["as written", "as a graph"])
@pytest.mark.parametrize("device", [None, "cuda"], ids=["X on the GPU", "X on the host"])
def test_fit_allocates_the_rows_once(pool, monkeypatch, device, graph):
    import cupy

    monkeypatch.setenv("XPNET_CUDA_GRAPH", graph)
    X, y = draw(20_000, 200)
    given = (X, y) if device else tuple(map(cupy.asarray, (X, y)))
    there = 0 if device else X.nbytes + y.nbytes
    options = {"device": device, "batch_size": 1000, "max_iter": 2}
    make(**options).fit(*(array[:1000] for array in given))  # kernels, and the handle of cuBLAS
    _, peak = find_peak(lambda: make(**options).fit(*given))
    activations = 4 * 1000 * (200 + 2 * 8)
    workspace = WORKSPACE if graph == "1" else 0
    assert X.nbytes < there + peak < 1.1 * (X.nbytes + activations) + workspace


def test_fit_allocates_six_vectors_for_adam(pool):
    import cupy

    X, y = (cupy.asarray(array) for array in draw(100, 500))
    options = {"hidden_layer_sizes": (1500,), "batch_size": 50}
    make(**options).fit(X, y)
    model, peak = find_peak(lambda: make(**options).fit(X, y))
    # theta, its gradient, two moments; and two temporaries of the update, or the gradients of the layers
    # beside the vector that they are joined to.
    vectors = 6 * 4 * count_parameters(model)
    activations = 4 * 50 * (500 + 1500)
    assert vectors < 1.1 * peak
    assert peak < 1.1 * (vectors + activations)


def test_fit_needs_four_vectors_for_adam_where_there_is_no_room_for_six(pool, monkeypatch):
    import cupy

    monkeypatch.setattr(cublas, "_WORKSPACE_BYTES", MEGABYTE)
    X, y = (cupy.asarray(array) for array in draw(90, 500))  # batches of two sizes
    options = {"hidden_layer_sizes": (3000,), "batch_size": 50, "max_iter": 16}
    model = make(**options).fit(X, y)
    expected = [array.get() for array in model.coefs_]
    # theta, its gradient and two moments: no room to take the first step as written, for a comparison.
    vectors = 4 * 4 * count_parameters(model)
    activations = 4 * 50 * (500 + 2 * 3000)
    del model
    with limit(pool, int(1.1 * (vectors + activations))):
        model = make(**options).fit(X, y)
    for found, right in zip(model.coefs_, expected, strict=True):
        np.testing.assert_allclose(found.get(), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_prediction_allocates_a_chunk_and_the_answer(pool, method):
    import cupy

    X, y = (cupy.asarray(array) for array in draw(20_000, 100))
    model = make(hidden_layer_sizes=(100,)).fit(X, y)
    getattr(model, method)(X)
    answer, peak = find_peak(lambda: getattr(model, method)(X))
    chunk = 4 * 8192 * 100
    # The output of the hidden layer before and after its activation, and the answers before they are joined.
    assert peak < 1.1 * (2 * chunk + 2 * answer.nbytes)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_a_prediction_on_numpy_allocates_what_fits_in_the_cache_and_the_answer(method):
    X, y = draw(20_000, 100)
    model = make(hidden_layer_sizes=(100,)).fit(X, y)
    answer = getattr(model, method)(X)
    tracemalloc.start()
    try:
        getattr(model, method)(X)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    chunk = 512 * 100 * X.itemsize
    assert peak < 2 * chunk + 2 * answer.nbytes + 2**16


def test_the_memory_of_a_model_is_freed_with_it(pool):
    X, y = draw(2000, 20)
    before = pool.used_bytes()
    model = make(device="cuda").fit(X, y)
    model.predict(X)
    model.score(X, y)
    del model
    assert pool.used_bytes() == before
