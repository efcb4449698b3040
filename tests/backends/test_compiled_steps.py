"""The steps of PyTorch on the CPU and of JAX compute what the step as written computes on NumPy."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from trainings import (
    ALL_LOSSES,
    OPTIMIZERS,
    NewArrays,
    check,
    check_two_networks_in_turn,
    plain,
    problem,
    run,
    train,
)

from xpnet import MLP, Adam, MLPClassifier, epochs
from xpnet.backends import resolve
from xpnet.backends.accelerate import loop
from xpnet.backends.accelerate.loop import CompiledLoop
from xpnet.backends.accelerate.replay import Replay
from xpnet.errors import InputError
from xpnet.maths.losses import Loss
from xpnet.maths.ops import ACTIVATIONS, identity
from xpnet.maths.optimizers import SGD, RMSprop
from xpnet.training import loop as training_loop
from xpnet.training import start

LONG = {"n_epochs": 10}  # 40 steps, which are worth recording


@pytest.fixture(params=["torch", "jax"])
def fast(request):
    pytest.importorskip(request.param)
    return resolve("cpu", request.param, "float64")


def compare(backend, mlp, optimizer, data, **options):
    options = LONG | options
    found = train(backend, mlp, optimizer, data, **options)
    check(found, train(plain(), mlp, optimizer, data, **options))


def test_the_steps_are_compiled_or_recorded(fast):
    step = fast.compile_step(lambda *state, xp: xp, 40, 4)
    assert isinstance(step, {"torch": Replay, "jax": CompiledLoop}[fast.name])


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_optimizer(optimizer, weighted, fast):
    mlp = MLP((5, 7, 3), l2=0.1)
    compare(fast, mlp, optimizer, problem(mlp, weighted), clip_norm=1.0)


@pytest.mark.parametrize("batch_size", [5, None])
def test_batches_of_one_size(batch_size, fast):
    mlp = MLP((5, 7, 3))
    compare(fast, mlp, Adam(), problem(mlp), batch_size=batch_size, n_epochs=40)


@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_each_loss_and_activation(loss, fast):
    mlp = MLP((5, *[4] * len(ACTIVATIONS), 3), list(ACTIVATIONS), ALL_LOSSES[loss], l2=0.1, l2_shared=True)
    compare(fast, mlp, Adam(), problem(mlp))


def test_label_smoothing_and_class_indices(fast):
    mlp = MLP((5, 7, 3), label_smoothing=0.1)
    X, Y = problem(mlp)
    compare(fast, mlp, Adam(), (X, Y.argmax(axis=1)))


def test_what_the_caller_puts_into_the_state_counts(fast):
    def put_in(state):
        if state.step == 2:
            state.theta = 0.5 * state.theta
        if state.step == 5:
            state.moments = tuple(2.0 * m for m in state.moments)

    mlp = MLP((5, 7, 3))
    compare(fast, mlp, RMSprop(), problem(mlp), after_step=put_in)


@pytest.mark.parametrize("steps_at_once", [1, 2, 3, 64])
def test_steps_at_once(steps_at_once, fast):
    seen = []
    mlp = MLP((5, 7, 3))
    options = {"after_step": lambda state: seen.append(state.step), "batch_size": 2, "n_epochs": 4}
    compare(fast, mlp, Adam(), problem(mlp), steps_at_once=steps_at_once, **options)
    seen = seen[: seen.index(40) + 1]  # without those of NumPy
    multiples = range(steps_at_once, 41, steps_at_once)
    assert set(seen) >= {*multiples, 10, 20, 30, 40}
    if fast.name == "jax":
        assert set(seen) == {*multiples, 10, 20, 30, 40}


def test_an_epoch_resumed_in_its_middle(fast):
    def stop(state):
        if state.step == 6:
            raise InterruptedError

    mlp = MLP((5, 7, 3))
    state = start(mlp.init(1), Adam(), backend=fast)
    with pytest.raises(InterruptedError):
        train(fast, mlp, Adam(), problem(mlp), state, after_step=stop, **LONG)
    found = train(fast, mlp, Adam(), problem(mlp), state, **LONG)
    expected = train(plain(), mlp, Adam(), problem(mlp), **LONG)
    check(found[:-1], expected[:-1])


def test_two_networks_in_turn(fast):
    check_two_networks_in_turn(fast, **LONG)


class SortsParameters(SGD):
    """An update that is not elementwise: JAX has to join the pieces."""

    def update(self, theta, g, moments, coefficients, *, xp):
        largest = xp.max(theta)
        theta = xp.concat([theta[3:], theta[:3]]) * (1.0 - 1e-3 * largest)
        return super().update(theta, g, moments, coefficients, xp=xp)


def test_an_update_that_is_not_elementwise(fast):
    mlp = MLP((5, 7, 3))
    compare(fast, mlp, SortsParameters(0.9), problem(mlp))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_jax_computes_with_pieces(optimizer, monkeypatch):
    pytest.importorskip("jax")
    carried, cast_like = [], loop._cast_like

    def note(old, new, xp):
        carried.append(old[0])
        return cast_like(old, new, xp)

    monkeypatch.setattr(loop, "_cast_like", note)
    mlp = MLP((5, 7, 3), l2=0.1)
    train(resolve("cpu", "jax"), mlp, optimizer, problem(mlp, weighted=True), clip_norm=1.0)
    assert carried
    assert {len(theta) for theta in carried} == {4}  # two weight matrices, two biases


def count_compilations(function):
    from jax import monitoring

    events = []

    def note(event, seconds, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(details)

    monitoring.register_event_duration_secs_listener(note)
    try:
        function()
    finally:
        monitoring.unregister_event_duration_listener(note)
    return len(events)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"solver": "sgd", "early_stopping": True}, {"solver": "lbfgs"}],
    ids=["adam", "sgd", "lbfgs"],
)
def test_jax_compiles_nothing_again_for_the_next_fit(parameters):
    jnp = pytest.importorskip("jax.numpy")
    rng = np.random.default_rng(0)
    X, y = jnp.asarray(rng.random((50, 4), np.float32)), jnp.asarray(rng.integers(0, 3, 50))
    model = MLPClassifier(5, max_iter=2, batch_size=20, random_state=0, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert count_compilations(lambda: model.fit(X, y)) > 0
        assert count_compilations(lambda: model.fit(X, y)) == 0
        assert count_compilations(lambda: clone(model).fit(X, y)) == 0
        if not parameters:  # the others have no partial_fit
            model.partial_fit(X, y)  # compares the classes with those of `fit`
            assert count_compilations(lambda: model.partial_fit(X, y)) == 0
        assert count_compilations(lambda: model.set_params(alpha=0.1).fit(X, y)) > 0


def test_jax_compiles_nothing_again_for_the_next_full_batch(monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(training_loop, "WHOLE_ROWS", 16)
    backend, mlp = resolve("cpu", "jax", "float64"), MLP((5, 7, 3), l2=0.1)
    data = tuple(map(backend.asarray, problem(mlp)))
    for optimizer, is_compiled in ((Adam(), True), (Adam(), False), (SGD(), True)):
        state = start(mlp.init(1), optimizer, backend=backend)
        records = epochs(
            mlp,
            optimizer,
            state,
            *data,
            backend=backend,
            schedule=lambda t: 0.1,
            n_epochs=1,
            batch_size=None,
        )
        assert (count_compilations(lambda records=records: list(records)) > 0) is is_compiled


def test_jax_does_not_compile_the_steps_again_for_an_order_of_another_length():
    pytest.importorskip("jax")
    backend, mlp = resolve("cpu", "jax", "float64"), MLP((5, 7, 3))

    def order(n, epoch):
        return np.arange(19 - epoch)  # the last batch has between 1 and 6 rows

    records = run(backend, mlp, Adam(), problem(mlp), order=order, n_epochs=14)
    for _ in range(7):
        next(records)
    # To bring an order of another length to the device is two small programs, the steps are not compiled.
    assert count_compilations(lambda: [next(records) for _ in range(6)]) <= 12
    *_, found = records
    check(found, train(plain(), mlp, Adam(), problem(mlp), order=order, n_epochs=14))


def test_settings_of_jax_that_are_arrays():
    pytest.importorskip("jax")
    mlp = MLP((5, 7, 3), l2=np.array(0.1))
    compare(
        resolve("cpu", "jax", "float64"),
        mlp,
        Adam(beta_1=np.array(0.9)),
        problem(mlp),
        clip_norm=np.array(1.0),
    )


@pytest.mark.parametrize("steps_at_once", [0, -3, 2.5])
def test_steps_at_once_is_a_positive_integer(steps_at_once):
    mlp = MLP((5, 7, 3))
    with pytest.raises(InputError, match="steps_at_once: expected an integer of at least 1"):
        train(plain(), mlp, Adam(), problem(mlp), steps_at_once=steps_at_once)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 7, 3)], ids=str)
def test_an_update_with_a_vector_of_the_users_own(sizes, fast):
    mlp = MLP(sizes, loss="squared_error")
    mask = np.linspace(0.0, 1.0, mlp.layout.n_parameters)

    class Masked(SGD):
        def update(self, theta, g, moments, coefficients, *, xp):
            own = mask if isinstance(g, np.ndarray) else fast.asarray(mask)
            return super().update(theta, g * own, moments, coefficients, xp=xp)

    compare(fast, mlp, Masked(), problem(mlp))


def test_an_interrupt_within_a_call_of_jax_loses_nothing(monkeypatch):
    pytest.importorskip("jax")
    backend, mlp = resolve("cpu", "jax", "float64"), MLP((5, 7, 3))
    call, calls = CompiledLoop.__call__, []

    def interrupt(*arguments):
        result = call(*arguments)
        calls.append(result)
        if len(calls) == 5:  # two calls an epoch
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(CompiledLoop, "__call__", interrupt)
    state = start(mlp.init(1), Adam(), backend=backend)
    with pytest.raises(KeyboardInterrupt):
        train(backend, mlp, Adam(), problem(mlp), state, **LONG)
    assert (state.epoch, state.batch) == (2, 0)
    expected = train(plain(), mlp, Adam(), problem(mlp), n_epochs=2)
    check([*map(backend.to_numpy, (state.theta, *state.moments))], expected[:-1])


class CallsTheLibrary(SGD):
    """An update with operators and functions that xpnet does not use."""

    def __init__(self, library):
        super().__init__()
        object.__setattr__(self, "library", library)

    def update(self, theta, g, moments, coefficients, *, xp):
        g = g + 1e-3 * theta**2 + 1e-3 * self.library.sin(theta)
        return super().update(theta, g, moments, coefficients, xp=xp)


def test_an_update_that_calls_the_library_itself_runs_as_written(fast):
    library = pytest.importorskip("torch" if fast.name == "torch" else "jax.numpy")
    mlp = MLP((5, 7, 3))
    found = train(fast, mlp, CallsTheLibrary(library), problem(mlp), **LONG)
    check(found, train(plain(), mlp, CallsTheLibrary(np), problem(mlp), **LONG))


def test_a_loss_that_calls_the_library_itself_runs_as_written(fast):
    def loss_and_grad(z, Y, weight, *, xp):
        exp = __import__("torch" if fast.name == "torch" else "jax.numpy", fromlist=["exp"]).exp
        dz = exp(0.1 * z) - Y
        return xp.sum(dz * dz * weight), dz * weight

    def the_same(z, Y, weight, *, xp):
        dz = xp.exp(0.1 * z) - Y
        return xp.sum(dz * dz * weight), dz * weight

    found, expected = (
        train(backend, mlp, Adam(), problem(mlp), **LONG)
        for backend, function in ((fast, loss_and_grad), (plain(), the_same))
        for mlp in [MLP((5, 7, 3), loss=Loss(function, identity, classifies=False))]
    )
    check(found, expected)


@pytest.mark.parametrize("optimizer", [Adam(), NewArrays()], ids=["in-place", "new-arrays"])
def test_the_callers_tensors_are_trained_in_place(optimizer):
    torch = pytest.importorskip("torch")
    backend, mlp = resolve("cpu", "torch", "float64"), MLP((5, 7, 3))
    state = start(mlp.init(1), optimizer, backend=backend)
    first = state.theta
    list(run(backend, mlp, optimizer, problem(mlp), state, **LONG))
    assert isinstance(state.theta, torch.Tensor)
    assert (state.theta is first) == (type(optimizer) is Adam)


def test_tensors_that_are_views_or_need_gradients():
    torch = pytest.importorskip("torch")
    backend, mlp = resolve("cpu", "torch", "float64"), MLP((5, 7, 3))
    X, Y = problem(mlp)
    wide = torch.tensor(np.repeat(X, 2, axis=1), requires_grad=True)
    state = start(mlp.init(1), Adam(), backend=backend)
    *_, found = run(backend, mlp, Adam(), (X, Y), state, **LONG)
    state = start(mlp.init(1), Adam(), backend=backend)
    options = {"schedule": lambda t: 0.05 / t**0.25, "n_epochs": 10, "batch_size": 6, "backend": backend}
    for _ in epochs(mlp, Adam(), state, wide[:, ::2].detach(), torch.tensor(Y), **options):
        pass
    assert state.theta.numpy() == pytest.approx(found[0], rel=1e-12)


@pytest.mark.parametrize("name", ["theta", "X"])
def test_tensors_whose_memory_moves(name):
    torch = pytest.importorskip("torch")
    backend, mlp = resolve("cpu", "torch", "float64"), MLP((5, 7, 3))
    X, Y = map(backend.asarray, problem(mlp))
    state = start(mlp.init(1), Adam(), backend=backend)
    options = {"schedule": lambda t: 0.05, "n_epochs": 20, "batch_size": 6, "backend": backend}
    for record in epochs(mlp, Adam(), state, X, Y, **options):
        if record.epoch == 12:  # as a tensor does that is sent to another process
            {"theta": state.theta, "X": X}[name].share_memory_()
            torch.zeros(1000)  # takes the memory that has become free
    expected = train(plain(), mlp, Adam(), problem(mlp), schedule=lambda t: 0.05, n_epochs=20)
    assert state.theta.numpy() == pytest.approx(expected[0], rel=1e-9, abs=1e-12)


def test_tensors_without_a_numpy_array():
    torch = pytest.importorskip("torch")
    X = torch.randn(60, 5, dtype=torch.complex64).conj().imag  # has its negative bit set
    y = X[:, 0] > 0
    model, reference = (MLPClassifier(8, max_iter=40, random_state=0) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
        reference.fit(X.resolve_neg(), y)
    assert model.loss_curve_ == pytest.approx(reference.loss_curve_, rel=1e-4)
