"""The matrix products of CUDA graphs, with a cuBLAS made of NumPy."""

import ctypes
import subprocess
import sys
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet.backends.accelerate import cublas
from xpnet.backends.accelerate.cublas import Capturable, gemm


def by_columns(pointer, ld, rows, columns):
    """Return the column-major matrix (rows, columns) that begins where this array does."""
    size = pointer.itemsize
    return np.lib.stride_tricks.as_strided(pointer, (rows, columns), (size, ld * size))


def column_major_product(a, b):
    """Compute a b as BLAS would: from where the arrays begin and what `gemm` says of them."""
    how = gemm(a, b)
    left = by_columns(b, how.ld_a, *((how.k, how.m) if how.transpose_a else (how.m, how.k)))
    right = by_columns(a, how.ld_b, *((how.n, how.k) if how.transpose_b else (how.k, how.n)))
    c = np.empty((how.n, how.m))
    out = by_columns(c, how.m, how.m, how.n)
    out[...] = (left.T if how.transpose_a else left) @ (right.T if how.transpose_b else right)
    return c


def rows(x):
    return x.copy()


def columns(x):
    return x.T.copy().T


def part_of_rows(x):
    return np.pad(x, ((1, 1), (2, 3)))[1:-1, 2:-3]


def part_of_columns(x):
    return part_of_rows(x.T).T


def names(functions):
    return "-".join(f.__name__ for f in functions)


LAYOUTS = [rows, columns, part_of_rows, part_of_columns]


@pytest.mark.parametrize("layouts", list(product(LAYOUTS, repeat=2)), ids=names)
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("m", [1, 5])
def test_arguments_of_a_product(n, k, m, layouts):
    rng = np.random.default_rng(0)
    a, b = (lay_out(rng.random(shape)) for lay_out, shape in zip(layouts, [(n, k), (k, m)], strict=True))
    how = gemm(a, b)
    assert how.ld_a >= (how.k if how.transpose_a else how.m)  # what BLAS insists on
    assert how.ld_b >= (how.n if how.transpose_b else how.k)
    assert column_major_product(a, b) == pytest.approx(np.matmul(a, b), rel=1e-14)


def test_a_matrix_with_gaps_both_ways_is_refused():
    with pytest.raises(
        ValueError, match=r"strides \(96, 16\) of a matrix \(3, 6\): expected contiguous rows or columns"
    ):
        gemm(np.zeros((3, 12))[:, ::2], np.zeros((6, 2)))


