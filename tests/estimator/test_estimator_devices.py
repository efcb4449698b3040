"""Where the estimators compute: `device`, `to_device`, mixed places, copies, files, scikit-learn's tools."""

import copy
import pickle
import re
import warnings
from functools import partial
from importlib import import_module

import array_api_compat
import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from small_data import (
    BINARY,
    CLASSES,
    LABELS,
    NAMES,
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
    same,
)

from xpnet import MLPRegressor, resolve
from xpnet.backends import to_host
from xpnet.errors import BackendError, InputError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# device=


def data_frame(x):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(x) if x.ndim == 2 else pandas.Series(x)


FORMS = {
    "rows": np.array,
    "Fortran": np.asfortranarray,
    "lists": np.ndarray.tolist,
    "DataFrame": data_frame,
    "integers": lambda x: np.rint(4 * x).astype(int),
}


@pytest.mark.parametrize("estimator", [classifier, regressor], ids=["classifier", "regressor"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_device_computes_there_and_answers_numpy_in_numpy(form, estimator, backend):
    x = X if form in (np.ndarray.tolist, data_frame) else X.astype(backend.dtype_name)
    if backend.dtype_name == "float32" and form not in (np.array, np.asfortranarray):
        pytest.skip("these forms are float64")
    data = form(x), form(BINARY if estimator is classifier else TARGETS.astype(backend.dtype_name)), WEIGHT
    expected, fitted = (estimator(device=device).fit(*data) for device in (None, name_of(backend)))
    assert all(lives(backend, array) for array in parameters(fitted))
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    for method in ("predict", "predict_proba", "predict_log_proba")[: 3 if estimator is classifier else 1]:
        answers, right = (getattr(model, method)(data[0]) for model in (fitted, expected))
        assert type(answers) is np.ndarray
        assert answers.dtype == right.dtype
        assert answers == close(backend, right)
    assert fitted.score(*data) == close(backend, expected.score(*data))


@pytest.mark.parametrize(
    ("device", "full_name"),
    [
        ("cpu", "numpy"),
        ("numpy", "numpy"),
        ("array_api_strict", "array_api_strict:cpu"),
        ("cuda", "cupy"),
        ("cuda:0", "cupy"),
        ("cupy", "cupy"),
    ],
)
def test_device_may_leave_out_the_library_or_the_number(device, full_name, there):
    backend = there(full_name)
    fitted = classifier(device=device).fit(X, NAMES)
    moved = classifier().fit(X, NAMES).to_device(device)
    for model in (fitted, moved):
        assert all(lives(backend, array) for array in parameters(model))
    assert moved.set_params(device=device).predict(X).tolist() == fitted.predict(X).tolist()


def test_float32_stays_float32(backend):
    single = resolve(backend.device_name, backend.name, "float32")
    x, y = X.astype(np.float32), TARGETS.astype(np.float32)
    expected = regressor().fit(x, y, WEIGHT)
    lent = regressor().fit(*map(single.asarray, (x, y, WEIGHT)))
    moved, rounded = (
        regressor(device=name_of(backend)).fit(x, targets, weight)
        for targets, weight in ((TARGETS, WEIGHT), (y, WEIGHT.astype(np.float32)))
    )
    for model in (lent, moved):
        assert all(lives(single, array) for array in parameters(model))
        assert model.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-3)
    assert lives(single, lent.predict(single.asarray(x)))
    assert moved.predict(x).dtype == np.float32
    assert [bits(single, a) for a in parameters(moved)] == [bits(single, a) for a in parameters(rounded)]


def test_sparse_rows_are_refused_where_only_numpy_has_them(backend, lend):
    sparse = csr_array(X.astype(backend.dtype_name))
    if backend.name == "numpy":
        fitted = classifier(device=name_of(backend)).fit(sparse, CLASSES)
        assert fitted.loss_curve_ == close(backend, classifier().fit(sparse, CLASSES).loss_curve_)
        return
    fitted = classifier(device=name_of(backend)).fit(lend(X), lend(CLASSES))
    for act in (
        lambda: fitted.predict(sparse),
        lambda: fitted.partial_fit(sparse, CLASSES),
        lambda: classifier(device=name_of(backend)).fit(sparse, CLASSES),
        lambda: classifier(device=name_of(backend)).fit(lend(X), CLASSES, validation_data=(sparse, CLASSES)),
    ):
        with pytest.raises(
            ValueError, match=rf"sparse matrix, which xpnet does not support with {backend.name}"
        ):
            act()


@pytest.mark.parametrize(("device", "library"), [("cuda", None), ("cuda:99", None), ("cuda", "torch")])
def test_a_missing_gpu_is_named_and_leaves_no_trace(device, library):
    try:
        resolve(device, library)
    except BackendError:
        estimator = classifier(device=device if library is None else f"{library}:{device}")
    else:
        pytest.skip("there is a GPU")
    before = dict(vars(estimator))
    why = "no NVIDIA driver|not installed|no (such )?device|cannot be imported|cannot run kernels"
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
    fitted.to_device(name_of(backend))
    probability = fitted.predict_proba(lend(X))
    assert all(lives(backend, array) for array in [*parameters(fitted), probability])
    rel = 1e-12 if backend.dtype_name == "float64" else 1e-5
    assert backend.to_numpy(probability) == pytest.approx(expected, rel=rel)
    assert fitted.predict(lend(X)).tolist() == names.tolist()


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("torch", "torch"),
        ("array_api_compat.torch", "torch"),
        ("jax.numpy", "jax"),
        ("array_api_strict", "array_api_strict"),
        ("array_api_compat.numpy", "numpy"),
        ("cupy", "cupy"),
        ("array_api_compat.cupy", "cupy"),
    ],
)
def test_a_namespace_is_a_target(module, library, there):
    backend, xp = there(library), pytest.importorskip(module)
    fitted = regressor().fit(X, TARGET)
    expected = fitted.predict(X)
    answers = fitted.to_device(xp).predict(backend.asarray(X))
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


