"""How the estimators train: warm starts, solvers, learning rates, callbacks, fits that fail."""

import copy
import math
import warnings
from functools import partial
from itertools import product

import joblib
import numpy as np
import pytest
from problems import (
    BATCH,
    BINARY,
    CLASSES,
    COUNTS,
    FULL_BATCH,
    NUMBERS,
    STEPS_PER_EPOCH,
    N,
    X,
    assert_like_torch,
    assert_same_fit,
    both_classes,
    classifier,
    cross_entropy,
    each_solver,
    parameters,
    regressor,
    torch_fit,
)
from scipy.special import xlogy
from sklearn import neural_network
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

import xpnet
from xpnet import MLPClassifier
from xpnet.backends import Steps
from xpnet.backends.accelerate.loop import CompiledLoop
from xpnet.maths.schedules import cosine, one_cycle

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# warm_start and partial_fit


def classes_of(model, y):
    return {"classes": np.unique(y)} if isinstance(model, MLPClassifier) else {}


METHODS = {
    "fit": lambda model, X, y: model.fit(X, y),
    "warm-fit": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "partial_fit": lambda model, X, y: model.partial_fit(X, y),
    "first-partial_fit": lambda model, X, y: model.partial_fit(X, y, **classes_of(model, y)),
    "early-stopping": lambda model, X, y: model.set_params(early_stopping=True).fit(X, y),
    "validation": lambda model, X, y: model.fit(X, y, validation_data=(np.nan_to_num(X), y)),
}


@each_solver
@both_classes
def test_a_warm_start_goes_on_as_if_it_had_not_stopped(make, y, solver):
    settings = {"shuffle": False, "tol": 0.0} | solver
    model = make(warm_start=True, max_iter=3, **settings).fit(X, y)
    model.set_params(max_iter=4).fit(X, y)
    assert_same_fit(model, make(max_iter=7, **settings).fit(X, y))
    assert (model.n_iter_, len(model.loss_curve_), model.t_) == (4, 7, 7 * N)


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling"])
@each_solver
@both_classes
def test_partial_fits_are_the_epochs_of_one_fit(make, y, solver, learning_rate):
    settings = {"learning_rate": learning_rate, "shuffle": False} | solver
    model = make(**settings)
    for _ in range(4):
        METHODS["first-partial_fit"](model, X, y)
    whole = make(max_iter=4, **settings).fit(X, y)
    assert_same_fit(model, whole)
    assert (model.n_iter_, model.t_) == (1, whole.t_)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@both_classes
def test_each_partial_fit_shuffles_anew(make, y, solver):
    # scikit-learn's would begin with the same shuffle each time, if it were not given a RandomState.
    model = make(solver=solver, learning_rate_init=0.05)
    kind = neural_network.MLPClassifier if make is classifier else neural_network.MLPRegressor
    settings = {"solver": solver, "learning_rate_init": 0.05, "batch_size": BATCH}
    theirs, again = (
        kind(hidden_layer_sizes=(8,), random_state=seed, **settings) for seed in (np.random.RandomState(0), 0)
    )
    for each in [model, theirs, again] * 3:
        each.partial_fit(X, y, **({"classes": [0, 1, 2]} if make is classifier else {}))
    assert_same_fit(model, theirs, rel=1e-10)
    assert np.abs(parameters(model) - parameters(again)).max() > 1e-3


@both_classes
def test_a_warm_start_draws_the_shuffles_of_scikit_learn(make, y):
    settings = {"solver": "sgd", "momentum": 0.0, "warm_start": True, "max_iter": 3, "batch_size": BATCH}
    kind = neural_network.MLPClassifier if make is classifier else neural_network.MLPRegressor
    theirs = kind(hidden_layer_sizes=(8,), random_state=0, **settings).fit(X, y).fit(X, y)
    assert_same_fit(make(**settings).fit(X, y).fit(X, y), theirs, rel=1e-10)


WAYS = {
    "plain": {"solver": "adam", "early_stopping": False},
    "watched": {"solver": "adam", "early_stopping": False},  # with validation_data
    "stopping": {"solver": "adam", "early_stopping": True},
    "lbfgs": {"solver": "lbfgs", "early_stopping": False},
}


