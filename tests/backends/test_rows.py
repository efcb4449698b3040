"""The faster `max` and `sum` of short rows give what NumPy gives."""

import numpy as np
import pytest

from xpnet import resolve
from xpnet.maths.losses import softmax
from xpnet.maths.ops import ACTIVATIONS

HOSTILE = [0.0, -0.0, 1.0, -1e30, 1e30, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (100, 3), (100, 63), (100, 64), (3, 200)], ids=str)
def test_rows_are_reduced_as_numpy_does(shape, dtype):
    quick = resolve("cpu", "numpy", dtype).for_short_rows.xp
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for z in (x, np.asfortranarray(x), x[::-1, ::-1]):
        largest, total = (f(z, axis=1, keepdims=True) for f in (quick.max, quick.sum))
        assert (largest == z.max(axis=1, keepdims=True)).all()
        assert total == pytest.approx(z.sum(axis=1, keepdims=True, dtype="float64"), rel=1e-5, abs=1e-4)
        assert largest.dtype == total.dtype == dtype
        assert quick.sum(z) == z.sum()
        assert (quick.max(z, axis=0) == z.max(axis=0)).all()


def test_what_is_not_finite_stays_so():
    quick = resolve("cpu", "numpy").for_short_rows.xp
    z = np.array(HOSTILE, np.float32).reshape(2, 4)
    with np.errstate(all="ignore"):
        for mine, theirs in (
            (quick.max(z, axis=1, keepdims=True), z.max(axis=1, keepdims=True)),
            (quick.sum(z, axis=1, keepdims=True), z.sum(axis=1, keepdims=True)),
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_probabilities_of_many_rows():
    quick, plain = resolve("cpu", "numpy", "float64").for_short_rows.xp, np
    z = 10.0 * np.random.default_rng(0).standard_normal((1000, 10))
    assert softmax(z, xp=quick) == pytest.approx(softmax(z, xp=plain), rel=1e-13)
    for activation in ACTIVATIONS.values():
        assert (activation.forward(z.copy(), xp=quick) == activation.forward(z.copy(), xp=plain)).all()


def test_other_libraries_are_as_they_were():
    pytest.importorskip("array_api_strict")
    backend = resolve("cpu", "array_api_strict")
    assert backend.for_short_rows is backend
