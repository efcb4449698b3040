"""What the estimators have beyond scikit-learn's, the faults they mend, and the bad input they refuse."""

import math
import pickle
import warnings
from functools import partial
from itertools import pairwise, product

import joblib
import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.optimize import least_squares
from scipy.special import expit, log_expit, log_softmax
from sklearn import metrics, neural_network
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, PoissonRegressor, QuantileRegressor
from sklearn.metrics import get_scorer, log_loss, mean_poisson_deviance, mean_squared_error
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.class_weight import compute_sample_weight

from xpnet import MLPClassifier, MLPRegressor
from xpnet.errors import InputError
from xpnet.maths.schedules import cosine, one_cycle

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, BATCH = 90, 16
STEPS_PER_EPOCH = math.ceil(N / BATCH)
RNG = np.random.default_rng(0)
CLASSES = RNG.permutation(np.repeat([0, 1, 2], [50, 30, 10]))
X = RNG.standard_normal((N, 4)) + 0.7 * CLASSES[:, np.newaxis]
BINARY = (CLASSES > 0).astype(int)
LABELS = np.column_stack([BINARY, CLASSES == 2, X[:, 0] > 0]).astype(int)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + np.sin(3 * X[:, 0]) + 0.3 * RNG.standard_normal(N)
TWO_NUMBERS = np.column_stack([NUMBERS, X[:, 1] ** 2])
COUNTS = RNG.poisson(np.exp(0.5 * X[:, 0])).astype(float)
WEIGHT = RNG.uniform(0.5, 2.0, N)
STRINGS = np.array(["no", "maybe", "yes"])[CLASSES]

SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "adamw": {"solver": "adamw", "learning_rate_init": 0.01, "alpha": 0.1},
    "rmsprop": {"solver": "rmsprop", "learning_rate_init": 0.01},
}
each_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def classifier(**params):
    return MLPClassifier(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "batch_size": BATCH, "random_state": 0} | params
    )


def regressor(**params):
    return MLPRegressor(
        **{"hidden_layer_sizes": (8,), "max_iter": 5, "batch_size": BATCH, "random_state": 0} | params
    )


KINDS = {
    "binary": (classifier, BINARY),
    "multi-class": (classifier, CLASSES),
    "strings": (classifier, STRINGS),
    "multi-label": (classifier, LABELS),
    "numbers": (regressor, NUMBERS),
    "two-numbers": (regressor, TWO_NUMBERS),
    "counts": (partial(regressor, loss="poisson"), COUNTS),
}
each_kind = pytest.mark.parametrize(("make", "y"), KINDS.values(), ids=KINDS)
both_classes = pytest.mark.parametrize(
    ("make", "y"), [KINDS["multi-class"], KINDS["numbers"]], ids=["classifier", "regressor"]
)


def parameters(model):
    """All weights and biases as one vector."""
    return np.concatenate([a.ravel() for a in (*model.coefs_, *model.intercepts_)])


def assert_same_fit(ours, theirs, rel=1e-12):
    assert ours.loss_curve_ == pytest.approx(theirs.loss_curve_, rel=rel)
    assert parameters(ours) == pytest.approx(parameters(theirs), rel=100 * rel, abs=100 * rel)


def raw_outputs(model, X, activations):
    """The last layer before its activation: a forward pass of `coefs_` and `intercepts_` in NumPy."""
    h = X
    for activation, W, b in zip([*activations, lambda z: z], model.coefs_, model.intercepts_, strict=True):
        h = activation(h @ W + b)
    return h


def relu(z):
    return np.maximum(z, 0.0)


def initial_layers(sizes, seed=0):
    """The weights and biases that scikit-learn draws (Glorot and Bengio 2010), layer by layer."""
    rng = np.random.RandomState(seed)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        layers.append((rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)))
    return layers


def torch_fit(sizes, activations, loss, optimizer, steps=5, clip_norm=None, **options):
    """What PyTorch makes of full-batch steps from the same start: (the losses, coefs, intercepts).

    Args:
        loss: (torch, outputs) -> the loss.
        optimizer: its name in torch.optim, with `options`.
    """
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(a, requires_grad=True) for layer in initial_layers(sizes) for a in layer]
    descent = getattr(torch.optim, optimizer)(leaves, **options)
    losses = []
    for _ in range(steps):
        h = torch.tensor(X)
        for i, (W, b) in enumerate(zip(leaves[::2], leaves[1::2], strict=True)):
            h = (getattr(torch.nn.functional, activations[i - 1])(h) if i else h) @ W + b
        value = loss(torch, h)
        losses.append(value.item())
        descent.zero_grad()
        value.backward()
        if clip_norm is not None:
            norm = torch.nn.utils.get_total_norm([leaf.grad for leaf in leaves])
            for leaf in leaves:
                leaf.grad *= min(1.0, clip_norm / norm)
        descent.step()
    trained = [leaf.detach().numpy() for leaf in leaves]
    return losses, trained[::2], trained[1::2]


