"""Whole runs: the same on every backend, as scikit-learn and PyTorch would train, stopped and resumed."""

import math
from dataclasses import replace
from functools import partial
from itertools import count, product

import numpy as np
import pytest
from sklearn import metrics
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from xpnet import resolve
from xpnet.backends.accelerate import plan
from xpnet.backends.accelerate.plan import record_step
from xpnet.data.batches import one_hot, shuffle
from xpnet.errors import DivergenceError, InputError
from xpnet.maths.mlp import MLP
from xpnet.maths.optimizers import SGD, Adam
from xpnet.training import epochs, keep_best, loop, restore_best, start, stop_early, validate
from xpnet.training.checkpoint import load_state, save_state
from xpnet.training.scores import evaluate, predict

MLP_DIGITS = MLP((64, 16, 10))
BATCH = 128  # 1797 digits make 14 batches and 5 rows


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


def rate(t):
    return 0.02 / t**0.25


def begin(backend, mlp=MLP_DIGITS, optimizer=None, seed=0):
    return start(mlp.init(seed), optimizer or Adam(), backend=backend)


def train(backend, state, *data, mlp=MLP_DIGITS, optimizer=None, **options):
    """Return the records of a run of three epochs, unless told otherwise."""
    settings = {"schedule": rate, "n_epochs": 3, "batch_size": BATCH} | options
    watched, patience = settings.pop("validation", None), settings.pop("patience", None)
    records = epochs(mlp, optimizer or Adam(), state, *data, backend=backend, **settings)
    return list(watch(records, backend, state, mlp, watched, patience))


def watch(records, backend, state, mlp, watched, patience):
    """Yield the records with their validation, kept and stopped as the command line does it."""
    if watched is not None:
        records = validate(records, state, lambda: evaluate(mlp, state.theta, *watched, backend=backend))
    if patience is not None:
        records = stop_early(keep_best(records, state, backend=backend), state, patience=patience)
    yield from records
    if patience is not None:
        restore_best(state)


def losses(records):
    return [record.train_loss for record in records]


def test_digits_learn_the_same_on_every_backend(backend, lend, numpy64):
    X, y = digits()
    Y = one_hot(y, 10)
    expected = losses(train(numpy64, begin(numpy64), X, Y))
    state = begin(backend)
    records = train(backend, state, lend(X), lend(Y))
    assert losses(records) == pytest.approx(expected, rel=1e-10 if backend.dtype_name == "float64" else 1e-4)
    assert expected[-1] < 0.5 * expected[0]
    assert state.theta.dtype == state.loss_sum.dtype == backend.dtype


def test_the_same_seed_twice_gives_the_same_bits(backend, lend):
    X, y = digits()
    data = lend(X[:300]), lend(one_hot(y[:300], 10))
    states = [begin(backend, seed=5) for _ in range(2)]
    for state in states:
        train(backend, state, *data, order=partial(shuffle, seed=5), n_epochs=2)
    first, second = (backend.to_numpy(state.theta).tobytes() for state in states)
    assert first == second
    other = begin(backend, seed=5)
    train(backend, other, *data, order=partial(shuffle, seed=6), n_epochs=2)
    assert backend.to_numpy(other.theta).tobytes() != first


def test_the_callers_parameters_are_not_touched(numpy64):
    X, y = digits()
    theta = MLP_DIGITS.init(0)
    before = theta.copy()
    train(numpy64, start(theta, Adam(), backend=numpy64), X, one_hot(y, 10), n_epochs=1)
    assert theta.tobytes() == before.tobytes()


