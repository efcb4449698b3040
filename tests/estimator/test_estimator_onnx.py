"""`to_onnx`: what onnxruntime predicts is what the estimator predicts."""

import json
import sys

import numpy as np
import pytest
from problems import BINARY, CLASSES, COUNTS, LABELS, NUMBERS, STRINGS, TWO_NUMBERS, X, classifier, regressor
from sklearn.exceptions import NotFittedError

from xpnet import MLPClassifier
from xpnet.backends import to_host
from xpnet.errors import InputError
from xpnet.maths.ops import ACTIVATIONS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Wide enough that activations saturate.
WIDE = 3.0 * X
TARGETS = {
    "binary": (classifier, {}, BINARY),
    "multi-class": (classifier, {}, STRINGS),
    "multi-label": (classifier, {}, LABELS),
    **{
        f"{loss}, {n} output{'s' * (n > 1)}": (regressor, {"loss": loss}, y)
        for loss in ("squared_error", "huber", "absolute_error", "quantile", "poisson")
        for n, y in ((1, COUNTS if loss == "poisson" else NUMBERS), (2, np.abs(TWO_NUMBERS)))
    },
}
each_target = pytest.mark.parametrize(("make", "params", "y"), TARGETS.values(), ids=TARGETS)


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx")


@pytest.fixture
def run(onnx, tmp_path):
    """A function: (model, X) -> what onnxruntime returns by name, after the file passed ONNX's checks."""
    runtime = pytest.importorskip("onnxruntime")

    def run(model, X, **options):
        path = tmp_path / "model.onnx"
        model.to_onnx(path, **options)
        onnx.checker.check_model(path, full_check=True)
        session = runtime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"X": X}), strict=True))

    return run


def assert_same_predictions(found, model, X, bound):
    if "variable" in found:
        expected = model.predict(X).reshape(len(X), -1)
        assert found.keys() == {"variable"}
        assert found["variable"].dtype == X.dtype
        np.testing.assert_allclose(found["variable"], expected, rtol=bound, atol=bound)
    else:
        assert list(found) == ["label", "probabilities"]
        assert found["probabilities"].dtype == X.dtype
        assert np.array_equal(found["label"], model.predict(X))
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@each_target
def test_every_activation_and_loss(make, params, y, activation, dtype, run):
    rows = WIDE.astype(dtype)
    model = make(activation=activation, hidden_layer_sizes=(8, 5), max_iter=2, **params).fit(rows, y)
    bound = 1e-6 if dtype == np.float32 else 1e-12
    assert_same_predictions(run(model, rows, dtype=str(np.dtype(dtype))), model, rows, bound)


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": (5, 4, 3), "activation": ["elu", "tanh", "leaky_relu"]},
        {"hidden_layer_sizes": ()},
        {"solver": "lbfgs", "activation": "softplus"},
    ],
    ids=["one-activation-per-layer", "no-hidden-layer", "lbfgs"],
)
@pytest.mark.parametrize(("make", "y"), [(classifier, CLASSES), (regressor, NUMBERS)])
def test_other_networks(make, y, params, run):
    rows = X.astype(np.float32)
    model = make(**params).fit(rows, y)
    assert_same_predictions(run(model, rows), model, rows, 1e-6)


def test_a_float64_model_in_float32(run):
    model = classifier().fit(X, CLASSES)
    found = run(model, X.astype(np.float32))
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_any_number_of_rows(run, n):
    model = classifier().fit(X, STRINGS)
    found = run(model, X[:n].astype(np.float32))
    assert found["label"].tolist() == STRINGS[:0].tolist() + model.predict(X)[:n].tolist()
    assert found["probabilities"].shape == (n, 3)


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (np.array(["nein", "vielleicht", "já"]), object),
        (np.array(["nein", "vielleicht", "já"], dtype=object), object),
        (np.array([-3, 10, 2**40]), np.int64),
        (np.array([2, 5, 9], dtype=np.uint8), np.int64),
        (np.array([16777216.0, 16777217.0, 7.0]), np.float64),
        (np.array([False, True, True]), np.bool_),
    ],
    ids=["strings", "objects", "integers", "bytes", "floats", "booleans"],
)
def test_labels_of_any_kind(names, dtype, run):
    model = classifier(max_iter=50).fit(X, names[CLASSES])
    found = run(model, X.astype(np.float32))
    assert found["label"].dtype == dtype
    assert found["label"].tolist() == model.predict(X).tolist()
    assert set(found["label"]) == set(names)
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=0, atol=1e-6)


def test_labels_that_int64_cannot_hold_are_refused(tmp_path):
    model = classifier().fit(X, np.array([5, 7, 2**63], dtype=np.uint64)[CLASSES])
    with pytest.raises(InputError, match=f"at most {2**63 - 1}, which int64 holds, got {2**63}. Fit with"):
        model.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_single_class(run):
    model = classifier().fit(X, np.full(len(X), "only"))
    for bias in (-100.0, 100.0):
        model.intercepts_[-1] = np.array([bias])
        found = run(model, X.astype(np.float32))
        assert set(found["label"]) == set(model.predict(X)) == {"only"}
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), rtol=0, atol=1e-6)


def test_a_sparse_multi_label_target(run):
    sparse = pytest.importorskip("scipy.sparse").csr_matrix(LABELS)
    model = classifier().fit(X, sparse)
    assert np.array_equal(run(model, X.astype(np.float32))["label"], model.predict(X).toarray())


def test_every_place_exports_what_it_predicts(backend, lend, run):
    rows = lend(WIDE)
    model = classifier().fit(rows, lend(CLASSES))
    found = run(model, WIDE.astype(np.float32))
    assert found["label"].tolist() == to_host(model.predict(rows)).tolist()
    np.testing.assert_allclose(found["probabilities"], to_host(model.predict_proba(rows)), rtol=0, atol=1e-6)


def test_the_file_describes_itself(onnx, tmp_path):
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["a", "b", "c", "ä"])
    classifier().fit(frame, STRINGS).to_onnx(str(tmp_path / "model.onnx"))
    model = onnx.load(tmp_path / "model.onnx")
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["classes"] == ["maybe", "no", "yes"]
    assert metadata["feature_names"] == ["a", "b", "c", "ä"]
    assert model.producer_name == "xpnet"
    assert [(used.domain, used.version) for used in model.opset_import] == [("", 17)]
    assert model.ir_version <= 10


def test_without_onnx(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="pip install onnx"):
        classifier().fit(X, CLASSES).to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(onnx, tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(NotFittedError):
        MLPClassifier().to_onnx(path)
    with pytest.raises(InputError, match="Choose from float32, float64"):
        classifier().fit(X, CLASSES).to_onnx(path, dtype="half")
    assert not path.exists()
