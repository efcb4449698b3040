"""xpnet's MLPClassifier and MLPRegressor in the place of scikit-learn's: its numbers, errors and tools."""

import inspect
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections import defaultdict
from functools import partial
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pytest
import scipy.sparse
from places import Place, find_places, find_problem
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits, load_wine, make_multilabel_classification, make_regression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, get_tags
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NAMES = ["MLPClassifier", "MLPRegressor"]
ROWS = 150
SMALL = {"hidden_layer_sizes": (7,), "max_iter": 6, "batch_size": 32, "random_state": 3}


class Problem(NamedTuple):
    """An estimator's name, data, and options."""

    name: str
    X: np.ndarray
    y: np.ndarray
    options: dict


def digits(n_classes):
    X, y = load_digits(n_class=n_classes, return_X_y=True)
    return X[:ROWS] / 16, y[:ROWS]


def wine():
    return load_wine(return_X_y=True)


def numbers(n_targets=1):
    X, y = make_regression(ROWS, 6, n_targets=n_targets, random_state=0)
    return X, y / y.std()


def labels():
    X, Y = make_multilabel_classification(ROWS, 10, n_classes=4, random_state=0)
    return X / 10, Y


PROBLEMS = {
    "binary": Problem("MLPClassifier", *digits(2), {}),
    "multi-class": Problem("MLPClassifier", *digits(10), {}),
    "multi-label": Problem("MLPClassifier", *labels(), {}),
    "regression": Problem("MLPRegressor", *numbers(), {}),
    "multi-output": Problem("MLPRegressor", *numbers(3), {}),
    "poisson": Problem("MLPRegressor", numbers()[0], np.arange(ROWS) % 5, {"loss": "poisson"}),
}
SGD = {"solver": "sgd", "learning_rate_init": 0.02}
SOLVERS = {
    "adam": {},
    "adam-invscaling": {"learning_rate": "invscaling"},
    "adam-adaptive": {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    "sgd": SGD,
    "sgd-plain": SGD | {"momentum": 0.0},
    "sgd-classical": SGD | {"nesterovs_momentum": False},
    "sgd-invscaling": SGD | {"learning_rate": "invscaling", "power_t": 0.25},
    "sgd-adaptive": SGD | {"learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
}
X2, Y2 = digits(2)
WEIGHT = np.random.default_rng(0).uniform(0.0, 2.0, ROWS) * (np.arange(ROWS) % 7 > 0)


def fit(estimator, X, y, weight=None):
    estimator.fit(X, y, weight)


def partial_fit(estimator, X, y, weight=None):
    classes = {}
    if type(estimator).__name__ == "MLPClassifier":
        classes["classes"] = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
    for _ in range(3):
        estimator.partial_fit(X, y, weight, **classes)


def learned(module, name, learn, data, options):
    """An estimator that has learned, and the warnings it gave meanwhile."""
    estimator = getattr(module, name)(**(SMALL | options))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learn(estimator, *data)
    return estimator, [(each.category, str(each.message)) for each in caught]


def assert_alike(ours, theirs, rel, name):
    """The same value of the same type; scalars within rel, arrays of floats within ten times that."""
    if isinstance(theirs, list):
        assert isinstance(ours, list), name
        assert len(ours) == len(theirs), name
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_alike(one, other, rel, f"{name}[{i}]")
    elif isinstance(theirs, np.ndarray):
        assert (type(ours), ours.dtype, ours.shape) == (np.ndarray, theirs.dtype, theirs.shape), name
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=10 * rel, atol=0.01 * rel, err_msg=name)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    elif scipy.sparse.issparse(theirs):
        assert type(ours) is type(theirs), name
        assert_alike(ours.toarray(), theirs.toarray(), rel, name)
    elif isinstance(theirs, float):
        assert isinstance(ours, float), name
        assert ours == pytest.approx(theirs, rel=rel, abs=0.001 * rel, nan_ok=True), name
    else:
        assert (type(ours), ours) == (type(theirs), theirs), name


def assert_same(name, X, y, weight=None, *, learn=fit, rel=1e-10, **options):
    """Both classes become the same by learning the same. Return scikit-learn's estimator."""
    (ours, our_warnings), (theirs, their_warnings) = (
        learned(module, name, learn, (X, y, weight), options) for module in (xpnet, neural_network)
    )
    assert our_warnings == their_warnings
    for key, value in vars(theirs).items():
        if key.endswith("_") and not key.startswith("_"):
            assert_alike(getattr(ours, key), value, rel, key)
    assert_alike(ours.predict(X), theirs.predict(X), rel, "predict")
    assert_alike(ours.score(X, y, weight), theirs.score(X, y, weight), rel, "score")
    if name == "MLPClassifier":
        probability = theirs.predict_proba(X)
        assert_alike(ours.predict_proba(X), probability, rel, "predict_proba")
        assert_alike(np.exp(ours.predict_log_proba(X)), probability, rel, "predict_log_proba")
    return theirs


# The same numbers

weighted = pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weights"])


@weighted
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_solver_goes_scikit_learns_way(problem, solver, weight):
    name, X, y, options = PROBLEMS[problem]
    assert_same(name, X, y, weight, **options, **SOLVERS[solver])


@weighted
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_activation_goes_scikit_learns_way(problem, activation, solver, weight):
    name, X, y, options = PROBLEMS[problem]
    assert_same(name, X, y, weight, activation=activation, **options, **SOLVERS[solver])


@weighted
@pytest.mark.parametrize("solver", ["adam", "sgd", "sgd-adaptive"])
@pytest.mark.parametrize("problem", [each for each in PROBLEMS if each != "multi-class"])  # stratified here
def test_early_stopping_stops_where_scikit_learn_stops(problem, solver, weight):
    name, X, y, options = PROBLEMS[problem]
    options = options | SOLVERS[solver] | {"early_stopping": True, "validation_fraction": 0.2, "tol": 0.01}
    more = {"learning_rate_init": 0.02, "n_iter_no_change": 3, "max_iter": 100}
    assert assert_same(name, X, y, weight, **(options | more)).n_iter_ < 100


@weighted
@pytest.mark.parametrize(
    ("name", "y"),
    [
        ("MLPClassifier", np.full(ROWS, 3)),
        ("MLPClassifier", np.full(ROWS, "only")),
        ("MLPRegressor", np.full(ROWS, 2.5)),
        ("MLPRegressor", np.full(ROWS, 0.1)),  # whose mean is another number, after rounding
        ("MLPRegressor", np.column_stack([numbers()[1], np.full(ROWS, 2.5)])),
    ],
    ids=["one-class", "one-name", "one-number", "one-rounded-number", "one-number-of-two"],
)
def test_early_stopping_on_targets_that_are_all_the_same(name, y, weight):
    assert len(assert_same(name, X2, y, weight, early_stopping=True).validation_scores_) == 6


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": "auto"},
        {"batch_size": 1, "max_iter": 2},
        {"batch_size": 1000},
        {"shuffle": False},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 5},
        {"hidden_layer_sizes": [6, 4]},
        {"hidden_layer_sizes": np.array([6, 4])},
        {"alpha": 0},
        {"alpha": 3.0},
        {"beta_1": 0.0, "beta_2": 0.0},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 0.1},
        {"learning_rate_init": 0.1, "tol": 0.05, "n_iter_no_change": 2, "max_iter": 100},
        {"tol": 1e9, "n_iter_no_change": np.inf},
    ],
    ids=str,
)
@pytest.mark.parametrize("problem", ["multi-class", "regression"])
def test_every_option_means_what_it_means_there(problem, options):
    name, X, y, _ = PROBLEMS[problem]
    assert_same(name, X, y, **options)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_adaptive_rate_is_divided_until_it_is_too_small(problem):
    name, X, y, options = PROBLEMS[problem]
    theirs = assert_same(name, X, y, **options, **(SOLVERS["sgd-adaptive"] | {"max_iter": 100}))
    assert theirs.n_iter_ < 30