class DeviceArray(np.ndarray):
    """A NumPy array with the attributes of CuPy's that `Capturable` reads."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def device_empty(shape, dtype):
    return np.full(shape, 111, dtype).view(DeviceArray)


HANDLE, STREAM = 0x1234, 0x5678
CUPY = SimpleNamespace(
    cuda=SimpleNamespace(
        runtime=SimpleNamespace(runtimeGetVersion=lambda: 12090),
        device=SimpleNamespace(get_cublas_handle=lambda: HANDLE),
        Device=lambda: SimpleNamespace(compute_capability="90"),
    ),
    empty=device_empty,
    float32=np.float32,
    uint8=np.uint8,
)


class CuBLAS:
    """The functions of cuBLAS that are called, on memory of the host, with a record of the calls."""

    def __init__(self):
        self.calls, self.status = [], 0

    def cublasSetStream_v2(self, handle, stream):
        self.calls.append(("stream", handle.value, stream.value))
        return self.status

    def cublasSetWorkspace_v2(self, handle, pointer, size):
        memory = (ctypes.c_uint8 * size.value).from_address(pointer.value)
        self.calls.append(("workspace", handle.value, size.value, memory[0], memory[size.value - 1]))
        return self.status

    def cublasSgemm_v2(self, *arguments):
        return self.gemm(ctypes.c_float, *arguments)

    def cublasDgemm_v2(self, *arguments):
        return self.gemm(ctypes.c_double, *arguments)

    def gemm(self, number, handle, trans_a, trans_b, m, n, k, alpha, a, ld_a, b, ld_b, beta, c, ld_c):
        """Compute C = alpha op(A) op(B) + beta C, all by columns, as NETLIB documents gemm."""
        self.calls.append((number, handle.value))
        assert {type(alpha._obj), type(beta._obj)} == {number}

        def matrix(pointer, ld, rows, columns):
            assert ld >= rows
            numbers = (number * (ld * (columns - 1) + rows)).from_address(pointer.value)
            return by_columns(np.frombuffer(numbers, number), ld, rows, columns)

        left = matrix(a, ld_a, *((k, m) if trans_a else (m, k)))
        right = matrix(b, ld_b, *((n, k) if trans_b else (k, n)))
        out = matrix(c, ld_c, m, n)
        ab = (left.T if trans_a else left) @ (right.T if trans_b else right)
        out[...] = alpha._obj.value * ab + (beta._obj.value * out if beta._obj.value else 0.0)
        return self.status

    def cublasSetPointerMode_v2(self, handle, mode):
        self.calls.append(("pointer mode", mode))
        return self.status

    def cublasSdot_v2(self, *arguments):
        return self.dot(ctypes.c_float, *arguments)

    def cublasDdot_v2(self, *arguments):
        return self.dot(ctypes.c_double, *arguments)

    def dot(self, number, handle, n, x, step_x, y, step_y, result):
        """Compute the scalar product, as NETLIB documents dot."""
        self.calls.append((number, handle.value))
        pairs = [(x, step_x), (y, step_y)]
        x, y = ((number * ((n - 1) * step + 1)).from_address(p.value)[::step] for p, step in pairs)
        number.from_address(result.value).value = np.dot(x, y)
        return self.status


@pytest.fixture
def library(monkeypatch):
    library = CuBLAS()
    monkeypatch.setattr(cublas, "_load_cublas", lambda major: {12: library}[major])
    return library


def capturable():
    xp = Capturable(np, CUPY)
    xp.use(SimpleNamespace(ptr=STREAM))
    return xp


@pytest.mark.parametrize("layouts", list(product(LAYOUTS, repeat=2)), ids=names)
@pytest.mark.parametrize("shape", [(4, 3, 5), (1, 3, 5), (4, 1, 5), (4, 3, 1)], ids=str)
@pytest.mark.parametrize(("dtype", "number"), [("float32", ctypes.c_float), ("float64", ctypes.c_double)])
def test_a_product_is_computed_by_cublas(dtype, number, shape, layouts, library):
    xp = capturable()
    rng = np.random.default_rng(0)
    n, k, m = shape
    matrices = zip(layouts, [(n, k), (k, m)], strict=True)
    a, b = (lay_out(rng.random(size).astype(dtype)).view(DeviceArray) for lay_out, size in matrices)
    c = xp.matmul(a, b)
    assert c == pytest.approx(np.asarray(a) @ np.asarray(b), rel=1e-6)
    assert c.dtype == dtype
    assert library.calls == [
        ("stream", HANDLE, STREAM),
        ("workspace", HANDLE, 2**25, 111, 111),
        (number, HANDLE),
    ]


@pytest.mark.parametrize(("dtype", "number"), [("float32", ctypes.c_float), ("float64", ctypes.c_double)])
def test_a_scalar_product_is_computed_by_cublas_and_stays_on_the_device(dtype, number, library):
    xp = capturable()
    a, b = np.arange(8, dtype=dtype)[1::2].view(DeviceArray), np.ones(4, dtype).view(DeviceArray)
    c = xp.matmul(a, b)
    assert (c, c.dtype, c.shape) == (16.0, dtype, ())
    # CuPy expects to find the mode of its handle as it was.
    assert library.calls[2:] == [("pointer mode", 1), (number, HANDLE), ("pointer mode", 0)]


def test_a_product_is_written_where_it_is_wanted(library):
    xp = capturable()
    a, b, out = (np.ones(shape).view(DeviceArray) for shape in ((2, 3), (3, 2), (2, 2)))
    assert xp.matmul(a, b, out=out) is out
    assert (np.asarray(out) == 3.0).all()


def test_what_is_no_product_of_matrices_is_left_to_cupy(library):
    xp = capturable()
    v = np.arange(3.0)
    assert (xp.matmul(np.ones((2, 3)), v) == [3.0, 3.0]).all()
    assert xp.exp is np.exp
    assert len(library.calls) == 2  # stream and workspace


def test_an_error_of_cublas_is_raised(library):
    xp = capturable()
    library.status = 7
    a = np.ones((2, 2)).view(DeviceArray)
    with pytest.raises(RuntimeError, match="cuBLAS returned status 7"):
        xp.matmul(a, a)
    with pytest.raises(RuntimeError, match="cuBLAS returned status 7"):
        capturable()


def test_cublas_is_found_before_cupy_has_loaded_it(cupy_backend):
    code = (
        "import cupy; from xpnet.backends.accelerate.cublas import Capturable; "
        "import array_api_compat.cupy as xp; Capturable(xp, cupy).use(cupy.cuda.Stream())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