def test_scikit_learn_has_the_same_loss_curve(numpy64):
    X, y = digits()
    state = begin(numpy64, optimizer=SGD())
    theirs = MLPClassifier(
        (16,), solver="sgd", alpha=0.0, batch_size=BATCH, learning_rate_init=0.1, momentum=0.0, shuffle=False
    )
    theirs.partial_fit(X, y, classes=np.arange(10))  # makes its arrays, which then take our initial weights
    for i, (W, b) in enumerate(MLP_DIGITS.layout.split(state.theta, xp=np)):
        theirs.coefs_[i][...], theirs.intercepts_[i][...] = W, b
    for _ in range(3):
        theirs.partial_fit(X, y)
    records = train(
        numpy64,
        state,
        X,
        one_hot(y, 10),
        optimizer=SGD(),
        schedule=lambda t: 0.1,
        order=lambda n, epoch: None,
    )
    assert losses(records) == pytest.approx(theirs.loss_curve_[1:], rel=1e-10)
    assert predict(MLP_DIGITS, state.theta, X, backend=numpy64) == pytest.approx(
        theirs.predict_proba(X), rel=1e-9
    )


def test_pytorch_trains_to_the_same_parameters(numpy64):
    torch = pytest.importorskip("torch")
    X, y = digits()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, (len(X), 1))
    mlp = MLP((64, 12, 10), "tanh", l2=0.01)
    state = begin(numpy64, mlp)
    layers = [
        (torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True))
        for W, b in mlp.layout.split(state.theta, xp=np)
    ]
    records = train(numpy64, state, X, one_hot(y, 10), weight, mlp=mlp, clip_norm=0.5)

    parameters = [layer[0] for layer in layers] + [layer[1] for layer in layers]
    optimizer, t, curve = torch.optim.Adam(parameters), 0, []
    for epoch in range(3):
        order, total = shuffle(len(X), epoch), 0.0
        for rows in np.split(order, range(BATCH, len(X), BATCH)):
            z = torch.tensor(X[rows])
            for W, b in layers:
                z = (z if W is layers[0][0] else torch.tanh(z)) @ W + b
            share = torch.tensor(weight[rows, 0] / weight[rows].sum())
            loss = share @ torch.nn.functional.cross_entropy(z, torch.tensor(y[rows]), reduction="none")
            loss = loss + 0.005 * sum((W**2).sum() for W, _ in layers)
            optimizer.zero_grad()
            loss.backward()
            norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
            for p in parameters:
                p.grad *= min(1.0, 0.5 / norm)
            t += 1
            optimizer.param_groups[0]["lr"] = rate(t)
            optimizer.step()
            total += loss.item() * len(rows)
        curve.append(total / len(X))
    assert losses(records) == pytest.approx(curve, rel=1e-10)
    expected = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    assert state.theta == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert (records[-1].step, records[-1].learning_rate) == (t, rate(t)) == (45, rate(45))


WEIGHTS = {
    "none": None,
    "positive": np.random.default_rng(0).uniform(0.0, 2.0, (50, 1)),
    # The weights of the first chunk of 16 rows sum to 0.
    "both-signs": np.array([[1.0], [-1.0]] * 8 + [[2.0]] * 34),
}


@pytest.mark.parametrize(
    ("name", "shared", "batch_size"),
    [*product(WEIGHTS, [False, True], [None]), ("none", False, 40), ("both-signs", True, 40)],
)
def test_a_batch_in_chunks_is_the_same_batch(name, shared, batch_size, backend, lend, monkeypatch):
    X, y = digits()
    weight = WEIGHTS[name]
    data = [lend(X[:50]), lend(one_hot(y[:50], 10))]
    data += [] if weight is None else [lend(weight)]
    mlp = replace(MLP_DIGITS, l2=10.0 if shared else 0.1, l2_shared=shared)
    curves, thetas = [], []
    for chunk in (50, 16):
        monkeypatch.setattr(loop, "WHOLE_ROWS", chunk + 1)
        monkeypatch.setattr(type(backend), "chunk_rows", chunk)
        state = begin(backend, mlp)
        curves.append(losses(train(backend, state, *data, mlp=mlp, batch_size=batch_size)))
        thetas.append(backend.to_numpy(state.theta))
    assert state.step == (3 if batch_size is None else 6)
    tolerance = 1e-10 if backend.dtype_name == "float64" else 1e-4
    assert curves[0] == pytest.approx(curves[1], rel=tolerance)
    assert thetas[0] == pytest.approx(thetas[1], rel=tolerance, abs=tolerance)