@pytest.mark.parametrize(("first", "then"), [ways for ways in product(WAYS, WAYS) if ways[0] != ways[1]])
@both_classes
def test_a_warm_start_may_go_another_way_and_records_it(make, y, first, then):
    model = make(warm_start=True)
    for way in (first, then):
        before = [*getattr(model, "coefs_", [])]
        model.set_params(**WAYS[way]).fit(X, y, validation_data=(X, y) if way == "watched" else None)
        assert model.n_iter_ == 5
    if then != "lbfgs":  # a step of Adam is about as long as its rate, 0.001: it has gone on from there
        assert max(np.abs(W - V).max() for W, V in zip(model.coefs_, before, strict=True)) < 0.05
    assert len(model.loss_curve_) == 5 * sum(way != "lbfgs" for way in (first, then))
    epochs = 5 * sum(way in ("watched", "stopping") for way in (first, then))
    for record in (model.validation_scores_, model.validation_loss_curve_):
        assert record is None if epochs == 0 else len(record) == epochs
    if epochs:
        assert model.best_validation_score_ == max(model.validation_scores_)
    if then == "watched":
        assert model.validation_scores_[-1] == pytest.approx(model.score(X, y), rel=1e-10)
    if then in ("plain", "watched"):
        assert model.best_loss_ == min(model.loss_curve_[-5:])


def test_a_warm_start_wants_the_same_network():
    model = regressor(warm_start=True).fit(X, NUMBERS)
    before = model.predict(X)
    for sizes in ((9,), (8, 8)):
        with pytest.raises(ValueError, match="hidden_layer_sizes"):
            model.set_params(hidden_layer_sizes=sizes).fit(X, NUMBERS)
    assert model.predict(X).tobytes() == before.tobytes()


@pytest.mark.parametrize("make", [classifier, regressor])
def test_lbfgs_has_no_partial_fit(make):
    model = make(solver="lbfgs")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        model.partial_fit(X, BINARY)
    assert hasattr(model.set_params(solver="adamw"), "partial_fit")


# Solvers and schedules


@pytest.mark.parametrize(
    ("solver", "params", "torch_params"),
    [
        ("adamw", {"alpha": 0.3}, {"weight_decay": 0.3}),
        (
            "adamw",
            {"alpha": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-6},
            {"weight_decay": 0.01, "betas": (0.8, 0.95), "eps": 1e-6},
        ),
        ("rmsprop", {}, {}),
        ("rmsprop", {"epsilon": 1e-6}, {"eps": 1e-6}),
    ],
    ids=["adamw", "adamw-settings", "rmsprop", "rmsprop-settings"],
)
def test_a_solver_takes_the_steps_of_pytorchs(solver, params, torch_params):
    name = {"adamw": "AdamW", "rmsprop": "RMSprop"}[solver]
    settings = FULL_BATCH | {"max_iter": 40, "tol": 0.0} | params
    model = classifier(solver=solver, learning_rate_init=0.02, **settings).fit(X, CLASSES)
    reference = torch_fit((4, 8, 3), ["relu"], cross_entropy, name, steps=40, lr=0.02, **torch_params)
    assert_like_torch(model, *reference)


@each_solver
def test_a_function_gives_the_rate_of_each_step(solver):
    seen = []

    def rate(t):
        seen.append(t)
        return 0.01

    model = classifier(learning_rate=rate, max_iter=3, **solver).fit(X, CLASSES)
    assert seen == list(range(1, 3 * STEPS_PER_EPOCH + 1))
    constant = classifier(max_iter=3, **solver | {"learning_rate_init": 0.01}).fit(X, CLASSES)
    assert_same_fit(model, constant)


def test_partial_fit_goes_on_counting_steps_and_a_new_fit_does_not():
    seen = []

    def rate(t):
        seen.append(t)
        return 0.01

    model = regressor(learning_rate=rate, max_iter=1)
    for _ in range(2):
        model.partial_fit(X, NUMBERS)
    assert seen == list(range(1, 2 * STEPS_PER_EPOCH + 1))
    seen.clear()
    model.fit(X, NUMBERS)
    assert seen == list(range(1, STEPS_PER_EPOCH + 1))


@each_solver
def test_each_fit_of_a_warm_start_begins_the_schedule_again(solver):
    seen = []

    def rate(t):
        seen.append(t)
        return cosine(t, lr=0.01, total=3 * STEPS_PER_EPOCH)

    settings = {"max_iter": 3, "warm_start": True} | solver | {"learning_rate_init": 0.01}
    by_hand, named = (
        classifier(learning_rate=schedule, **settings).fit(X, CLASSES).fit(X, CLASSES)
        for schedule in (rate, "cosine")
    )
    assert seen == 2 * list(range(1, 3 * STEPS_PER_EPOCH + 1))
    assert_same_fit(named, by_hand)


