"""The kernels that are generated for a recorded step: their results, and that NVRTC compiles them."""

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from xpnet import MLP, Adam, epochs
from xpnet.backends import resolve
from xpnet.backends.accelerate import kernels
from xpnet.backends.accelerate.capture import CuPyCapture
from xpnet.backends.accelerate.traced import NotRecordable
from xpnet.backends.cupy import CuPy
from xpnet.maths.losses import LOSSES, quantile
from xpnet.maths.ops import ACTIVATIONS
from xpnet.maths.optimizers import SGD, Adagrad, AdamW, RMSprop
from xpnet.training import start

pytestmark = pytest.mark.cuda
ADAM = Adam()


def run_plain(step, state, data, rows, coefficients):
    theta, *moments, total = (np.array(x) for x in state)
    if rows is not None:
        data = [x[rows] for x in data]
    with np.errstate(all="ignore"):
        theta, moments, total = step((theta, tuple(moments), total), data, None, coefficients, xp=Numpy)
    return [theta, *moments, np.asarray(total)]


class Numpy:
    """The namespace of NumPy, whose 0-d results stay arrays."""

    def __getattr__(self, name):
        def function(*args, **kwargs):
            return np.asarray(getattr(np, name)(*args, **kwargs))

        return function


Numpy = Numpy()


def run_kernels(backend, step, state, data, rows, coefficients):
    """Return the state after a step of generated kernels."""
    import cupy

    def bring(x):
        return cupy.asarray(np.asfortranarray(x) if np.isfortran(x) else x)

    def take_rows(state, data, index, coefficients, *, xp):
        if index is not None:
            data = [xp.take(x, index, axis=0) for x in data]
        return step(state, data, None, coefficients, xp=xp)

    theta, *moments, total = map(bring, state)
    table = backend.asarray(np.array([coefficients]))
    capture = CuPyCapture(backend)
    size = len(data[0]) if rows is None else len(rows)
    rows = None if rows is None else cupy.asarray(rows)
    counter = cupy.zeros(1, dtype=cupy.int64)
    given = [bring(x) for x in data]
    arguments = (theta, tuple(moments), total), given, table, rows, counter, size, size
    (theta, moments, total), run = capture.record(take_rows, *arguments)
    capture.warm_up(lambda xp: run())
    return [x.get() for x in (theta, *moments, total)]


def draw(*shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def make_step(seed, n_operations):
    """Return a step of random operations on data (A (n, k), c (n, 1)), with theta for a (k,) and a (k, k)."""
    functions = [
        lambda x, xp: xp.exp(xp.minimum(x, 3.0)),
        lambda x, xp: xp.maximum(x, 0.5),
        lambda x, xp: -x,
        lambda x, xp: xp.tanh(x),
        lambda x, xp: xp.astype(x > 0.1, x.dtype),
        lambda x, xp: xp.log1p(xp.abs(x)),
    ]

    def step(state, data, index, coefficients, *, xp):
        rng = np.random.default_rng(seed)
        theta, (m,), total = state
        A, c = data
        k = A.shape[1]
        b, W = theta[:k], xp.reshape(theta[k:], (k, k))
        matrices, columns, numbers = [A + 0.0, xp.matmul(A, W)], [c + 0.0], [total * 1.0]
        for _ in range(n_operations):
            x, y = (matrices[rng.integers(len(matrices))] for _ in range(2))
            column, number = columns[rng.integers(len(columns))], numbers[rng.integers(len(numbers))]
            match rng.integers(11):
                case 0:
                    matrices.append(functions[rng.integers(len(functions))](x, xp))
                case 1:
                    matrices.append(x * y)
                case 2:
                    x += b
                case 3:
                    x *= column
                    x *= 0.5
                case 4:
                    columns.append(xp.max(x, axis=1, keepdims=True))
                case 5:
                    columns.append(xp.sum(x, axis=1, keepdims=True) * 0.1)
                case 6:
                    columns.append(column * column + 0.5)
                case 7:
                    numbers.append(xp.sum(column) * 0.01)
                case 8:
                    x -= xp.tanh(number)
                case 9:
                    matrices.append(x - column)
                    column *= 0.9
                case 10:
                    numbers.append(number + coefficients[0])
        g = xp.concat([xp.sum(x, axis=0), xp.reshape(xp.matmul(A.T, y), (-1,))])
        g = xp.tanh(g * 0.01)
        m *= 0.9
        m += g
        theta -= m * coefficients[1]
        total += numbers[-1] + xp.sum(columns[-1]) + xp.sum(xp.tanh(matrices[-1]))
        return theta, (m,), total

    return step


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 4), (5, 1), (2, 2), (33, 35)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_list_of_random_operations(seed, n, k, cupy_backend):
    step, coefficients = make_step(seed, 20), (0.2, 0.3)
    state = 0.3 * draw(k + k * k), draw(k + k * k, seed=1), np.array(0.3)
    data = draw(n, k, seed=2), draw(n, 1, seed=3)
    rows = None if seed % 2 else np.random.default_rng(0).permutation(n)
    found = run_kernels(cupy_backend, step, state, data, rows, coefficients)
    for x, y in zip(found, run_plain(step, state, data, rows, coefficients), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10)