class StopError(Exception):
    """What after_step raises to stop a run."""


@pytest.mark.parametrize("stop_after", [5, 8])  # at the end of an epoch, and amid the next
def test_a_resumed_run_ends_with_the_same_bits(stop_after, backend, lend, tmp_path):
    X, y = digits()
    data = lend(X[:140]), lend(one_hot(y[:140], 10))
    options = {
        "batch_size": 32,
        "clip_norm": 1.0,
        "validation": (lend(X[140:200]), lend(one_hot(y[140:200], 10))),
        "patience": 3,
    }
    unbroken = begin(backend)
    curve = losses(train(backend, unbroken, *data, **options))

    def save_and_stop(state):
        if state.step == stop_after:
            save_state(tmp_path / "state", state, {"note": "x"}, backend=backend)
            raise StopError

    with pytest.raises(StopError):
        train(backend, begin(backend), *data, after_step=save_and_stop, **options)
    resumed, about = load_state(tmp_path / "state", backend=backend)
    assert (resumed.step, resumed.epoch * 5 + resumed.batch) == (stop_after, stop_after)
    assert about == {"note": "x"}
    records = train(backend, resumed, *data, **options)
    assert losses(records) == curve[-len(records) :]
    assert all(record.samples_per_second >= 0.0 for record in records)
    for a, b in zip((resumed.theta, *resumed.moments), (unbroken.theta, *unbroken.moments), strict=True):
        assert backend.to_numpy(a).tobytes() == backend.to_numpy(b).tobytes()


def overfitting(backend, state, n_epochs=30, patience=3):
    """Yield (record, theta) of a run whose validation loss must rise: half of its few labels are wrong."""
    X, y = digits()
    Y = one_hot(np.where(np.arange(len(y)) < 20, 9 - y, y), 10)
    validation = X[40:140], Y[40:140]
    records = epochs(
        MLP_DIGITS,
        Adam(),
        state,
        X[:40],
        Y[:40],
        backend=backend,
        schedule=lambda t: 0.03,
        n_epochs=n_epochs,
        batch_size=20,
    )
    for record in watch(records, backend, state, MLP_DIGITS, validation, patience):
        yield record, state.theta.copy()
    p = predict(MLP_DIGITS, state.theta, X[40:140], backend=backend)
    # What scikit-learn makes of the parameters that are left at the end.
    yield metrics.log_loss(y[40:140], p), state.theta.copy()


def test_early_stopping_restores_the_best_parameters(numpy64):
    *records, (final_loss, final) = overfitting(numpy64, begin(numpy64))
    curve = [record.validation.loss for record, _ in records]
    best = int(np.argmin(curve))
    assert 0 < best < len(curve) - 1 < 29, "the loss should fall, rise, and end the run"
    assert len(curve) == best + 1 + 3
    assert final.tobytes() == records[best][1].tobytes()
    assert final_loss == pytest.approx(curve[best], rel=1e-12)


def test_training_goes_on_after_early_stopping(numpy64):
    state = begin(numpy64)
    *_, (_, best) = overfitting(numpy64, state)
    n = state.epoch
    *records, (final_loss, final) = overfitting(numpy64, state, n_epochs=n + 9)
    # It compares its epochs with each other, and not with those before, of which none may be better.
    curve = [record.validation.loss for record, _ in records]
    assert [record.epoch for record, _ in records] == list(range(n + 1, n + 1 + len(curve)))
    assert len(curve) == min(9, int(np.argmin(curve)) + 1 + 3)
    assert final_loss == pytest.approx(min(curve), rel=1e-12)
    assert final.tobytes() == records[int(np.argmin(curve))][1].tobytes() != best.tobytes()


