"""Training that goes on, is weighted, watched or interrupted: on every place as on NumPy."""

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.callback import ScoringMonitor
from sklearn.utils.class_weight import compute_sample_weight
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
    fresh,
    lives,
    parameters,
    regressor,
    same,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# partial_fit and warm_start


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "rmsprop"])
def test_partial_fit_goes_on_everywhere_as_on_numpy(solver, backend, lend):
    expected, fitted = (classifier(solver=solver, learning_rate_init=0.01) for _ in range(2))
    for part in (slice(0, 30), slice(0, 60)):
        data = X[part], CLASSES[part], WEIGHT[part]
        expected.partial_fit(*data, classes=np.arange(2, 6))  # class 5 never comes
        fitted.partial_fit(*map(lend, data), classes=lend(np.arange(2, 6)))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert len(fitted.loss_curve_) == 2
    assert backend.to_numpy(fitted.classes_).tolist() == [2, 3, 4, 5]
    assert lives(backend, fitted.classes_, fitted.predict(lend(X)).dtype)
    assert backend.to_numpy(fitted.predict_proba(lend(X))) == close(backend, expected.predict_proba(X))


def test_partial_fit_of_names_labels_and_targets(backend, lend):
    numbers = {"perhaps": 7.0, "no": 3.0}
    for estimator, y, options in (
        (classifier(class_weight=numbers), NAMES, {"classes": ["maybe", "no", "perhaps", "yes"]}),
        (classifier(), LABELS, {"classes": [0, 1, 2]}),
        (regressor(loss="quantile", quantile=0.2, learning_rate="cosine"), TARGETS, {}),
    ):
        expected, fitted = fresh(estimator), fresh(estimator)
        for part in (slice(0, 40), slice(20, 60)):
            expected.partial_fit(X[part], y[part], WEIGHT[part], **options)
            fitted.partial_fit(
                lend(X[part]), y[part] if y is NAMES else lend(y[part]), lend(WEIGHT[part]), **options
            )
        assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
        assert len(fitted.loss_curve_) == 2
        assert same(backend, fitted.predict(lend(X)), expected.predict(X))


