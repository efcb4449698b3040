"""What the estimators minimize: activations, losses, class weights, label smoothing, clipped gradients."""

import math

import numpy as np
import pytest
from problems import (
    BATCH,
    BINARY,
    CLASSES,
    COUNTS,
    LABELS,
    NUMBERS,
    PLAIN_SGD,
    STRINGS,
    TWO_NUMBERS,
    WEIGHT,
    N,
    X,
    assert_like_torch,
    assert_same_fit,
    classifier,
    cross_entropy,
    initial_layers,
    parameters,
    regressor,
    torch_fit,
)
from scipy.optimize import least_squares
from scipy.special import expit, log_expit, log_softmax
from sklearn import neural_network
from sklearn.linear_model import LinearRegression, PoissonRegressor, QuantileRegressor
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.utils.class_weight import compute_sample_weight

from xpnet import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def raw_outputs(model, X, activations):
    """The last layer before its activation: a forward pass of `coefs_` and `intercepts_` in NumPy."""
    h = X
    for activation, W, b in zip([*activations, lambda z: z], model.coefs_, model.intercepts_, strict=True):
        h = activation(h @ W + b)
    return h


def relu(z):
    return np.maximum(z, 0.0)


# class_weight


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("y", [BINARY, CLASSES, STRINGS], ids=["binary", "multi-class", "strings"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_balanced_classes_are_sample_weights(y, weight, solver):
    ours = classifier(class_weight="balanced", solver=solver, max_iter=8).fit(X, y, weight)
    sample_weight = compute_sample_weight("balanced", y) * (1.0 if weight is None else weight)
    plain = classifier(solver=solver, max_iter=8).fit(X, y, sample_weight)
    theirs = neural_network.MLPClassifier(
        (8,), solver=solver, max_iter=8, batch_size=BATCH, random_state=0
    ).fit(X, y, sample_weight)
    if solver == "lbfgs":
        assert ours.loss_ == pytest.approx(plain.loss_, rel=1e-12)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
    else:
        assert_same_fit(ours, plain)
        assert_same_fit(ours, theirs, rel=1e-10)
    assert ours.loss_ != pytest.approx(classifier(solver=solver, max_iter=8).fit(X, y).loss_, rel=1e-5)


@pytest.mark.parametrize(
    ("y", "class_weight"),
    [(BINARY, {0: 1.0, 1: 5.0}), (CLASSES, {2: 4.0, 1: 0.5}), (STRINGS, {"yes": 4.0, "maybe": 0.5})],
    ids=["binary", "multi-class", "strings"],
)
def test_classes_left_out_of_a_mapping_weigh_1(y, class_weight):
    ours = classifier(class_weight=class_weight).fit(X, y, WEIGHT)
    sample_weight = WEIGHT * [class_weight.get(label, 1.0) for label in y.tolist()]
    assert_same_fit(ours, classifier().fit(X, y, sample_weight))


def test_a_mapping_of_weights_works_batch_by_batch():
    class_weight, batches = {"yes": 4.0, "no": 0.5}, [np.flatnonzero(STRINGS != "yes"), np.arange(40)]
    ours, plain = classifier(class_weight=class_weight), classifier()
    for rows in batches:
        y = STRINGS[rows]
        ours.partial_fit(X[rows], y, classes=["maybe", "no", "yes"])
        weight = [class_weight.get(label, 1.0) for label in y.tolist()]
        plain.partial_fit(X[rows], y, weight, classes=["maybe", "no", "yes"])
    assert_same_fit(ours, plain)


def test_a_class_weight_for_no_class_is_named():
    with pytest.raises(ValueError, match="perhaps"):
        classifier(class_weight={"yes": 2.0, "perhaps": 1.0}).fit(X, STRINGS)
    with pytest.raises(ValueError, match=r"\b7\b"):
        classifier(class_weight={0: 2.0, 7: 1.0}).fit(X, CLASSES)


@pytest.mark.parametrize("weight", [math.inf, math.nan, -1.0])
def test_class_weights_are_finite_and_not_negative(weight):
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight={0: weight}).fit(X, CLASSES)


ONLY_0, ALL_BUT_ONE_0 = CLASSES == 0, np.where(np.arange(N) == 7, 1.0, 0.0)
WEIGHTLESS = {
    "class_weight": lambda: classifier(class_weight={0: 0.0, 1: 0.0, 2: 0.0}).fit(X, CLASSES),
    "class_weight, lbfgs": lambda: classifier(class_weight={0: 0, 1: 0}, solver="lbfgs").fit(X, BINARY),
    "class_weight of a part": lambda: classifier(class_weight={0: 0.0}).partial_fit(
        X[ONLY_0], CLASSES[ONLY_0], classes=[0, 1, 2]
    ),
    "class_weight and sample_weight": lambda: classifier(class_weight={0: 0.0}).fit(X, CLASSES, 1.0 * ONLY_0),
    # The one row that counts is held out, or no row held out counts.
    "classes held out": lambda: classifier(early_stopping=True).fit(X, CLASSES, ALL_BUT_ONE_0),
    "numbers held out": lambda: regressor(early_stopping=True).fit(X, NUMBERS, ALL_BUT_ONE_0),
    "validation_data": lambda: regressor().fit(X, NUMBERS, validation_data=(X, NUMBERS, 0.0 * WEIGHT)),
}


@pytest.mark.parametrize("act", WEIGHTLESS.values(), ids=WEIGHTLESS)
def test_weights_that_are_all_0_are_refused(act):
    with pytest.raises(ValueError, match="weights must contain at least one non-zero number"):
        act()


@pytest.mark.parametrize("params", [{}, {"solver": "lbfgs"}, {"watched": True}], ids=["", "lbfgs", "watched"])
def test_weights_of_both_signs_that_sum_to_0_are_refused(params, backend, lend):
    data = lend(X), lend(NUMBERS), lend(np.resize([1.0, -1.0], N))
    validation = data if params == {"watched": True} else None
    model = regressor() if validation else regressor(**params)
    with pytest.raises(ValueError, match="Sample weights must not sum to 0"):
        model.fit(*data[: 2 if validation else 3], validation_data=validation)


def test_a_batch_whose_weights_are_all_0_is_passed_over():
    # scikit-learn raises ZeroDivisionError.
    weight = np.r_[WEIGHT[:BATCH], np.zeros(BATCH), WEIGHT[2 * BATCH :]]
    settings = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "max_iter": 1, "learning_rate_init": 0.05}
    kept = weight > 0.0
    model = regressor(**settings).fit(X, NUMBERS, weight)
    others = regressor(**settings).fit(X[kept], NUMBERS[kept], weight[kept])
    assert parameters(model) == pytest.approx(parameters(others), rel=1e-12)
    assert model.loss_ * N == pytest.approx(others.loss_ * kept.sum(), rel=1e-12)


