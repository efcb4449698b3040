"""MLPClassifier and MLPRegressor with arrays of every library: the same as on NumPy, where the arrays lie."""

import copy
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from time import process_time

import array_api_compat
import numpy as np
import pytest
from places import Place
from sklearn import neural_network
from sklearn.exceptions import DataConversionWarning, UndefinedMetricWarning
from sklearn.utils.class_weight import compute_sample_weight

from xpnet import MLPClassifier, MLPRegressor, resolve
from xpnet.backends import to_host
from xpnet.errors import BackendError, InputError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
REPOSITORY = Path(__file__).parents[2]

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 4))
WEIGHT = rng.uniform(0.5, 2.0, 60)
BINARY = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
CLASSES = np.argmax(X[:, :3], axis=1) + 2  # 2, 3, 4
NAMES = np.array(["", "", "no", "yes", "maybe"])[CLASSES]
LABELS = (X[:, :3] > 0.3).astype(np.int64)
TARGET = X[:, 0] * X[:, 1] + 0.1
TARGETS = X[:, :2] ** 2

SMALL = {"hidden_layer_sizes": (5,), "max_iter": 3, "batch_size": 30, "random_state": 0}
classifier, regressor = partial(MLPClassifier, **SMALL), partial(MLPRegressor, **SMALL)
# estimator, y, weights
CASES = {
    "binary, adam, stopping": (classifier(early_stopping=True), BINARY, True),
    "binary, lbfgs": (classifier(solver="lbfgs"), BINARY, False),
    "classes, sgd, stopping": (
        classifier(solver="sgd", early_stopping=True, validation_fraction=0.2, scoring="balanced_accuracy"),
        CLASSES,
        False,
    ),
    "classes, lbfgs": (
        classifier(solver="lbfgs", hidden_layer_sizes=(5, 4), activation=["tanh", "leaky_relu"]),
        CLASSES,
        True,
    ),
    "labels, adamw": (classifier(solver="adamw", learning_rate="cosine", activation="elu"), LABELS, False),
    "labels, rmsprop, stopping": (
        classifier(solver="rmsprop", early_stopping=True, label_smoothing=0.1),
        LABELS,
        True,
    ),
    "target, sgd": (
        regressor(solver="sgd", learning_rate="adaptive", loss="huber", activation="softplus"),
        TARGET,
        False,
    ),
    "target, adam, stopping": (regressor(early_stopping=True), TARGET, True),
    "target, adamw": (
        regressor(solver="adamw", learning_rate=lambda t: 0.01 / t, loss="absolute_error"),
        TARGET,
        False,
    ),
    "targets, lbfgs": (regressor(solver="lbfgs", loss="poisson"), TARGETS, True),
    "targets, rmsprop": (
        regressor(solver="rmsprop", learning_rate="one_cycle", clip_norm=0.5, loss="quantile", quantile=0.8),
        TARGETS,
        False,
    ),
}


@pytest.fixture
def backend(place, backend):
    """The place, where class labels need unique_values, whose shape depends on the data."""
    if place is Place.JAX_EAGER:
        pytest.skip("an estimator compiles wherever JAX can: jax-jit shows it")
    if backend.name != "array_api_strict":
        yield backend
    else:
        with import_module("array_api_strict").ArrayAPIStrictFlags(data_dependent_shapes=True):
            yield backend


def fresh(estimator, **parameters):
    return copy.deepcopy(estimator).set_params(**parameters)


def close(backend, expected):
    """What equals `expected` up to the rounding of the place."""
    rel, tiny = (1e-8, 1e-10) if backend.dtype_name == "float64" else (1e-3, 1e-4)
    return pytest.approx(expected, rel=rel, abs=tiny)


def lives(backend, array, dtype=None):
    """Whether this is an array of the place's library, on its device, in its dtype."""
    model = backend.asarray(np.zeros(1))
    known = type(model), array_api_compat.device(model), model.dtype if dtype is None else dtype
    return (type(array), array_api_compat.device(array), array.dtype) == known


