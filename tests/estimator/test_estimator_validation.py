"""Validation sets, given or held out, scores, and early stopping."""

import warnings
from functools import partial

import numpy as np
import pytest
from problems import (
    BINARY,
    CLASSES,
    COUNTS,
    LABELS,
    NUMBERS,
    STRINGS,
    TWO_NUMBERS,
    WEIGHT,
    N,
    X,
    assert_same_fit,
    both_classes,
    classifier,
    each_kind,
    regressor,
)
from sklearn import metrics
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, log_loss, mean_poisson_deviance, mean_squared_error

from xpnet import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# Validation


def halves(y):
    """Every other row to train on, the others to validate with."""
    return X[::2], y[::2], X[1::2], y[1::2], WEIGHT[1::2]


def mean_loss(model, X, y, weight=None):
    """The loss as sklearn.metrics has it."""
    if isinstance(model, MLPRegressor) and model.loss == "poisson":
        return 0.5 * mean_poisson_deviance(y, model.predict(X), sample_weight=weight)
    if isinstance(model, MLPRegressor):
        return 0.5 * mean_squared_error(y, model.predict(X), sample_weight=weight)
    p = model.predict_proba(X)
    if y.ndim == 2:
        return sum(log_loss(y[:, k], p[:, k], sample_weight=weight) for k in range(y.shape[1]))
    return log_loss(y, p, sample_weight=weight)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@each_kind
def test_the_validation_loss_is_that_of_the_given_rows_without_penalty(make, y, weighted):
    X_train, y_train, *held = halves(y)
    validation_data = tuple(held[: 2 + weighted])
    model = make(alpha=10.0).fit(X_train, y_train, validation_data=validation_data)
    assert len(model.validation_loss_curve_) == len(model.validation_scores_) == model.n_iter_ == 5
    assert model.validation_loss_curve_[-1] == pytest.approx(mean_loss(model, *validation_data), rel=1e-10)
    assert model.validation_scores_[-1] == pytest.approx(model.score(*validation_data), rel=1e-10)
    assert len(set(model.validation_loss_curve_)) == 5