@pytest.mark.parametrize("params", [{"solver": "lbfgs"}, {"batch_size": N}], ids=["lbfgs", "adam"])
def test_negative_weights_mean_what_they_mean_in_scikit_learn(params):
    weight = np.where(np.arange(N) == 3, N / 2, -1.0)  # their sum is negative
    settings = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0, "alpha": 1.0} | params
    ours, theirs = (
        kind(**settings).fit(X, NUMBERS, weight) for kind in (MLPRegressor, neural_network.MLPRegressor)
    )
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-8)
    assert parameters(ours) == pytest.approx(parameters(theirs), rel=1e-8)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0}])
def test_multi_label_has_no_class_weight(class_weight):
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight=class_weight).fit(X, LABELS)


def test_a_batch_cannot_be_balanced_before_all_is_seen():
    with pytest.raises(ValueError, match=r"balanced.*partial_fit|partial_fit.*balanced"):
        classifier(class_weight="balanced").partial_fit(X, CLASSES, classes=[0, 1, 2])


# activation


@pytest.mark.parametrize("make", [classifier, regressor])
def test_one_name_for_all_hidden_layers_is_a_list_of_it(make):
    one = make(hidden_layer_sizes=(8, 6), activation="tanh").fit(X, BINARY)
    for several in (("tanh", "tanh"), ["tanh", "tanh"]):
        assert_same_fit(make(hidden_layer_sizes=(8, 6), activation=several).fit(X, BINARY), one)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_predictions_are_the_forward_pass_through_the_listed_activations(solver):
    settings = {"hidden_layer_sizes": (8, 6), "activation": ("relu", "tanh"), "solver": solver}
    model = regressor(**settings).fit(X, NUMBERS)
    assert model.predict(X) == pytest.approx(raw_outputs(model, X, [relu, np.tanh])[:, 0], rel=1e-12)
    model = classifier(**settings).fit(X, BINARY)
    p = expit(raw_outputs(model, X, [relu, np.tanh]))
    np.testing.assert_allclose(model.predict_proba(X), np.hstack([1.0 - p, p]), rtol=1e-12)


