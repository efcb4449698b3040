"""What `xpnet train` writes, the estimators load: they take the rows that the run was given, unscaled."""

import copy
import hashlib
import json
import pickle
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix
from sklearn.base import clone
from small_data import name_of

from xpnet import MLPClassifier, MLPRegressor, load
from xpnet.backends import to_host
from xpnet.command.cli import main
from xpnet.errors import InputError

OPTIONS = {
    "digits": "--data digits --epochs 5 --activation tanh --hidden 20",
    "table": "--data {}/table.csv --loss logistic_cross_entropy --dtype float64 --lr 0.05 "
    "--hidden 6,5 --activation relu,elu",
    "one-vs-all": "--data digits --epochs 5 --lr 0.02 --loss logistic_cross_entropy --hidden 20",
    "far": "--data {}/far.npz --lr 0.05 --hidden 5",
    "numbers": "--data {}/numbers.npz --loss squared_error --hidden none --lr 0.1",
    "counts": "--data {}/counts.npz --loss poisson --dtype float64 --lr 0.05 --hidden 5",
}
CLASSIFIERS = ["digits", "table", "one-vs-all", "far"]
REGRESSORS = ["numbers", "counts"]
each_run = pytest.mark.parametrize("name", OPTIONS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of each name above."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3)) * [1.0, 20.0, 0.1] + [0.0, -100.0, 1.0]
    labels = np.where(X[:, 0] > 0, "plus", "minus")
    lines = (",".join([*map(repr, row.tolist()), label]) for row, label in zip(X, labels, strict=True))
    (folder / "table.csv").write_text("\n".join(lines))
    # float32 has a number every 64 up there: who casts before scaling sees no difference between the rows.
    np.savez(folder / "far.npz", X=1e9 + X, y=(X[:, 0] > 0).astype(int) * 7 - 3)
    np.savez(folder / "numbers.npz", X=X, y=np.stack([5e4 + 1e3 * X[:, 0], X[:, 1]], axis=1))
    np.savez(folder / "counts.npz", X=X, y=np.floor(np.exp(X[:, 0])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        for name, options in OPTIONS.items():
            options = options.format(folder).split()
            assert main(["train", "--device", "cpu", "--quiet", f"--out={folder}/{name}", *options]) == 0
    return folder


def loaded(runs, name):
    return (MLPRegressor if name in REGRESSORS else MLPClassifier).load(runs / name)


def rows(runs, name):
    """The test rows of a run and their targets, as its data has them."""
    data = {"table": runs / "table.csv"}.get(name, runs / f"{name}.npz")
    data = "digits" if name in ("digits", "one-vs-all") else data
    dataset = load(data, numeric_targets=name in REGRESSORS)
    return dataset.X_test, dataset.y_test if dataset.labels is None else dataset.labels[dataset.y_test]


def predicted_by_command(run, X, folder, capsys):
    """What `xpnet predict` writes about these rows, a record for each."""
    np.save(folder / "rows.npy", X)
    assert main(["predict", str(run), str(folder / "rows.npy"), "--json", "--top", "99"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@each_run
def test_predictions_are_those_of_the_command(runs, name, tmp_path, capsys):
    X, _ = rows(runs, name)
    model, records = loaded(runs, name), predicted_by_command(runs / name, X, tmp_path, capsys)
    if name in REGRESSORS:
        expected = np.array([record["values"] for record in records])
        np.testing.assert_allclose(model.predict(X).reshape(expected.shape), expected, rtol=1e-6)
        return
    best = [record["classes"][0]["class"] for record in records]
    assert model.predict(X).tolist() == best
    for p, record in zip(model.predict_proba(X), records, strict=True):
        expected = {entry["class"]: entry["probability"] for entry in record["classes"]}
        assert dict(zip(model.classes_.tolist(), p, strict=True)) == pytest.approx(
            expected, rel=1e-5, abs=1e-8
        )
        assert len(expected) == len(model.classes_)


@each_run
def test_the_score_is_that_of_the_run(runs, name):
    metrics = json.loads((runs / name / "metrics.json").read_text())
    score = loaded(runs, name).score(*rows(runs, name))
    assert score == pytest.approx(metrics["test_r2" if name in REGRESSORS else "test_accuracy"], abs=1e-6)
    assert score > 0.8  # worth comparing


def test_classes_are_what_the_data_calls_them(runs):
    classes = {name: loaded(runs, name).classes_ for name in CLASSIFIERS}
    assert classes["digits"].dtype == classes["far"].dtype == np.int64
    assert classes["digits"].tolist() == list(range(10))
    assert classes["far"].tolist() == [-3, 4]
    assert classes["table"].tolist() == ["minus", "plus"]


def test_a_folder_or_a_file_by_path_or_name(runs):
    X, _ = rows(runs, "digits")
    expected = loaded(runs, "digits").predict_proba(X)
    for path in (str(runs / "digits"), runs / "digits" / "model.safetensors"):
        assert np.array_equal(MLPClassifier.load(path).predict_proba(X), expected)


@each_run
def test_the_parameters_describe_the_network(runs, name):
    model = loaded(runs, name)
    sizes = [W.shape[0] for W in model.coefs_] + [model.coefs_[-1].shape[1]]
    assert sizes[1:-1] == list(model.hidden_layer_sizes)
    assert (model.n_features_in_, model.n_layers_, model.n_outputs_) == (sizes[0], len(sizes), sizes[-1])
    assert {W.dtype.name for W in model.coefs_} == {"float64" if name in ("table", "counts") else "float32"}
    assert model.activation == {"digits": "tanh", "table": ("relu", "elu")}.get(name, "relu")
    if name in REGRESSORS:
        assert model.loss == {"numbers": "squared_error", "counts": "poisson"}[name]


def test_one_vs_all_predicts_the_most_probable_class(runs):
    X, _ = rows(runs, "one-vs-all")
    model = loaded(runs, "one-vs-all")
    p = model.predict_proba(X)
    assert p.shape == (len(X), 10)
    assert abs(p.sum(axis=1) - 1).max() > 0.01  # ten answers of yes or no
    assert np.array_equal(model.predict(X), p.argmax(axis=1))
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(p), rtol=1e-4, atol=1e-5)


# The same rows in other clothes


@pytest.mark.parametrize("name", ["digits", "numbers"])
@pytest.mark.parametrize(
    "dressed",
    [np.float64, np.float32, np.asfortranarray, csr_matrix, np.ndarray.tolist],
    ids=["float64", "float32", "columns", "sparse", "list"],
)
def test_rows_of_any_kind(runs, name, dressed):
    X, _ = rows(runs, name)
    model = loaded(runs, name)
    before = X.copy()
    np.testing.assert_allclose(model.predict(dressed(X)), model.predict(X), rtol=1e-4)
    assert np.array_equal(X, before)


def test_whole_numbers_far_from_zero(runs):
    model = loaded(runs, "far")
    whole = np.round(rows(runs, "far")[0]).astype(np.int64)
    assert np.array_equal(model.predict_proba(whole), model.predict_proba(whole.astype(np.float64)))


def test_more_rows_than_a_chunk(runs):
    X, _ = rows(runs, "digits")
    many = np.tile(X, (30, 1))
    assert len(many) > 8192
    model = loaded(runs, "digits")
    np.testing.assert_allclose(model.predict_proba(many), np.tile(model.predict_proba(X), (30, 1)), atol=1e-5)


# Elsewhere


@pytest.mark.parametrize("name", ["digits", "table", "far", "numbers"])
def test_a_loaded_model_moves(runs, name, backend, lend):
    if name in ("far", "table") and backend.dtype_name == "float32":
        pytest.skip("rows far from zero, or parameters in float64")
    X, y = rows(runs, name)
    model = loaded(runs, name)
    expected = model.predict(X)
    x = lend(X.astype(np.float64))
    answer = model.to_device(name_of(backend)).predict(x)
    if name == "table":  # labels that are text stay NumPy's
        assert answer.tolist() == expected.tolist()
    else:
        assert type(answer) is type(x)
        np.testing.assert_allclose(backend.to_numpy(answer), expected, rtol=1e-4)
        assert model.score(x, lend(y)) == pytest.approx(loaded(runs, name).score(X, y), abs=1e-4)
    assert model.to_device("numpy") is model
    np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize("name", ["digits", "numbers"])
def test_rows_follow_the_device_of_the_estimator(runs, name, backend):
    X, _ = rows(runs, name)
    model = loaded(runs, name)
    expected = model.predict(X)
    model.to_device(name_of(backend)).set_params(device=name_of(backend))
    for given in (X.astype(np.float32), X.astype(backend.dtype_name), X.astype(backend.dtype_name).tolist()):
        if backend.dtype_name == "float32" and isinstance(given, list):
            continue  # a list is float64
        answer = model.predict(given)
        assert type(answer) is np.ndarray
        np.testing.assert_allclose(answer, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["digits", "table", "numbers"])
def test_pickle_and_copy_keep_the_scaling_and_clone_does_not(runs, name, backend, lend):
    if name == "table" and backend.dtype_name == "float32":
        pytest.skip("parameters in float64")
    X = lend(rows(runs, name)[0].astype(np.float64))
    model = loaded(runs, name).to_device(name_of(backend))
    expected = to_host(model.predict(X)).tolist()
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert to_host(again.predict(X)).tolist() == expected
    unfitted = clone(model)
    assert unfitted.get_params() == model.get_params()
    assert not hasattr(unfitted, "coefs_")


@pytest.mark.parametrize("library", ["numpy", "torch", "cupy"])
@each_run
def test_saved_again_it_is_the_same_model(runs, name, library, there, tmp_path, capsys):
    X, _ = rows(runs, name)
    model = loaded(runs, name)
    model.to_device(name_of(there(library))).save(tmp_path / "again.safetensors")
    again = type(model).load(tmp_path / "again.safetensors")
    assert np.array_equal(again.predict(X), loaded(runs, name).predict(X))
    by_command = predicted_by_command(runs / name, X, tmp_path, capsys)
    assert predicted_by_command(tmp_path / "again.safetensors", X, tmp_path, capsys) == by_command


def test_saved_again_it_still_takes_pictures(runs, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    X, _ = rows(runs, "digits")
    image.fromarray(X[0].reshape(8, 8) * np.uint8(15)).save(tmp_path / "it.png")
    loaded(runs, "digits").save(tmp_path / "again.safetensors")
    out = []
    for model in (runs / "digits", tmp_path / "again.safetensors"):
        assert main(["predict", str(model), str(tmp_path / "it.png")]) == 0
        out.append(capsys.readouterr().out)
    assert out[0] == out[1]


# Training


@pytest.mark.parametrize("name", ["digits", "table", "numbers"])
def test_fit_trains_anew_without_scaling(runs, name):
    X, y = rows(runs, name)
    model = loaded(runs, name).set_params(max_iter=3, random_state=0)
    fresh = clone(model)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        fresh.fit(X, y)
    assert np.array_equal(model.predict(X), fresh.predict(X))
    assert model.loss_curve_ == fresh.loss_curve_


@pytest.mark.parametrize("method", ["partial_fit", "warm_start"])
@pytest.mark.parametrize("name", ["digits", "table", "one-vs-all", "numbers"])
def test_training_on_from_a_run_is_refused(runs, name, method):
    X, y = rows(runs, name)
    model = loaded(runs, name)
    before = model.predict(X)
    train_on = model.partial_fit if method == "partial_fit" else model.set_params(warm_start=True).fit
    with pytest.raises(ValueError, match="use `xpnet train --resume`"):
        train_on(X, y)
    assert np.array_equal(model.predict(X), before)


# Other files


def test_the_other_class_is_named(runs, tmp_path):
    with pytest.raises(InputError, match="expected a model of MLPRegressor, found one of MLPClassifier"):
        MLPRegressor.load(runs / "digits")
    with pytest.raises(InputError, match=r"load it with MLPRegressor\.load"):
        MLPClassifier.load(runs / "numbers")


def test_a_class_of_ones_own_loads_its_files_and_runs(runs, tmp_path):
    class Mine(MLPClassifier):
        pass

    X, _ = rows(runs, "digits")
    mine = Mine.load(runs / "digits")
    assert type(mine) is Mine
    mine.save(tmp_path / "mine.safetensors")
    assert np.array_equal(Mine.load(tmp_path / "mine.safetensors").predict(X), mine.predict(X))
    with pytest.raises(InputError, match=r"load it with Mine\.load"):
        MLPClassifier.load(tmp_path / "mine.safetensors")


def test_an_unfinished_run_is_loaded_with_a_warning(runs, tmp_path):
    X, _ = rows(runs, "digits")
    data = (runs / "digits" / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(data)
    with pytest.warns(UserWarning, match="the run is unfinished, 5 of 5 epochs") as caught:
        model = MLPClassifier.load(tmp_path)
    assert caught[0].filename == __file__
    assert np.array_equal(model.predict(X), loaded(runs, "digits").predict(X))


def write_version_1(path, kind, tensors, about):
    """What the files of version 1 consist of, spelled out."""
    header = {"format": kind, "version": "1", "about": json.dumps(about)}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    save_file(tensors, path, header | {"sha256": digest.hexdigest()})


LAYERS = {
    "layers.0.weight": np.array([[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]]),
    "layers.0.bias": np.array([0.25, -0.5]),
    "layers.1.weight": np.array([[1.0, 0.0, -1.0], [0.5, 1.0, 0.0]]),
    "layers.1.bias": np.array([0.0, 0.1, 0.2]),
}
Z = np.tanh(np.eye(3) @ LAYERS["layers.0.weight"] + LAYERS["layers.0.bias"])
Z = Z @ LAYERS["layers.1.weight"] + LAYERS["layers.1.bias"]


@pytest.mark.parametrize("labels", ["text", "integers"])
def test_a_classifier_of_version_1_is_read(tmp_path, labels, capsys):
    about = {
        "estimator": "MLPClassifier",
        "parameters": {"hidden_layer_sizes": {"tuple": [2]}, "activation": {"tuple": ["tanh"]}, "alpha": 0.5},
        "fitted": {
            "n_features_in_": 3,
            "n_outputs_": 3,
            "n_layers_": 3,
            "out_activation_": "softmax",
            "n_iter_": 7,
            "_target_kind": "multiclass",
            "_sparse_target": False,
        },
        "feature_names": ["a", "b", "c"],
    }
    tensors = dict(LAYERS)
    if labels == "text":
        about["classes"], classes = ["<U2", ["no", "or", "ye"]], np.array(["no", "or", "ye"])
    else:
        tensors["classes"] = classes = np.array([3, 5, 250], dtype=np.uint8)
    write_version_1(tmp_path / "old.safetensors", "xpnet estimator", tensors, about)
    model = MLPClassifier.load(tmp_path / "old.safetensors")
    assert (model.alpha, model.n_iter_, model.activation) == (0.5, 7, ("tanh",))
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    assert model.classes_.dtype == classes.dtype
    with pytest.warns(UserWarning, match="valid feature names"):
        assert model.predict(np.eye(3)).tolist() == classes[Z.argmax(axis=1)].tolist()
    records = predicted_by_command(tmp_path / "old.safetensors", np.eye(3), tmp_path, capsys)
    assert [r["classes"][0]["class"] for r in records] == classes[Z.argmax(axis=1)].tolist()


@pytest.mark.parametrize(("loss", "expected"), [("quantile", Z), ("poisson", np.exp(Z))])
def test_a_regressor_of_version_1_is_read(tmp_path, loss, expected, capsys):
    about = {
        "estimator": "MLPRegressor",
        "parameters": {"loss": loss, "hidden_layer_sizes": [2], "activation": "tanh", "quantile": 0.9},
        "fitted": {"n_features_in_": 3, "n_outputs_": 3, "n_layers_": 3, "out_activation_": "identity"},
    }
    write_version_1(tmp_path / "old.safetensors", "xpnet estimator", LAYERS, about)
    model = MLPRegressor.load(tmp_path / "old.safetensors")
    assert (model.loss, model.quantile) == (loss, 0.9)
    np.testing.assert_allclose(model.predict(np.eye(3)), expected)
    records = predicted_by_command(tmp_path / "old.safetensors", np.eye(3), tmp_path, capsys)
    np.testing.assert_allclose([record["values"] for record in records], expected)


def test_a_run_of_version_1_is_loaded(tmp_path):
    scaling = {"scaling.shift": np.zeros(1), "scaling.factor": np.array([1 / 255])}
    about = {"sizes": [3, 2, 3], "activations": ["tanh"], "loss": "softmax_cross_entropy"}
    about |= {"classes": ["0", "1", "2"], "picture": None}
    write_version_1(tmp_path / "model.safetensors", "xpnet model", LAYERS | scaling, about)
    model = MLPClassifier.load(tmp_path)
    assert model.predict(255 * np.eye(3)).tolist() == [str(k) for k in Z.argmax(axis=1)]


def test_rows_that_are_scaled_already_are_warned_about_in_python(runs, backend, lend):
    model = loaded(runs, "digits").to_device(name_of(backend))
    X = rows(runs, "digits")[0].astype("float64")
    model.predict(lend(X))
    if backend.is_on_gpu:  # a prediction reads nothing back there
        model.predict(lend(X / 16.0))
        return
    with pytest.warns(UserWarning, match="expected values from 0 to 16, as in training, found 0 to 1"):
        model.predict(lend(X / 16.0))