@pytest.mark.parametrize(("name", "function"), [("cosine", cosine), ("one_cycle", one_cycle)])
@each_solver
def test_a_schedule_by_name_lasts_for_the_whole_fit(name, function, solver):
    total = 6 * STEPS_PER_EPOCH
    by_hand = partial(function, lr=solver["learning_rate_init"], total=total)
    named = classifier(learning_rate=name, max_iter=6, **solver).fit(X, CLASSES)
    assert_same_fit(named, classifier(learning_rate=by_hand, max_iter=6, **solver).fit(X, CLASSES))
    assert named.loss_ != pytest.approx(classifier(max_iter=6, **solver).fit(X, CLASSES).loss_, rel=1e-4)


@pytest.mark.parametrize(("name", "function"), [("cosine", cosine), ("one_cycle", one_cycle)])
@pytest.mark.parametrize("before", [[], [N], [N, N]], ids=["", "fit", "warm-fit"])
def test_partial_fit_follows_a_schedule_to_its_end(name, function, before):
    # Each call is an epoch, whatever its number of rows: each takes the same share of the schedule.
    sizes = [N, 20, N, 40]
    steps = [math.ceil(n / BATCH) for n in sizes]
    rates = [
        function(i * m + t, lr=0.05, total=6 * m)
        for i, m in enumerate(steps, start=2)
        for t in range(1, m + 1)
    ]
    settings = {"solver": "sgd", "learning_rate_init": 0.05, "warm_start": True, "shuffle": False}
    named = regressor(learning_rate=name, **settings)
    for _ in before:  # of which partial_fit continues the last one
        named.set_params(max_iter=2).fit(X, NUMBERS)
    for _ in range(0 if before else 2):
        named.set_params(max_iter=6).partial_fit(X, NUMBERS)
    named.set_params(max_iter=6)
    start = named._optimizer.step
    by_hand = copy.deepcopy(named).set_params(learning_rate=lambda t: rates[t - start - 1])
    for model in (named, by_hand):
        for n in sizes:
            model.partial_fit(X[:n], NUMBERS[:n])
    assert_same_fit(named, by_hand)
    digest = everything(named)
    with pytest.raises(ValueError, match=rf"'{name}' spans max_iter=6 .* trained for 6\."):
        named.partial_fit(X, NUMBERS)
    assert everything(named) == digest
    named.set_params(max_iter=7).partial_fit(X, NUMBERS)


@pytest.mark.parametrize("solver", ["sgd", "adamw", "rmsprop"])
def test_invscaling_reaches_the_new_solvers(solver):
    # scikit-learn's: after each epoch, the rate becomes learning_rate_init / (rows seen + 1)^power_t.
    def rate(t):
        rows_seen = (t - 1) // STEPS_PER_EPOCH * N
        return 0.05 / (rows_seen + 1) ** 0.3

    settings = {"solver": solver, "learning_rate_init": 0.05, "power_t": 0.3}
    model = classifier(learning_rate="invscaling", **settings).fit(X, CLASSES)
    assert_same_fit(model, classifier(learning_rate=rate, **settings).fit(X, CLASSES))


@pytest.mark.parametrize("solver", ["sgd", "adamw", "rmsprop"])
def test_adaptive_lowers_the_rate_instead_of_stopping(solver):
    # With so large a tolerance no epoch counts as progress: when the rate falls and all stops is then fixed.
    settings = {"tol": 1e3, "n_iter_no_change": 1, "max_iter": 100}
    constant, adaptive = (
        classifier(solver=solver, learning_rate=rate, **settings).fit(X, CLASSES)
        for rate in ("constant", "adaptive")
    )
    theirs = neural_network.MLPClassifier(
        (8,), solver="sgd", learning_rate="adaptive", random_state=0, **settings
    ).fit(X, CLASSES)
    assert adaptive.n_iter_ == theirs.n_iter_ > constant.n_iter_


