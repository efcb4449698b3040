"""`to_sklearn`: scikit-learn's own estimator predicts and goes on training as ours does."""

import pickle
import warnings

import numpy as np
import pytest
from problems import (
    BINARY,
    CLASSES,
    LABELS,
    NUMBERS,
    STRINGS,
    N,
    X,
    assert_same_fit,
    classifier,
    each_kind,
    parameters,
    regressor,
)
from scipy.sparse import csr_matrix, issparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from xpnet import MLPClassifier
from xpnet.backends import to_host
from xpnet.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def methods(model):
    return ("predict", "predict_proba", "predict_log_proba")[: 3 if hasattr(model, "classes_") else 1]


def assert_same_predictions(theirs, ours, X, bound):
    for method in methods(theirs):
        found, expected = getattr(theirs, method)(X), getattr(ours, method)(X)
        assert type(found) is np.ndarray
        if expected.dtype.kind == "f":
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=bound, atol=bound)
        else:
            assert np.array_equal(found, expected)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_kind
def test_same_predictions(make, y, dtype, activation):
    rows = X.astype(dtype)
    ours = make(hidden_layer_sizes=(8, 5), activation=activation).fit(rows, y)
    theirs = ours.to_sklearn()
    assert type(theirs) is getattr(neural_network, type(ours).__name__)
    bound = 1e-5 if dtype == np.float32 else 1e-12
    assert_same_predictions(theirs, ours, rows, bound)
    assert theirs.score(rows, y) == pytest.approx(ours.score(rows, y), abs=bound)
    assert_same_predictions(pickle.loads(pickle.dumps(theirs)), ours, rows, bound)
    assert all(W.dtype == dtype for W in (*theirs.coefs_, *theirs.intercepts_))


@each_kind
def test_it_has_what_scikit_learns_own_fit_leaves(make, y):
    params = {"early_stopping": True} if make is classifier else {}
    theirs = make(**params).fit(X, y).to_sklearn()
    fitted = clone(theirs).fit(X, y)
    assert fitted.get_params() == theirs.get_params()
    assert set(vars(fitted)) - {"_random_state"} <= set(vars(theirs))
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(theirs, name) == getattr(fitted, name), name
    for name in ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"):
        assert getattr(theirs, name) == pytest.approx(getattr(fitted, name)), name
    assert parameters(theirs) == pytest.approx(parameters(fitted), rel=1e-9)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "adam", "beta_1": 0.8},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "nesterovs_momentum": False},
        {"solver": "sgd", "momentum": 0.0},
    ],
    ids=["adam", "nesterov", "momentum", "sgd"],
)
@each_kind
def test_partial_fit_continues_with_the_optimizer(make, y, params):
    ours = make(shuffle=False, learning_rate_init=0.01, **params).fit(X, y)
    theirs, before = ours.to_sklearn(), parameters(ours).copy()
    for _ in range(3):
        theirs.partial_fit(X, y)
    assert np.array_equal(parameters(ours), before)
    for _ in range(3):
        ours.partial_fit(X, y)
    assert_same_fit(theirs, ours)
    assert theirs.t_ == ours.t_ == 8 * N


def test_a_warm_start_continues():
    ours = classifier(warm_start=True, shuffle=False, solver="sgd", momentum=0.0).fit(X, CLASSES)
    theirs = ours.to_sklearn()
    assert_same_fit(theirs.fit(X, CLASSES), ours.fit(X, CLASSES))
    stopped = classifier(warm_start=True, early_stopping=True).fit(X, CLASSES).to_sklearn()
    best = stopped.best_validation_score_
    assert stopped.fit(X, CLASSES).best_validation_score_ >= best


@pytest.mark.parametrize(("make", "y"), [(classifier, STRINGS), (classifier, LABELS), (regressor, NUMBERS)])
def test_from_every_place(make, y, backend, lend):
    rows = lend(X)
    ours = make().fit(rows, y if y is STRINGS and backend.name == "numpy" else lend(encode(y)))
    theirs = ours.to_sklearn()
    for method in methods(theirs):
        expected = to_host(getattr(ours, method)(rows))
        np.testing.assert_allclose(getattr(theirs, method)(X), expected, rtol=1e-5, atol=1e-5)
    assert {type(W) for W in (*theirs.coefs_, *theirs.intercepts_)} == {np.ndarray}
    assert {type(m) for m in (*theirs._optimizer.ms, *theirs._optimizer.vs)} == {np.ndarray}
    theirs.partial_fit(X, to_host(encode(y)))


def encode(y):
    return np.unique(y, return_inverse=True)[1] if y.dtype.kind == "U" else y