@pytest.mark.parametrize("device", ["torch:cpu", "array_api_strict:device1", "cupy:cuda:0"])
def test_a_move_leaves_the_parameters_of_the_constructor(device, there):
    backend = there(device)
    sizes = np.array([5])
    fitted = classifier(hidden_layer_sizes=sizes).fit(X, CLASSES).to_device(device)
    assert all(lives(backend, array) for array in parameters(fitted))
    assert fitted.hidden_layer_sizes is sizes
    assert clone(fitted).fit(X, CLASSES).loss_curve_ == classifier().fit(X, CLASSES).loss_curve_
    fitted.set_params(device=device).partial_fit(X, CLASSES)


@pytest.mark.parametrize(
    ("name", "same_device"),
    [
        ("torch:cpu", "torch:cpu:0"),
        ("numpy", "numpy:cpu:0"),
        ("numpy", "cpu:0"),
        ("jax", "jax:cpu:0"),
        ("cupy:cuda", "cupy:cuda:0"),
    ],
)
def test_two_names_of_a_device_are_one_place(name, same_device, there, monkeypatch):
    backend = there(name)
    fitted = classifier(device=same_device).fit(backend.asarray(X), backend.asarray(CLASSES))
    copies = []
    monkeypatch.setattr(type(backend), "to_numpy", lambda *_: copies.append(1))
    fitted.predict_proba(backend.asarray(X))  # nothing is copied through the host
    fitted.predict(backend.asarray(X))
    assert fitted.to_device(same_device).coefs_[0] is fitted.coefs_[0]
    assert copies == []


# Mixtures


@pytest.mark.parametrize("which", ["y", "sample_weight"])
def test_y_or_weights_on_another_device_are_refused_unless_device_says_where(which, backend, lend):
    other = elsewhere(backend)
    data = {"X": lend(X), "y": lend(CLASSES), "sample_weight": lend(WEIGHT)}
    data[which] = other.asarray(CLASSES if which == "y" else WEIGHT)
    estimator = classifier()
    before = dict(vars(estimator))
    with pytest.raises(
        ValueError, match=rf"{which} is .*expected both on the same device.*device="
    ) as caught:
        estimator.fit(**data)
    assert all(f"{b.name} on {b.device_name}" in str(caught.value) for b in (backend, other))
    assert vars(estimator) == before

    expected = classifier().fit(X, CLASSES, WEIGHT)
    estimator.set_params(device=name_of(backend)).fit(**data)
    assert estimator.loss_curve_ == close(backend, expected.loss_curve_)
    assert estimator.score(**data) == close(backend, expected.score(X, CLASSES, WEIGHT))
    assert all(lives(backend, array) for array in parameters(estimator))