def test_a_rate_far_too_high_is_reported_in_words(backend, lend):
    X, y = digits()
    mlp = MLP((64, 16, 1), loss="squared_error")
    with pytest.raises(
        DivergenceError, match=r"loss is (nan|inf) in epoch 1, by step 15, .* 1e\+30\. .*--lr"
    ):
        train(
            backend,
            begin(backend, mlp, SGD()),
            lend(X),
            lend(y[:, np.newaxis].astype(float)),
            mlp=mlp,
            optimizer=SGD(),
            schedule=lambda t: 1e30,
        )


@pytest.mark.parametrize("jump", [1e80, 1e300])
def test_divergence_in_the_last_step_shows_in_the_validation(jump, numpy64):
    # The loss of an epoch is that before its steps: here only the evaluation sees what the step has done.
    X, y = digits()
    data = X, y[:, np.newaxis].astype(float)
    mlp = MLP((64, 16, 16, 1), loss="squared_error")
    with pytest.raises(DivergenceError, match=r"validation loss is (nan|inf) in epoch 1, by step 1,"):
        train(
            numpy64,
            begin(numpy64, mlp, SGD()),
            *data,
            mlp=mlp,
            optimizer=SGD(),
            schedule=lambda t: jump,
            batch_size=None,
            n_epochs=1,
            validation=data,
        )


@pytest.mark.reads_nothing
def test_the_steps_of_an_epoch_read_nothing_back(backend, lend, place):
    X, y = digits()
    steps = []

    def run():
        data = lend(X[:300]), lend(one_hot(y[:300], 10))
        train(
            backend,
            begin(backend),
            *data,
            n_epochs=1,
            clip_norm=1.0,
            after_step=lambda s: steps.append(s.step),
        )

    if str(place) == "torch-meta":
        # Its arrays have no values: the one read, of the loss at the end of the epoch, must fail.
        with pytest.raises(RuntimeError, match="meta"):
            run()
    else:
        run()
    assert steps == [1, 2, 3]


def test_after_step_has_the_callers_settings_for_floating_point_errors(numpy64):
    X, y = digits()

    def divide(state):
        np.ones(1) / 0.0

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        train(numpy64, begin(numpy64), X, one_hot(y, 10), after_step=divide)


class Scaled(MLP):
    """A network of the user's own, whose loss is multiplied with an attribute that is no setting."""

    factor = 1.0

    def loss_and_grad(self, theta, X, Y, weight=None, *, xp):
        loss, g = super().loss_and_grad(theta, X, Y, weight, xp=xp)
        return self.factor * loss, self.factor * g


class Foreign:
    """A network that is no MLP: anything that has `loss_and_grad` trains."""

    def __init__(self, mlp):
        self.loss_and_grad = mlp.loss_and_grad


@pytest.mark.parametrize("batch_size", [None, 40])
def test_networks_of_the_users_own_train_with_their_own_loss(batch_size, backend, lend, monkeypatch):
    monkeypatch.setattr(loop, "WHOLE_ROWS", 30)  # an MLP is computed in chunks
    monkeypatch.setattr(type(backend), "chunk_rows", 16)
    X, y = digits()
    data = lend(X[:50]), lend(one_hot(y[:50], 10))
    options = {"batch_size": batch_size, "n_epochs": 1, "schedule": lambda t: 1e-9}
    plain = losses(train(backend, begin(backend), *data, **options))
    for factor in (1.0, 3.0):
        mlp = Scaled((64, 16, 10))
        object.__setattr__(mlp, "factor", factor)
        for network in (mlp, Foreign(mlp)):
            found = losses(train(backend, begin(backend), *data, mlp=network, **options))
            assert found == pytest.approx([factor * plain[0]], rel=1e-5)


def interrupt_tenth(function):
    """Return a function that calls another one, but for the tenth time raises KeyboardInterrupt."""
    calls = count(1)

    def call(*arguments, **options):
        if next(calls) == 10:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    return call


def record_and_interrupt(*step, **options):
    """Record a step as `record_step` does, and interrupt it when it is repeated for the tenth time."""
    description, prepare = record_step(*step, **options)

    def prepare_and_interrupt():
        result, run = prepare()
        return result, interrupt_tenth(run)

    return description, prepare_and_interrupt