def test_a_class_unknown_to_partial_fit_is_refused(backend, lend):
    fitted = classifier().partial_fit(lend(X), lend(CLASSES), classes=[2, 3, 4])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`"):
        fitted.partial_fit(lend(X), lend(CLASSES + 1))


@pytest.mark.parametrize(
    ("estimator", "y"), [(classifier, NAMES), (regressor, TARGETS)], ids=["names", "targets"]
)
def test_a_warm_start_goes_on_everywhere_as_on_numpy(estimator, y, backend, lend):
    place = (lambda y: y) if y is NAMES else lend
    expected, fitted = estimator(warm_start=True), estimator(warm_start=True)
    for parameters_, watched in (
        ({"solver": "adam"}, False),
        ({"max_iter": 2, "early_stopping": True}, False),
        ({"early_stopping": False, "solver": "lbfgs"}, False),
        ({"solver": "sgd", "learning_rate": "one_cycle", "batch_size": 60}, True),
    ):
        expected.set_params(**parameters_).fit(X, y, validation_data=(X, y) if watched else None)
        given = lend(X), place(y)
        fitted.set_params(**parameters_).fit(*given, validation_data=given if watched else None)
        assert fitted.loss_ == close(backend, expected.loss_), parameters_
        for mine, theirs in zip(parameters(fitted), parameters(expected), strict=True):
            assert backend.to_numpy(mine) == close(backend, theirs), parameters_
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        assert getattr(fitted, name) == close(backend, getattr(expected, name)), name
    assert (fitted.n_iter_, fitted.t_, len(fitted.loss_curve_)) == (2, expected.t_, 3 + 2 + 2)
    assert same(backend, fitted.predict(lend(X)), expected.predict(X))


def test_a_warm_start_with_other_classes_is_refused(backend, lend):
    fitted = classifier(warm_start=True).fit(lend(X), lend(CLASSES))
    with pytest.raises(ValueError, match="the same classes as in the previous call to fit"):
        fitted.fit(lend(X), lend(CLASSES + 1))


@pytest.mark.parametrize(
    ("y", "class_weight", "mapping", "solver"),
    [
        (CLASSES, "balanced", "balanced", "adam"),
        (CLASSES, {2: 3.0, 4: 0.5}, {2: 3.0, 3: 1.0, 4: 0.5}, "lbfgs"),
        (NAMES, {"no": 3.0, "maybe": 0.5}, {"no": 3.0, "maybe": 0.5, "yes": 1.0}, "adam"),
        (BINARY.astype(bool), {True: 3.0}, {True: 3.0, False: 1.0}, "lbfgs"),
    ],
    ids=["balanced", "classes", "names", "truth values"],
)
def test_class_weights_are_sample_weights(y, class_weight, mapping, solver, backend, lend):
    place = (lambda y: y) if y is NAMES else lend
    weight = WEIGHT * compute_sample_weight(mapping, y)
    fitted = classifier(class_weight=class_weight, solver=solver).fit(lend(X), place(y), lend(WEIGHT))
    assert fitted.loss_ == close(backend, classifier(solver=solver).fit(X, y, weight).loss_)
    assert fitted.loss_ != close(backend, classifier(solver=solver).fit(X, y, WEIGHT).loss_)


def test_weights_that_are_all_0_are_refused_everywhere(backend, lend):
    one = 1.0 * (np.arange(60) == 7)
    for estimator, data in (
        (classifier(class_weight=dict.fromkeys((2, 3, 4), 0.0)), (CLASSES,)),
        (classifier(class_weight={2: 0.0}, solver="lbfgs"), (CLASSES, 1.0 * (CLASSES == 2))),
        (classifier(early_stopping=True), (CLASSES, one)),  # the row that counts is held out, or none that is
        (regressor(early_stopping=True), (TARGET, one)),
    ):
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match="weights must contain at least one non-zero number"):
            estimator.fit(lend(X), *map(lend, data))
        assert vars(estimator) == before


def test_early_stopping_holds_out_rows_of_rare_classes_as_on_numpy(backend, lend):
    rare = np.where(np.arange(60) == 17, 9, CLASSES)
    for y in (rare, np.where(np.arange(60) < 20, np.arange(60).astype(str), NAMES)):
        settings = {"early_stopping": True, "max_iter": 2, "validation_fraction": 0.2}
        expected = classifier(**settings).fit(X, y)
        fitted = classifier(**settings).fit(lend(X), y if y.dtype.kind == "U" else lend(y))
        assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
        assert fitted.validation_scores_ == close(backend, expected.validation_scores_)


# Callbacks, interruptions


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("estimator", "y"),
    [(classifier, NAMES), (classifier, LABELS), (regressor, TARGET)],
    ids=["names", "labels", "target"],
)
def test_callbacks_see_the_model_where_it_lies(estimator, y, solver, backend, lend, capfd):
    place = (lambda y: y) if y is NAMES else lend
    places = []

    def score(model, X, y):
        places.append(all(lives(backend, array) for array in parameters(model)))
        return model.score(X, y)

    def watch(model, *data):
        monitor = ScoringMonitor(scoring={"score": score})
        model.set_callbacks(monitor).fit(*data)
        return [row["score"] for row in monitor.get_logs().data]

    settings = {"solver": solver, "verbose": "progress"}
    scores = watch(estimator(**settings), X, y)
    places.clear()
    model = estimator(**settings)
    assert watch(model, lend(X), place(y)) == close(backend, scores)
    assert len(scores) == 4  # after each epoch, and after the fit
    assert all(places)
    assert "3/3" in capfd.readouterr().err
    assert scores[-1] == close(backend, model.score(lend(X), place(y)))


class Until:
    """A callback that lets the training end, or fail, after the second epoch."""

    def __init__(self, error=None):
        self.error, self.epochs = error, 0

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        self.epochs += context.parent is not None
        if self.epochs == 2 and self.error:
            raise self.error
        return self.epochs == 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_ends_the_fit_or_fails_and_the_model_stays_as_it_was(solver, backend, lend):
    data = lend(X), lend(TARGETS)
    shorter = regressor(solver=solver, max_iter=2).fit(*data)
    stopped = regressor(solver=solver).set_callbacks(Until()).fit(*data)
    assert stopped.n_iter_ == 2
    assert [bits(backend, a) for a in parameters(stopped)] == [bits(backend, a) for a in parameters(shorter)]

    with pytest.raises(RuntimeError, match="enough"):
        stopped.set_callbacks(Until(RuntimeError("enough"))).fit(*data)
    assert stopped.n_iter_ == 2
    assert [bits(backend, a) for a in parameters(stopped)] == [bits(backend, a) for a in parameters(shorter)]


def test_an_interrupted_fit_keeps_the_last_step_everywhere(backend, lend):
    def rate(t):
        if t == 5:
            raise KeyboardInterrupt
        return 0.01 if t < 5 else 1e-300

    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        fitted = regressor(learning_rate=rate).fit(lend(X), lend(TARGET))
    expected = regressor(learning_rate=lambda t: 0.01, max_iter=2).fit(X, TARGET)
    assert (fitted.n_iter_, fitted.loss_curve_) == (2, close(backend, expected.loss_curve_))
    for mine, theirs in zip(parameters(fitted), parameters(expected), strict=True):
        assert backend.to_numpy(mine) == close(backend, theirs)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_early_stopping_keeps_the_best_of_a_fit_that_diverges(backend, lend):
    def rate(t):
        return 0.01 if t <= 4 else 1e30  # two steps an epoch

    calm, fitted = (
        regressor(solver="sgd", learning_rate=rate, early_stopping=True, max_iter=n).fit(
            lend(X), lend(TARGETS)
        )
        for n in (2, 5)
    )
    assert [bits(backend, a) for a in parameters(fitted)] == [bits(backend, a) for a in parameters(calm)]
    assert fitted.best_validation_score_ == max(calm.validation_scores_)
    assert np.isnan(fitted.validation_scores_[-1])


def test_lbfgs_stops_where_it_stops_on_numpy(backend, lend):
    for end in ({"tol": 0.3}, {"max_fun": 4}):
        settings = {"solver": "lbfgs", "max_iter": 30, "alpha": 1.0} | end
        expected, fitted = (
            regressor(**settings).fit(X, TARGET),
            regressor(**settings).fit(lend(X), lend(TARGET)),
        )
        assert fitted.n_iter_ == expected.n_iter_ < 30
        assert fitted.loss_ == close(backend, expected.loss_)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "absolute_error", "quantile", "poisson"])
def test_losses_of_weighted_targets_are_those_on_numpy(loss, backend, lend):
    settings = {"loss": loss, "quantile": 0.2, "early_stopping": True, "learning_rate_init": 0.01}
    expected = regressor(**settings).fit(X, TARGETS, WEIGHT)
    fitted = regressor(**settings).fit(lend(X), lend(TARGETS), lend(WEIGHT))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert fitted.validation_loss_curve_ == close(backend, expected.validation_loss_curve_)
    assert fitted.score(lend(X), lend(TARGETS), lend(WEIGHT)) == close(
        backend, expected.score(X, TARGETS, WEIGHT)
    )


# The types of what is fitted


def types_of(model):
    """The type of each public fitted attribute, and for a list those of its entries. Arrays are all alike."""

    def name(value):
        if isinstance(value, list):
            return "list", *sorted({name(entry) for entry in value})
        return "array" if hasattr(value, "shape") and value.shape else type(value).__name__

    return {key: name(value) for key, value in vars(model).items() if key.endswith("_") and key[0] != "_"}


@pytest.mark.parametrize(
    "params",
    [{}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}, {"partial": True}],
    ids=["adam", "stopping", "lbfgs", "partial_fit"],
)
@pytest.mark.parametrize(
    ("ours", "y"),
    [(classifier, BINARY), (classifier, LABELS), (regressor, TARGET)],
    ids=["binary", "labels", "numbers"],
)
def test_fitted_attributes_have_the_types_of_scikit_learn(ours, y, params, backend, lend, tmp_path):
    params = dict(params)
    method = "partial_fit" if params.pop("partial", False) else "fit"
    options = {}
    if (method, ours) == ("partial_fit", classifier):
        options["classes"] = np.arange(2 if y is BINARY else LABELS.shape[1])
    model = ours(**params)
    theirs = getattr(neural_network, type(model).__name__)(**SMALL | params)
    getattr(theirs, method)(X, y, **options)
    getattr(model, method)(lend(X), lend(y), **options)
    found, expected = types_of(model), types_of(theirs)
    ours_alone = expected["loss_curve_"] if "early_stopping" in params else "NoneType"
    assert found == expected | {"validation_loss_curve_": ours_alone}
    model.save(tmp_path / "model.safetensors")
    loaded = types_of(type(model).load(tmp_path / "model.safetensors"))
    assert {name: loaded[name] for name in found} == found