def test_x_on_another_device_than_in_fit_is_refused_unless_device_says_where(backend, lend):
    other = elsewhere(backend)
    fitted, free = (
        classifier(device=device).fit(lend(X), lend(CLASSES)) for device in (None, name_of(backend))
    )
    for method in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(
            ValueError,
            match=r"Inputs passed to MLPClassifier\.predict\w*\(\) must be on the same device as those "
            r"passed to fit\(\).*to_device.*device=",
        ) as caught:
            getattr(fitted, method)(other.asarray(X))
        assert all(f"{b.name} on {b.device_name}" in str(caught.value) for b in (backend, other))

        answers = getattr(free, method)(other.asarray(X))
        expected = backend.to_numpy(getattr(fitted, method)(lend(X)))
        assert lives(other, answers, answers.dtype)
        assert other.to_numpy(answers) == close(backend, expected)


def test_training_goes_on_only_where_it_began_unless_device_says_where(backend, lend):
    other = elsewhere(backend)
    data = other.asarray(X), other.asarray(CLASSES)
    here, free = (
        classifier(warm_start=True, device=device).fit(lend(X), lend(CLASSES))
        for device in (None, name_of(backend))
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


def locked(backend, x):
    """A copy of x on a backend, read-only if it is NumPy."""
    array = backend.asarray(np.array(x))
    if backend.name == "numpy":
        array.flags.writeable = False
    return array


HOST = ["numpy", "array_api_strict", "torch", "jax"]


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("other_name", [*HOST, "pandas", "list"])
def test_everything_follows_x_in_host_memory(name, other_name, there):
    backend = there(name)
    if other_name in HOST:
        other, take = there(other_name), partial(locked, there(other_name))
    else:
        other, take = there("numpy"), np.ndarray.tolist if other_name == "list" else data_frame
    settings = {"warm_start": True, "scoring": "accuracy"}
    expected = classifier(**settings).fit(X, CLASSES, WEIGHT, validation_data=(X, CLASSES, WEIGHT))
    fitted = classifier(**settings).fit(
        locked(backend, X),
        take(CLASSES),
        take(WEIGHT),
        validation_data=(take(X), take(CLASSES), take(WEIGHT)),
    )
    assert fitted.loss_curve_ == close(backend, expected.loss_curve_)
    assert fitted.validation_loss_curve_ == close(backend, expected.validation_loss_curve_)
    assert fitted.validation_scores_ == close(backend, expected.validation_scores_)
    assert all(lives(backend, array) for array in parameters(fitted))
    assert lives(backend, fitted.classes_, fitted.classes_.dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X has feature names")
        for method in ("predict", "predict_proba", "predict_log_proba"):
            answers = getattr(fitted, method)(take(X))
            assert lives(other, answers, answers.dtype)
            assert same(other, answers, getattr(expected, method)(X))
        score = expected.score(X, CLASSES, WEIGHT)
        assert fitted.score(take(X), locked(backend, CLASSES), locked(backend, WEIGHT)) == close(
            backend, score
        )
        assert fitted.score(locked(backend, X), take(CLASSES), take(WEIGHT)) == close(backend, score)


@pytest.mark.parametrize("name", HOST)
@pytest.mark.parametrize("other_name", HOST)
def test_training_goes_on_in_the_library_it_is_given(name, other_name, there):
    backend, other = there(name), there(other_name)
    moved = classifier().partial_fit(
        backend.asarray(X), other.asarray(CLASSES), classes=other.asarray([2, 3, 4])
    )
    expected = classifier().partial_fit(X, CLASSES, classes=[2, 3, 4])
    assert lives(backend, moved.classes_, moved.classes_.dtype)
    for model in (moved, expected):
        model.partial_fit(*((other.asarray(X), backend.asarray(CLASSES)) if model is moved else (X, CLASSES)))
    assert all(lives(other, array) for array in parameters(moved))
    assert lives(other, moved.classes_, moved.classes_.dtype)
    for model in (moved, expected):
        model.set_params(warm_start=True)
    moved.fit(backend.asarray(X), backend.asarray(CLASSES))
    expected.fit(X, CLASSES)
    assert all(lives(backend, array) for array in [*parameters(moved), *moved._optimizer.moments])
    assert moved.loss_curve_ == close(backend, expected.loss_curve_)
    assert len(moved.loss_curve_) == 1 + 1 + 3


def test_jax_has_several_cpu_devices(there):
    there("jax")
    code = """if True:
        import json
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from xpnet import MLPClassifier, resolve
        from xpnet.backends import backend_of

        X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        y = (X[:, 0] > 0).astype(int)
        first, second = jax.devices()
        x = jax.device_put(X, second)
        model = MLPClassifier((5,), max_iter=3, random_state=0).fit(x, jax.device_put(y, first))
        expected = MLPClassifier((5,), max_iter=3, random_state=0).fit(X, y)
        answers = [model.predict_proba(a) for a in (x, jax.device_put(X, first), X)]
        moved = MLPClassifier((5,), max_iter=3, random_state=0, device="jax:cpu:1").fit(X, y)
        sharded = jax.device_put(X, NamedSharding(Mesh([first, second], "n"), PartitionSpec("n")))
        refused = []
        for act in (
            lambda: model.fit(sharded, y), lambda: model.predict(sharded), lambda: expected.score(sharded, y)
        ):
            try:
                act()
            except ValueError as error:
                refused.append(str(error))
        whole = jax.device_put(X, NamedSharding(Mesh([second], "n"), PartitionSpec("n")))
        print(json.dumps([
            [backend_of(a).place for a in (model.coefs_[0], moved.coefs_[0], *answers, model.predict(whole))],
            [np.abs(np.asarray(a) - expected.predict_proba(X)).max().item() for a in answers],
            [model.loss_curve_, moved.loss_curve_, expected.loss_curve_],
            refused,
        ]))
    """
    places, errors, (curve, moved, expected), refused = python(
        code, XLA_FLAGS="--xla_force_host_platform_device_count=2", PYTHONWARNINGS="ignore"
    )
    second, first = ["jax", "cpu:1"], ["jax", "cpu"]
    assert places == [second, second, second, first, ["numpy", "cpu"], second]
    assert max(errors) < 1e-5
    assert curve == pytest.approx(expected, rel=1e-4)
    assert moved == pytest.approx(expected, rel=1e-4)
    assert len(refused) == 3
    for message in refused:
        assert re.match(
            r"X is sharded over .*cpu.*cpu.*, expected an array on one device: .*device_put", message
        )


@pytest.mark.parametrize(
    ("first", "second"),
    [("array_api_strict:cpu", "array_api_strict:device1"), ("cupy:cuda:0", "cupy:cuda:1")],
)
def test_another_device_of_one_library_is_another_place(first, second, there):
    near, far = there(first), there(second)
    x, y, weight = far.asarray(X), far.asarray(TARGET), far.asarray(WEIGHT)
    for data in ((x, near.asarray(TARGET)), (x, y, near.asarray(WEIGHT)), (near.asarray(X), y)):
        with pytest.raises(ValueError, match="on the same device") as caught:
            regressor().fit(*data)
        assert all(f"{b.name} on {b.device_name}" in str(caught.value) for b in (near, far))
    fitted = regressor().fit(x, y, weight)
    with pytest.raises(
        ValueError, match=rf"same device.* are {far.name} on {far.device_name}, X is .*{near.device_name}"
    ):
        fitted.predict(near.asarray(X))
    assert lives(near, fitted.set_params(device=second).predict(near.asarray(X)))


@pytest.mark.parametrize("device", ["array_api_strict:device1", "torch", "cupy", "cupy:cuda:1"])
def test_everything_follows_x_where_scikit_learn_dispatches(device, there):
    backend = there(device)
    code = """if True:
        import json, sys
        import numpy as np, sklearn
        from sklearn.callback import ScoringMonitor
        from sklearn.model_selection import GridSearchCV, cross_val_score
        from xpnet import MLPClassifier, MLPRegressor, resolve
        from xpnet.backends import backend_of
        sklearn.set_config(array_api_dispatch=True)
        name, device = sys.argv[1:3]
        backend = resolve(device, name, "float64")
        X = np.random.default_rng(0).standard_normal((60, 4))
        labels, target = np.argmax(X[:, :3], axis=1), X[:, 0] - X[:, 1]
        there = [backend.asarray(x) for x in (X, labels, target, np.ones(60))]

        def run(X, y, target, weight):
            settings = {"hidden_layer_sizes": (3,), "random_state": 0, "max_iter": 5}
            model = MLPClassifier(**settings).fit(X, labels, weight)
            classes, numbers = MLPClassifier(**settings), MLPRegressor(**settings)
            monitor = ScoringMonitor(scoring="accuracy")
            MLPClassifier(**settings).set_callbacks(monitor).fit(X, y)
            search = GridSearchCV(numbers, {"alpha": [0.0, 10.0]}, cv=2).fit(X, target)
            scores = [
                *cross_val_score(classes, X, y, cv=2),
                *cross_val_score(classes, X, y, cv=2, scoring="neg_log_loss"),
                *search.cv_results_["mean_test_score"],
                *[row["accuracy"] for row in monitor.get_logs().data],
            ]
            arrays = *model.coefs_, model.predict(X), *search.best_estimator_.coefs_, search.predict(X)
            return [backend_of(a).place for a in arrays], [float(score) for score in scores]

        with backend.as_current():  # scikit-learn splits X on the current device
            places, scores = run(*there)
        _, expected = run(X, labels, target, np.ones(60))
        print(json.dumps([backend_of(there[0]).place, places, scores, expected]))
    """
    home, places, scores, expected = python(
        code, backend.name, backend.device_name, SCIPY_ARRAY_API="1", PYTHONWARNINGS="ignore"
    )
    assert places == [home] * 6
    assert scores == pytest.approx(expected, rel=1e-8)
    assert len(scores) == 2 + 2 + 2 + 6


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


@pytest.mark.parametrize("device", ["torch", "jax", "array_api_strict:device1", "cupy"])
def test_a_pickle_opens_where_the_library_is_missing(device, there, tmp_path):
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


@pytest.mark.parametrize("missing", ["device", "driver"])
@pytest.mark.parametrize("device", ["cupy", "torch:cuda", "jax:cuda"])
def test_a_model_of_a_gpu_opens_where_there_is_none(device, missing, there, tmp_path):
    backend = there(device)
    if missing == "driver" and "Emulated" not in backend.hardware:
        pytest.skip("only an emulated device can hide the driver")
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "EMU_CUDA_DEVICES": "0"} if missing == "device" else {}
    fitted = classifier(device=device).fit(X, CLASSES)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([fitted, classifier().fit(backend.asarray(X), NAMES)]))
    fitted.save(tmp_path / "model.safetensors")
    np.save(tmp_path / "X.npy", X)
    code = """if True:
        import json, pickle, sys, warnings
        import numpy as np
        from xpnet import MLPClassifier
        from xpnet.errors import BackendError

        X = np.load(sys.argv[1] + "/X.npy")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with open(sys.argv[1] + "/model.pkl", "rb") as file:
                models = pickle.load(file)
            models.append(MLPClassifier.load(sys.argv[1] + "/model.safetensors"))
        said = [str(w.message) for w in caught if w.category is UserWarning]
        arrays = [a for m in models for a in (*m.coefs_, *m.intercepts_, m.classes_)]
        answers = [m.predict(X).tolist() for m in models]
        refused = []
        for act in (lambda: models[0].partial_fit(X, answers[0]), lambda: models[2].to_device("cuda")):
            try:
                act()
            except BackendError as error:
                refused.append(str(error))
        models[0].set_params(device=None).partial_fit(X, answers[0])
        kinds = {type(a).__name__ for a in arrays}
        print(json.dumps([said, list(kinds), answers, refused, models[0].loss_curve_]))
    """
    hidden = hidden or {"EMU_CUDA_DRIVER": "0"}
    said, kinds, answers, refused, curve = python(code, tmp_path, PYTHONWARNINGS="ignore", **hidden)
    expected = classifier().fit(X, CLASSES)
    numbers, names = expected.predict(X).tolist(), classifier().fit(X, NAMES).predict(X).tolist()
    assert answers == [numbers, names, numbers]
    assert all(f"a model fitted with {backend.name} on cuda" in message for message in said)
    assert said
    assert kinds == ["ndarray"]
    assert len(refused) == 2
    assert curve == pytest.approx(expected.partial_fit(X, expected.predict(X)).loss_curve_, rel=1e-8)


