"""MLPClassifier and MLPRegressor with arrays of every library: the same as on NumPy, where the arrays lie."""

import pickle
import re
import tracemalloc
from functools import cache, partial
from pathlib import Path
from time import process_time

import array_api_compat
import numpy as np
import pytest
from sklearn import neural_network
from sklearn.exceptions import DataConversionWarning, UndefinedMetricWarning
from small_data import (
    BINARY,
    CLASSES,
    LABELS,
    NAMES,
    SMALL,
    TARGET,
    TARGETS,
    WEIGHT,
    X,
    bits,
    classifier,
    close,
    elsewhere,
    fresh,
    lives,
    name_of,
    parameters,
    python,
    regressor,
)

import xpnet
from xpnet import MLPClassifier, MLPRegressor, resolve
from xpnet.backends import to_host

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# estimator, y, weights
CASES = {
    "binary, adam, stopping": (classifier(early_stopping=True), BINARY, True),
    "binary, lbfgs": (classifier(solver="lbfgs"), BINARY, False),
    "classes, sgd, stopping": (
        classifier(
            solver="sgd",
            learning_rate="invscaling",
            clip_norm=0.5,
            early_stopping=True,
            validation_fraction=0.2,
            scoring="balanced_accuracy",
        ),
        CLASSES,
        False,
    ),
    "classes, lbfgs": (
        classifier(
            solver="lbfgs",
            hidden_layer_sizes=(5, 4),
            activation=["tanh", "leaky_relu"],
            class_weight="balanced",
            label_smoothing=0.1,
        ),
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


def refusal(function, *data):
    """The first line of the ValueError, without the dtype, which each library writes in its own way."""
    try:
        function(*data)
    except ValueError as error:
        return re.sub(r" for \S*float\d+\S*$", "", str(error).splitlines()[0])
    return "was taken"


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


def neg_entropy(model, X, y):
    return float(np.sum(model.predict_proba(X) * model.predict_log_proba(X)))


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (classifier(early_stopping=True), CLASSES),
        (classifier(early_stopping=True, scoring="neg_log_loss"), NAMES),
        (classifier(solver="sgd", scoring=neg_entropy), BINARY.astype(bool)),
        (classifier(scoring="f1_macro"), LABELS),
        (regressor(loss="poisson"), TARGETS),
        (regressor(early_stopping=True, scoring="neg_mean_absolute_error"), TARGET),
    ],
    ids=["classes", "names", "truth values", "labels", "targets", "target"],
)
def test_validation_data_are_used_where_they_lie(estimator, y, backend, lend):
    place = (lambda y: y) if y is NAMES else lend
    weight = () if estimator.scoring is neg_entropy else (WEIGHT[40:],)
    expected = fresh(estimator).fit(X[:40], y[:40], validation_data=(X[40:], y[40:], *weight))
    held_out = lend(X[40:]), place(y[40:]), *map(lend, weight)
    fitted = fresh(estimator).fit(lend(X[:40]), place(y[:40]), validation_data=held_out)
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert fitted.validation_loss_curve_ == close(backend, expected.validation_loss_curve_)
    assert fitted.validation_scores_ == close(backend, expected.validation_scores_)
    assert len(fitted.validation_scores_) == 3
    for mine, theirs in zip(parameters(fitted), parameters(expected), strict=True):
        assert backend.to_numpy(mine) == close(backend, theirs)


def test_validation_data_that_do_not_fit_are_refused_everywhere(backend, lend):
    other = elsewhere(backend)
    for estimator, y, held_out, words in (
        (classifier(), NAMES, (lend(X), np.full(60, "perhaps")), "perhaps"),
        (classifier(), lend(CLASSES), (lend(X), lend(CLASSES + 1)), r"\b5\b"),
        (classifier(), lend(LABELS), (lend(X), lend(CLASSES)), None),
        (regressor(), lend(TARGET), (lend(X), lend(TARGETS)), "2 outputs"),
        (regressor(), lend(TARGET), (lend(X[:, :3]), lend(TARGET)), "3 features"),
        (regressor(), lend(TARGET), (lend(X), lend(TARGET), lend(0.0 * WEIGHT)), "non-zero"),
        (regressor(loss="poisson"), lend(TARGETS), (lend(X), lend(-TARGETS)), "negative"),
        (
            regressor(),
            lend(TARGET),
            (other.asarray(X), other.asarray(TARGET)),
            f"X is {backend.name} on {backend.device_name}, validation_data is {other.name} on "
            f"{other.device_name}: expected both on the same device.*device=",
        ),
    ):
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match=words):
            estimator.fit(lend(X), y, validation_data=held_out)
        assert vars(estimator) == before


