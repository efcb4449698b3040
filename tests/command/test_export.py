"""`xpnet export`: an ONNX file takes the rows that `xpnet predict` takes, and predicts the same."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier as SklearnClassifier

from xpnet import MLPClassifier, MLPRegressor
from xpnet.command.cli import main

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 3)) * [1.0, 100.0, 0.01] + [0.0, 5000.0, 2.0]
SIGN = np.where(X[:, 0] > 0, "plus", "minus")
FIFTHS = np.digitize(X[:, 0], [-0.5, 0.5]) * 5
NUMBERS = np.stack([X[:, 0] + 500, X[:, 1] / 7], axis=1)
COUNTS = np.abs(X[:, :1]).round()

# What the runs are trained on, and how.
RUNS = {
    "digits": (None, "--data digits --epochs 5"),
    "logistic": (SIGN, "--loss logistic_cross_entropy --activation elu --dtype float64"),
    "softmax": (SIGN, ""),
    "one-vs-all": (FIFTHS, "--loss logistic_cross_entropy --hidden 8,5 --activation tanh"),
    "numbers": (NUMBERS, "--loss squared_error --hidden none --lr 0.3"),
    "counts": (
        np.abs(NUMBERS[:, :1] - 500).round(),
        "--loss poisson --lr 0.01 --hidden 8,5 --activation leaky_relu,softplus",
    ),
}
each_run = pytest.mark.parametrize("name", RUNS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of each kind and the rows to predict, trained once."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        for name, (y, options) in RUNS.items():
            if y is not None:
                np.savez(folder / f"{name}.npz", X=X, y=y)
                options = f"--data {folder}/{name}.npz --epochs 30 {options}"
            words = ["train", "--device", "cpu", "--quiet", "--out", f"{folder}/{name}", *options.split()]
            assert main(words) == 0
    return folder


def rows_of(name):
    return np.random.default_rng(1).integers(0, 17, (20, 64)).astype(float) if name == "digits" else X[:20]


@pytest.fixture
def command(here, capsys):
    """A function: the words of a command -> (status, out, err)."""

    def command(*words):
        try:
            status = main(list(map(str, words)))
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return command


@pytest.fixture
def predict(command):
    """A function: (model, rows) -> the numbers, or the label and {label: probability} of each row."""

    def predict(model, X):
        np.save("rows.npy", X)
        status, out, err = command("predict", model, "rows.npy", "--json", "--top", 100)
        assert (status, err) == (0, "")
        records = [json.loads(line) for line in out.splitlines()]
        if "values" in records[0]:
            return np.array([record["values"] for record in records])
        return read_classes(records)

    return predict


def read_classes(records):
    """Return the label, and {label: probability}, of each row."""
    found = [{best["class"]: best["probability"] for best in record["classes"]} for record in records]
    return [next(iter(row)) for row in found], found


def read_metadata(path):
    entries = pytest.importorskip("onnx").load(path).metadata_props
    return {entry.key: json.loads(entry.value) for entry in entries}


def run_onnx(path, X):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    onnx.checker.check_model(path, full_check=True)
    session = runtime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def assert_same(found, expected, classes, bound):
    if classes is None:
        np.testing.assert_allclose(found, expected, rtol=bound)
    else:
        labels, probabilities = found
        assert list(labels) == expected[0]
        table = [[row[label] for label in classes] for row in expected[1]]
        np.testing.assert_allclose(probabilities, table, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_run
def test_the_file_predicts_what_the_run_predicts(runs, name, dtype, command, predict):
    pytest.importorskip("onnx")
    rows = rows_of(name).astype(dtype)
    status, out, err = command("export", runs / name, "--to", "onnx", "--output", "it.onnx", "--dtype", dtype)
    assert (status, err) == (0, "")
    found = run_onnx("it.onnx", rows)
    shapes = [f"  input:  X (n, {rows.shape[1]}) {dtype}"]
    expected = predict(runs / name, rows)
    if "variable" in found:
        shapes.append(f"  output: variable (n, {expected.shape[1]}) {dtype}")
        assert_same(found["variable"], expected, None, 1e-6)
    else:
        classes = sorted(expected[1][0])
        shapes += [
            f"  output: label (n) {'string' if name in ('logistic', 'softmax') else 'int64'}",
            f"  output: probabilities (n, {len(classes)}) {dtype}",
        ]
        assert_same((found["label"], found["probabilities"]), expected, classes, 1e-6)
    assert out.splitlines() == ["Model saved in it.onnx", *shapes]


@pytest.mark.parametrize("name", ["digits", "softmax", "one-vs-all", "numbers"])
def test_scikit_learns_estimator_takes_the_rows_of_the_run(runs, name, predict):
    rows = rows_of(name)
    expected = predict(runs / name, rows)
    if name == "numbers":
        model = MLPRegressor.load(runs / name).to_sklearn()
        assert_same(model.predict(rows), expected, None, 1e-5)
        model.partial_fit(X, NUMBERS)
    else:
        model = MLPClassifier.load(runs / name).to_sklearn()
        assert type(model) is SklearnClassifier
        found = model.predict(rows), model.predict_proba(rows)
        assert_same(found, expected, model.classes_.tolist(), 1e-5)
        before = model.coefs_[0].copy()
        model.partial_fit(rows, model.predict(rows))
        assert model.coefs_[0].shape == before.shape


def test_a_table_of_text_takes_encoded_rows(command, train, predict, here):
    pytest.importorskip("onnx")
    size = np.char.add("s", (np.arange(60) % 3).astype(str))
    weight = np.where(np.arange(60) % 7 == 3, "", np.round(RNG.normal(5, 2, 60), 2).astype(str))
    lines = [f"{s},{w},{'big' if s == 's2' else 'small'}" for s, w in zip(size, weight, strict=True)]
    Path("table.csv").write_text("\n".join(["size,weight,y", *lines]))
    assert train("--data table.csv --epochs 20 --out run").status == 0
    status, out, err = command("export", "run", "--to", "onnx")
    assert status == 0
    assert out.startswith("Model saved in run/model.onnx\n  input:  X (n, 5) float32\n")
    assert err.startswith("warning: run: the table had text columns or missing values")

    metadata = {
        p.key: json.loads(p.value) for p in pytest.importorskip("onnx").load("run/model.onnx").metadata_props
    }
    names = ["size=s0", "size=s1", "size=s2", "weight", "weight is missing"]
    assert metadata["feature_names"] == names
    mean = metadata["columns"]["columns"][1]["mean"]
    known = [float(w or mean) for w in weight]
    rows = np.column_stack([*(size == f"s{k}" for k in range(3)), known, weight == ""])
    found = run_onnx("run/model.onnx", rows.astype(np.float32))
    status, out, err = command("predict", "run", "table.csv", "--json")
    assert (status, err) == (0, "")
    expected = [
        {c["class"]: c["probability"] for c in json.loads(line)["classes"]} for line in out.splitlines()
    ]
    best = [next(iter(row)) for row in expected]
    assert_same((found["label"], found["probabilities"]), (best, expected), ["big", "small"], 2e-6)


def test_a_table_of_numbers_names_its_columns(command, train, here):
    pytest.importorskip("onnx")
    lines = [f"{a:.3f},{i % 2},{b:.3f}" for i, (a, b, _) in enumerate(X)]
    Path("table.csv").write_text("\n".join(["a,y,b", *lines]))
    assert train("--data table.csv --target y --epochs 1 --out run").status == 0
    assert command("export", "run")[::2] == (0, "")
    metadata = read_metadata("run/model.onnx")
    assert metadata["feature_names"] == ["a", "b"]
    assert metadata["classes"] == [0, 1]


def test_what_an_estimator_saved(command, predict):
    pytest.importorskip("onnx")
    labels = np.column_stack([X[:, 0] > 0, X[:, 1] > 5000, X[:, 2] > 2]).astype(int)
    with warnings.catch_warnings(action="ignore"):
        MLPClassifier((5,), "elu", max_iter=20).fit(X, labels).save("labels.safetensors")
    status, out, err = command("export", "labels.safetensors")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "Model saved in labels.onnx"
    found = run_onnx("labels.onnx", X.astype(np.float32))
    assert found["label"].shape == (80, 3)
    _, expected = predict("labels.safetensors", X.astype(np.float32))
    assert_same(
        (found["label"][:, 0], found["probabilities"]), (list(found["label"][:, 0]), expected), range(3), 1e-5
    )


def test_an_unfinished_run(runs, command, here):
    onnx = pytest.importorskip("onnx")
    (here / "stopped").mkdir()
    (here / "stopped" / "checkpoint.safetensors").write_bytes(
        (runs / "digits/checkpoint.safetensors").read_bytes()
    )
    status, out, err = command("export", "stopped")
    assert (status, out.splitlines()[0]) == (0, "Model saved in stopped/model.onnx")
    assert err == "warning: stopped: unfinished run, 5 of 5 epochs: taking its checkpoint\n"
    onnx.checker.check_model("stopped/model.onnx", full_check=True)


def test_columns_that_float32_cannot_hold(command, train, here):
    pytest.importorskip("onnx")
    times = 1.7e9 + np.arange(80) % 60
    np.savez("times.npz", X=np.column_stack([X[:, 0], times]), y=np.arange(80) % 2)
    assert train("--data times.npz --epochs 1 --out run").status == 0
    status, _, err = command("export", "run")
    assert status == 0
    assert err.startswith("warning: run: float32 is too coarse for column 2 of X, which is 1.7e+09 ± 17.")
    assert err.endswith(": export as float64, with --dtype float64\n")
    assert command("export", "run", "--dtype", "float64")[::2] == (0, "")
    with pytest.warns(UserWarning, match="too coarse for column 2"):
        MLPClassifier.load("run").to_onnx("it.onnx")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("digits --to torch", 2, "unknown format 'torch'. Choose from onnx"),
        (
            "digits --dtype half",
            2,
            "unknown dtype 'half'. Did you mean 'float32'? Choose from float32, float64",
        ),
        ("nosuch", 2, "nosuch: no such file"),
        ("digits --output no/such/it.onnx", 2, "no/such/it.onnx: No such file or directory"),
    ],
)
def test_what_cannot_be_exported(runs, command, here, words, status, message):
    pytest.importorskip("onnx")
    (here / "digits").symlink_to(runs / "digits")
    assert command("export", *words.split()) == (status, "", f"error: {message}\n")
    assert not list(here.glob("*.onnx"))


def test_without_onnx(runs, command, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    status, out, err = command("export", runs / "digits", "--output", "it.onnx")
    assert (status, out, err) == (2, "", "error: exporting to ONNX needs onnx: pip install onnx\n")
    assert not list(here.iterdir())