@pytest.mark.parametrize("is_recorded", [True, False])
def test_training_continues_where_ctrl_c_stopped_it(is_recorded, numpy64, monkeypatch):
    X, y = digits()
    data = X[:200], one_hot(y[:200], 10)
    options = {"batch_size": 8 if is_recorded else 20}  # fewer than 32 steps are not recorded
    whole, state = begin(numpy64), begin(numpy64)
    expected = losses(train(numpy64, whole, *data, **options))
    network = Foreign(MLP_DIGITS)
    with monkeypatch.context() as patch:
        if is_recorded:
            patch.setattr(plan, "record_step", record_and_interrupt)
        else:
            network.loss_and_grad = interrupt_tenth(network.loss_and_grad)
        with pytest.raises(KeyboardInterrupt):
            train(numpy64, state, *data, mlp=network, **options)
    assert (state.epoch, state.batch, state.step) == (0, 9, 9)
    assert losses(train(numpy64, state, *data, **options)) == expected
    np.testing.assert_array_equal(state.theta, whole.theta)


class NumPyNumbers(SGD):
    """An optimizer of the user's own, whose coefficients are NumPy's numbers."""

    def coefficients(self, lr, t):
        return (np.float64(lr),)


@pytest.mark.parametrize("batch_size", [16, None], ids=["batches", "chunks"])
@pytest.mark.parametrize("optimizer", [Adam(), NumPyNumbers(0.9)], ids=["adam", "own"])
def test_numpy_numbers_and_lists_leave_float32_alone(optimizer, batch_size, backend, monkeypatch):
    monkeypatch.setattr(loop, "WHOLE_ROWS", 16)
    monkeypatch.setattr(type(backend), "chunk_rows", 16)
    backend, (X, y) = replace(backend, dtype_name="float32"), digits()
    data = backend.asarray(X[:40]), backend.asarray(one_hot(y[:40], 10))
    found = []
    for number, rows in ((float, np.array), (np.float64, list)):
        mlp = replace(MLP_DIGITS, l2=number(0.01), l2_shared=True)
        state = begin(backend, mlp, optimizer)
        found += train(
            backend,
            state,
            *data,
            mlp=mlp,
            optimizer=optimizer,
            schedule=lambda t, number=number: number(0.01),
            order=lambda n, epoch, rows=rows: rows(range(n)),
            clip_norm=number(1.0),
            batch_size=batch_size,
        )
        assert all(a.dtype == backend.dtype for a in (state.theta, *state.moments, state.loss_sum))
    assert losses(found[:3]) == losses(found[3:])


@pytest.mark.parametrize("rows", [[], [0.0, 1.0], [[0, 1]], list(range(7)), [True, False]], ids=str)
def test_an_order_that_is_none_is_refused(rows, numpy64):
    mlp = MLP((2, 3))
    run = epochs(
        mlp,
        SGD(),
        start(mlp.init(), SGD(), backend=numpy64),
        np.zeros((6, 2)),
        np.zeros((6, 3)),
        backend=numpy64,
        schedule=lambda t: 0.1,
        n_epochs=1,
        batch_size=2,
        order=lambda n, epoch: np.array(rows),
    )
    with pytest.raises(InputError, match="order: expected an integer array with 1 to 6 entries, got"):
        next(run)


@pytest.mark.parametrize("batch_size", [1, None])
def test_no_rows_are_refused(batch_size, backend, lend):
    data = lend(np.zeros((0, 64))), lend(np.zeros((0, 10)))
    state = begin(backend)
    for call in (
        lambda: train(backend, state, *data, batch_size=batch_size),
        lambda: evaluate(MLP_DIGITS, state.theta, *data, backend=backend),
        lambda: predict(MLP_DIGITS, state.theta, data[0], backend=backend),
    ):
        with pytest.raises(InputError, match="X: expected at least 1 row, got 0"):
            call()


