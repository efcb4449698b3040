"""scikit-learn's tools around the estimators, with arrays of every library: the numbers of NumPy arrays.

Without scikit-learn's flags most of its transformers return NumPy arrays, whatever they get, so that X and y
are of two libraries. With SCIPY_ARRAY_API=1 and `array_api_dispatch` some of them return the library of X.
Each combination below is one that scikit-learn itself can compute.
"""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from places import Place, skip_unless_usable
from sklearn import neural_network, set_config
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from small_data import python

import xpnet
from xpnet.backends import backend_of, library_of, resolve, to_host

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Whole numbers up to 79, which bfloat16 and uint8 have, too.
X, y = (array[::4] for array in load_iris(return_X_y=True))
X = np.rint(10.0 * X)

SETTINGS = {"hidden_layer_sizes": (4,), "max_iter": 5, "learning_rate_init": 0.1, "random_state": 0}


def classify(module):
    return module.MLPClassifier(**SETTINGS)


def scaled(module, by=StandardScaler):
    return make_pipeline(by(), classify(module))


def fit_pipeline(module, X, y):
    model = scaled(module).fit(X, y)
    return model.predict_proba(X), model.predict(X), model.score(X, y)


def fit_scaled_to_a_range(module, X, y):
    return scaled(module, MinMaxScaler).fit(X, y).predict_proba(X)


def fit_components(module, X, y):
    return make_pipeline(PCA(2), classify(module)).fit(X, y).predict_proba(X)


def search(module, X, y):
    found = GridSearchCV(scaled(module), {"mlpclassifier__alpha": [0.0, 10.0]}, cv=2).fit(X, y)
    return found.cv_results_["mean_test_score"], found.predict(X)


def vote(module, X, y):
    members = [("small", scaled(module)), ("range", scaled(module, MinMaxScaler))]
    return VotingClassifier(members, voting="soft").fit(X, y).predict_proba(X)


def stack(module, X, y):
    return StackingClassifier([("one", scaled(module))], classify(module), cv=2).fit(X, y).predict_proba(X)


def one_against_the_rest(module, X, y):
    return OneVsRestClassifier(classify(module)).fit(X, y).predict(X)


def transform_target(module, X, y):
    regressor = module.MLPRegressor(**SETTINGS)
    return TransformedTargetRegressor(regressor, transformer=StandardScaler()).fit(X, X[:, 0]).predict(X)


def cross_validate(module, X, y):
    return cross_val_predict(scaled(module), X, y, cv=2, method="predict_proba")


def permute(module, X, y):
    model = scaled(module).fit(X, y)
    return permutation_importance(model, X, y, n_repeats=2, random_state=0).importances_mean


TOOLS = {
    tool.__name__: tool
    for tool in (
        *(fit_pipeline, fit_scaled_to_a_range, fit_components, search, vote, stack, one_against_the_rest),
        *(transform_target, cross_validate, permute),
    )
}
# What scikit-learn 1.9 cannot do with the arrays, whichever estimator there is: index arrays of
# array_api_strict with NumPy's, call methods such as `reshape` and `copy` on arrays that have none, write to
# JAX's arrays, make NumPy arrays of bfloat16, and a sparse indicator of labels that are not NumPy's.
NOT_IN_SCIKIT_LEARN = {
    False: {
        "array_api_strict-float64": {"search", "stack", "transform_target", "cross_validate"},
        "torch-bfloat16": TOOLS.keys() - {"one_against_the_rest"},
    },
    True: {
        "torch-float32": {"one_against_the_rest", "permute"},
        "torch-float64": {"one_against_the_rest", "permute"},
        "torch-uint8": {"one_against_the_rest", "permute"},
        "torch-bfloat16": {"one_against_the_rest", "permute", "transform_target"},
        "array_api_strict-float64": {"one_against_the_rest", "permute", "transform_target", "stack"},
        "jax-float32": TOOLS.keys() - {"fit_components"},
    },
}
KINDS = list(NOT_IN_SCIKIT_LEARN[True])
COMBINATIONS = [
    (tool, kind, flags)
    for flags, missing in NOT_IN_SCIKIT_LEARN.items()
    for kind in KINDS
    for tool in TOOLS
    if tool not in missing.get(kind, ())
]


def place(x, kind):
    """Features, or labels in their own dtype, as an array of this kind."""
    library, dtype = kind.split("-")
    if library == "torch":
        torch = import_module("torch")
        return torch.tensor(x).to(getattr(torch, dtype)) if x is X else torch.tensor(x)
    return resolve("cpu", library, "float32" if dtype == "float32" else "float64").asarray(x)


def call(tool, kind):
    """What a tool answers for arrays of this kind: the library of the first answer, and all as lists."""
    answers = TOOLS[tool](xpnet, place(X, kind), place(y, kind))
    answers = answers if isinstance(answers, tuple) else (answers,)
    return library_of(answers[0]), [np.asarray(to_host(answer), dtype=float).tolist() for answer in answers]


def main():
    """Print what every tool answers under scikit-learn's flags."""
    set_config(array_api_dispatch=True)
    usable = {kind for kind in KINDS if not find_problem(kind)}
    print(json.dumps({f"{t} {k}": call(t, k) for t, k, flags in COMBINATIONS if flags and k in usable}))


def find_problem(kind):
    return xpnet.backends.LIBRARIES[kind.split("-")[0]].find_problem("cpu")


@pytest.fixture(scope="module")
def dispatched():
    """What every tool answers under scikit-learn's flags, of which SciPy reads one when it is imported."""
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_estimator_pipelines as t; t.main()"
    here = Path(__file__).parent
    return python(code, here, here.parent, SCIPY_ARRAY_API="1", PYTHONWARNINGS="ignore")


@pytest.mark.parametrize(("tool", "kind", "flags"), COMBINATIONS)
def test_scikit_learns_tools_answer_as_with_numpy_arrays(tool, kind, flags, request):
    if problem := find_problem(kind):
        pytest.skip(f"{kind}: {problem}")
    library, answers = request.getfixturevalue("dispatched")[f"{tool} {kind}"] if flags else call(tool, kind)
    expected = TOOLS[tool](neural_network, X, y)
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert len(answers) == len(expected)
    for answer, right in zip(answers, expected, strict=True):
        assert np.asarray(answer) == pytest.approx(np.asarray(right), rel=1e-3, abs=1e-4)
    stays = ("fit_pipeline", "fit_scaled_to_a_range", "fit_components", "cross_validate")
    if tool in stays:
        assert library == (kind.split("-")[0] if flags else "numpy")


def test_a_pipeline_that_leaves_the_gpu_is_refused_unless_device_says_where(pytestconfig):
    skip_unless_usable(Place.CUPY, pytestconfig)
    cupy = import_module("cupy")
    there = cupy.asarray(X), cupy.asarray(y)
    model = make_pipeline(FunctionTransformer(cupy.asnumpy), StandardScaler(), classify(xpnet))
    with pytest.raises(
        ValueError, match=r"X is numpy on cpu, y is cupy on cuda:0: expected both on the same device.*device="
    ):
        model.fit(*there)
    model.set_params(mlpclassifier__device="cuda").fit(*there)
    expected = scaled(neural_network).fit(X, y)
    assert backend_of(model[-1].coefs_[0]).name == "cupy"
    assert model.predict_proba(there[0]) == pytest.approx(expected.predict_proba(X), rel=1e-6)