def parameters(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def bits(backend, array):
    return backend.to_numpy(array).tobytes()


def there(device):
    """The place that `device=` or `to_device` names, in float64."""
    library, _, name = device.partition(":")
    pytest.importorskip(library)
    return resolve(name or "cpu", library, "float64")


def elsewhere(backend):
    """A place of another library."""
    if backend.name == "numpy":
        return resolve("device1", "array_api_strict", backend.dtype_name)
    return resolve("cpu", "numpy", backend.dtype_name)


def refusal(function, *data):
    """The first line of the ValueError, without the dtype, which each library writes in its own way."""
    try:
        function(*data)
    except ValueError as error:
        return re.sub(r" for \S*float\d+\S*$", "", str(error).splitlines()[0])
    return "was taken"


def python(code, *arguments, **environment):
    """Run code in a Python of its own and return what it writes to stdout, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# In the place's arrays, out the place's arrays


@pytest.mark.parametrize("case", CASES)
def test_every_place_trains_and_answers_as_numpy_does(case, backend, lend):
    estimator, y, weighted = CASES[case]
    data = (X, y, WEIGHT)[: 2 + weighted]
    expected = fresh(estimator).fit(*data)
    given = [lend(x) for x in data]
    before = [bits(backend, x) for x in given]
    fitted = fresh(estimator).fit(*given)

    for name in ("loss_", "best_loss_", "loss_curve_", "validation_loss_curve_", "best_validation_score_"):
        mine, theirs = (getattr(one, name, None) for one in (fitted, expected))
        assert (mine is None) == (theirs is None), name
        assert mine is None or mine == close(backend, theirs), name
    curve = fitted.loss_curve_ if hasattr(expected, "loss_curve_") else [fitted.loss_]
    assert all(isinstance(loss, float) for loss in curve)
    assert len(curve) == (1 if "lbfgs" in case else 3)
    for mine, theirs in zip(parameters(fitted), parameters(expected), strict=True):
        assert lives(backend, mine)
        assert backend.to_numpy(mine) == close(backend, theirs)

    answers = fitted.predict(given[0])
    if "target" in case:
        assert lives(backend, answers)
        assert backend.to_numpy(answers) == close(backend, expected.predict(X))
    else:
        integer = given[1].dtype
        assert lives(backend, answers, integer)
        assert lives(backend, fitted.classes_, integer)
        assert backend.to_numpy(fitted.classes_).tolist() == expected.classes_.tolist()
        assert backend.to_numpy(answers).tolist() == expected.predict(X).tolist()
        for method in ("predict_proba", "predict_log_proba"):
            probability = getattr(fitted, method)(given[0])
            assert lives(backend, probability)
            assert backend.to_numpy(probability) == close(backend, getattr(expected, method)(X))
    score = fitted.score(*given)
    assert type(score) is float
    assert score == close(backend, expected.score(*data))
    assert [bits(backend, x) for x in given] == before


def test_validation_data_are_used_where_they_lie(backend, lend):
    data, held_out = (X[:40], CLASSES[:40]), (X[40:], CLASSES[40:], WEIGHT[40:])
    expected = classifier(early_stopping=True).fit(*data, validation_data=held_out)
    fitted = classifier(early_stopping=True).fit(
        *map(lend, data), validation_data=tuple(lend(x) for x in held_out)
    )
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert fitted.validation_loss_curve_ == close(backend, expected.validation_loss_curve_)
    assert fitted.validation_scores_ == close(backend, expected.validation_scores_)
    assert len(fitted.validation_scores_) == 3


def test_logarithms_of_probabilities_too_small_to_be_held_are_finite(backend, lend):
    fitted = classifier().fit(lend(X), lend(CLASSES))
    far = lend(1e4 * X)
    assert 0.0 in backend.to_numpy(fitted.predict_proba(far))
    logarithms = backend.to_numpy(fitted.predict_log_proba(far))
    assert np.isfinite(logarithms).all()
    assert logarithms.min() < -800


def test_a_transposed_view_is_as_good_as_an_array(backend, lend):
    view = backend.xp.matrix_transpose(lend(X.T))
    fitted = regressor().fit(view, lend(TARGET))
    assert fitted.loss_curve_ == close(backend, regressor().fit(X, TARGET).loss_curve_)
    assert backend.to_numpy(fitted.predict(view)) == close(backend, backend.to_numpy(fitted.predict(lend(X))))


def test_a_column_of_targets_is_taken_with_scikit_learns_warning(backend, lend):
    with pytest.warns(
        DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"
    ):
        fitted = regressor().fit(lend(X), lend(TARGET[:, None]))
    assert fitted.loss_curve_ == close(backend, regressor().fit(X, TARGET).loss_curve_)
    assert fitted.predict(lend(X)).shape == (60,)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_partial_fit_takes_a_column_of_labels_with_all_the_classes(backend, lend):
    expected = classifier().partial_fit(X, BINARY, classes=[0, 1, 2])
    fitted = classifier().partial_fit(lend(X), lend(BINARY[:, None]), classes=[0, 1, 2])
    assert to_host(fitted.classes_).tolist() == [0, 1, 2]
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)


def test_early_stopping_on_targets_that_are_all_the_same(backend, lend):
    fitted = classifier(early_stopping=True).fit(lend(X), lend(np.full(60, 3)))
    assert fitted.validation_scores_ == [1.0] * 3
    fitted = regressor(early_stopping=True).fit(lend(X), lend(np.full(60, 2.5)))
    assert fitted.validation_scores_ == [0.0] * 3


@pytest.mark.parametrize(
    ("estimator", "y"),
    [(classifier(alpha=0.0, early_stopping=True), CLASSES), (regressor(alpha=0.0, solver="lbfgs"), TARGET)],
    ids=["classes, adam, stopping", "target, lbfgs"],
)
def test_tiny_weights_weigh_as_much_as_large_ones(estimator, y, backend, lend):
    large, tiny = (fresh(estimator).fit(lend(X), lend(y), lend(scale * WEIGHT)) for scale in (1.0, 1e-33))
    assert tiny.loss_ == close(backend, large.loss_)
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        mine, theirs = (getattr(model, name, None) for model in (tiny, large))
        assert mine is theirs is None or mine == close(backend, theirs), name
    score = tiny.score(lend(X), lend(y), lend(1e-33 * WEIGHT))
    assert score == close(backend, large.score(lend(X), lend(y), lend(WEIGHT)))


def test_torch_tensors_that_require_a_gradient_get_none():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    y, weight = torch.tensor(TARGET, requires_grad=True), torch.tensor(WEIGHT, requires_grad=True)
    fitted = regressor(early_stopping=True).fit(x, y, weight)
    assert fitted.loss_curve_ == pytest.approx(
        regressor(early_stopping=True).fit(X, TARGET, WEIGHT).loss_curve_, rel=1e-8
    )
    answers = [*parameters(fitted), fitted.predict(x), classifier().fit(x, BINARY.tolist()).predict_proba(x)]
    assert [a.requires_grad for a in answers] == [False] * len(answers)
    assert fitted.score(x, y, weight) == pytest.approx(fitted.score(x.detach(), y.detach(), weight.detach()))
    assert [(a.requires_grad, a.grad) for a in (x, y, weight)] == [(True, None)] * 3
    assert torch.is_grad_enabled()

    moved = regressor(early_stopping=True, device="numpy").fit(x, y, weight)
    assert moved.predict(x) == pytest.approx(fitted.predict(x))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        regressor().fit(torch.tensor(changed(X, np.nan), requires_grad=True), y)


# Labels that no array library holds


def test_names_of_classes_stay_numpy_strings(backend, lend):
    expected = classifier().fit(X, NAMES)
    for y in (NAMES, NAMES.tolist()):
        fitted = classifier().fit(lend(X), y)
        assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
        for names, right in (
            (fitted.classes_, expected.classes_),
            (fitted.predict(lend(X)), expected.predict(X)),
        ):
            assert type(names) is np.ndarray
            assert (names.dtype.kind, names.tolist()) == ("U", right.tolist())
        assert lives(backend, fitted.predict_proba(lend(X)))
        assert fitted.score(lend(X), y) == expected.score(X, NAMES)
        assert fitted.score(lend(X), y, lend(WEIGHT)) == close(backend, expected.score(X, NAMES, WEIGHT))


def test_lists_of_labels_and_weights_go_where_x_is(backend, lend):
    expected = classifier().fit(X, CLASSES, WEIGHT)
    fitted = classifier().fit(lend(X), CLASSES.tolist(), WEIGHT.tolist())
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    for labels in (fitted.classes_, fitted.predict(lend(X))):
        assert lives(backend, labels, labels.dtype)
        assert array_api_compat.array_namespace(labels).isdtype(labels.dtype, "integral")
    assert backend.to_numpy(fitted.predict(lend(X))).tolist() == expected.predict(X).tolist()
    assert fitted.score(lend(X), CLASSES.tolist(), WEIGHT.tolist()) == close(
        backend, expected.score(X, CLASSES, WEIGHT)
    )


def test_lists_of_targets_go_where_x_is(backend, lend):
    fitted = regressor().fit(lend(X), TARGET.tolist())
    assert fitted.loss_curve_ == close(backend, regressor().fit(X, TARGET).loss_curve_)
    assert lives(backend, fitted.predict(lend(X)))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float"])
def test_labels_of_every_dtype_come_back_in_it(dtype, backend, lend):
    y = BINARY.astype(dtype)
    expected, fitted = classifier().fit(X, BINARY), classifier().fit(lend(X), lend(y))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    for labels in (fitted.classes_, fitted.predict(lend(X))):
        assert lives(backend, labels, lend(y).dtype)
    assert backend.to_numpy(fitted.predict(lend(X))).tolist() == expected.predict(X).astype(dtype).tolist()
    assert fitted.score(lend(X), lend(y)) == close(backend, expected.score(X, BINARY))


@pytest.mark.parametrize("dtype", ["bool", "float"])
def test_matrices_of_labels_of_every_dtype_are_taken(dtype, backend, lend):
    expected = neural_network.MLPClassifier(**SMALL, early_stopping=True).fit(X, LABELS.astype(dtype), WEIGHT)
    y = lend(LABELS.astype(dtype))
    fitted = classifier(early_stopping=True).fit(lend(X), y, lend(WEIGHT))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert fitted.validation_scores_ == close(backend, expected.validation_scores_)
    answers = fitted.predict(lend(X))
    assert lives(backend, answers, lend(LABELS).dtype)
    assert backend.to_numpy(answers).tolist() == expected.predict(X).tolist()
    assert fitted.score(lend(X), y) == close(backend, expected.score(X, LABELS.astype(dtype)))


# device=


@pytest.mark.parametrize(
    "device", ["cpu", "numpy", "torch", "torch:cpu", "jax", "array_api_strict", "array_api_strict:device1"]
)
def test_device_computes_there_and_answers_numpy_in_numpy(device):
    backend = there("numpy" if device == "cpu" else device)
    expected = classifier().fit(X, CLASSES, WEIGHT)
    fitted = classifier(device=device).fit(X, CLASSES, WEIGHT)
    assert all(lives(backend, array) for array in parameters(fitted))
    assert fitted.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-8)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        answers, right = getattr(fitted, method)(X), getattr(expected, method)(X)
        assert type(answers) is np.ndarray
        assert answers.dtype == right.dtype
        assert answers == pytest.approx(right, rel=1e-8)
    assert fitted.score(X, CLASSES, WEIGHT) == pytest.approx(expected.score(X, CLASSES, WEIGHT), rel=1e-12)


def test_float32_stays_float32_on_the_device():
    backend = there("array_api_strict:device1")
    fitted = regressor(device="array_api_strict:device1").fit(X.astype(np.float32), TARGET)
    assert all(lives(backend, array, backend.xp.float32) for array in parameters(fitted))
    assert fitted.predict(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "torch:cuda"])
def test_a_missing_gpu_is_named_and_leaves_no_trace(device):
    try:
        resolve("cuda:1" if device == "cuda:1" else "cuda")
    except BackendError:
        estimator = classifier(device=device)
    else:
        pytest.skip("there is a GPU")
    before = dict(vars(estimator))
    why = "no NVIDIA driver|not installed|no such device|cannot be imported|cannot run kernels"
    with pytest.raises(BackendError, match=why):
        estimator.fit(X, BINARY)
    assert vars(estimator) == before


@pytest.mark.parametrize("device", ["gpu", "tensorflow", "torch:gpu", "numpy:cuda"])
def test_an_unknown_device_is_named(device):
    with pytest.raises((ValueError, BackendError), match=device.partition(":")[2] or device):
        classifier(device=device).fit(X, BINARY)


def test_an_unknown_device_is_answered_with_those_there_are():
    with pytest.raises(InputError, match=r"'foo'.*\bcpu, cuda, numpy, cupy, torch, jax, array_api_strict\b"):
        classifier(device="foo").fit(X, BINARY)


def test_device_moves_x_from_everywhere_and_the_answers_back(backend, lend):
    fitted = classifier(device="cpu").fit(lend(X), lend(CLASSES), lend(WEIGHT))
    assert fitted.loss_curve_ == close(backend, classifier().fit(X, CLASSES, WEIGHT).loss_curve_)
    assert lives(backend, fitted.predict(lend(X)), lend(CLASSES).dtype)
    assert lives(backend, fitted.predict_proba(lend(X)))
    assert type(fitted.score(lend(X), lend(CLASSES))) is float


# to_device


def test_a_fit_from_everywhere_predicts_on_numpy_and_on_the_cpu(backend, lend):
    fitted = classifier().fit(lend(X), lend(CLASSES))
    expected = backend.to_numpy(fitted.predict_proba(lend(X)))
    for target in ("numpy", np, import_module("array_api_compat.numpy"), "cpu"):
        model = copy.deepcopy(fitted)
        assert model.to_device(target) is model
        if target != "cpu":
            assert {type(array) for array in [*parameters(model), model.classes_]} == {np.ndarray}
        x = array_api_compat.array_namespace(model.coefs_[0]).asarray(X.astype(backend.dtype_name))
        probability = np.asarray(model.predict_proba(x))
        assert probability.dtype == expected.dtype
        rel = 1e-12 if backend.dtype_name == "float64" else 1e-5
        assert probability == pytest.approx(expected, rel=rel)
        assert np.asarray(model.predict(x)).tolist() == backend.to_numpy(fitted.predict(lend(X))).tolist()


def test_a_fit_from_numpy_predicts_everywhere(backend, lend):
    fitted = classifier().fit(X.astype(backend.dtype_name), NAMES)
    expected, names = fitted.predict_proba(X.astype(backend.dtype_name)), fitted.predict(X)
    fitted.to_device(f"{backend.name}:{backend.device_name}")
    probability = fitted.predict_proba(lend(X))
    assert all(lives(backend, array) for array in [*parameters(fitted), probability])
    rel = 1e-12 if backend.dtype_name == "float64" else 1e-5
    assert backend.to_numpy(probability) == pytest.approx(expected, rel=rel)
    assert fitted.predict(lend(X)).tolist() == names.tolist()


@pytest.mark.parametrize(
    "module", ["torch", "array_api_compat.torch", "jax.numpy", "array_api_strict", "array_api_compat.numpy"]
)
def test_a_namespace_is_a_target(module):
    xp = pytest.importorskip(module)
    backend = there(next(name for name in ("torch", "jax", "array_api_strict", "numpy") if name in module))
    fitted = regressor().fit(X, TARGET)
    expected = fitted.predict(X)
    answers = fitted.to_device(xp).predict(xp.asarray(X))
    assert all(lives(backend, array) for array in [*parameters(fitted), answers])
    assert backend.to_numpy(answers) == pytest.approx(expected, rel=1e-12)


def test_training_goes_on_after_a_move_with_its_moments(backend, lend):
    moved, stayed = regressor(), regressor()
    for _ in range(4):
        stayed.partial_fit(X, TARGET)
    for _ in range(2):
        moved.partial_fit(lend(X), lend(TARGET))
    moved.to_device("numpy")
    for _ in range(2):
        moved.partial_fit(X.astype(backend.dtype_name), TARGET)
    assert moved.loss_curve_ == close(backend, stayed.loss_curve_)
    assert moved.coefs_[0] == close(backend, stayed.coefs_[0])


@pytest.mark.parametrize("target", ["cuda:99", "gpu", "tensorflow", "torch:gpu"])
def test_a_target_that_cannot_be_had_is_named_and_moves_nothing(target):
    fitted = regressor().fit(X, TARGET)
    expected = fitted.predict(X)
    with pytest.raises((ValueError, BackendError), match=target.partition(":")[2] or target):
        fitted.to_device(target)
    assert fitted.predict(X).tobytes() == expected.tobytes()


@pytest.mark.parametrize("target", [None, 3])
def test_a_target_that_is_no_place_is_answered_with_what_is_expected(target):
    fitted = regressor().fit(X, TARGET)
    with pytest.raises(InputError, match=rf"expected cpu, cuda, .*library or its namespace, got {target}$"):
        fitted.to_device(target)


# Mixtures


@pytest.mark.parametrize("which", ["y", "sample_weight"])
def test_y_or_weights_of_another_library_are_refused_unless_device_says_where(which, backend, lend):
    other = elsewhere(backend)
    data = {"X": lend(X), "y": lend(CLASSES), "sample_weight": lend(WEIGHT)}
    data[which] = other.asarray(CLASSES if which == "y" else WEIGHT)
    estimator = classifier()
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match=which) as caught:
        estimator.fit(**data)
    assert backend.name in str(caught.value)
    assert other.name in str(caught.value)
    assert vars(estimator) == before

    expected = classifier().fit(X, CLASSES, WEIGHT)
    estimator.set_params(device=f"{backend.name}:{backend.device_name}").fit(**data)
    assert estimator.loss_curve_ == close(backend, expected.loss_curve_)
    assert estimator.score(**data) == close(backend, expected.score(X, CLASSES, WEIGHT))
    assert all(lives(backend, array) for array in parameters(estimator))


def test_x_of_another_library_than_in_fit_is_refused_unless_device_says_where(backend, lend):
    other = elsewhere(backend)
    fitted, free = (
        classifier(device=device).fit(lend(X), lend(CLASSES))
        for device in (None, f"{backend.name}:{backend.device_name}")
    )
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(
            ValueError,
            match=r"Inputs passed to MLPClassifier\.predict\w*\(\) must use the same namespace and the same "
            r"device as those passed to fit\(\).*to_device",
        ) as caught:
            getattr(fitted, method)(other.asarray(X))
        assert backend.name in str(caught.value)
        assert other.name in str(caught.value)

        answers = getattr(free, method)(other.asarray(X))
        expected = backend.to_numpy(getattr(fitted, method)(lend(X)))
        assert lives(other, answers, answers.dtype)
        assert other.to_numpy(answers) == close(backend, expected)


def test_training_goes_on_only_where_it_began_unless_device_says_where(backend, lend):
    other = elsewhere(backend)
    data = other.asarray(X), other.asarray(CLASSES)
    here, free = (
        classifier(warm_start=True, device=device).fit(lend(X), lend(CLASSES))
        for device in (None, f"{backend.name}:{backend.device_name}")
    )
    for method in ("fit", "partial_fit"):
        expected = [bits(backend, array) for array in parameters(here)]
        with pytest.raises(ValueError, match=rf"MLPClassifier\.{method}\(\).* same device") as caught:
            getattr(here, method)(*data)
        assert f"{backend.name} on {backend.device_name}" in str(caught.value)
        assert f"{other.name} on {other.device_name}" in str(caught.value)
        assert [bits(backend, array) for array in parameters(here)] == expected

        getattr(free, method)(*data)
        getattr(here, method)(lend(X), lend(CLASSES))
        assert free.loss_curve_ == close(backend, here.loss_curve_)
        assert all(lives(backend, array) for array in parameters(free))
    assert len(free.loss_curve_) == 3 + 3 + 1


def test_another_device_of_one_library_is_another_place():
    near, far = there("array_api_strict"), there("array_api_strict:device1")
    x, y, weight = far.asarray(X), far.asarray(TARGET), far.asarray(WEIGHT)
    for data in ((x, near.asarray(TARGET)), (x, y, near.asarray(WEIGHT)), (near.asarray(X), y)):
        with pytest.raises(ValueError, match=r"(?is)device1.*cpu|cpu.*device1"):
            regressor().fit(*data)
    fitted = regressor().fit(x, y, weight)
    with pytest.raises(ValueError, match=r"(?is)same device.*device1.*cpu"):
        fitted.predict(near.asarray(X))
    assert lives(near, fitted.set_params(device="array_api_strict:device1").predict(near.asarray(X)))


def test_everything_follows_x_where_scikit_learn_dispatches():
    pytest.importorskip("array_api_strict")
    code = """if True:
        import json
        import array_api_strict as xp, numpy as np, sklearn
        from xpnet import MLPClassifier
        sklearn.set_config(array_api_dispatch=True)
        far = xp.Device("device1")
        X = xp.asarray(np.arange(12.0).reshape(6, 2), device=far)
        model = MLPClassifier((3,), batch_size=6, max_iter=1)
        model.fit(X, np.array([0, 1, 2, 0, 1, 2]), xp.ones(6))
        print(json.dumps([str(a.device) for a in (*model.coefs_, model.predict(X))]))
    """
    devices = python(code, SCIPY_ARRAY_API="1", PYTHONWARNINGS="ignore")
    assert len(devices) == 3
    assert all("device1" in device for device in devices)


# What cannot be used


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_whole_numbers_become_floating_point_only_where_the_library_does_so(dtype, backend, lend):
    whole = np.rint(X).astype(dtype)
    estimator = classifier()
    if backend.name in ("torch", "array_api_strict"):
        with pytest.raises(ValueError, match=rf"(?s){dtype}.*float32.*float64"):
            estimator.fit(backend.asarray(whole), lend(CLASSES))
        with pytest.raises(ValueError, match=rf"(?s){dtype}.*float32.*float64"):
            estimator.fit(lend(X), lend(CLASSES)).predict(backend.asarray(whole))
    else:
        estimator.fit(backend.asarray(whole), lend(CLASSES))
        default = backend.xp.asarray(0.0).dtype
        assert all(lives(backend, array, default) for array in parameters(estimator))
        assert estimator.loss_curve_ == close(backend, classifier().fit(1.0 * whole, CLASSES).loss_curve_)
        assert lives(backend, estimator.predict_proba(backend.asarray(whole)), default)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_half_precision_is_refused(library, dtype):
    xp = pytest.importorskip(library)
    x, half = xp.asarray(X), xp.asarray(X, dtype=getattr(xp, dtype))
    fitted = regressor().fit(x, x[:, 0])
    for act in (lambda: regressor().fit(half, x[:, 0]), lambda: fitted.predict(half)):
        with pytest.raises(ValueError, match=rf"{dtype}, expected float32 or float64"):
            act()


def changed(x, entry):
    x = x.astype(float)
    x[(3, *[1] * (x.ndim - 1))] = entry
    return x


UNUSABLE = {
    "NaN in X": (changed(X, np.nan), CLASSES),
    "infinity in X": (changed(X, np.inf), CLASSES),
    "minus infinity in X": (changed(X, -np.inf), CLASSES),
    "X of one dimension": (X[:, 0], CLASSES),
    "X of three dimensions": (X[:, :, None], CLASSES),
    "no rows": (X[:0], CLASSES[:0]),
    "no columns": (X[:, :0], CLASSES),
    "fewer rows in y": (X, CLASSES[:59]),
    "more rows in y": (X[:59], LABELS),
    "y of three dimensions": (X, LABELS[:, :, None]),
    "a continuous y": (X, TARGET),
    "a continuous matrix y": (X, TARGETS),
    "two columns of classes": (X, np.stack([CLASSES, CLASSES], axis=1)),
    "fewer weights": (X, CLASSES, WEIGHT[:59]),
    "a column of weights": (X, CLASSES, WEIGHT[:, None]),
    "NaN in the weights": (X, CLASSES, changed(WEIGHT, np.nan)),
    "weights of 0": (X, CLASSES, 0.0 * WEIGHT),
}
UNUSABLE_TARGETS = {
    "NaN in y": (X, changed(TARGET, np.nan)),
    "infinity in a matrix y": (X, changed(TARGETS, np.inf)),
    "y of three dimensions": (X, TARGETS[:, :, None]),
    "fewer rows in y": (X, TARGETS[:59]),
    "no rows": (X[:0], TARGET[:0]),
    "infinity in the weights": (X, TARGET, changed(WEIGHT, np.inf)),
    "weights of no row": (X, TARGET, WEIGHT[:0]),
    "weights of 0": (X, TARGET, 0.0 * WEIGHT),
}


@pytest.mark.parametrize("estimator", [classifier, regressor], ids=["classifier", "regressor"])
def test_what_scikit_learn_refuses_is_refused_in_its_words(estimator, backend, lend):
    mine = estimator()
    theirs = getattr(neural_network, type(mine).__name__)()
    before = dict(vars(mine))
    wrong = {}
    for name, data in (UNUSABLE if estimator is classifier else UNUSABLE_TARGETS).items():
        host = [x.astype(backend.dtype_name) if x.dtype.kind == "f" else x for x in data]
        expected, got = refusal(theirs.fit, *host), refusal(mine.fit, *map(lend, data))
        assert expected != "was taken", name
        if got != expected:
            wrong[name] = got, expected
    assert not wrong
    assert vars(mine) == before


def test_what_scikit_learn_refuses_to_predict_is_refused_in_its_words(backend, lend):
    X_here = X.astype(backend.dtype_name)
    theirs = neural_network.MLPClassifier(**SMALL).fit(X_here, CLASSES)
    mine = classifier().fit(lend(X), lend(CLASSES))
    wrong = {}
    # To look at the values of an array on a GPU, a prediction would have to wait for it.
    not_finite = () if backend.is_on_gpu else (changed(X, np.nan), changed(X, np.inf))
    for x in (X[:, :3], X[:0], X[:, 0], X[:, :, None], *not_finite):
        for method in ("predict", "predict_proba", "predict_log_proba"):
            expected = refusal(getattr(theirs, method), x.astype(backend.dtype_name))
            got = refusal(getattr(mine, method), lend(x))
            assert expected != "was taken"
            if got != expected:
                wrong[method, x.shape] = got, expected
    assert not wrong
    for data in ((X, CLASSES[:59]), (X, CLASSES, WEIGHT[:59])):
        with pytest.raises(ValueError, match=r"\b59\b.*\b60\b|\b60\b.*\b59\b"):
            mine.score(*map(lend, data))


def test_only_the_row_with_nan_has_no_prediction_on_a_gpu(cupy_backend):
    there = cupy_backend.asarray
    fitted = classifier(device="cuda").fit(there(X), there(CLASSES))
    numbers = regressor(device="cuda").fit(there(X), there(TARGET))
    for predict in (fitted.predict_proba, fitted.predict_log_proba, numbers.predict):
        expected, found = (cupy_backend.to_numpy(predict(there(x))) for x in (X, changed(X, np.nan)))
        row = int(np.flatnonzero(np.isnan(changed(X, np.nan)).any(axis=1))[0])
        assert np.isnan(found[row]).all()
        np.testing.assert_allclose(np.delete(found, row, 0), np.delete(expected, row, 0), rtol=1e-12)
        with pytest.raises(ValueError, match="Input X contains NaN"):
            predict(changed(X, np.nan))
    for fit in (classifier().fit, classifier(device="cuda").fit):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            fit(there(changed(X, np.nan)), there(CLASSES))


def test_scores_for_other_rows_or_outputs_are_refused_in_scikit_learns_words(backend, lend):
    cases = [
        (classifier(), NAMES, NAMES[1:]),
        (classifier(), NAMES.tolist(), NAMES[1:].tolist()),
        (regressor(), TARGET, TARGETS),
        (regressor(), TARGETS, TARGET),
        (regressor(), TARGETS, 1.0 * LABELS),
    ]
    for mine, y, other in cases:
        theirs = getattr(neural_network, type(mine).__name__)(**SMALL).fit(X, y)
        place = (lambda y: y) if isinstance(mine, MLPClassifier) else lend
        mine.fit(lend(X), place(y))
        expected = refusal(theirs.score, X, other)
        assert "inconsistent numbers of samples" in expected or "different number of output" in expected
        assert refusal(mine.score, lend(X), place(other)) == expected


def test_the_score_of_one_row_of_targets_is_nan_with_scikit_learns_warning(backend, lend):
    fitted = regressor().fit(lend(X), lend(TARGET))
    with pytest.warns(UndefinedMetricWarning, match="not well-defined with less than two samples"):
        assert np.isnan(fitted.score(lend(X[:1]), lend(TARGET[:1])))


def test_large_numbers_whose_sum_overflows_are_taken_for_finite(backend, lend):
    fitted = classifier(activation="logistic").fit(lend(X), lend(CLASSES))
    large = 0.1 * np.finfo(backend.dtype_name).max * np.sign(X) ** 2
    assert np.isfinite(backend.to_numpy(fitted.predict_proba(lend(large)))).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fit_that_diverges_leaves_the_last_one(backend, lend):
    fitted = (
        regressor(solver="sgd", warm_start=True)
        .fit(lend(X), lend(TARGET))
        .set_params(learning_rate_init=1e30)
    )
    before, expected = dict(vars(fitted)), bits(backend, fitted.predict(lend(X)))
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        fitted.fit(lend(X), lend(TARGET))
    assert vars(fitted).keys() == before.keys()
    assert bits(backend, fitted.predict(lend(X))) == expected
    fitted.set_params(learning_rate_init=0.001).fit(lend(X), lend(TARGET))
    assert len(fitted.loss_curve_) == 6


def test_a_failed_fit_leaves_the_last_one(backend, lend):
    fitted = regressor().fit(lend(X), lend(TARGET))
    before, expected = dict(vars(fitted)), bits(backend, fitted.predict(lend(X)))
    for data in ((lend(X[:, :3]), lend(TARGET[:59])), (lend(changed(X[:, :3], np.nan)), lend(TARGET))):
        with pytest.raises(ValueError, match=r"inconsistent numbers of samples|contains NaN"):
            fitted.fit(*data)
        assert vars(fitted).keys() == before.keys()
        assert all(vars(fitted)[name] is value for name, value in before.items())
    assert bits(backend, fitted.predict(lend(X))) == expected


# Copies, pickles, files


def test_copies_and_pickles_stay_where_the_fit_was(backend, lend):
    fitted = classifier().fit(lend(X), lend(CLASSES))
    expected = [bits(backend, f(lend(X))) for f in (fitted.predict, fitted.predict_proba)]
    for again in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert all(lives(backend, array) for array in parameters(again))
        assert lives(backend, again.classes_, fitted.classes_.dtype)
        assert [bits(backend, f(lend(X))) for f in (again.predict, again.predict_proba)] == expected


def test_training_goes_on_from_a_pickle_as_if_it_had_not_been_one(backend, lend):
    whole, pickled = classifier(), classifier()
    for _ in range(3):
        pickled = pickle.loads(pickle.dumps(pickled))
        for estimator in (whole, pickled):
            estimator.partial_fit(lend(X), lend(CLASSES), classes=[2, 3, 4])
    assert pickled.loss_curve_ == whole.loss_curve_
    assert [bits(backend, a) for a in parameters(pickled)] == [bits(backend, a) for a in parameters(whole)]


@pytest.mark.parametrize("device", ["torch", "jax", "array_api_strict:device1"])
def test_a_pickle_opens_where_the_library_is_missing(device, tmp_path):
    backend = there(device)
    fitted = classifier().fit(backend.asarray(X), backend.asarray(CLASSES))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted))
    np.save(tmp_path / "X.npy", X)
    code = """if True:
        import json, pickle, sys, warnings
        from importlib.machinery import PathFinder

        class Without(PathFinder):
            @classmethod
            def find_spec(cls, name, *where):
                return None if name.split(".")[0] == sys.argv[2] else super().find_spec(name, *where)

        sys.meta_path[sys.meta_path.index(PathFinder)] = Without
        import numpy as np
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with open(sys.argv[1] + "/model.pkl", "rb") as file:
                model = pickle.load(file)
        X = np.load(sys.argv[1] + "/X.npy")
        assert sys.argv[2] not in sys.modules
        said = [str(w.message) for w in caught if w.category is UserWarning]
        arrays = *model.coefs_, *model.intercepts_, model.classes_, model.predict(X)
        kinds = {type(array).__name__ for array in arrays}
        model.partial_fit(X, model.predict(X))
        print(json.dumps([said, list(kinds), model.loss_curve_, model.predict(X).tolist()]))
    """
    said, kinds, curve, answers = python(code, tmp_path, backend.name)
    expected = classifier().fit(X, CLASSES)
    expected.partial_fit(X, expected.predict(X))
    (message,) = set(said)
    assert backend.name in message
    assert kinds == ["ndarray"]
    assert curve == pytest.approx(expected.loss_curve_, rel=1e-8)
    assert answers == expected.predict(X).tolist()


@pytest.mark.parametrize("estimator", [classifier, regressor], ids=["classifier", "regressor"])
def test_saved_models_load_as_numpy(estimator, backend, lend, tmp_path):
    fitted = estimator().fit(lend(X), NAMES if estimator is classifier else lend(TARGET))
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    loaded = type(fitted).load(path)
    assert {(type(a), a.dtype.name) for a in parameters(loaded)} == {(np.ndarray, backend.dtype_name)}
    assert loaded.get_params() == fitted.get_params()
    x = X.astype(backend.dtype_name)
    if estimator is regressor:
        assert loaded.predict(x) == close(backend, backend.to_numpy(fitted.predict(lend(X))))
    else:
        assert loaded.predict(x).tolist() == fitted.predict(lend(X)).tolist()
        assert loaded.predict_proba(x) == close(backend, backend.to_numpy(fitted.predict_proba(lend(X))))


# Bit by bit


def test_partial_fit_goes_on_everywhere_as_on_numpy(backend, lend):
    expected, fitted = classifier(), classifier()
    for part in (slice(0, 30), slice(30, 60), slice(0, 60)):
        data = X[part], CLASSES[part], WEIGHT[part]
        expected.partial_fit(*data, classes=np.arange(2, 6))  # class 5 never comes
        fitted.partial_fit(*map(lend, data), classes=lend(np.arange(2, 6)))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert len(fitted.loss_curve_) == 3
    assert backend.to_numpy(fitted.classes_).tolist() == [2, 3, 4, 5]
    assert lives(backend, fitted.classes_, fitted.predict(lend(X)).dtype)
    assert backend.to_numpy(fitted.predict_proba(lend(X))) == close(backend, expected.predict_proba(X))


def test_a_class_unknown_to_partial_fit_is_refused(backend, lend):
    fitted = classifier().partial_fit(lend(X), lend(CLASSES), classes=[2, 3, 4])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        fitted.partial_fit(lend(X), lend(CLASSES + 1))


def test_a_warm_start_goes_on_everywhere_as_on_numpy(backend, lend):
    expected, fitted = regressor(warm_start=True), regressor(warm_start=True)
    for _ in range(2):
        expected.fit(X, TARGET)
        fitted.fit(lend(X), lend(TARGET))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert backend.to_numpy(fitted.predict(lend(X))) == close(backend, expected.predict(X))


@pytest.mark.parametrize("class_weight", ["balanced", {2: 3.0, 4: 0.5}], ids=str)
def test_class_weights_are_sample_weights(class_weight, backend, lend):
    fitted = classifier(class_weight=class_weight).fit(lend(X), lend(CLASSES), lend(WEIGHT))
    mapping = class_weight if class_weight == "balanced" else class_weight | {3: 1.0}
    weight = WEIGHT * compute_sample_weight(mapping, CLASSES)
    assert fitted.loss_curve_ == close(backend, classifier().fit(X, CLASSES, weight).loss_curve_)
    assert fitted.loss_curve_ != close(backend, classifier().fit(X, CLASSES, WEIGHT).loss_curve_)


# Memory


@cache
def large():
    """80 MB of X in float32, with labels, targets and weights."""
    x = np.random.default_rng(0).standard_normal((40_000, 500), dtype=np.float32)
    return x, (x[:, 0] > 0).astype(np.int64), x[:, 1].copy(), x[:, 2] ** 2


def peak(function, *arguments):
    """The bytes allocated at the worst moment, beyond those that were there before."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("everything", [False, True], ids=["plain", "weighted-stopping"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("device", ["numpy", "array_api_strict:device1"])
def test_x_is_not_copied(device, kind, everything):
    backend = there(device)
    x, labels, target, weight = large()
    most = 0.3 * x.nbytes + 4e6
    if device != "numpy":
        x, labels, target, weight = (backend.xp.asarray(a, device=backend.device) for a in large())
    y = labels if kind is MLPClassifier else target
    estimator = kind(hidden_layer_sizes=(8,), max_iter=1, early_stopping=everything)
    assert peak(estimator.fit, x, y, *[weight] * everything) < most
    assert peak(estimator.predict, x) < most
    assert peak(estimator.score, x, y) < most


def frame(x):
    return pytest.importorskip("pandas").DataFrame(x)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "columns of a wider one": lambda x: np.hstack([x, x[:, :9]])[:, : x.shape[1]],
    "DataFrame": frame,
    "DataFrame in Fortran's order": lambda x: frame(np.asfortranarray(x)),
}


