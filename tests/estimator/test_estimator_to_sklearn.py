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
    theirs = make(early_stopping=y is LABELS).fit(X, y).to_sklearn()
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


@pytest.mark.parametrize(("make", "y"), [(classifier, CLASSES), (classifier, LABELS), (regressor, NUMBERS)])
def test_from_every_place(make, y, backend, lend):
    rows = lend(X)
    ours = make().fit(rows, lend(y))
    theirs = ours.to_sklearn()
    for method in methods(theirs):
        expected = to_host(getattr(ours, method)(rows))
        np.testing.assert_allclose(getattr(theirs, method)(X), expected, rtol=1e-5, atol=1e-5)
    optimizer = theirs._optimizer
    arrays = (*theirs.coefs_, *theirs.intercepts_, *optimizer.ms, *optimizer.vs)
    assert {type(array) for array in arrays} == {np.ndarray}
    theirs.partial_fit(X, y)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["no", "maybe", "yes"], dtype=object),
        np.array([-3, 10, 2**40]),
        np.array([0.0, 1.0, 7.0]),
        np.array([False, True, True]),
        np.array([4, 4, 4]),
    ],
    ids=["objects", "integers", "floats", "booleans", "one-class"],
)
def test_labels_of_any_kind(names):
    ours = classifier().fit(X, names[CLASSES])
    theirs = ours.to_sklearn()
    assert theirs.classes_.tolist() == ours.classes_.tolist()
    assert theirs.predict(X).dtype == ours.predict(X).dtype
    assert theirs.predict(X).tolist() == ours.predict(X).tolist()


def test_a_sparse_multi_label_target():
    ours = classifier().fit(X, csr_matrix(LABELS))
    theirs = ours.to_sklearn().partial_fit(X, csr_matrix(LABELS))
    ours = ours.partial_fit(X, csr_matrix(LABELS))
    assert issparse(theirs.predict(X))
    assert (theirs.predict(X) != ours.predict(X)).nnz == 0


def test_feature_names():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["a", "b", "c", "d"])
    theirs = regressor().fit(frame, NUMBERS).to_sklearn()
    assert theirs.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        theirs.predict(frame.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    ("make", "params", "lacking"),
    [
        (classifier, {"solver": "adamw", "clip_norm": 0.5}, ["clip_norm=0.5", "solver='adamw'"]),
        (classifier, {"class_weight": {0: 2.0}, "label_smoothing": 0.1}, ["class_weight={0: 2.0}"]),
        (classifier, {"learning_rate": "cosine", "scoring": "f1_macro"}, ["scoring=", "learning_rate="]),
        (regressor, {"loss": "quantile", "quantile": 0.9, "verbose": "progress"}, ["loss='quantile'"]),
        (regressor, {"loss": "huber", "solver": "rmsprop"}, ["loss='huber', solver='rmsprop'"]),
    ],
)
def test_what_only_matters_in_training_is_left_out_with_a_warning(make, params, lacking, capsys):
    ours = make(**params).fit(X, CLASSES)
    with pytest.warns(UserWarning, match="fit and partial_fit do not train it the same") as caught:
        theirs = ours.to_sklearn()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert all(text in str(caught[0].message) for text in lacking)
    assert "quantile=0.9" not in str(caught[0].message)
    assert_same_predictions(theirs, ours, X, 1e-12)
    clone(theirs).fit(X, CLASSES)
    theirs.partial_fit(X, CLASSES)


def test_one_activation_under_several_names():
    same = classifier(hidden_layer_sizes=[6, 5], activation=["tanh", "tanh"]).fit(X, CLASSES)
    assert same.to_sklearn().activation == "tanh"
    assert_same_predictions(same.to_sklearn(), same, X, 1e-12)
    for activation in ("relu", []):
        none = regressor(hidden_layer_sizes=(), activation=activation).fit(X, NUMBERS)
        assert_same_predictions(none.to_sklearn(), none, X, 1e-12)


def test_lbfgs():
    ours = classifier(solver="lbfgs").fit(X, BINARY)
    theirs = ours.to_sklearn()
    assert_same_predictions(theirs, ours, X, 1e-12)
    assert not hasattr(theirs, "partial_fit")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"activation": "elu"}, "no activation 'elu', only identity, logistic, tanh, relu"),
        (
            {"hidden_layer_sizes": (5, 4), "activation": ["relu", "tanh"]},
            "relu, tanh: export it with to_onnx",
        ),
    ],
)
def test_what_scikit_learn_cannot_predict(params, message):
    with pytest.raises(InputError, match=message):
        classifier(**params).fit(X, CLASSES).to_sklearn()


def test_before_fit():
    with pytest.raises(NotFittedError):
        MLPClassifier().to_sklearn()


def test_a_model_from_a_file_can_go_on(tmp_path):
    # Of all solvers, only this one has no moments, which a file does not contain.
    ours = classifier(solver="sgd", momentum=0.0, shuffle=False).fit(X, STRINGS)
    ours.save(tmp_path / "model.safetensors")
    with warnings.catch_warnings(action="error"):
        theirs = MLPClassifier.load(tmp_path / "model.safetensors").to_sklearn()
    assert_same_fit(theirs.partial_fit(X, STRINGS), ours.partial_fit(X, STRINGS))