@pytest.mark.parametrize(
    "activations", [("relu", "tanh"), ("leaky_relu", "elu"), ("softplus", "relu")], ids="-".join
)
def test_listed_activations_train_as_in_pytorch(activations):
    model = classifier(hidden_layer_sizes=(8, 6), activation=activations, **PLAIN_SGD).fit(X, CLASSES)
    assert_like_torch(model, *torch_fit((4, 8, 6, 3), activations, cross_entropy, "SGD", lr=0.1))


@pytest.mark.parametrize("activation", [[], ["relu"], ["relu", "tanh", "relu"]])
def test_as_many_activations_as_hidden_layers(activation):
    with pytest.raises(ValueError, match="activation"):
        regressor(hidden_layer_sizes=(8, 6), activation=activation).fit(X, NUMBERS)


@pytest.mark.parametrize("activation", ["swish", ["relu", "swish"]])
def test_an_unknown_activation_is_named(activation):
    with pytest.raises(ValueError, match=r"activation.*swish|swish.*activation"):
        regressor(hidden_layer_sizes=(8, 6), activation=activation).fit(X, NUMBERS)


# Losses of the regressor

TORCH_LOSSES = {
    "squared_error": lambda torch, z, y: 0.5 * (z - y) ** 2,
    "huber": lambda torch, z, y: torch.nn.functional.huber_loss(z, y, delta=1.0, reduction="none"),
    "absolute_error": lambda torch, z, y: torch.nn.functional.l1_loss(z, y, reduction="none"),
    "quantile": lambda torch, z, y: torch.maximum(0.3 * (y - z), 0.7 * (z - y)),
    "poisson": lambda torch, z, y: (
        torch.nn.functional.poisson_nll_loss(z, y, reduction="none") + torch.special.xlogy(y, y) - y
    ),
}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("loss", TORCH_LOSSES)
def test_a_loss_trains_as_in_pytorch(loss, weight):
    y = COUNTS if loss == "poisson" else NUMBERS

    def theirs(torch, z):
        rows = TORCH_LOSSES[loss](torch, z[:, 0], torch.tensor(y))
        share = torch.ones(N) if weight is None else torch.tensor(weight)
        return (share * rows).sum() / share.sum()

    model = regressor(loss=loss, quantile=0.3, **PLAIN_SGD).fit(X, y, weight)
    assert_like_torch(model, *torch_fit((4, 8, 1), ["relu"], theirs, "SGD", lr=0.1))


@pytest.mark.parametrize("loss", TORCH_LOSSES)
def test_the_gradients_of_several_outputs_add_up(loss):
    y = np.column_stack([COUNTS, COUNTS[::-1]]) if loss == "poisson" else TWO_NUMBERS

    def theirs(torch, z):
        return TORCH_LOSSES[loss](torch, z, torch.tensor(y)).sum(1).mean()

    model = regressor(loss=loss, quantile=0.3, **PLAIN_SGD).fit(X, y)
    _, coefs, _ = torch_fit((4, 8, 2), ["relu"], theirs, "SGD", lr=0.1)
    for W, V in zip(model.coefs_, coefs, strict=True):
        np.testing.assert_allclose(W, V, rtol=1e-8, atol=1e-10)