@pytest.mark.parametrize("learning_rate", ["invscaling", "adaptive"])
def test_adam_ignores_the_schedules_of_sgd(learning_rate):
    assert_same_fit(classifier(learning_rate=learning_rate).fit(X, CLASSES), classifier().fit(X, CLASSES))


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": "cosine"},
        {"learning_rate": "one_cycle"},
        {"learning_rate": partial(cosine, lr=0.1, total=10)},
        {"clip_norm": 1.0},
    ],
    ids=["cosine", "one_cycle", "function", "clip_norm"],
)
def test_lbfgs_has_neither_learning_rate_nor_clipping(params):
    (name,) = params
    with pytest.raises(ValueError, match=rf"{name}.*lbfgs|lbfgs.*{name}"):
        regressor(solver="lbfgs", **params).fit(X, NUMBERS)


# Callbacks and the bar


class Watch:
    """A callback that counts epochs, and after the last one stops the fit or raises."""

    def __init__(self, last=None, error=None):
        self.last, self.error, self.epochs, self.torn_down = last, error, 0, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.parent is None:
            return False
        self.epochs += 1
        if self.epochs == self.last and self.error:
            raise self.error
        return self.epochs == self.last


@both_classes
def test_the_scoring_monitor_logs_one_score_per_epoch(make, y):
    monitor = ScoringMonitor(scoring="accuracy" if make is classifier else "r2")
    model = make().set_callbacks(monitor).fit(X, y, validation_data=(X, y))
    log = [row for row in monitor.get_logs().data if len(row["task_id_path"]) == 2]
    assert [row["task_id"] for row in log] == [0, 1, 2, 3, 4]
    scores = [row["accuracy" if make is classifier else "r2"] for row in log]
    assert scores == pytest.approx(model.validation_scores_, rel=1e-12)


@pytest.mark.parametrize("early_stopping", [False, True])
@both_classes
def test_a_callback_may_end_the_fit(make, y, early_stopping):
    watch = Watch(last=2)
    model = make(early_stopping=early_stopping).set_callbacks(watch).fit(X, y)
    assert (model.n_iter_, len(model.loss_curve_), watch.epochs, watch.torn_down) == (2, 2, 2, 1)
    assert model.loss_curve_ == make(early_stopping=early_stopping).fit(X, y).loss_curve_[:2]


def test_callbacks_do_not_change_the_fit():
    watch, monitor = Watch(), ScoringMonitor(scoring="accuracy")
    assert_same_fit(classifier().set_callbacks(watch, monitor).fit(X, CLASSES), classifier().fit(X, CLASSES))
    assert (watch.epochs, watch.torn_down) == (5, 1)


def test_the_progress_bar_of_scikit_learn_runs(capfd):
    pytest.importorskip("rich")
    model = classifier().set_callbacks(ProgressBar()).fit(X, CLASSES)
    assert model.n_iter_ == 5
    assert "MLPClassifier" in capfd.readouterr().out


@both_classes
def test_verbose_progress_draws_a_bar_and_prints_nothing(make, y, capfd):
    make(verbose="progress").fit(X, y)
    out, err = capfd.readouterr()
    assert out == ""
    assert "5/5" in err


@pytest.mark.parametrize("verbose", [False, True])
def test_otherwise_there_is_no_bar(verbose, capfd):
    classifier(verbose=verbose).fit(X, CLASSES)
    out, err = capfd.readouterr()
    assert err == ""
    assert ("Iteration 5, loss = " in out) is verbose


# A fit that fails, or is interrupted


def fails_at_a_step(t):
    if (
        t % (5 * STEPS_PER_EPOCH) == 5
    ):  # in the first epoch of `fit`, and of a `partial_fit` after five epochs
        raise RuntimeError("no rate today")
    return 0.05


def explodes(t):
    return 1e200


FAILURES = {
    "early": ({}, X * np.nan, ValueError, "contains NaN"),
    "other-features": ({}, np.ones((N, 3)) * np.inf, ValueError, "infinity"),
    "at-a-step": ({"learning_rate": fails_at_a_step}, X, RuntimeError, "no rate today"),
    "at-the-end": (
        {"learning_rate": explodes},
        X,
        ValueError,
        "Solver produced non-finite parameter weights",
    ),
}


BEST_KEPT = "early-stopping", "at-the-end"


def everything(model):
    """A digest of all that the estimator holds, parameters and callbacks apart."""
    state = model.__getstate__()
    return joblib.hash(
        {k: v for k, v in state.items() if k not in model.get_params() and k != "_skl_callbacks"}
    )