KEPT = {
    "binary": (classifier(early_stopping=True), BINARY.astype(bool)),
    "classes": (classifier(solver="lbfgs"), CLASSES.astype(np.uint8)),
    "names": (classifier(class_weight={"no": 2.0}), NAMES),
    "labels": (classifier(solver="sgd"), LABELS),
    "target": (regressor(loss="huber"), TARGET),
    "targets": (regressor(loss="poisson", hidden_layer_sizes=()), TARGETS),
}


@pytest.mark.parametrize(("estimator", "y"), KEPT.values(), ids=KEPT)
def test_saved_models_load_as_numpy(estimator, y, backend, lend, tmp_path):
    place = (lambda y: y) if y is NAMES else lend
    fitted = fresh(estimator).fit(lend(X), place(y))
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    loaded = type(fitted).load(path)
    assert {(type(a), a.dtype.name) for a in parameters(loaded)} == {(np.ndarray, backend.dtype_name)}
    assert loaded.get_params() == fitted.get_params()
    assert getattr(loaded, "loss_curve_", None) == getattr(fitted, "loss_curve_", None)
    x = X.astype(backend.dtype_name)
    answers = to_host(fitted.predict(lend(X)))
    if isinstance(fitted, MLPRegressor):
        assert loaded.predict(x) == close(backend, answers)
    else:
        assert loaded.classes_.dtype == to_host(fitted.classes_).dtype
        assert loaded.predict(x).dtype == answers.dtype
        assert loaded.predict(x).tolist() == answers.tolist()
        assert loaded.predict_proba(x) == close(backend, backend.to_numpy(fitted.predict_proba(lend(X))))
    # Back to the place it goes on, from new moments, which the file does not have.
    loaded.to_device(name_of(backend))
    assert all(lives(backend, array) for array in parameters(loaded))
    if estimator.solver == "sgd":
        vars(fitted).pop("_optimizer")
        for model in (loaded, fitted):
            model.set_params(shuffle=False).partial_fit(lend(X), place(y))
        assert loaded.loss_curve_ == close(backend, fitted.loss_curve_)