def test_one_number_is_read_per_epoch(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    from xpnet.backends import resolve

    backend = resolve("cpu", "array_api_strict", "float64")
    X, y = digits()
    data = backend.asarray(X), backend.asarray(one_hot(y, 10))
    state, reads = begin(backend), []
    array = type(strict.ones(1))
    for name in ("__float__", "__int__", "__bool__", "__index__", "__array__", "__buffer__", "__iter__"):
        if read := getattr(array, name, None):

            def counted(self, *args, name=name, read=read, **options):
                reads.append(name)
                return read(self, *args, **options)

            monkeypatch.setattr(array, name, counted)
    train(backend, state, *data)
    assert reads == ["__float__"] * 3


def test_a_record_tells_where_the_run_stands(numpy64):
    X, y = digits()
    Y = one_hot(y, 10)
    records = train(numpy64, begin(numpy64), X[:300], Y[:300], n_epochs=2, validation=(X[300:], Y[300:]))
    assert [(r.epoch, r.step, r.learning_rate) for r in records] == [(1, 3, rate(3)), (2, 6, rate(6))]
    assert 0.0 < records[0].seconds < records[1].seconds
    assert records[0].samples_per_second == pytest.approx(300 / records[0].seconds)
    flat = records[0].to_dict()
    assert flat["validation_accuracy"] == records[0].validation.score
    assert flat["validation_loss"] == records[0].validation.loss


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size: expected 1 to 1797, the number of rows, got 0"),
        ({"batch_size": 1798}, "batch_size: expected 1 to 1797"),
        ({"clip_norm": 0.0}, "clip_norm: expected a number above 0"),
        ({"clip_norm": math.nan}, "clip_norm"),
        ({"patience": 2}, "keeping the best parameters requires validation data"),
        ({"patience": 0}, "patience: expected at least 1, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words, numpy64):
    X, y = digits()
    with pytest.raises(InputError, match=words):
        train(numpy64, begin(numpy64), X, one_hot(y, 10), **options)


def normalised(p):
    """Return probabilities that sum to 1 in float64, as scikit-learn expects."""
    p = p.astype("float64")
    return p / p.sum(axis=1, keepdims=True)


def tolerance(backend):
    return 1e-10 if backend.dtype_name == "float64" else 1e-4


@pytest.fixture(params=[7, 8192], ids=["chunks", "one-chunk"])
def chunk(request, backend, monkeypatch):
    monkeypatch.setattr(type(backend), "chunk_rows", request.param)


@pytest.mark.usefixtures("chunk")
def test_classes_are_scored_as_scikit_learn_scores_them(backend, lend):
    X, y = digits()
    X, y = X[:100], y[:100]
    state = begin(backend)
    p = predict(MLP_DIGITS, state.theta, lend(X), backend=backend)
    found = evaluate(MLP_DIGITS, state.theta, lend(X), lend(one_hot(y, 10)), backend=backend)
    expected = metrics.log_loss(y, normalised(p), labels=np.arange(10))
    assert found.loss == pytest.approx(expected, rel=tolerance(backend))
    assert found.score == pytest.approx(metrics.accuracy_score(y, p.argmax(axis=1)), rel=1e-6)


@pytest.mark.usefixtures("chunk")
def test_two_classes_need_one_output(backend, lend):
    X, y = digits()
    X, y = X[:100], y[:100] % 2
    mlp = MLP((64, 1), loss="logistic_cross_entropy")
    state = begin(backend, mlp)
    p = predict(mlp, state.theta, lend(X), backend=backend)
    found = evaluate(mlp, state.theta, lend(X), lend(one_hot(y, 1)), backend=backend)
    assert found.loss == pytest.approx(metrics.log_loss(y, normalised(p)), rel=tolerance(backend))
    assert found.score == pytest.approx(metrics.accuracy_score(y, p.argmax(axis=1)), rel=1e-6)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_numbers_are_scored_as_scikit_learn_scores_them(loss, backend, lend):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((50, 4)), rng.poisson(3.0, (50, 2)).astype(float)
    mlp = MLP((4, 5, 2), "tanh", loss)
    state = begin(backend, mlp)
    answers = predict(mlp, state.theta, lend(X), backend=backend).astype("float64")
    found = evaluate(mlp, state.theta, lend(X), lend(Y), backend=backend)
    measure = {"squared_error": metrics.mean_squared_error, "poisson": metrics.mean_poisson_deviance}[loss]
    expected = sum(0.5 * measure(Y[:, k], answers[:, k]) for k in range(2))
    assert found.loss == pytest.approx(expected, rel=tolerance(backend))
    assert found.score == pytest.approx(metrics.r2_score(Y, answers), rel=tolerance(backend))


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_column_without_spread_is_scored_as_scikit_learn_does(offset, numpy64):
    mlp = MLP((1, 2), loss="squared_error")
    X = np.array([[1.0], [2.0], [3.0]])
    Y = np.hstack([np.full_like(X, 4.0), X])
    theta = np.array([0.0, 0.5, 4.0 + offset, 0.0])
    found = evaluate(mlp, theta, X, Y, backend=numpy64)
    answers = predict(mlp, theta, X, backend=numpy64)
    assert found.score == pytest.approx(metrics.r2_score(Y, answers))


@pytest.mark.parametrize("targets", ["Y", "weight"])
def test_rows_that_do_not_belong_together_are_refused(numpy64, targets):
    # CuPy would wrap the index and train on the wrong labels.
    X, Y, weight = np.zeros((6, 2)), np.zeros((6, 3)), np.ones((6, 1))
    Y, weight = (Y[:5], weight) if targets == "Y" else (Y, weight[:5])
    mlp = MLP((2, 3))
    state = start(mlp.init(), SGD(), backend=numpy64)
    run = epochs(
        mlp, SGD(), state, X, Y, weight, backend=numpy64, schedule=lambda t: 0.1, n_epochs=1, batch_size=2
    )
    with pytest.raises(InputError, match=f"{targets}: expected as many rows as X, 6, got 5"):
        next(run)


def test_class_indices_train_as_one_hot_rows_do(backend, lend):
    y = np.array([0, 2, 1, 1, 0, 2])
    X, found = lend(np.random.default_rng(0).normal(size=(6, 4))), []
    mlp = MLP((4, 5, 3))
    for Y in (lend(y), lend(np.eye(3)[y])):
        state = start(mlp.init(), Adam(), backend=backend)
        run = epochs(
            mlp, Adam(), state, X, Y, backend=backend, schedule=lambda t: 0.1, n_epochs=3, batch_size=4
        )
        losses = [record.train_loss for record in run]
        found.append([*losses, *evaluate(mlp, state.theta, X, Y, backend=backend)])
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("optimizer", [Adam(), SGD(momentum=0.9)], ids=["adam", "momentum"])
def test_momentum_that_fades_does_not_become_denormal(optimizer, monkeypatch):
    # The last pixel is lit in one row only, which the first step sees and none after it.
    X = np.random.default_rng(0).random((64, 5), dtype="float32")
    X[:, 4] = np.arange(64) == 0
    Y = one_hot(np.arange(64) % 3, 3).astype("float32")
    backend, mlp, data = resolve("cpu"), MLP((5, 3)), {}

    def rows(n, epoch):
        return np.arange(4) if epoch == 0 else np.arange(4, n)

    for every in (loop._FLUSH_EVERY, 10**9):
        monkeypatch.setattr(loop, "_FLUSH_EVERY", every)
        state = begin(backend, mlp, optimizer)
        train(backend, state, X, Y, mlp=mlp, optimizer=optimizer, order=rows, batch_size=4, n_epochs=64)
        denormal = [(m != 0.0) & (np.abs(m) < np.finfo("float32").tiny) for m in state.moments]
        data[every] = sum(int(d.sum()) for d in denormal), state.theta
    (flushed, theta), (left, expected) = data.values()
    assert flushed == 0 < left
    assert theta == pytest.approx(expected, rel=1e-6)