@pytest.mark.parametrize(
    ("method", "failure"),
    [(m, f) for m, f in product(METHODS, FAILURES) if m != "first-partial_fit" and (m, f) != BEST_KEPT],
)
@both_classes
def test_a_fitted_model_outlives_a_fit_that_fails(make, y, method, failure):
    params, bad_X, error, words = FAILURES[failure]
    model = make().fit(X, y)
    before, digest, names = model.predict(X), everything(model), set(vars(model))
    model.set_params(**params)
    with pytest.raises(error, match=words):
        METHODS[method](model, bad_X, y)
    assert set(vars(model)) == names
    assert everything(model) == digest
    assert model.predict(X).tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("method", "failure"),
    [(m, f) for m, f in product(METHODS, FAILURES) if m != "partial_fit" and (m, f) != BEST_KEPT],
)
@both_classes
def test_nothing_half_fitted_remains(make, y, method, failure):
    params, bad_X, error, words = FAILURES[failure]
    model = make(**params)
    names = set(vars(model))
    with pytest.raises(error, match=words):
        METHODS[method](model, bad_X, y)
    assert set(vars(model)) == names
    with pytest.raises(NotFittedError):
        model.predict(X)


@both_classes
def test_a_callback_that_raises_leaves_the_model_as_it_was(make, y):
    model = make().fit(X, y)
    before, digest, names = model.predict(X), everything(model), set(vars(model))
    watch = Watch(last=3, error=RuntimeError("enough"))
    with pytest.raises(RuntimeError, match="enough"):
        model.set_callbacks(watch).fit(X, y)
    assert (watch.epochs, watch.torn_down) == (3, 1)
    assert set(vars(model)) - {"_skl_callbacks"} == names
    assert everything(model) == digest
    assert model.predict(X).tobytes() == before.tobytes()


@both_classes
def test_early_stopping_keeps_the_best_of_a_fit_that_diverges(make, y):
    def rate(t):
        return 0.01 if t <= 2 * STEPS_PER_EPOCH else 1e200

    model = make(early_stopping=True, learning_rate=rate).fit(X, y)
    calm = make(early_stopping=True, learning_rate=rate, max_iter=2).fit(X, y)
    assert parameters(model).tolist() == parameters(calm).tolist()
    assert model.best_validation_score_ == max(calm.validation_scores_)
    # The epoch that diverged is in each record.
    assert model.n_iter_ == 3
    for curve in ("loss_curve_", "validation_scores_", "validation_loss_curve_"):
        np.testing.assert_array_equal(getattr(model, curve), [*getattr(calm, curve), np.nan])


@pytest.mark.parametrize("held", [False, True], ids=["set-aside", "given"])
@pytest.mark.parametrize("scored", [False, True], ids=["", "scoring"])
@both_classes
def test_early_stopping_has_nothing_to_keep_of_a_fit_that_diverges_at_once(make, y, scored, held):
    scoring = ("accuracy" if make is classifier else "r2") if scored else None
    model = make(early_stopping=True, learning_rate=explodes, scoring=scoring)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(X, y, validation_data=(X, y) if held else None)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("solver", [{"solver": "sgd"}, {"activation": "identity"}], ids=["sgd", "adam"])
def test_a_poisson_mean_that_explodes_is_reported_as_by_scikit_learn(solver):
    settings = {"loss": "poisson", "learning_rate_init": 100.0, "max_iter": 20, "random_state": 0} | solver
    for module in (neural_network, xpnet):
        model = module.MLPRegressor(hidden_layer_sizes=(8,), **settings)
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite parameter weights"):
            model.fit(X, COUNTS)


def test_a_loss_that_overflows_is_reported():
    # In scikit-learn Adam divides by the overflow: the parameters stay as they were drawn, and loss_ is inf.
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        regressor().fit(X, 1e200 * NUMBERS)


def test_a_poisson_mean_too_small_to_show_has_a_finite_loss():
    # scikit-learn's loss_ is inf.
    model = regressor(loss="poisson", alpha=0.0, batch_size=N).fit(X, COUNTS)
    model.intercepts_[-1][...] = -1e6
    z = np.maximum(X @ model.coefs_[0] + model.intercepts_[0], 0.0) @ model.coefs_[1] - 1e6
    rows = -COUNTS * z[:, 0] + xlogy(COUNTS, COUNTS) - COUNTS
    assert model.partial_fit(X, COUNTS).loss_ == pytest.approx(rows.mean(), rel=1e-12)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e37), ("float64", 1e60)])
