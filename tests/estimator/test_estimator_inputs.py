"""The library and the device of an array are determined when it is read, and not again."""

import numpy as np
import pytest

from xpnet import MLPClassifier, MLPRegressor
from xpnet.backends.numpy import NumPy
from xpnet.estimator import inputs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def questions(monkeypatch):
    """A list that grows by x each time it is asked whose array x is."""
    found, owns = [], NumPy.owns

    def record(x):
        found.append(x)
        return owns(x)

    monkeypatch.setattr(NumPy, "owns", staticmethod(record))
    return found


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_fit_asks_where_x_is_when_it_reads_it(kind, early_stopping, backend, lend, questions):
    rng = np.random.default_rng(0)
    X = lend(rng.random((200, 4)))
    # array_api_strict finds no distinct values with its flags off: labels that are text stay on the host.
    y = rng.choice(["a", "b", "c"], 200) if kind is MLPClassifier else lend(rng.random(200))
    model = kind(hidden_layer_sizes=(5,), max_iter=3, early_stopping=early_stopping).fit(X, y)
    assert 1 <= sum(x is X for x in questions) <= 2  # on the host? if not, which library and device?
    questions.clear()
    model.predict(X)
    assert sum(x is X for x in questions) <= 2


def test_finite_rows_whose_squares_overflow_are_checked_once(monkeypatch):
    model = MLPRegressor(hidden_layer_sizes=4, max_iter=1).fit(np.ones((20, 2), np.float32), np.ones(20))
    calls = []

    def check(*arguments, **options):
        calls.append(arguments)
        return validate_data(*arguments, **options)

    validate_data = inputs.validate_data
    monkeypatch.setattr(inputs, "validate_data", check)
    model.predict(np.full((5000, 2), 1e25, np.float32))
    assert len(calls) == 1