@pytest.mark.parametrize(("estimator", "y"), [(classifier(), CLASSES), (regressor(), TARGET)])
def test_validation_data_in_float64_are_taken_by_a_fit_in_float32(estimator, y, backend, lend):
    single = resolve(backend.device_name, backend.name, "float32").asarray
    expected = fresh(estimator).fit(X, y, WEIGHT, validation_data=(X, y, WEIGHT))
    lists = (X.tolist(), y.tolist(), WEIGHT.tolist())
    for held_out in ((lend(X), lend(y), lend(WEIGHT)), *([lists] if backend.is_in_host_memory else [])):
        fitted = fresh(estimator).fit(single(X), lend(y), single(WEIGHT), validation_data=held_out)
        assert fitted.validation_loss_curve_ == pytest.approx(expected.validation_loss_curve_, rel=1e-4)


@pytest.mark.parametrize(
    ("y", "other"),
    [(CLASSES - 2, LABELS), (BINARY, LABELS), (LABELS, LABELS[:, :2]), (LABELS[:, :2], LABELS)],
    ids=["labels for classes", "labels for two classes", "fewer labels", "more labels"],
)
def test_labels_of_another_kind_are_refused_in_scikit_learns_words(y, other, backend, lend):
    mine = classifier().fit(lend(X), lend(y))
    theirs = neural_network.MLPClassifier(**SMALL).fit(X, y)
    for method in ("partial_fit", "score"):
        found = refusal(getattr(mine, method), lend(X), lend(other))
        words = refusal(getattr(theirs, method), X, other)
        assert found.split("`self.classes_` has")[0] == words.split("`self.classes_` has")[0] != "was taken"
    assert refusal(mine.set_params(warm_start=True).fit, lend(X), lend(other)) != "was taken"
    fit = partial(classifier().fit, validation_data=(lend(X), lend(other)))
    assert refusal(fit, lend(X), lend(y)).startswith("validation_data: ")


def test_weights_of_text_are_refused_in_scikit_learns_words(backend, lend):
    words = refusal(neural_network.MLPClassifier(**SMALL).fit, X, CLASSES, np.full(60, "a"))
    for weight in (["a"] * 60, np.full(60, "a")):
        assert refusal(classifier().fit, lend(X), lend(CLASSES), weight) == words != "was taken"


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


def test_score_tells_large_labels_of_another_dtype_apart(backend):
    x = resolve(backend.device_name, backend.name, "float32").asarray(X)
    fitted = classifier().fit(x, backend.asarray(np.where(BINARY, 2**24, 0)))
    predicted = backend.to_numpy(fitted.predict(x))
    assert predicted.any()
    for y in (predicted, np.where(predicted, 2**24 + 1, 0)):
        there = backend.asarray(y.astype(np.int32))
        assert fitted.score(x, there) == np.mean(predicted == y)


def test_score_compares_labels_of_the_host_exactly():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        x = jax.numpy.asarray(X)
        fitted = classifier().fit(x, jax.numpy.full(60, 2**24))
        assert fitted.score(x, np.full(60, 2.0**24)) == 1.0
        assert fitted.score(x, np.full(60, 2.0**24 + 1)) == 0.0


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_unsigned_labels_are_taken_everywhere(dtype, backend, lend):
    y = (BINARY + 7).astype(dtype)
    expected = classifier().fit(X, y)
    for fitted in (
        classifier(warm_start=True).fit(lend(X), lend(y)),
        classifier(warm_start=True).fit(X.astype(backend.dtype_name), y).to_device(name_of(backend)),
    ):
        assert backend.to_numpy(fitted.predict(lend(X))).tolist() == expected.predict(X).tolist()
        assert fitted.score(lend(X), lend(y)) == expected.score(X, y)
        fitted.fit(lend(X), lend(y)).partial_fit(lend(X), lend(y))


def test_labels_with_gaps_are_taken_without_a_warning(recwarn):
    torch = pytest.importorskip("torch")
    torch.set_warn_always(True)
    try:
        classifier().fit(torch.tensor(X)[::2], torch.tensor(CLASSES)[::2])
    finally:
        torch.set_warn_always(False)
    assert not [w for w in recwarn if "contiguous" in str(w.message)]


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


# Floating point


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_whole_numbers_become_the_default_floating_point_of_the_library(dtype, backend, lend):
    whole = np.rint(np.abs(X)).astype(dtype)
    default = backend.xp.asarray(0.0, device=backend.device).dtype
    fitted = classifier().fit(backend.asarray(whole), lend(CLASSES))
    expected = classifier().fit(1.0 * whole, CLASSES)
    assert all(lives(backend, array, default) for array in parameters(fitted))
    assert fitted.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-4)
    probability = fitted.predict_proba(backend.asarray(whole))
    assert lives(backend, probability, default)
    assert backend.to_numpy(probability) == pytest.approx(expected.predict_proba(whole), rel=1e-3)