# scikit-learn's tools


def test_a_search_over_devices_finds_the_same_scores(backend):
    x = X.astype(backend.dtype_name)
    search, expected = (
        GridSearchCV(regressor(), {"device": devices}, cv=2).fit(x, TARGET, sample_weight=WEIGHT)
        for devices in ([name_of(backend), None, "cpu"], [None])
    )
    for name in ("split0_test_score", "split1_test_score"):
        assert search.cv_results_[name] == close(backend, 3 * [*expected.cv_results_[name]])
    model = search.best_estimator_
    assert search.predict(x) == close(backend, expected.predict(x))
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "coefs_")
    scores, expected = (
        cross_val_score(classifier(device=device), x, NAMES, cv=2, scoring="neg_log_loss")
        for device in (name_of(backend), None)
    )
    assert scores == close(backend, expected)


@pytest.mark.parametrize("devices", [["cuda"], ["cuda:0", "cuda:1"]], ids="+".join)
def test_processes_search_on_the_devices(devices, there):
    for device in devices:
        there(f"cupy:{device}")
    search = GridSearchCV(classifier(), {"device": [None, *devices]}, cv=2, n_jobs=2).fit(X, CLASSES)
    scores = cross_val_score(classifier(device=devices[-1]), X, CLASSES, cv=2, n_jobs=2)
    expected = cross_val_score(classifier(), X, CLASSES, cv=2)
    assert scores.tolist() == expected.tolist()
    assert search.cv_results_["mean_test_score"] == pytest.approx([expected.mean()] * (1 + len(devices)))
    assert search.predict(X).tolist() == classifier().fit(X, CLASSES).predict(X).tolist()