def assert_like_torch(model, losses, coefs, intercepts):
    assert model.loss_curve_ == pytest.approx(losses, rel=1e-9)
    for ours, theirs in zip([*model.coefs_, *model.intercepts_], [*coefs, *intercepts], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


def cross_entropy(torch, z):
    return torch.nn.functional.cross_entropy(z, torch.tensor(CLASSES))


FULL_BATCH = {"batch_size": N, "shuffle": False, "alpha": 0.0}
PLAIN_SGD = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1} | FULL_BATCH


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


# Going on: warm_start and partial_fit


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


@pytest.mark.parametrize(("name", "function"), [("cosine", cosine), ("one_cycle", one_cycle)])
@each_solver
def test_a_schedule_by_name_lasts_for_the_whole_fit(name, function, solver):
    total = 6 * STEPS_PER_EPOCH
    by_hand = partial(function, lr=solver["learning_rate_init"], total=total)
    named = classifier(learning_rate=name, max_iter=6, **solver).fit(X, CLASSES)
    assert_same_fit(named, classifier(learning_rate=by_hand, max_iter=6, **solver).fit(X, CLASSES))
    assert named.loss_ != pytest.approx(classifier(max_iter=6, **solver).fit(X, CLASSES).loss_, rel=1e-4)


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


# save and load


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@each_kind
def test_a_saved_model_comes_back(make, y, dtype, path):
    model = make(early_stopping=True).fit(X.astype(dtype), y)
    model.save(path)
    loaded = type(model).load(path)
    for method in ("predict", "predict_proba", "predict_log_proba")[: 3 if make is classifier else 1]:
        ours, theirs = (getattr(m, method)(X.astype(dtype)) for m in (loaded, model))
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs)
    curves = [
        "loss_curve_",
        "validation_scores_",
        "validation_loss_curve_",
        "loss_",
        "best_validation_score_",
    ]
    for name in [*curves, "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"]:
        assert getattr(loaded, name) == getattr(model, name), name
    assert all(type(W) is np.ndarray and W.dtype == dtype for W in loaded.coefs_)


@pytest.mark.parametrize(
    "names",
    [
        ["no", "maybe", "yes"],
        np.array(["no", "maybe", "yes"], dtype=object),
        [-3, 10, 2**40],
        np.array([2, 5, 9], dtype=np.uint8),
        [0.0, 1.0, 7.0],
    ],
    ids=["strings", "objects", "integers", "bytes", "floats"],
)
def test_classes_of_any_kind_come_back(names, path):
    model = classifier().fit(X, np.asarray(names)[CLASSES])
    model.save(str(path))
    loaded = MLPClassifier.load(str(path))
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert loaded.predict(X).tolist() == model.predict(X).tolist()


def test_two_classes_of_truth_values_come_back(path):
    model = classifier().fit(X, BINARY.astype(bool))
    model.save(path)
    loaded = MLPClassifier.load(path)
    assert loaded.predict(X).dtype == bool
    assert np.array_equal(loaded.predict(X), model.predict(X))


def test_feature_names_come_back(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    regressor().fit(frame, NUMBERS).save(path)
    loaded = MLPRegressor.load(path)
    assert loaded.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": (6, 5), "activation": ("relu", "tanh")},
        {"hidden_layer_sizes": [np.int64(6), 5], "batch_size": np.int64(16), "alpha": np.float32(0.25)},
        {"class_weight": {0: 2.0, 2: np.float32(0.5)}},
        {"n_iter_no_change": np.inf, "learning_rate": "cosine", "solver": "adamw", "clip_norm": 1.0},
        {"scoring": "balanced_accuracy", "early_stopping": True, "verbose": 0, "label_smoothing": 0.1},
    ],
    ids=["tuples", "numpys-numbers", "class-weights", "solver", "scoring"],
)
def test_parameters_come_back_as_they_were(params, path):
    model = classifier(**params).fit(X, CLASSES)
    model.save(path)
    assert MLPClassifier.load(path).get_params() == model.get_params()


def test_layer_sizes_may_be_an_array(path):
    regressor(hidden_layer_sizes=np.array([6, 5])).fit(X, NUMBERS).save(path)
    loaded = MLPRegressor.load(path)
    assert list(loaded.hidden_layer_sizes) == [6, 5]
    loaded.partial_fit(X, NUMBERS)


