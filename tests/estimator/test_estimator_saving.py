"""Models that are saved and loaded."""

import pickle

import numpy as np
import pytest
from problems import (
    BINARY,
    CLASSES,
    NUMBERS,
    STRINGS,
    N,
    X,
    assert_same_fit,
    both_classes,
    classifier,
    each_kind,
    each_solver,
    parameters,
    regressor,
)
from safetensors.numpy import load_file
from sklearn.exceptions import NotFittedError

from xpnet import MLPClassifier, MLPRegressor
from xpnet.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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