def huber_fit(X, y):
    """scipy's Huber regression: an intercept and one coefficient per column."""
    A = np.column_stack([np.ones(len(X)), X])
    return A @ least_squares(lambda w: A @ w - y, np.zeros(5), loss="huber", f_scale=1.0).x


LINEAR = {
    "squared_error": lambda X, y: LinearRegression().fit(X, y).predict(X),
    "poisson": lambda X, y: PoissonRegressor(alpha=0.0, max_iter=1000, tol=1e-8).fit(X, y).predict(X),
    "absolute_error": lambda X, y: QuantileRegressor(quantile=0.5, alpha=0.0).fit(X, y).predict(X),
    "quantile": lambda X, y: QuantileRegressor(quantile=0.9, alpha=0.0).fit(X, y).predict(X),
    "huber": huber_fit,
}


@pytest.mark.parametrize("loss", LINEAR)
def test_without_hidden_layers_it_is_the_linear_model_of_this_loss(loss):
    y = COUNTS if loss == "poisson" else 3.0 * NUMBERS
    schedule = {"learning_rate": "cosine", "learning_rate_init": 0.1, "max_iter": 1500, "tol": 0.0}
    settings = {
        "hidden_layer_sizes": (),
        "alpha": 0.0,
        "batch_size": N,
        "n_iter_no_change": np.inf,
    } | schedule
    model = regressor(loss=loss, quantile=0.9, **settings).fit(X, y)
    expected = LINEAR[loss](X, y)
    assert np.abs(model.predict(X) - expected).max() < 0.02 * np.std(expected)


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_a_quantile_leaves_its_share_of_the_targets_below(q):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 1.0, (400, 1))
    y = np.sin(6 * x[:, 0]) + (0.1 + x[:, 0]) * rng.standard_normal(400)
    schedule = {"learning_rate": "cosine", "learning_rate_init": 0.05, "max_iter": 300, "tol": 0.0}
    settings = {"activation": "tanh", "batch_size": 100, "n_iter_no_change": np.inf} | schedule
    model = regressor(loss="quantile", quantile=q, **settings).fit(x, y)
    assert np.mean(y <= model.predict(x)) == pytest.approx(q, abs=0.01)


def test_robust_losses_are_not_drawn_to_outliers():
    truth = 2.0 * X[:, 0] - X[:, 1]
    y = truth + np.where(np.arange(N) % 10 == 0, 30.0, 0.0)
    errors = {}
    for loss in ("squared_error", "huber", "absolute_error"):
        model = regressor(loss=loss, solver="lbfgs", activation="tanh", alpha=1.0, max_iter=300).fit(X, y)
        errors[loss] = np.median(np.abs(model.predict(X) - truth))
    assert max(errors["huber"], errors["absolute_error"]) < 0.5 * errors["squared_error"]


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_lbfgs_reports_the_mean_over_the_outputs(weight):
    model = regressor(solver="lbfgs", alpha=2.0).fit(X, TWO_NUMBERS, weight)
    penalty = 2.0 / 2 * sum(np.sum(W**2) for W in model.coefs_) / (N if weight is None else weight.sum())
    error = 0.5 * mean_squared_error(TWO_NUMBERS, model.predict(X), sample_weight=weight)
    assert model.loss_ == pytest.approx(error + penalty, rel=1e-10)
    assert penalty > 0.01 * error


@pytest.mark.parametrize("y", [-COUNTS - 1.0, np.column_stack([COUNTS, -COUNTS])], ids=["one", "two"])
def test_poisson_refuses_negative_targets(y):
    with pytest.raises(ValueError, match=r"(?i)(poisson.*negative|negative.*poisson)"):
        regressor(loss="poisson").fit(X, y)