def test_maxima_and_minima_of_nan(cupy_backend):
    def step(state, data, index, coefficients, *, xp):
        (X,), (theta, _, total) = data, state
        a, b = xp.maximum(X, 0.0), xp.minimum(xp.maximum(theta, X), 2.0)
        largest = xp.max(X, axis=1, keepdims=True)
        return a, (b, largest + 0.0 * X), total

    X = np.array([[np.nan, 1.0], [-1.0, np.nan], [-np.inf, -np.inf], [np.inf, 3.0]])
    state = np.array([1.0, np.nan]), np.zeros((4, 2)), np.zeros((4, 2)), np.zeros(())
    found = run_kernels(cupy_backend, step, state, [X], None, (1.0,))
    for x, y in zip(found, run_plain(step, state, [X], None, (1.0,)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.fixture
def sources(cupy_backend, monkeypatch):
    """A list to which each kernel that is made adds its source."""
    import cupy

    made, compile = [], cupy.RawKernel
    monkeypatch.setattr(cupy, "RawKernel", lambda source, name: made.append(source) or compile(source, name))
    return made


def test_what_other_threads_write_is_read_in_another_kernel(cupy_backend, sources):
    def step(state, data, index, coefficients, *, xp):
        (X,), (theta, (m,), total) = data, state
        m = X - xp.sum(X, axis=0)
        doubled = theta[:-1] * 2.0
        theta[1:] += doubled
        X = X + xp.max(X, axis=1, keepdims=True)
        X = X - xp.sum(X, axis=0)
        total += xp.sum(X * X)
        return theta, (m,), total

    state, data = (draw(500), np.zeros((50, 70)), np.zeros(())), [draw(50, 70)]
    found = run_kernels(cupy_backend, step, state, data, None, (1.0,))
    for x, y in zip(found, run_plain(step, state, data, None, (1.0,)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    # The emulated device takes thread by thread, so that its results would be right.
    assert max(source.count("for (int r") for source in sources if " columns(" in source) == 1


@pytest.mark.parametrize("how", ["shifted", "rows"])
def test_a_call_that_writes_what_it_reads_elsewhere(how, cupy_backend):
    def step(state, data, index, coefficients, *, xp):
        (theta, moments, total) = state
        if how == "shifted":
            theta[1:] += theta[:-1]
        else:
            m = xp.reshape(theta, (2, 3))
            m += m[:1, :]
        return theta, moments, total

    with pytest.raises(NotRecordable, match="reads at other places"):
        run_kernels(cupy_backend, step, (draw(6), np.zeros(())), [draw(2, 2)], None, (1.0,))


def add_sum_of_rows(state, data, index, coefficients, *, xp):
    theta, moments, total = state
    X = xp.astype(data[0], theta.dtype)
    theta += xp.sum(X * X, axis=0)
    total += xp.sum(X)
    return theta, moments, total


def test_a_sum_over_many_rows_is_a_product(cupy_backend, monkeypatch):
    monkeypatch.setattr(kernels, "_TALL", 100)
    state, data = (draw(3), np.zeros(())), [draw(200, 3)]
    found = run_kernels(cupy_backend, add_sum_of_rows, state, data, None, (1.0,))
    for x, y in zip(found, run_plain(add_sum_of_rows, state, data, None, (1.0,)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


@pytest.mark.parametrize("rows", [None, [3, 0, 3]], ids=["all rows", "some rows"])
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "int64", "float32", "float64"])
def test_data_of_each_dtype(dtype, rows, cupy_backend):
    state, data = (draw(3), np.zeros(())), [(3 * draw(5, 3)).astype(dtype)]
    found = run_kernels(cupy_backend, add_sum_of_rows, state, data, rows, (1.0,))
    for x, y in zip(found, run_plain(add_sum_of_rows, state, data, rows, (1.0,)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_data_by_columns_is_gathered_by_rows(cupy_backend):
    state, data, rows = (draw(3), np.zeros(())), [np.asfortranarray(draw(5, 3))], [4, 1]
    found = run_kernels(cupy_backend, add_sum_of_rows, state, data, rows, (1.0,))
    for x, y in zip(found, run_plain(add_sum_of_rows, state, data, rows, (1.0,)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    with pytest.raises(NotRecordable, match="expected contiguous"):
        run_kernels(cupy_backend, add_sum_of_rows, state, data, None, (1.0,))


def test_data_without_a_type_of_cuda(cupy_backend):
    state, data = (draw(3), np.zeros(())), [draw(5, 3, dtype="float16")]
    with pytest.raises(NotRecordable, match="float16"):
        run_kernels(cupy_backend, add_sum_of_rows, state, data, None, (1.0,))


class RecordedError(Exception):
    """Ends the training."""


@pytest.fixture
def find_sources(sources):
    """Return a function (network, optimizer, dtype, ...) -> the sources of the kernels of a step."""

    def find(mlp, optimizer=ADAM, dtype="float32", weighted=False, index=False, **options):
        sources.clear()
        backend = Recording(**vars(resolve("cuda", "cupy", dtype)))
        n_in, n_out = mlp.sizes[0], mlp.sizes[-1]
        Y = np.arange(8) % n_out if index else np.eye(n_out)[np.arange(8) % n_out]
        data = draw(8, n_in), Y, *([np.ones((8, 1))] * weighted)
        state = start(mlp.init(0), optimizer, backend=backend)
        settings = {"schedule": lambda t: 1e-3, "n_epochs": 1, "batch_size": 4} | options
        with pytest.raises(RecordedError):
            next(epochs(mlp, optimizer, state, *map(backend.asarray, data), backend=backend, **settings))
        return list(sources)

    return find


class Recording(CuPy):
    """CuPy, which only records the first step."""

    def compile_step(self, step, n_steps, steps_per_epoch):
        def record(state, data, steps, i, last):
            table, counter = self.asarray(steps.coefficients), self.asarray(np.zeros(1, np.int64))
            size = steps.count_rows(i)
            CuPyCapture(self).record(step, state, data, table, steps.rows, counter, steps.batch_size, size)
            raise RecordedError

        return record


def test_networks_of_other_sizes_have_the_same_sources(find_sources):
    sources = find_sources(MLP((5, 4, 3), l2=0.1), Adam(), clip_norm=1.0)
    assert sources == find_sources(MLP((70, 50, 2), l2=0.2), Adam(beta_1=0.8), clip_norm=2.0)
    assert len(sources) > len(set(sources)) > 5


NVRTC = os.environ.get("XPNET_TEST_NVRTC")
COMPILE = """
import ctypes, json, sys

library, arch = sys.argv[1:]
nvrtc, failed = ctypes.CDLL(library), []
for source in json.load(sys.stdin):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None) == 0
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={arch}".encode())
    status = nvrtc.nvrtcCompileProgram(program, len(options), options)
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if status or "warning" in log.value.decode():
        failed.append(source + log.value.decode())
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
sys.exit("\\n".join(failed))
"""


def compile_for(arch, sources):
    """Return what NVIDIA's compiler has to say against the sources."""
    # In a process without site-packages: from there the emulated device loads a library of the same name.
    done = subprocess.run(
        [sys.executable, "-S", "-c", COMPILE, NVRTC, arch],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stderr.strip()


@pytest.mark.skipif(NVRTC is None, reason="XPNET_TEST_NVRTC names no libnvrtc.so of the NVRTC wheel")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nvidias_compiler_takes_each_source(dtype, arch, find_sources):
    mlp = partial(MLP, (5, *[4] * len(ACTIVATIONS), 3), list(ACTIVATIONS), l2=0.1, l2_shared=True)
    sources = set(find_sources(mlp(label_smoothing=0.1), dtype=dtype, index=True, clip_norm=1.0))
    for loss in [*LOSSES.values(), quantile(0.3)]:
        for weighted in (False, True):
            sources |= set(find_sources(mlp(loss=loss), dtype=dtype, weighted=weighted, batch_size=None))
    for optimizer in [SGD(), SGD(0.9), SGD(0.9, nesterov=True), AdamW(), RMSprop(), Adagrad()]:
        sources |= set(find_sources(MLP((5, 3)), optimizer, dtype))
    assert len(sources) > 20
    assert compile_for(arch, sorted(sources)) == ""
    assert "no_such_name" in compile_for(arch, ["__global__ void f(float* x) { *x = no_such_name; }"])