def test_logistic_units_with_huge_inputs_learn_what_they_learn_in_scikit_learn(dtype, size):
    settings = {"activation": "logistic", "solver": "sgd", "max_iter": 3, "random_state": 0, "alpha": 0.0}
    data = (size * np.sign(X)).astype(dtype), BINARY
    ours, theirs = (
        module.MLPClassifier((8,), batch_size=N, **settings).fit(*data) for module in (xpnet, neural_network)
    )
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=1e-5)


def test_a_poisson_mean_may_be_as_large_as_the_dtype_allows():
    ours, theirs = (
        module.MLPRegressor("poisson", (8,), max_iter=2, random_state=0).fit(X, COUNTS)
        for module in (xpnet, neural_network)
    )
    for model in (ours, theirs):
        model.intercepts_[-1][...] += 200.0
    assert ours.predict(X).max() > 1e80
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-10)


def test_training_goes_on_after_a_partial_fit_that_failed():
    model, calm = (regressor().fit(X, NUMBERS) for _ in range(2))
    with pytest.raises(RuntimeError, match="no rate today"):
        model.set_params(learning_rate=fails_at_a_step).partial_fit(X, NUMBERS)
    model.set_params(learning_rate="constant")
    assert_same_fit(model.partial_fit(X, NUMBERS), calm.partial_fit(X, NUMBERS))


@both_classes
def test_an_interrupted_fit_keeps_what_it_has(make, y, monkeypatch):
    find_coefficients = Steps.find_coefficients

    def interrupt(steps, i):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 15:
            raise KeyboardInterrupt
        return find_coefficients(steps, i)

    n_steps = 0
    monkeypatch.setattr(Steps, "find_coefficients", interrupt)
    model = make(learning_rate=lambda t: 0.05)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model.fit(X, y)
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 2)  # six steps an epoch
    monkeypatch.undo()
    whole = make(learning_rate=lambda t: 0.05 if t < 15 else 1e-300, max_iter=3).fit(X, y)
    assert parameters(model) == pytest.approx(parameters(whole), rel=1e-12, abs=1e-12)
    assert model.loss_curve_ == pytest.approx(whole.loss_curve_[:2], rel=1e-12)


def test_an_interrupted_fit_on_jax_keeps_the_epochs_that_are_over(monkeypatch):
    jnp = pytest.importorskip("jax.numpy")
    call, calls = CompiledLoop.__call__, []

    def interrupt(*arguments):
        result = call(*arguments)
        calls.append(result)
        if len(calls) == 5:  # two calls an epoch
            raise KeyboardInterrupt
        return result

    data = jnp.asarray(X), jnp.asarray(NUMBERS)
    expected = regressor(max_iter=2).fit(*data)
    monkeypatch.setattr(CompiledLoop, "__call__", interrupt)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model = regressor().fit(*data)
    assert model.n_iter_ == 2
    assert_same_fit(model, expected)
    assert model.predict(data[0]).tolist() == expected.predict(data[0]).tolist()


# Refused


@both_classes
def test_partial_fit_does_not_stop_early(make, y):
    model = make(early_stopping=True)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        METHODS["first-partial_fit"](model, X, y)


@pytest.mark.parametrize(
    ("make", "params"),
    [
        *((regressor, {"loss": "quantile", "quantile": q}) for q in (0.0, 1.0, -0.5, math.nan)),
        *((classifier, {"label_smoothing": s}) for s in (1.0, -0.1, math.nan)),
        *((make, {"clip_norm": c}) for make in (classifier, regressor) for c in (0.0, -1.0)),
        (classifier, {"class_weight": "balance"}),
        (classifier, {"loss": "huber"}),
        (regressor, {"loss": "log_loss"}),
        (regressor, {"solver": "adagrad"}),
        (regressor, {"learning_rate": "linear"}),
        (regressor, {"verbose": "bar"}),
        (regressor, {"alpha": -1.0}),
    ],
)
def test_parameters_out_of_range_are_refused_as_by_scikit_learn(make, params):
    if params == {"loss": "huber"}:
        with pytest.raises(TypeError, match="loss"):
            make(**params)
        return
    (name,) = set(params) - ({"loss"} if "quantile" in params else set())
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of MLP"):
        make(**params).fit(X, BINARY)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_a_schedule_that_ends_with_the_fit_ends_without_a_warning(schedule):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classifier(learning_rate=schedule).fit(X, CLASSES).n_iter_ == 5