def test_the_default_floating_point_of_torch_may_be_changed():
    torch = pytest.importorskip("torch")
    whole = torch.tensor(np.rint(X).astype(int))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        fitted = regressor().fit(whole, torch.tensor(TARGET))
    finally:
        torch.set_default_dtype(before)
    assert fitted.coefs_[0].dtype is torch.float64
    assert fitted.loss_curve_ == pytest.approx(regressor().fit(np.rint(X), TARGET).loss_curve_, rel=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("library", ["torch", "jax.numpy", "cupy"])
def test_half_precision_is_computed_and_answered_in_float32(library, dtype):
    xp = array_api_compat.array_namespace(pytest.importorskip(library).asarray(X))
    if not hasattr(xp, dtype):
        pytest.skip(f"{library} has no {dtype}")
    single = xp.asarray(X, dtype=xp.float32)
    half = [xp.astype(x, getattr(xp, dtype)) for x in (single, single[:, 1], xp.abs(single[:, 2]))]
    x, y, weight = (xp.astype(a, xp.float32) for a in half)
    labels, half_labels = (xp.astype(a > 0.5, a.dtype) for a in (y, half[1]))
    for make, targets, half_targets in ((regressor, y, half[1]), (classifier, labels, half_labels)):
        expected = make(early_stopping=True).fit(x, targets, weight)
        fitted = make(early_stopping=True).fit(half[0], half_targets, half[2])
        assert fitted.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-5)
        assert fitted.validation_scores_ == pytest.approx(expected.validation_scores_, rel=1e-5)
        assert fitted.coefs_[0].dtype == xp.float32
        for method in ("predict", "predict_proba", "predict_log_proba")[: 3 if make is classifier else 1]:
            answers, right = getattr(fitted, method)(half[0]), getattr(expected, method)(x)
            assert answers.dtype == right.dtype == xp.float32
            assert to_host(answers) == pytest.approx(to_host(right), rel=1e-4, abs=1e-6)
        score = fitted.score(half[0], half_targets, half[2])
        assert score == pytest.approx(expected.score(x, targets, weight), rel=1e-5)


@pytest.mark.parametrize("fitted_in", ["float16", "float32", "float64", "int64", "uint8"])
def test_numpy_answers_in_scikit_learns_dtype(fitted_in):
    x = np.abs(4 * X)
    mine, theirs = (
        [
            module.MLPClassifier(**SMALL).fit(x.astype(fitted_in), BINARY),
            module.MLPRegressor(**SMALL).fit(x.astype(fitted_in), BINARY.astype(fitted_in)),
        ]
        for module in (xpnet, neural_network)
    )
    for asked_in in ("float16", "float32", "float64", "int64", "int32", "uint8", "bool"):
        for model, other in zip(mine, theirs, strict=True):
            for method in {"predict", "predict_proba", "predict_log_proba"} & set(dir(other)):
                got, expected = (getattr(m, method)(x.astype(asked_in)) for m in (model, other))
                assert got.dtype == expected.dtype, (asked_in, method)
                assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for asked_in in ("float32", "float64", "int64"):
        for model, other in zip(mine, theirs, strict=True):
            for each in (model, other):
                each.partial_fit(x.astype(asked_in), BINARY)
            assert [a.dtype for a in parameters(model)] == [a.dtype for a in parameters(other)]


def test_float64_is_answered_in_float64_by_a_model_in_float32(backend):
    single = resolve(backend.device_name, backend.name, "float32")
    fitted = classifier().fit(single.asarray(X), backend.asarray(CLASSES))
    expected = neural_network.MLPClassifier(**SMALL).fit(X.astype(np.float32), CLASSES)
    for x in (single.asarray(X), backend.asarray(X)):
        probability = fitted.predict_proba(x)
        assert lives(backend, probability, x.dtype)
        assert backend.to_numpy(probability) == pytest.approx(
            expected.predict_proba(backend.to_numpy(x)), rel=1e-4
        )
    double = classifier().fit(backend.asarray(X), backend.asarray(CLASSES))
    assert lives(backend, double.predict_proba(single.asarray(X)))
    double.partial_fit(single.asarray(X), backend.asarray(CLASSES))
    assert all(lives(backend, array) for array in parameters(double))


# What cannot be used


SPARSE = {
    "coo": lambda torch, x: torch.tensor(x).to_sparse(),
    "csr": lambda torch, x: torch.tensor(np.atleast_2d(x)).to_sparse_csr(),
}


@pytest.mark.parametrize("layout", SPARSE.values(), ids=SPARSE)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_tensors_are_refused_with_what_to_do(layout):
    sparse = partial(layout, pytest.importorskip("torch"))
    assert_refused(
        sparse(X), sparse(CLASSES), sparse(WEIGHT), r"sparse PyTorch tensor \(torch\.sparse_\w+\).*to_dense"
    )