# clip_norm and label_smoothing


@pytest.mark.parametrize("share", [0.1, 0.5, 2.0])
def test_the_gradient_of_a_step_is_cut_to_its_greatest_length(share):
    settings = PLAIN_SGD | {"max_iter": 1}
    layers = initial_layers((4, 8, 1))
    start = np.concatenate([W.ravel() for W, _ in layers] + [b for _, b in layers])
    step = parameters(regressor(**settings).fit(X, 10 * NUMBERS)) - start
    length = np.linalg.norm(step) / 0.1
    clipped = regressor(clip_norm=share * length, **settings).fit(X, 10 * NUMBERS)
    assert parameters(clipped) - start == pytest.approx(min(share, 1.0) * step, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(
    ("solver", "optimizer"), [("sgd", "SGD"), ("adamw", "AdamW"), ("rmsprop", "RMSprop")]
)
def test_every_step_goes_along_the_clipped_gradient(solver, optimizer):
    options = {"lr": 0.02} | ({"weight_decay": 0.0} if solver == "adamw" else {})
    settings = PLAIN_SGD | {"solver": solver, "learning_rate_init": 0.02, "max_iter": 8}
    model = classifier(clip_norm=0.3, **settings).fit(X, CLASSES)
    assert_like_torch(
        model, *torch_fit((4, 8, 3), ["relu"], cross_entropy, optimizer, steps=8, clip_norm=0.3, **options)
    )
    assert model.loss_ != pytest.approx(classifier(**settings).fit(X, CLASSES).loss_, rel=1e-4)


def smoothed_cross_entropy(torch, z):
    return torch.nn.functional.cross_entropy(z, torch.tensor(CLASSES), label_smoothing=0.2)


def smoothed_logistic(Y):
    def loss(torch, z):
        Y_smooth = torch.tensor(0.8 * Y.reshape(N, -1) + 0.1)
        rows = torch.nn.functional.binary_cross_entropy_with_logits(z, Y_smooth, reduction="none")
        return rows.sum(1).mean()

    return loss


@pytest.mark.parametrize(
    ("y", "loss"),
    [
        (CLASSES, smoothed_cross_entropy),
        (BINARY, smoothed_logistic(BINARY)),
        (LABELS, smoothed_logistic(LABELS)),
    ],
    ids=["multi-class", "binary", "multi-label"],
)
def test_label_smoothing_is_that_of_pytorch(y, loss):
    model = classifier(label_smoothing=0.2, **PLAIN_SGD).fit(X, y)
    assert_like_torch(model, *torch_fit((4, 8, len(model.intercepts_[-1])), ["relu"], loss, "SGD", lr=0.1))
    assert model.loss_ > classifier(**PLAIN_SGD).fit(X, y).loss_


def test_the_validation_loss_is_not_smoothed():
    model = classifier(label_smoothing=0.3).fit(X, CLASSES, validation_data=(X, CLASSES))
    plain = log_loss(CLASSES, model.predict_proba(X))
    assert model.validation_loss_curve_[-1] == pytest.approx(plain, rel=1e-10)


# Log-probabilities


@pytest.mark.parametrize(
    ("y", "log_p"),
    [
        (CLASSES, lambda z: log_softmax(z, axis=1)),
        (BINARY, lambda z: np.hstack([log_expit(-z), log_expit(z)])),
        (LABELS, log_expit),
    ],
    ids=["multi-class", "binary", "multi-label"],
)
def test_log_probabilities_are_finite(y, log_p):
    model = classifier(activation="relu", max_iter=30).fit(X, y)
    for scale in (1.0, 1e3, 1e6):
        answer = model.predict_log_proba(scale * X)
        z = raw_outputs(model, scale * X, [relu])
        np.testing.assert_allclose(answer, log_p(z), rtol=1e-9, atol=1e-12)
    assert answer.min() < -1e4
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), atol=1e-12)