@pytest.mark.parametrize("loss", ["binary", "multi-class", "multi-label"])
def test_saturated_probabilities_cost_what_they_cost_there(loss):
    X, y = wine()  # up to 1680, not scaled
    y = {"binary": y > 0, "multi-class": y, "multi-label": np.stack([y > 0, y < 2], axis=1).astype(int)}[loss]
    theirs = assert_same("MLPClassifier", X, y, hidden_layer_sizes=20, learning_rate_init=0.01)
    assert theirs.loss_curve_[0] > 10


@weighted
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("container", ["csr_array", "csc_array", "csr_matrix", "csc_matrix"])
@pytest.mark.parametrize("problem", ["multi-class", "multi-label", "multi-output"])
def test_sparse_rows(problem, container, solver, weight):
    name, X, y, _ = PROBLEMS[problem]
    sparse = getattr(scipy.sparse, container)(np.where(X > 0.5, X, 0))
    assert_same(name, sparse, y, weight, **SOLVERS[solver])


@pytest.mark.parametrize("container", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
def test_sparse_labels(container):
    X, Y = labels()
    assert_same("MLPClassifier", X, container(Y))


@pytest.mark.parametrize(
    "names",
    [
        np.array([3, -1, 7]),
        np.array([0.0, 1.0, 4.0]),
        np.array(["b", "a", "ccc"]),
        np.array(["b", "a", "c"], dtype=object),
        np.array([True, False]),
        np.array(["yes", "no"]),
        np.array([5]),
    ],
    ids=str,
)
def test_labels_of_every_kind(names):
    X, y = digits(len(names))
    assert_same("MLPClassifier", X, names[y])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "give",
    [
        lambda X, y: (X.tolist(), y.tolist()),
        lambda X, y: (np.asfortranarray(X), y),
        lambda X, y: (X[::2, ::-1], y[::2]),
        lambda X, y: ((X * 16).astype(int), y),
        lambda X, y: (X > 0.5, y),
        lambda X, y: (X, y[:, None]),
        lambda X, y: (X[:5], y[:5]),
    ],
    ids=["lists", "Fortran", "views", "integers", "booleans", "column", "fewer-than-a-batch"],
)
def test_data_in_every_form(name, give):
    assert_same(name, *give(*digits(3)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_partial_fit_goes_on_where_it_stopped(problem, solver):
    name, X, y, options = PROBLEMS[problem]
    assert_same(name, X, y, WEIGHT, learn=partial_fit, shuffle=False, **options, **SOLVERS[solver])


def test_partial_fit_waits_for_the_classes_that_did_not_come_yet():
    def two_halves(estimator, X, y, weight):
        estimator.partial_fit(X[y < 4], y[y < 4], classes=range(10)).partial_fit(X[y >= 4], y[y >= 4])

    assert_same("MLPClassifier", *digits(10), learn=two_halves, shuffle=False)


def test_partial_fit_takes_a_column_of_labels_with_all_the_classes():
    def a_column(estimator, X, y, weight):
        for _ in range(2):
            estimator.partial_fit(X, y[:, None], classes=[0, 1, 2])

    theirs = assert_same("MLPClassifier", *digits(2), learn=a_column, shuffle=False)
    assert theirs.classes_.tolist() == [0, 1, 2]


def fit_twice(estimator, *data):
    estimator.fit(*data).set_params(max_iter=2).fit(*data)


# Without momentum: scikit-learn would not keep it.
WARM = SOLVERS["sgd-plain"] | {"warm_start": True, "learn": fit_twice}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_warm_start_goes_on_in_the_same_order_as_before(problem, shuffle):
    name, X, y, options = PROBLEMS[problem]
    assert len(assert_same(name, X, y, shuffle=shuffle, **options, **WARM).loss_curve_) == 8


@pytest.mark.parametrize("problem", ["regression", "multi-output"])
def test_warm_start_holds_out_the_same_rows_as_before(problem):
    name, X, y, _ = PROBLEMS[problem]
    assert len(assert_same(name, X, y, early_stopping=True, **WARM).validation_scores_) == 8


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_random_state_is_left_where_scikit_learn_leaves_it(name, early_stopping):
    X, y = digits(2)
    states = []

    def fit_noting_the_state(estimator, *data):
        states.append(estimator.set_params(random_state=np.random.RandomState(5)).random_state)
        estimator.fit(*data).fit(*data)

    assert_same(name, X, y, learn=fit_noting_the_state, early_stopping=early_stopping)
    ours, theirs = (state.randint(2**31, size=4).tolist() for state in states)
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_without_a_random_state_numpys_own_is_drawn_from(name):
    def fit_seeded(estimator, *data):
        np.random.seed(11)
        estimator.set_params(random_state=None).fit(*data)

    assert_same(name, *digits(2), learn=fit_seeded)


class Interrupted(np.random.RandomState):
    """Ctrl-C during the third shuffle."""

    shuffles = 0

    def shuffle(self, x):
        self.shuffles += 1
        if self.shuffles == 3:
            raise KeyboardInterrupt
        super().shuffle(x)


@pytest.mark.parametrize("name", NAMES)
def test_an_interrupted_fit_keeps_what_it_learned(name):
    def fit_interrupted(estimator, *data):
        estimator.set_params(random_state=Interrupted(0)).fit(*data)

    assert assert_same(name, *digits(2), learn=fit_interrupted).n_iter_ == 2


@weighted
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("problem", [each for each in PROBLEMS if each != "multi-output"])
def test_lbfgs_arrives_where_scikit_learns_arrives(problem, activation, weight):
    name, X, y, options = PROBLEMS[problem]
    lbfgs = {"solver": "lbfgs", "activation": activation, "max_iter": 15}
    assert_same(name, X, y, weight, rel=1e-7, **options, **lbfgs)


@pytest.mark.parametrize("problem", ["binary", "regression"])
@pytest.mark.parametrize("end", [{"tol": 0.05}, {"max_fun": 8}], ids=["converged", "max_fun"])
def test_lbfgs_stops_where_scikit_learns_stops(problem, end):
    name, X, y, _ = PROBLEMS[problem]
    theirs = assert_same(name, scipy.sparse.csr_array(X), y, rel=1e-6, solver="lbfgs", max_iter=300, **end)
    assert theirs.n_iter_ < theirs.max_iter


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd-adaptive"])
@pytest.mark.parametrize("name", NAMES)
def test_verbose_prints_the_same_lines(name, solver, early_stopping, capsys):
    printed = []
    for module in (xpnet, neural_network):
        options = {"max_iter": 40, "tol": 0.5, "n_iter_no_change": 2, "early_stopping": early_stopping}
        learned(module, name, fit, digits(2), SOLVERS[solver] | options | {"verbose": True})
        printed.append(capsys.readouterr())
    ours, theirs = printed
    assert ours == theirs
    assert "did not improve" in theirs.out


# float32


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_float32_stays_float32(problem, solver, sparse):
    name, X, y, options = PROBLEMS[problem]
    X = scipy.sparse.csr_array(X.astype(np.float32)) if sparse else X.astype(np.float32)
    options = options | SOLVERS.get(solver, {"solver": solver})
    ours, theirs = (
        learned(module, name, fit, (X, y, WEIGHT), options)[0] for module in (xpnet, neural_network)
    )
    assert {each.dtype for each in ours.coefs_ + ours.intercepts_} == {np.dtype(np.float32)}
    method = "predict_proba" if name == "MLPClassifier" else "predict"
    answer = getattr(ours, method)(X)
    assert answer.dtype == np.float32
    if (problem, solver) != ("multi-output", "lbfgs"):  # there the gradient is not that of the loss
        np.testing.assert_allclose(answer, getattr(theirs, method)(X), rtol=0, atol=5e-3)


# The same interface


def signature(function):
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_takes_scikit_learns_parameters_and_more_by_keyword(name):
    ours, theirs = (signature(getattr(module, name)) for module in (xpnet, neural_network))
    assert ours[: len(theirs)] == theirs
    assert {kind for _, kind, _ in ours[len(theirs) :]} <= {inspect.Parameter.KEYWORD_ONLY}
    defaults = {key: value for key, _, value in theirs}
    assert getattr(xpnet, name)().get_params().items() >= defaults.items()


@pytest.mark.parametrize("name", NAMES)
def test_every_public_method_takes_the_same_arguments(name):
    ours, theirs = (getattr(module, name) for module in (xpnet, neural_network))
    methods = [each for each in dir(theirs) if not each.startswith("_")]
    assert {"fit", "partial_fit", "predict", "score", "set_fit_request", "get_metadata_routing"} <= {*methods}
    for method in methods:
        expected = signature(getattr(theirs, method))
        if method.endswith("_request"):  # has the arguments of fit or score, in alphabetical order
            assert {*signature(getattr(ours, method))} >= {*expected}, method
        else:
            assert signature(getattr(ours, method))[: len(expected)] == expected, method


@pytest.mark.parametrize("name", NAMES)
def test_the_tags_are_the_same_but_for_array_api_support(name):
    ours, theirs = (get_tags(getattr(module, name)()) for module in (xpnet, neural_network))
    assert ours.array_api_support
    ours.array_api_support = theirs.array_api_support
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_form_is_the_same(name):
    ours, theirs = (getattr(module, name)(alpha=0.5, solver="sgd") for module in (xpnet, neural_network))
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_fitted_is_what_scikit_learn_documents(name, solver):
    documented = getattr(neural_network, name).__doc__.partition("Attributes\n")[2].partition("See Also")[0]
    attributes = [line.split(" : ")[0].strip() for line in documented.splitlines() if "_ : " in line]
    assert len(attributes) >= 14
    ours, theirs = (
        learned(module, name, fit, digits(2), {"solver": solver})[0] for module in (xpnet, neural_network)
    )
    present = [each for each in attributes if hasattr(theirs, each)]
    assert [each for each in attributes if hasattr(ours, each)] == present
    assert len(present) >= 9


SAME_MEANING = {
    "hidden_layer_sizes": -1,
    "alpha": -1,
    "batch_size": 0,
    "learning_rate_init": 0,
    "power_t": -1,
    "max_iter": 0,
    "shuffle": "yes",
    "random_state": "seed",
    "tol": -1,
    "warm_start": 2,
    "momentum": 2,
    "nesterovs_momentum": "yes",
    "early_stopping": "no",
    "validation_fraction": 1,
    "beta_1": 1,
    "beta_2": 1,
    "epsilon": 0,
    "n_iter_no_change": 0,
    "max_fun": 0,
}
MORE_VALUES = dict.fromkeys(["activation", "solver", "learning_rate", "verbose"], "foo")


NAN, INF = np.where(X2 > 0.9, np.nan, X2), np.where(X2 > 0.9, np.inf, X2)
BEYOND_FLOAT64 = SGD | {"learning_rate_init": 1e308, "activation": "identity"}
MISUSE = {
    "no rows": lambda new: new().fit(X2[:0], Y2[:0]),
    "no columns": lambda new: new().fit(X2[:, :0], Y2),
    "rows of one dimension": lambda new: new().fit(X2[:, 0], Y2),
    "rows of three dimensions": lambda new: new().fit(X2[:, :, None], Y2),
    "NaN in rows": lambda new: new().fit(NAN, Y2),
    "infinity in rows": lambda new: new().fit(INF, Y2),
    "NaN in sparse rows": lambda new: new().fit(scipy.sparse.csr_array(NAN), Y2),
    "complex rows": lambda new: new().fit(X2 * 1j, Y2),
    "words as rows": lambda new: new().fit(np.full(X2.shape, "word"), Y2),
    "None as rows": lambda new: new().fit(None, Y2),
    "fewer rows than targets": lambda new: new().fit(X2[:-1], Y2),
    "no targets": lambda new: new().fit(X2, None),
    "NaN in targets": lambda new: new().fit(X2, np.where(Y2 > 0, np.nan, 0.0)),
    "infinity in targets": lambda new: new().fit(X2, np.where(Y2 > 0, np.inf, 0.0)),
    "targets of three dimensions": lambda new: new().fit(X2, np.zeros((ROWS, 2, 2))),
    "too many weights": lambda new: new().fit(X2, Y2, np.ones(ROWS + 1)),
    "weights of two dimensions": lambda new: new().fit(X2, Y2, np.ones((ROWS, 1))),
    "NaN in weights": lambda new: new().fit(X2, Y2, np.full(ROWS, np.nan)),
    "weights of 0": lambda new: new().fit(X2, Y2, np.zeros(ROWS)),
    "an empty layer": lambda new: new(hidden_layer_sizes=(3, 0)).fit(X2, Y2),
    "steps beyond float64": lambda new: new(**BEYOND_FLOAT64).fit(X2, Y2),
    "predict before fit": lambda new: new().predict(X2),
    "predict for other columns": lambda new: new().fit(X2, Y2).predict(X2[:, 1:]),
    "predict for NaN": lambda new: new().fit(X2, Y2).predict(NAN),
    "predict for one row": lambda new: new().fit(X2, Y2).predict(X2[0]),
    "score of fewer rows": lambda new: new().fit(X2, Y2).score(X2[1:], Y2),
    "partial_fit for other columns": lambda new: new().fit(X2, Y2).partial_fit(X2[:, 1:], Y2),
    "partial_fit with early stopping": lambda new: new(early_stopping=True).fit(X2, Y2).partial_fit(X2, Y2),
    "warm start with other columns": lambda new: new(warm_start=True).fit(X2, Y2).fit(X2[:, 1:], Y2),
    "a validation set of one row": lambda new: new(early_stopping=True, validation_fraction=0.005).fit(
        X2, Y2
    ),
    "nothing to train on": lambda new: new(early_stopping=True, validation_fraction=0.999).fit(X2, Y2),
}
MISUSE_OF_CLASSES = {
    "real numbers as classes": lambda new: new().fit(X2, np.linspace(0, 1, ROWS)),
    "two columns of classes": lambda new: new().fit(X2, np.stack([Y2, Y2 + 2], axis=1)),
    "partial_fit without lbfgs": lambda new: new(solver="lbfgs").partial_fit(X2, Y2, classes=[0, 1]),
    "no classes at first": lambda new: new().partial_fit(X2, Y2),
    "other classes later": lambda new: (
        new().partial_fit(X2, Y2, classes=[0, 1]).partial_fit(X2, Y2, classes=[0, 2])
    ),
    "an unknown class": lambda new: new().partial_fit(X2, Y2 + 1, classes=[0, 1]),
    "an unknown class later": lambda new: new().fit(X2, Y2).partial_fit(X2, Y2 + 1),
    "warm start with other classes": lambda new: new(warm_start=True).fit(X2, Y2).fit(X2, Y2 + 1),
    "one row of a class": lambda new: new(early_stopping=True).fit(X2, np.arange(ROWS) == 3),
    "probability before fit": lambda new: new().predict_proba(X2),
    "probability for other columns": lambda new: new().fit(X2, Y2).predict_proba(X2[:, 1:]),
    "log-probability before fit": lambda new: new().predict_log_proba(X2),
}


def error(act, *arguments):
    """The type and the message of the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as caught:  # noqa: PT011
            act(*arguments)
    return caught.type, str(caught.value)


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in NAMES for case in MISUSE]
    + [("MLPClassifier", case) for case in MISUSE_OF_CLASSES],
)
def test_misuse_is_refused_in_scikit_learns_words(name, case):
    act = (MISUSE | MISUSE_OF_CLASSES)[case]
    ours, theirs = (error(act, partial(getattr(module, name), **SMALL)) for module in (xpnet, neural_network))
    assert ours == theirs


def with_one(value):
    x = X2.copy()
    x[3, 1] = value
    return x


TO_PREDICT = {
    "plain": X2,
    "float32": X2.astype(np.float32),
    "float16": X2.astype(np.float16),
    "big-endian": X2.astype(">f8"),
    "Fortran": np.asfortranarray(X2),
    "backwards": X2[::-1, ::-1],
    "one row": X2[:1],
    "integers": (16 * X2).astype(int),
    "booleans": X2 > 0.5,
    "objects": X2.astype(object),
    "a masked array": np.ma.array(X2),
    "a list": X2.tolist(),
    "a sum beyond float32": np.full((1000, 64), 1e36, dtype=np.float32),
    "a sum beyond float64": np.full((1000, 64), 1e306),
    "NaN": with_one(np.nan),
    "NaN in float32": with_one(np.nan).astype(np.float32),
    "infinity": with_one(np.inf),
    "minus infinity": with_one(-np.inf),
    "NaN in the last of many rows": np.vstack([np.tile(X2, (1 + 2000 // ROWS, 1)), with_one(np.nan)]),
    "infinities that cancel": np.array([[np.inf, -np.inf] * 32]),
    "fewer columns": X2[:, 1:],
    "more columns": np.hstack([X2, X2]),
    "no columns": X2[:, :0],
    "no rows": X2[:0],
    "one dimension": X2[0],
    "three dimensions": X2[:, :, None],
    "no dimension": np.array(1.0),
    "complex": X2 * 1j,
    "words": np.full(X2.shape, "word", dtype=object),
    "a matrix": X2.view(np.matrix),  # the constructor warns
}


def outcome(method, x):
    """What a method answers, or how it refuses; and the warnings it gives meanwhile."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = method(x)
        except (TypeError, ValueError) as refusal:
            answer = [type(refusal), str(refusal)]
    return [answer, [[each.category, str(each.message)] for each in caught]]


@pytest.mark.parametrize("named", [False, True], ids=["", "named"])
@pytest.mark.parametrize("name", NAMES)
def test_every_x_is_predicted_or_refused_as_by_scikit_learn(name, named):
    X = pytest.importorskip("pandas").DataFrame(X2).add_prefix("x") if named else X2
    ours, theirs = (getattr(module, name)(**SMALL).fit(X, Y2) for module in (xpnet, neural_network))
    for case, x in TO_PREDICT.items():
        for method in ("predict", "predict_proba")[: 1 + (name == "MLPClassifier")]:
            got, expected = (outcome(getattr(model, method), x) for model in (ours, theirs))
            assert_alike(got, expected, 1e-10, f"{method}, {case}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameter", [*SAME_MEANING, *MORE_VALUES])
def test_wrong_parameter_values_are_refused(name, parameter):
    options = {parameter: (SAME_MEANING | MORE_VALUES)[parameter]}
    ours, theirs = (error(getattr(module, name)(**options).fit, X2, Y2) for module in (xpnet, neural_network))
    assert ours[0] is theirs[0] is InvalidParameterError
    end = len(theirs[1]) if parameter in SAME_MEANING else theirs[1].index(" must be")
    assert ours[1][:end] == theirs[1][:end]


@pytest.mark.parametrize("learn", [fit, partial_fit])
@pytest.mark.parametrize("container", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
def test_sparse_targets_of_a_regressor_are_refused_in_the_words_of_check_array(container, learn):
    targets = container(numbers(3)[1])
    refused = error(partial(check_array, input_name="y"), targets)
    assert refused[0] is TypeError
    assert error(learn, xpnet.MLPRegressor(**SMALL), X2, targets) == refused


def test_a_wrong_loss_is_refused():
    with pytest.raises(
        InvalidParameterError, match="The 'loss' parameter of MLPRegressor must be a str among"
    ):
        xpnet.MLPRegressor(loss="log_loss").fit(X2, Y2)


# scikit-learn's own tests

LEFT_OUT = {
    "test_gradient": "takes the gradient from a private method, _loss_grad_lbfgs",
    "test_predict_proba_multilabel": "wants equal logarithms where probabilities round to 1; ours differ",
}


def scikit_learns_tests():
    """The test functions of its test_mlp.py, imported once more with xpnet's classes in place of its own."""
    spec = find_spec("sklearn.neural_network.tests.test_mlp")
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setattr(neural_network, name, getattr(xpnet, name))
        spec.loader.exec_module(module)
    tests = {name: value for name, value in vars(module).items() if name.startswith("test_")}
    for name in LEFT_OUT:
        del tests[name]
    return {name.replace("test", "test_of_scikit_learn", 1): test for name, test in tests.items()}


globals().update(scikit_learns_tests())  # here pytest finds them, with their marks and fixtures


@pytest.fixture
def global_random_seed():
    return 42


# scikit-learn's checks of estimators


@pytest.mark.parametrize("name", NAMES)
def test_check_estimator_has_no_complaints(name):
    outcomes = defaultdict(list)
    for each in check_estimator(getattr(xpnet, name)(max_iter=100), on_skip=None, on_fail=None):
        outcomes[each["status"]].append(each)
    if outcomes["failed"]:
        raise ExceptionGroup("failed checks", [each["exception"] for each in outcomes["failed"]])
    assert {each["check_name"] for each in outcomes["skipped"]} <= {
        "check_array_api_input",  # below
        "check_array_api_mixed_inputs",
        "check_array_api_same_namespace",
        "check_classifiers_multilabel_output_format_decision_function",  # there is no decision_function
    }
    assert len(outcomes["passed"]) >= {"MLPClassifier": 65, "MLPRegressor": 59}[name]


ARRAY_API_CHECKS = """
import json, sys, traceback, warnings
from unittest import SkipTest
import xpnet
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_array_api_input, estimator_checks_generator

warnings.simplefilter("ignore", ConvergenceWarning)
name, device = sys.argv[1:]
for estimator, check in estimator_checks_generator(getattr(xpnet, name)(max_iter=5)):
    places = [value if isinstance(value, tuple) else (value,) for value in check.keywords.values()]
    where = " ".join(str(each) for place in places for each in place)
    what = check.func.__name__
    if "array_api" not in what or (device == "cpu" and ("cuda" in where or "cupy" in where)):
        continue
    for more in [{}, {"check_values": True, "check_sample_weight": True}]:
        if more and check.func is not check_array_api_input:
            continue
        try:
            check(estimator, **more)
        except SkipTest:
            outcome = "skipped"
        except Exception:
            outcome = traceback.format_exc()
        else:
            outcome = "passed"
        print(json.dumps([what + "_and_values" * bool(more), where, outcome]))
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_array_api_checks_have_no_complaints(name, pytestconfig):
    usable = [place for place in find_places(pytestconfig) if not find_problem(place)]
    device = "cuda" if any(place.device == "cuda" for place in usable) else "cpu"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ARRAY_API_CHECKS, name, device],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"SCIPY_ARRAY_API": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,  # a guard: a busy machine is slow
    )
    assert done.returncode == 0, done.stderr
    outcomes = defaultdict(set)
    for what, where, outcome in map(json.loads, done.stdout.splitlines()):
        assert outcome in ("passed", "skipped"), f"{what} {where}: {outcome}"
        outcomes[outcome].add((what, where))
    places = ["numpy None None", "array_api_strict CPU_DEVICE float64", "array_api_strict device1 float32"]
    mixed = set()
    if find_spec("torch"):
        places += ["torch cpu float64", "torch cpu float32"]
        mixed = {("check_array_api_mixed_inputs", "array_api_strict device1 torch cpu")}
    if Place.CUPY in usable:
        places += ["cupy None None"]
    inputs = {(f"check_array_api_input{end}", place) for end in ["", "_and_values"] for place in places}
    namespace = {("check_array_api_same_namespace", "array_api_strict")}
    assert outcomes["passed"] >= inputs | mixed | namespace


# scikit-learn's tools


def in_a_pipeline(new):
    X, y = wine()
    return make_pipeline(StandardScaler(), new()).fit(X, y).predict(X)


def in_a_grid_search(new):
    grid = {"alpha": [0.0, 1.0], "activation": ["relu", "tanh"]}
    search = GridSearchCV(new(), grid, n_jobs=2, cv=2).fit(*digits(3))
    return [*search.cv_results_["mean_test_score"], *search.predict(digits(3)[0])]


def in_cross_validation(new):
    return cross_val_score(new(), *digits(3), cv=3)


def as_a_clone(new):
    X, y = digits(3)
    original = new(alpha=0.5).fit(X, y)
    return clone(original).set_params(tol=0.0).fit(X, y).predict(X)


def with_routed_weights(new):
    X, y = digits(3)
    weight = {"sample_weight": WEIGHT}
    with config_context(enable_metadata_routing=True):
        network = new().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model = make_pipeline(scaler, network)
        scores = cross_validate(model, X, y, params=weight, cv=3)["test_score"]
        return [*model.fit(X, y, **weight).predict(X), *scores, model.score(X, y, **weight)]


@pytest.mark.parametrize(
    "use", [in_a_pipeline, in_a_grid_search, in_cross_validation, as_a_clone, with_routed_weights]
)
@pytest.mark.parametrize("name", NAMES)
def test_tools_give_the_same_answers(name, use):
    options = SMALL | {"max_iter": 15}
    ours, theirs = (use(partial(getattr(module, name), **options)) for module in (xpnet, neural_network))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert len(np.unique(ours)) > 1


def test_calibrated_probabilities_are_the_same():
    X, y = digits(3)
    ours, theirs = (
        CalibratedClassifierCV(module.MLPClassifier(**SMALL), cv=3).fit(X, y).predict_proba(X)
        for module in (xpnet, neural_network)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("way", ["pickle", "joblib"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("name", NAMES)
def test_a_model_goes_on_where_it_was_dumped(name, solver, way, tmp_path):
    X, y = digits(3)
    model = getattr(xpnet, name)(**(SMALL | {"solver": solver, "shuffle": False})).fit(X, y)
    if way == "pickle":
        copy = pickle.loads(pickle.dumps(model))
    else:
        joblib.dump(model, tmp_path / "model.joblib")
        copy = joblib.load(tmp_path / "model.joblib")
    assert copy.get_params() == model.get_params()
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    if solver != "lbfgs":
        for each in (copy, model):
            each.partial_fit(X, y)
        assert copy.loss_curve_ == model.loss_curve_
        np.testing.assert_array_equal(copy.coefs_[0], model.coefs_[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_data_frame_gives_its_names(name):
    pandas = pytest.importorskip("pandas")
    X, y = wine()
    frame, column = pandas.DataFrame(X).add_prefix("x"), pandas.Series(y > 0)
    for early_stopping in (False, True):
        assert_same(name, frame, column, early_stopping=early_stopping)
    model, theirs = (getattr(module, name)(**SMALL).fit(frame, column) for module in (xpnet, neural_network))
    assert model.feature_names_in_.tolist() == [f"x{i}" for i in range(13)]
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)
    other = frame.rename(columns={"x0": "y0"})
    assert error(model.predict, other) == error(theirs.predict, other)


def monitored(name, **options):
    """A model, the scores that scikit-learn's monitor noted after each epoch, and those after the fit."""
    X, y = digits(2)
    score = {"MLPClassifier": "accuracy", "MLPRegressor": "r2"}[name]
    monitor = ScoringMonitor(scoring=score)
    model = getattr(xpnet, name)(**SMALL | options).set_callbacks(monitor).fit(X, y, WEIGHT)
    scores = {True: [], False: []}
    for row in monitor.get_logs().data:
        scores[bool(row["parent_task_id_path"])].append(row[score])
    return model, scores[True], scores[False]


@pytest.mark.parametrize("name", NAMES)
def test_a_scoring_monitor_sees_every_epoch(name):
    _, seen, _ = monitored(name)
    shorter = [getattr(neural_network, name)(**SMALL | {"max_iter": n}) for n in range(1, 7)]
    expected = [each.fit(X2, Y2, WEIGHT).score(X2, Y2, WEIGHT) for each in shorter]
    assert seen == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_scoring_monitor_sees_the_fitted_model(name):
    model, _, seen = monitored(name, early_stopping=True, learning_rate_init=0.1)
    assert seen == pytest.approx([model.score(X2, Y2, WEIGHT)], rel=1e-10)


class Stop:
    """A callback that ends the training after the third epoch."""

    def __init__(self):
        self.heard = []

    def setup(self, estimator, context):
        self.heard.append("setup")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.heard.append("fit" if context.parent is None else "epoch")
        return self.heard.count("epoch") == 3

    def teardown(self, estimator, context):
        self.heard.append("teardown")


@pytest.mark.parametrize("name", NAMES)
def test_a_callback_can_stop_the_training(name):
    stop = Stop()
    model = getattr(xpnet, name)(**SMALL).set_callbacks(stop).fit(*digits(2))
    assert (model.n_iter_, len(model.loss_curve_)) == (3, 3)
    assert stop.heard == ["setup", *["epoch"] * 3, "fit", "teardown"]


@pytest.mark.parametrize("name", NAMES)
def test_callbacks_are_torn_down_after_a_failed_fit(name):
    stop = Stop()
    model = getattr(xpnet, name)(**SMALL | BEYOND_FLOAT64 | {"max_iter": 1}).set_callbacks(stop)
    assert error(model.fit, X2, Y2)[0] is ValueError
    assert (stop.heard[0], stop.heard[-1]) == ("setup", "teardown")


@pytest.mark.parametrize("name", NAMES)
def test_a_progress_bar_fills(name, capsys):
    pytest.importorskip("rich")
    X, y = digits(2)
    make_pipeline(StandardScaler(), getattr(xpnet, name)(**SMALL)).set_callbacks(ProgressBar()).fit(X, y)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if f"{name} - fit" in line]
    assert "100%" in line
