"""What can be known of CUDA graphs without a GPU: the arguments of a product, and that they are off."""

from itertools import product

import numpy as np
import pytest

from xpnet.backends import resolve
from xpnet.backends.accelerate.cublas import gemm


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
        ValueError, match=r"strides \(96, 16\) of a matrix \(3, 6\): expected rows or columns"
    ):
        gemm(np.zeros((3, 12))[:, ::2], np.zeros((6, 2)))


def test_the_cpu_captures_nothing(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("XPNET_CUDA_GRAPH", "1")
    step = resolve("cpu", "torch").compile_step(lambda *state, xp: xp, 1000)
    assert step() is resolve("cpu", "torch").xp