def trained(x, y):
    """A model, and the processor time that its training took."""
    model = MLPClassifier((64,), batch_size=50, max_iter=1, early_stopping=True, random_state=0)
    start = process_time()
    model.fit(x, y)
    return model, process_time() - start


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_x_of_any_layout_is_not_copied_and_is_trained_on_about_as_fast(layout):
    plain, labels = (a[:10_000] for a in large()[:2])  # 20 MB
    x = layout(plain)
    most = 0.3 * plain.nbytes
    assert peak(trained, x, labels) < most
    runs = [[trained(each, labels) for each in (plain, x)] for _ in range(2)]
    expected, model = (run[0] for run in runs[0])
    assert peak(model.predict, x) < most
    assert peak(model.score, x, labels) < most
    assert model.loss_curve_ == expected.loss_curve_
    assert model.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_, rel=1e-6)
    assert (
        model.predict(x).tolist() == model.predict(frame(plain) if hasattr(x, "columns") else plain).tolist()
    )
    standard, time = (min(run[i][1] for run in runs) for i in range(2))
    assert time < 4 * standard  # more than that, if all of X were put in order for every batch


@pytest.mark.parametrize("device", ["numpy", "array_api_strict:device1"])
def test_x_of_another_precision_is_not_converted_as_a_whole(device):
    backend = there(device)
    x, labels, target = (backend.xp.asarray(a, device=backend.device) for a in large()[:3])
    few = backend.asarray(large()[0][:500])  # in float64
    most = 0.4 * large()[0].nbytes
    model = MLPClassifier((8,), max_iter=1).fit(few, labels[:500])
    assert peak(model.predict_proba, x) < most
    assert peak(model.score, x, labels) < most
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=1).fit(few, few[:, 1])
    assert peak(model.predict, x) < most
    assert peak(model.score, x, target) < most


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_classes_take_less_memory_than_few_features(dtype):
    x = np.random.default_rng(0).standard_normal((100_000, 20), dtype=dtype)
    model = MLPClassifier((8,), max_iter=1, batch_size=1000)
    assert peak(model.fit, x, np.arange(len(x)) % 100) < 0.5 * x.nbytes


def test_x_of_torch_is_not_copied():
    pytest.importorskip("torch")
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak memory of a process")
    code = """if True:
        import json, re, torch
        from xpnet import MLPClassifier

        def kilobytes(kind):
            with open("/proc/self/status") as file:
                return int(re.search(rf"Vm{kind}:\\s+(\\d+)", file.read())[1])

        def peak(function, *arguments):
            open("/proc/self/clear_refs", "w").write("5")  # VmHWM begins anew
            before = kilobytes("RSS")
            function(*arguments)
            return 1024 * (kilobytes("HWM") - before)

        X = torch.rand(100_000, 500)
        y, weight = (X[:, 0] > 0.5).to(torch.int64), X[:, 1].clone()
        model = MLPClassifier((8,), max_iter=1, early_stopping=True)
        model.fit(X[:1000], y[:1000])  # loads all code
        model.predict(X[:1000])
        peaks = [peak(model.fit, X, y, weight), peak(model.predict, X), peak(X.clone)]
        print(json.dumps([p / (X.numel() * X.element_size()) for p in peaks]))
    """
    fit, predict, clone = python(code, PYTHONWARNINGS="ignore")
    assert max(fit, predict) < 0.3
    assert clone > 0.9