def test_tensors_without_values_are_refused_with_what_to_do():
    torch = pytest.importorskip("torch")
    meta = (torch.tensor(x, device="meta") for x in (X, CLASSES, WEIGHT))
    assert_refused(*meta, "meta, which has no values: pass one on the CPU")


class Collection:
    """What tells a dask collection: https://docs.dask.org/en/stable/custom-collections.html."""

    def __init__(self, x):
        self.x, self.shape = x, x.shape

    def __array__(self, *_, **__):
        pytest.fail("computed")

    def __dask_graph__(self):
        return {}


def test_dask_collections_are_refused_with_what_to_do():
    lazy = map(Collection, (X, CLASSES, WEIGHT))
    assert_refused(
        *lazy, r"is a dask collection, which is not in memory: pass \w+\.compute\(\), or call partial_fit"
    )


def test_ragged_lists_are_refused_with_what_to_do():
    ragged = [[1.0], *X.tolist()[1:]], [[1, 2], *[[1]] * 59], [[1.0, 2.0], *[[1.0]] * 59]
    assert_refused(
        *ragged, "expected rows of equal length, got a ragged list. Pad the rows, or .*MultiLabelBinarizer"
    )


def assert_refused(x, y, weight, words):
    """Assert that every function names what it cannot read and says what to do."""
    fitted, numbers = classifier().fit(X, CLASSES), regressor().fit(X, TARGET)
    for name, act in {
        "X": lambda: classifier().fit(x, CLASSES),
        "X of a regressor": lambda: regressor().fit(x, TARGET),
        "X of predict": lambda: fitted.predict_proba(x),
        "X of score": lambda: numbers.score(x, TARGET),
        "y": lambda: classifier().fit(X, y),
        "y of a regressor": lambda: regressor().fit(X, y),
        "y of score": lambda: fitted.score(X, y),
        "sample_weight": lambda: regressor().fit(X, TARGET, weight),
        "sample_weight of score": lambda: numbers.score(X, TARGET, weight),
        "classes": lambda: classifier().partial_fit(X, CLASSES, classes=y),
        "X of validation_data": lambda: classifier().fit(X, CLASSES, validation_data=(x, CLASSES)),
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            act()
        assert str(caught.value).startswith(name.split()[0]), name


UNSIGNED = "no uint64 here: expected numbers of at most 9223372036854775807, got a larger one. Pass smaller"


def test_labels_too_large_for_the_integers_of_jax_are_refused():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(False):
        x = jax.numpy.asarray(X)
        for y in (2**31 * CLASSES, (2**31 * CLASSES).tolist()):
            with pytest.raises(
                ValueError, match="y: jax has no int64 here, and not every number fits in int32"
            ):
                classifier().fit(x, y)


@pytest.mark.parametrize(
    ("library", "labels", "words"),
    [
        ("jax", np.array([5, 2**40]), "no int64 here, and not every number fits in int32"),
        ("jax", np.array([2.0**24, 2.0**24 + 1]), "no float64 here, and not every number fits in float32"),
        ("jax", np.array([5, 2**63], np.uint64), UNSIGNED),
        ("torch", np.array([5, 2**63], np.uint64), UNSIGNED),
    ],
)
def test_labels_that_a_library_cannot_hold_are_refused(library, labels, words):
    with pytest.importorskip("jax").enable_x64(False):
        pytest.importorskip(library)
        x, y = resolve("cpu", library, "float32").asarray(X), labels[BINARY]
        with pytest.raises(ValueError, match=f"^y: {library} has {words}"):
            classifier().fit(x, y)
        fitted = classifier().fit(X.astype("f"), y)
        before = dict(vars(fitted))
        for act in (
            lambda: fitted.to_device(library),
            lambda: fitted.partial_fit(x, np.full(60, 5)),
            lambda: fitted.predict(x),
        ):
            with pytest.raises(ValueError, match=f"^classes_: {library} has {words}"):
                act()
            assert vars(fitted) == before


def test_unsigned_tensors_that_torch_cannot_compute_with_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"^y: torch has {UNSIGNED}"):
        classifier().fit(torch.asarray(X), torch.asarray(np.array([5, 2**63], np.uint64)[BINARY]))


def test_labels_in_a_pickle_are_not_cut_where_jax_is_without_its_64_bit_types():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        x, y = (jax.numpy.asarray(a) for a in (X.astype("f"), np.array([5, 2**40])[BINARY]))
        saved = pickle.dumps(classifier().fit(x, y))
        assert pickle.loads(saved).classes_.tolist() == [5, 2**40]
    with jax.enable_x64(False), pytest.raises(ValueError, match="classes_: jax has no int64 here"):
        pickle.loads(saved)


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
def test_x_is_not_copied(device, kind, everything, there):
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
def test_x_of_another_precision_is_not_converted_as_a_whole(device, there):
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