@pytest.mark.parametrize("given", [True, False], ids=["validation_data", "held out"])
@pytest.mark.parametrize("class_weight", [{"yes": 4.0, "no": 0.5}, "balanced"], ids=["mapping", "balanced"])
def test_class_weights_weigh_the_validation_set_wherever_it_comes_from(class_weight, given):
    X_train, y_train, X_val, y_val, weight = halves(STRINGS) if given else (X, STRINGS, None, None, WEIGHT)
    if given:
        model = classifier(class_weight=class_weight)
        model.fit(X_train, y_train, validation_data=(X_val, y_val, weight))
    else:
        seen = []
        model = classifier(class_weight=class_weight, early_stopping=True, validation_fraction=0.2)
        model.set_params(scoring=lambda model, X, y, sample_weight: seen.append(X) or len(seen))
        model.fit(X, STRINGS, WEIGHT)
        model.set_params(scoring=None)
        rows = [int(np.flatnonzero((x == X).all(axis=1))[0]) for x in seen[0]]
        X_val, y_val, weight = X[rows], STRINGS[rows], WEIGHT[rows]
    names, counts = np.unique(y_train, return_counts=True)
    weights = dict(zip(names, N // (1 + given) / (len(names) * counts), strict=True))
    if class_weight != "balanced":
        weights = class_weight
    weight = weight * [weights.get(name, 1.0) for name in y_val]
    assert model.validation_loss_curve_[-1] == pytest.approx(
        mean_loss(model, X_val, y_val, weight), rel=1e-10
    )
    if given:
        assert model.validation_scores_[-1] == pytest.approx(model.score(X_val, y_val, weight), rel=1e-10)


class Scorer:
    """The default score, keeping the data it was computed on."""

    def __init__(self):
        self.seen = []

    def __call__(self, model, X, y):
        self.seen.append((np.array(X), np.array(y)))
        return model.score(X, y)


@each_kind
def test_early_stopping_records_the_loss_of_the_rows_it_set_aside(make, y):
    scorer = Scorer()
    model = make(early_stopping=True, alpha=1.0, scoring=scorer, validation_fraction=0.2).fit(X, y)
    (X_val, y_val), best = scorer.seen[0], int(np.argmax(model.validation_scores_))
    assert X_val.shape == (N // 5, 4)
    assert len(model.validation_loss_curve_) == len(model.loss_curve_)
    assert model.validation_loss_curve_[best] == pytest.approx(mean_loss(model, X_val, y_val), rel=1e-10)


def test_no_validation_set_no_validation_loss():
    model = regressor().fit(X, NUMBERS)
    assert model.validation_loss_curve_ is None
    assert model.validation_scores_ is None


@pytest.mark.parametrize("early_stopping", [False, True])
@both_classes
def test_lbfgs_has_no_validation_loss(make, y, early_stopping):
    model = make(solver="lbfgs", early_stopping=early_stopping).fit(X, y)
    assert model.validation_loss_curve_ is None


@each_kind
def test_watching_validation_data_changes_nothing_of_the_fit(make, y):
    X_train, y_train, *held = halves(y)
    settings = {"max_iter": 30, "n_iter_no_change": 2, "tol": 1e-9}
    watched = make(**settings).fit(X_train, y_train, validation_data=(held[0], held[1][::-1]))
    assert_same_fit(watched, make(**settings).fit(X_train, y_train))
    assert watched.n_iter_ == len(watched.validation_scores_)
    assert watched.best_loss_ == min(watched.loss_curve_)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_early_stopping_on_given_data_trains_on_all_rows_and_keeps_the_best(scoring):
    X_train, y_train, X_val, y_val, _ = halves(STRINGS)
    model = classifier(
        early_stopping=True,
        scoring=scoring,
        max_iter=200,
        learning_rate_init=0.1,
        n_iter_no_change=5,
        hidden_layer_sizes=(50,),
    )
    model.fit(X_train, y_train, validation_data=(X_val, y_val))
    assert model.n_iter_ < 200
    assert model.t_ == model.n_iter_ * len(X_train)
    assert model.validation_scores_[-1] < max(model.validation_scores_) == model.best_validation_score_
    score = get_scorer(scoring or "accuracy")(model, X_val, y_val)
    assert score == pytest.approx(model.best_validation_score_, rel=1e-12)


def test_validation_labels_may_lack_a_class():
    rows = STRINGS != "yes"
    model = classifier().fit(X, STRINGS, validation_data=(X[rows], STRINGS[rows]))
    loss = log_loss(STRINGS[rows], model.predict_proba(X[rows]), labels=model.classes_)
    assert model.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize(
    ("make", "y", "validation_data", "words"),
    [
        (classifier, STRINGS, (X, np.array(["perhaps"] * N)), "perhaps"),
        (classifier, CLASSES, (X, CLASSES + 1), r"\b3\b"),
        (classifier, LABELS, (X, CLASSES), None),
        (classifier, LABELS, (X, LABELS[:, :2]), None),
        (regressor, TWO_NUMBERS, (X, NUMBERS), None),
        (regressor, NUMBERS, (X[:, :3], NUMBERS), "3 features"),
        (regressor, NUMBERS, (X, NUMBERS[:-1]), "inconsistent numbers of samples"),
        (regressor, NUMBERS, (X, NUMBERS, WEIGHT[:-1]), "sample_weight"),
        (regressor, NUMBERS, (X * np.nan, NUMBERS), "NaN"),
        (regressor, NUMBERS, (X, NUMBERS * np.nan), "NaN"),
        (regressor, NUMBERS, (X[:0], NUMBERS[:0]), r"0 sample\(s\)"),
        (regressor, NUMBERS, (X,), "validation_data"),
        (regressor, NUMBERS, (X, NUMBERS, WEIGHT, WEIGHT), "validation_data"),
        (partial(regressor, loss="poisson"), COUNTS, (X, -COUNTS), "(?i)poisson"),
        (
            partial(regressor, solver="lbfgs"),
            NUMBERS,
            (X, NUMBERS),
            r"validation_data.*lbfgs|lbfgs.*validation_data",
        ),
    ],
)
def test_validation_data_that_do_not_fit_are_refused(make, y, validation_data, words):
    model = make()
    with pytest.raises(ValueError, match=words):
        model.fit(X, y, validation_data=validation_data)
    assert not hasattr(model, "coefs_")


# scoring


def assurance(model, X, y):
    return model.predict_proba(X).max(axis=1).mean()


@pytest.mark.parametrize(
    ("make", "y", "scoring"),
    [
        (classifier, CLASSES, "balanced_accuracy"),
        (classifier, STRINGS, "neg_log_loss"),
        (classifier, BINARY, "roc_auc"),
        (classifier, np.where(BINARY, "good", "bad"), "average_precision"),
        (classifier, LABELS, "f1_macro"),
        (classifier, STRINGS, assurance),
        (regressor, NUMBERS, "neg_mean_absolute_error"),
        (regressor, TWO_NUMBERS, "r2"),
    ],
)
def test_validation_scores_are_those_of_scikit_learns_scorer(make, y, scoring):
    if scoring == "average_precision":
        scoring = metrics.make_scorer(
            metrics.average_precision_score, response_method="predict_proba", pos_label="good"
        )
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    X_train, y_train, X_val, y_val, _ = halves(y)
    model = make(scoring=scoring, max_iter=8, learning_rate_init=0.01)
    model.fit(X_train, y_train, validation_data=(X_val, y_val))
    assert len(model.validation_scores_) == 8
    assert model.validation_scores_[-1] == pytest.approx(scorer(model, X_val, y_val), rel=1e-12)
    assert len(set(model.validation_scores_)) > 1


@pytest.mark.parametrize("held", [False, True], ids=["set-aside", "given"])
@pytest.mark.parametrize(
    ("make", "y", "scoring"),
    [(classifier, STRINGS, "neg_log_loss"), (regressor, NUMBERS, "neg_mean_absolute_error")],
    ids=["classifier", "regressor"],
)
def test_scoring_takes_data_frames_without_a_warning(make, y, scoring, held):
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["a", "b", "c", "d"])
    params = {"scoring": scoring, "early_stopping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make(**params).fit(frame, y, validation_data=(frame, y) if held else None)
        model.predict(frame)
    plain = make(**params).fit(X, y, validation_data=(X, y) if held else None)
    assert model.validation_scores_ == plain.validation_scores_
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]


def test_early_stopping_keeps_the_best_by_this_score():
    scorer = Scorer()
    settings = {"early_stopping": True, "validation_fraction": 0.3, "learning_rate_init": 0.1}
    by_loss = classifier(scoring="neg_log_loss", max_iter=100, **settings).fit(X, STRINGS)
    classifier(scoring=scorer, max_iter=1, **settings).fit(X, STRINGS)
    assert by_loss.best_validation_score_ == max(by_loss.validation_scores_) > by_loss.validation_scores_[-1]
    score = get_scorer("neg_log_loss")(by_loss, *scorer.seen[0])  # the same seed sets the same rows aside
    assert score == pytest.approx(by_loss.best_validation_score_, rel=1e-12)


def test_an_unknown_score_is_refused_as_in_scikit_learn():
    with pytest.raises(ValueError, match="scoring"):
        classifier(scoring="acuracy", early_stopping=True).fit(X, CLASSES)


# Which rows are held out


def test_early_stopping_holds_out_each_class_in_its_share():
    for seed in range(5):
        scorer = Scorer()
        settings = {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 1, "random_state": seed}
        classifier(scoring=scorer, **settings).fit(X, CLASSES)
        assert np.bincount(scorer.seen[0][1]).tolist() == [10, 6, 2]


@pytest.mark.parametrize(
    ("y", "fraction"),
    [
        (np.where(np.arange(N) == 17, "once", STRINGS), 0.1),
        (np.where(np.arange(N) % 30 == 0, np.arange(N) + 10, CLASSES), 0.1),
        (np.arange(N) % 30, 0.1),
        (np.arange(N), 0.1),
    ],
    ids=["one-singleton", "three-singletons", "more-classes-than-held-out-rows", "only-singletons"],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes is greater")
def test_rare_classes_do_not_break_early_stopping(y, fraction):
    scorer = Scorer()
    settings = {"early_stopping": True, "validation_fraction": fraction}
    model = classifier(scoring=scorer, **settings).fit(X, y)
    assert model.classes_.tolist() == np.unique(y).tolist()
    assert len(scorer.seen[0][1]) == N * fraction


def test_a_class_with_one_member_is_trained_on():
    y = np.where(np.arange(N) == 17, "once", STRINGS)
    for seed in range(10):
        scorer = Scorer()
        classifier(scoring=scorer, early_stopping=True, max_iter=1, random_state=seed).fit(X, y)
        assert "once" not in scorer.seen[0][1]