def test_a_saved_model_needs_no_pickle(path, monkeypatch):
    model = classifier().fit(X, STRINGS)
    model.save(path)
    numbers = np.concatenate([t.ravel() for t in load_file(path).values() if t.dtype == np.float64])
    assert set(parameters(model)) <= set(numbers)

    def no_pickle(*args, **kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, no_pickle)
    assert np.array_equal(MLPClassifier.load(path).predict(X), model.predict(X))


@both_classes
def test_training_goes_on_after_loading(make, y, path):
    # Of all solvers, only this one has no moments: they stay behind.
    model = make(shuffle=False, solver="sgd", momentum=0.0, learning_rate_init=0.05).fit(X, y)
    model.save(path)
    loaded = type(model).load(path)
    for _ in range(2):
        model.partial_fit(X, y)
        loaded.partial_fit(X, y)
    assert len(loaded.loss_curve_) == 7
    assert loaded.t_ == 7 * N
    assert_same_fit(loaded, model)


@each_solver
@both_classes
def test_a_loaded_model_learns_with_any_solver(make, y, solver, path):
    model = make(**solver).fit(X, y)
    model.save(path)
    loaded = type(model).load(path)
    for _ in range(20):
        loaded.partial_fit(X, y)
    assert loaded.loss_ < model.loss_


def test_lbfgs_models_are_saved_too(path):
    model = regressor(solver="lbfgs").fit(X, NUMBERS)
    model.save(path)
    loaded = MLPRegressor.load(path)
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert not hasattr(loaded, "partial_fit")


def test_what_is_no_saved_model_of_this_class_is_refused(path):
    regressor().fit(X, NUMBERS).save(path)
    with pytest.raises(InputError, match="MLPRegressor"):
        MLPClassifier.load(path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-5] ^= 1
    for damaged in (whole[:-7], whole[:40], b"", b"PK" + whole, bytes(changed)):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=path.name):
            MLPRegressor.load(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        MLPRegressor.load(path)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_there_is_nothing_to_save_before_fit(make, path):
    with pytest.raises(NotFittedError):
        make().save(path)
    assert not path.exists()


# Mended faults


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


@pytest.mark.parametrize("make", [classifier, regressor])
def test_lbfgs_has_no_partial_fit(make):
    model = make(solver="lbfgs")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        model.partial_fit(X, BINARY)
    assert hasattr(model.set_params(solver="adamw"), "partial_fit")


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


# A fit that fails, or is interrupted


def fails_at_a_step(t):
    if (
        t % (5 * STEPS_PER_EPOCH) == 5
    ):  # in the first epoch of `fit`, and of a `partial_fit` after five epochs
        raise RuntimeError("no rate today")
    return 0.05


def explodes(t):
    return 1e200


def interrupts_at_step_15(t):
    if t == 15:
        raise KeyboardInterrupt
    return 0.05


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


@pytest.mark.parametrize("held", [False, True], ids=["set-aside", "given"])
@pytest.mark.parametrize("scored", [False, True], ids=["", "scoring"])
@both_classes
def test_early_stopping_has_nothing_to_keep_of_a_fit_that_diverges_at_once(make, y, scored, held):
    scoring = ("accuracy" if make is classifier else "r2") if scored else None
    model = make(early_stopping=True, learning_rate=explodes, scoring=scoring)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(X, y, validation_data=(X, y) if held else None)
    assert not hasattr(model, "coefs_")


def test_training_goes_on_after_a_partial_fit_that_failed():
    model, calm = (regressor().fit(X, NUMBERS) for _ in range(2))
    with pytest.raises(RuntimeError, match="no rate today"):
        model.set_params(learning_rate=fails_at_a_step).partial_fit(X, NUMBERS)
    model.set_params(learning_rate="constant")
    assert_same_fit(model.partial_fit(X, NUMBERS), calm.partial_fit(X, NUMBERS))


@both_classes
def test_an_interrupted_fit_keeps_what_it_has(make, y):
    model = make(learning_rate=interrupts_at_step_15)
    with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
        model.fit(X, y)
    assert (model.n_iter_, len(model.loss_curve_)) == (2, 2)  # six steps an epoch
    whole = make(learning_rate=lambda t: 0.05 if t < 15 else 1e-300, max_iter=3).fit(X, y)
    assert parameters(model) == pytest.approx(parameters(whole), rel=1e-12, abs=1e-12)
    assert model.loss_curve_ == pytest.approx(whole.loss_curve_[:2], rel=1e-12)


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
