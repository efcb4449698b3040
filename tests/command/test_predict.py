"""`xpnet predict`: pictures and rows in, the most probable classes out."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from places import NAMED
from safetensors import safe_open
from safetensors.numpy import load_file

from xpnet import MLPClassifier, MLPRegressor
from xpnet.command.cli import main
from xpnet.data.dataset import Scaling
from xpnet.data.loading import load
from xpnet.maths.mlp import MLP
from xpnet.training.model import Model, save_model

REPOSITORY = Path(__file__).parents[2]
ANSWER = re.compile(r"(?P<file>.+?)(\[(?P<row>\d+)\])?: (?P<answers>.+ %)")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a model of each kind, trained once: digits, 28x28 pictures, a table, numbers."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 3))
    strokes = [stroke(upright, rng) for upright in (True, False) * 40]
    np.savez(folder / "strokes.npz", X=np.array(strokes), y=np.array(["upright", "level"] * 40))
    np.savez(folder / "table.npz", X=X, y=np.where(X[:, 0] > 0, "plus", "minus"))
    np.savez(folder / "numbers.npz", X=X, y=np.stack([X[:, 0] + 5, 2 * X[:, 1]], axis=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        for name, options in {
            "digits": "--data digits",
            "strokes": f"--data {folder}/strokes.npz --epochs 20 --label-smoothing 0.3",
            "table": f"--data {folder}/table.npz --loss logistic_cross_entropy --dtype float64",
            "numbers": f"--data {folder}/numbers.npz --loss squared_error --hidden none --lr 0.3",
        }.items():
            assert (
                main(["train", "--device", "cpu", "--quiet", "--out", f"{folder}/{name}", *options.split()])
                == 0
            )
    return folder


@pytest.fixture
def predict(models, tmp_path, monkeypatch, capsys):
    """`xpnet predict` in this process, in an empty folder, with the name of a model or the path of one."""
    monkeypatch.chdir(tmp_path)

    def predict(model, *arguments):
        known = models / str(model) / "model.safetensors"
        try:
            status = main(["predict", str(known if known.exists() else model), *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return predict


def script(model, *files, cwd, **environment):
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "predict.py", model, *files],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"} | environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,  # a guard: a busy machine is slow
    )
    return done.returncode, done.stdout, done.stderr


def stroke(upright, rng, shape=(28, 28)):
    """A bright stroke on dark as MNIST would have it: 20 pixels long, in the middle."""
    picture = np.zeros(shape, np.uint8)
    width = rng.integers(3, 7)
    picture[4:24, 14 - width // 2 : 14 - width // 2 + width] = rng.integers(180, 256)
    return picture if upright else picture.T


def save_picture(path, values, **options):
    image = pytest.importorskip("PIL.Image").fromarray(np.asarray(values, dtype=np.uint8))
    image.save(path, **options)


def answers(out):
    """What was printed: per line the file, the row, and {class: per cent} in the order printed."""
    lines = []
    for line in out.splitlines():
        match = ANSWER.fullmatch(line)
        assert match, line
        pairs = [part.rsplit(" ", 2)[:2] for part in match["answers"].split("   ")]
        lines.append((match["file"], match["row"], {name: float(value) for name, value in pairs}))
    return lines


def forward(path, X):
    """What the tensors in a model file answer for rows X, worked out here, as z of the last layer."""
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["about"])
    shift, factor = np.array(about["scaling"])
    h = (X - shift) * factor
    n = sum(name.endswith("weight") for name in tensors)
    for i in range(n):
        h = h @ tensors[f"layers.{i}.weight"].astype(float) + tensors[f"layers.{i}.bias"]
        h = np.maximum(h, 0) if i < n - 1 else h
    if about["target_scaling"] is not None:
        shift, factor = np.array(about["target_scaling"])
        h = h / factor + shift
    return h


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


# Rows


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "NPY"])
def test_probabilities_of_rows_are_those_of_the_network(predict, models, ending):
    X = load("digits").X_test[:20].astype(float)
    name = f"rows.{ending}"
    with open(name, "wb") as file:
        if ending == "csv":
            np.savetxt(file, X, delimiter=",")
        elif ending == "npz":
            np.savez(file, X=X)
        else:
            np.save(file, X)
    status, out, err = predict("digits", name)
    assert (status, err) == (0, "")

    expected = softmax(forward(models / "digits" / "model.safetensors", X))
    assert len(out.splitlines()) == len(X)
    for i, (file, row, found) in enumerate(answers(out)):
        assert (file, row) == (name, str(i))
        best = np.argsort(-expected[i])[:3]
        assert next(iter(found)) == str(best[0])
        for digit, per_cent in found.items():
            assert per_cent == pytest.approx(100 * expected[i, int(digit)], abs=0.02)
        assert sorted(found.values(), reverse=True) == list(found.values())
        assert len(found) == 3


def test_the_only_array_of_an_npz_and_a_stack_of_pictures(predict):
    X = load("digits").X_test[:3]
    np.savez("only.npz", pictures=X.reshape(3, 8, 8))
    np.save("rows.npy", X)
    assert (
        predict("digits", "only.npz")[1].replace("only.npz", "rows.npy") == predict("digits", "rows.npy")[1]
    )


def test_a_label_in_a_csv_is_passed_over(predict):
    rows = ["2,0,0", "-2,0,0"]
    Path("a.csv").write_text("\n".join(rows))
    Path("b.csv").write_text("\n".join(["x,y,z,label", *(f"{row},plus" for row in rows)]))
    without, with_ = predict("table", "a.csv"), predict("table", "b.csv")
    assert without[1] == with_[1].replace("b.csv", "a.csv")
    assert [next(iter(found)) for _, _, found in answers(without[1])] == ["plus", "minus"]


def test_a_binary_model_shows_both_classes(predict, models):
    X = np.array([[0.1, 0.5, -0.5]])
    np.save("row.npy", X)
    ((_, _, found),) = answers(predict("table", "row.npy")[1])
    plus = 100 / (1 + np.exp(-forward(models / "table" / "model.safetensors", X)[0, 0]))
    assert found == {"plus": pytest.approx(plus, abs=0.01), "minus": pytest.approx(100 - plus, abs=0.01)}


def test_a_regression_prints_numbers(predict, models):
    X = np.array([[1.0, 0, 0], [0, 3, 9]])
    np.save("rows.npy", X)
    status, out, err = predict("numbers", "rows.npy")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == ["rows.npy[0]:", "rows.npy[1]:"]
    found = np.array([line[1:] for line in lines], dtype=float)
    np.testing.assert_allclose(found, [[6, 0], [5, 6]], atol=0.2)
    np.testing.assert_allclose(found, forward(models / "numbers" / "model.safetensors", X), rtol=1e-4)


@pytest.mark.parametrize("ending", ["npy", "csv"])
def test_rows_that_are_scaled_already_are_warned_about(predict, ending):
    """The digits are stored as 0 ... 16, and the model scales them itself."""
    X = load("digits").X_test[:5].astype(float)
    for name, rows in ("raw", X), ("scaled", X / 16), ("bytes", X * 255 / 16):
        with open(f"{name}.{ending}", "wb") as file:
            np.savetxt(file, rows, delimiter=",") if ending == "csv" else np.save(file, rows)
    for name, found in ("scaled", "0 to 1"), ("bytes", "0 to 255"):
        status, out, err = predict("digits", f"{name}.{ending}")
        assert (status, len(answers(out))) == (0, 5)
        assert err.startswith(f"warning: {name}.{ending}: expected values from 0 to 16, ")
        assert f"found {found}:" in err
        assert "Give the values as stored" in err
        assert len(err.splitlines()) == 1
    assert predict("digits", f"raw.{ending}")[2] == ""


def test_other_rows_are_not_warned_about(predict):
    np.save("blank.npy", np.zeros((1, 64)))
    np.save("dots.npy", np.ones((1, 64), np.uint8))
    assert predict("digits", "blank.npy", "dots.npy")[2] == ""
    np.save("row.npy", np.full((1, 3), 0.5))  # a table is standardised: no range is wrong
    assert predict("table", "row.npy")[2] == ""
    np.save("row.npy", np.full((1, 3), 500.0))
    assert predict("table", "row.npy")[2] == ""


# Pictures


def test_most_pictures_of_digits_are_recognised(predict):
    dataset = load("digits")
    pictures, labels = dataset.X_test[:100].reshape(-1, 8, 8), dataset.y_test[:100]
    for i, picture in enumerate(pictures):
        save_picture(f"{i}.png", picture * (255 / 16))
    status, out, err = predict("digits", *(f"{i}.png" for i in range(100)))
    assert (status, err) == (0, "")
    lines = answers(out)
    assert [(file, row) for file, row, _ in lines] == [(f"{i}.png", None) for i in range(100)]
    right = sum(next(iter(found)) == str(label) for (*_, found), label in zip(lines, labels, strict=True))
    assert right >= 90


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("name", ["as-trained.png", "photograph.png", "photograph.jpg"])
def test_a_picture_of_any_size_and_colour(predict, name, upright):
    if name == "as-trained.png":
        save_picture(name, stroke(upright, np.random.default_rng(5)))
    else:  # dark on light, large, off the centre, in colour
        page = np.full((150, 220, 3), 235)
        rows, columns = (slice(10, 110), slice(150, 170)) if upright else (slice(120, 140), slice(20, 140))
        page[rows, columns] = 20, 30, 90
        save_picture(name, page)
    status, out, err = predict("strokes", name)
    assert (status, err) == (0, "")
    ((file, _, found),) = answers(out)
    assert file == name
    assert list(found) == (["upright", "level"] if upright else ["level", "upright"])
    assert next(iter(found.values())) > 70


def test_a_picture_and_its_row_are_answered_alike(predict):
    # Smoothed labels keep this model unsure: a wrong scale of the inputs would show.
    picture = np.where(stroke(True, np.random.default_rng(5)), 255, 0)
    save_picture("it.png", picture)
    np.save("it.npy", picture[np.newaxis])
    ((*_, of_picture),) = answers(predict("strokes", "it.png")[1])
    ((*_, of_row),) = answers(predict("strokes", "it.npy")[1])
    assert of_picture == pytest.approx(of_row, abs=3)  # the stroke is centred anew
    assert 70 < of_row["upright"] < 97


def bad_pictures():
    """Pictures that cannot be used, and what is said about each."""
    grey = np.zeros((9, 9), np.uint8)
    grey[2:7, 4] = 255
    save_picture("good.png", grey)
    Path("short.png").write_bytes(Path("good.png").read_bytes()[:45])
    Path("text.png").write_text("not a picture")
    save_picture("blank.png", np.full((9, 9), 255))
    frames = [pytest.importorskip("PIL.Image").fromarray(g) for g in (grey, grey.T)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    return {
        "short.png": "cannot read it as a picture",
        "text.png": "not a picture",
        "blank.png": "blank",
        "moving.gif": "2 frames",
        "nowhere.png": "no such file",
        "nowhere.npy": "no such file",
    }


@pytest.mark.parametrize("way", ["in process", "script"])
def test_bad_pictures_are_named_and_the_others_classified(predict, models, tmp_path, way):
    bad = bad_pictures()
    files = ["good.png", *bad, "good.png"]
    if way == "script":
        status, out, err = script(models / "digits" / "model.safetensors", *files, cwd=tmp_path)
    else:
        status, out, err = predict("digits", *files)
    assert status == 1
    assert [file for file, *_ in answers(out)] == ["good.png", "good.png"]
    lines = err.splitlines()
    assert len(lines) == len(bad)
    for line, (name, words) in zip(lines, bad.items(), strict=True):
        assert line.startswith(f"error: {name}: ")
        assert words in line


def test_a_model_of_rows_takes_no_pictures(predict):
    save_picture("good.png", np.eye(9) * 255)
    np.save("row.npy", np.zeros((1, 3)))
    status, out, err = predict("table", "good.png", "row.npy")
    assert status == 1
    assert "error: good.png: the model was trained on rows of 3 numbers, not on pictures" in err
    assert ".npy, .npz, .csv" in err
    assert [file for file, *_ in answers(out)] == ["row.npy"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "wide.npy",
            np.zeros((2, 4)),
            "wide.npy: expected rows of 3 columns, found an array of shape (2, 4)",
        ),
        ("none.npy", np.zeros((0, 3)), "none.npy: expected at least one row"),
        ("nan.npy", np.array([[1, 2, 3], [4, np.nan, 6]]), "nan.npy: row 1, column 1"),
        ("text.npy", np.array([["a", "b", "c"]]), "text.npy: expected numbers, found values of type <U1"),
        ("objects.npy", np.array([[None, 1, 2]]), "pickled objects are refused"),
        ("ragged.csv", "1,2,3\n1,2\n", "ragged.csv: line 2: expected 3 columns like line 1, found 2"),
        (
            "letters.csv",
            "1,2,3\n1,x,3\n",
            "letters.csv: line 2, column 2: expected a finite number, found 'x'",
        ),
    ],
)
def test_bad_rows_are_named_and_the_others_answered(predict, name, content, words):
    if isinstance(content, str):
        Path(name).write_text(content)
    else:
        np.save(name, content)
    np.save("good.npy", np.zeros((1, 3)))
    status, out, err = predict("table", name, "good.npy")
    assert status == 1
    assert f"error: {name}: " in err
    assert words in err
    assert [file for file, *_ in answers(out)] == ["good.npy"]


# Models that are refused before an array is used


def flipped(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


BAD_MODELS = {
    "truncated": (lambda data: data[:-1], "not a complete safetensors file"),
    "half": (lambda data: data[: len(data) // 2], "not a complete safetensors file"),
    "empty": (lambda data: b"", "not a complete safetensors file"),
    "no model": (lambda data: b"\x89PNG and so on", "not a complete safetensors file"),
    "flipped bit": (flipped, "SHA-256 hash does not match: the file was modified"),
    "edited header": (lambda data: data.replace(b"relu", b"tanh"), "SHA-256 hash does not match"),
    "version": (
        lambda data: data.replace(b'"version":"2"', b'"version":"9"'),
        "expected format version 1 or 2, found 9: use the version of xpnet that wrote it, or train again",
    ),
    "kind": (
        lambda data: data.replace(b"xpnet model", b"other model"),
        "expected an xpnet model, found other model",
    ),
}


@pytest.mark.parametrize(
    ("way", "what"),
    [*(("in process", what) for what in BAD_MODELS), ("script", "truncated"), ("script", "flipped bit")],
)
def test_a_bad_model_is_refused(predict, models, tmp_path, way, what):
    damage, words = BAD_MODELS[what]
    good = (models / "table" / "model.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(damage(good))
    assert bad.read_bytes() != good
    np.save("row.npy", np.zeros((1, 3)))
    run = (lambda *files: script(*files, cwd=tmp_path)) if way == "script" else predict
    status, out, err = run(bad, "row.npy")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {bad}: ")
    assert words in err


def test_a_missing_model(predict):
    assert predict("gone.safetensors", "row.npy") == (2, "", "error: gone.safetensors: no such file\n")


def test_nothing_to_predict(models, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(models / "table" / "model.safetensors")])
    assert "required: file" in capsys.readouterr().err


# What is printed, and where


@pytest.fixture
def digits(predict):
    """Two rows of digits in rows.npy, and a picture of the first in it.png."""
    X = load("digits").X_test[:2]
    np.save("rows.npy", X)
    save_picture("it.png", X[0].reshape(8, 8) * (255 / 16))
    return X


@pytest.mark.parametrize(("top", "n"), [(1, 1), (5, 5), (99, 10)])
def test_top_says_how_many_classes(predict, digits, top, n):
    status, out, err = predict("digits", "rows.npy", "--top", top)
    assert (status, err) == (0, "")
    three = answers(predict("digits", "rows.npy")[1])
    for (*_, found), (*_, expected) in zip(answers(out), three, strict=True):
        assert len(found) == n
        assert list(found.items())[:3] == list(expected.items())[:n]


@pytest.mark.parametrize("top", ["0", "-1", "two"])
def test_no_classes_to_show_are_refused(predict, top):
    status, out, err = predict("digits", "rows.npy", f"--top={top}")
    assert (status, out) == (2, "")
    assert f"--top: expected a number of at least 1, got '{top}'" in err


def test_json_has_an_object_on_each_line(predict, models, digits):
    status, out, err = predict("digits", "rows.npy", "it.png", "--json", "--top", 2)
    assert (status, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["file"], r["row"]) for r in records] == [("rows.npy", 0), ("rows.npy", 1), ("it.png", None)]
    expected = softmax(forward(models / "digits" / "model.safetensors", digits.astype(float)))
    for record, probabilities in zip(records, expected, strict=False):
        best = np.argsort(-probabilities)[:2].tolist()
        assert [entry["class"] for entry in record["classes"]] == best  # numbers, as in the data
        assert [entry["probability"] for entry in record["classes"]] == pytest.approx(
            probabilities[best], rel=1e-4
        )
        assert record["unsure"] is None
    np.save("row.npy", [[1.0, 0, 0]])
    (line,) = predict("numbers", "row.npy", "--json")[1].splitlines()
    values = forward(models / "numbers" / "model.safetensors", np.array([[1.0, 0, 0]]))[0]
    assert json.loads(line) == {"file": "row.npy", "row": 0, "values": pytest.approx(values, rel=1e-4)}


def test_csv_has_a_header_and_quotes_what_needs_it(predict, models, digits):
    os.rename("it.png", "a, b.png")
    out = predict("digits", "rows.npy", "a, b.png", "--csv", "--top", 2)[1]
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["file", "row", "class_1", "probability_1", "class_2", "probability_2", "unsure"]
    assert [(row["file"], row["row"]) for row in rows] == [
        ("rows.npy", "0"),
        ("rows.npy", "1"),
        ("a, b.png", ""),
    ]
    text = answers(predict("digits", "rows.npy", "a, b.png", "--top", 2)[1])
    for row, (*_, found) in zip(rows, text, strict=True):
        assert [row["class_1"], row["class_2"]] == list(found)
        per_cent = [100 * float(row[f"probability_{k}"]) for k in (1, 2)]
        assert per_cent == pytest.approx(list(found.values()), abs=0.01)
        assert row["unsure"] == ""
    np.save("row.npy", [[1.0, 0, 0]])
    header, row = csv.reader(io.StringIO(predict("numbers", "row.npy", "--csv")[1]))
    assert header == ["file", "row", "value_1", "value_2"]
    values = forward(models / "numbers" / "model.safetensors", np.array([[1.0, 0, 0]]))[0]
    assert [float(value) for value in row[2:]] == pytest.approx(values, rel=1e-4)


def test_one_form_at_a_time(predict):
    assert predict("digits", "rows.npy", "--json", "--csv")[0] == 2


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_output_goes_to_a_file(predict, digits, form):
    expected = predict("digits", "rows.npy", "it.png", *form)[1]
    status, out, err = predict("digits", "rows.npy", "gone.png", "it.png", "--output", "out.txt", *form)
    assert (status, out, err) == (1, "", "error: gone.png: no such file\n")
    assert Path("out.txt").read_text("utf-8") == expected


def test_an_output_that_cannot_be_written_is_said(predict, digits):
    status, out, err = predict("digits", "rows.npy", "--output", "no/such/folder.txt")
    assert (status, out) == (2, "")
    assert "no/such/folder.txt" in err


def test_an_interrupted_command_leaves_the_output_of_before(predict, digits, monkeypatch):
    Path("out.txt").write_text("before")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.command.predict.predict", stop)
    assert predict("digits", "rows.npy", "--output", "out.txt")[0] == 130
    assert Path("out.txt").read_text() == "before"
    assert not list(Path().glob(".*.part"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_an_output_may_be_a_link_or_a_device(predict, digits):
    Path("link.txt").symlink_to("out.txt")
    for output in ("link.txt", os.devnull):
        assert predict("digits", "rows.npy", "--output", output) == (0, "", "")
    assert Path("link.txt").is_symlink()
    assert Path("out.txt").read_text().count("\n") == len(digits)
    assert not Path(os.devnull).is_file()


# Folders


def test_a_folder_is_its_pictures(predict):
    digits = load("digits").X_test[:3].reshape(-1, 8, 8) * (255 / 16)
    Path("scans").mkdir()
    for name, digit in zip(["c.png", "a.PNG", "b.bmp"], digits, strict=True):
        save_picture(f"scans/{name}", digit)
    Path("scans/torn.jpg").write_bytes(b"\xff\xd8 no more")
    Path("scans/notes.txt").write_text("not asked for")
    Path("scans/.hidden.png").write_text("not asked for")
    Path("scans/deeper.png").mkdir()
    save_picture("last.png", digits[0])
    status, out, err = predict("digits", "scans", "last.png")
    assert status == 1
    names = ["a.PNG", "b.bmp", "c.png"]
    assert [file for file, *_ in answers(out)] == [*(str(Path("scans", name)) for name in names), "last.png"]
    (line,) = err.splitlines()
    assert line.startswith(f"error: {Path('scans', 'torn.jpg')}: ")
    found = answers(predict("digits", *(f"scans/{name}" for name in names))[1])
    assert [answer for *_, answer in found] == [answer for *_, answer in answers(out)[:3]]


def test_a_folder_without_pictures_is_said(predict, digits):
    Path("empty").mkdir()
    status, out, err = predict("digits", "empty", "it.png")
    assert (status, len(answers(out))) == (1, 1)
    assert err.startswith("error: empty: expected pictures in this folder (.png, .jpg, ")


# Prepared pictures


def test_prepared_pictures_are_saved_as_the_network_gets_them(predict, digits):
    from PIL import Image

    os.makedirs("other")
    page = np.full((90, 120), 250)
    page[20:70, 30:40] = 15  # dark on light, off the centre
    save_picture("other/it.bmp", page)
    status, out, err = predict(
        "digits", "it.png", "other/it.bmp", "rows.npy", "--save-prepared", "new/prepared"
    )
    assert (status, err) == (0, "")
    assert sorted(os.listdir("new/prepared")) == ["it-2.png", "it.png"]
    prepared = [np.asarray(Image.open(f"new/prepared/{name}")) for name in ("it.png", "it-2.png")]
    assert [(p.shape, p.dtype, p.max()) for p in prepared] == [((8, 8), np.uint8, 255)] * 2
    assert (prepared[1].sum(axis=0) > 0).nonzero()[
        0
    ].size == 2  # an upright stroke, five times as high as wide
    rows = np.stack(prepared).reshape(2, 64) * (16 / 255)
    np.save("prepared.npy", rows)
    of_files = [found for *_, found in answers(out)][:2]
    for found, expected in zip(answers(predict("digits", "prepared.npy")[1]), of_files, strict=True):
        assert found[2] == pytest.approx(expected, abs=1)  # rounded to 256 levels


def test_a_model_of_rows_has_no_pictures_to_save(predict):
    np.save("row.npy", np.zeros((1, 3)))
    status, out, err = predict("table", "row.npy", "--save-prepared", "prepared")
    assert (status, out) == (2, "")
    assert "--save-prepared" in err
    assert "not trained on pictures" in err
    assert not Path("prepared").exists()


# Pictures that are unsure


def test_several_characters_in_one_picture_are_unsure(predict):
    one = np.zeros((28, 28))
    one[4:24, 11:16] = 255
    save_picture("one.png", one)
    save_picture("two.png", np.hstack([one, one]))
    status, out, err = predict("strokes", "one.png", "two.png")
    assert (status, err) == (0, "")
    sure, unsure = out.splitlines()
    assert sure.startswith("one.png: upright ")
    assert unsure.startswith("two.png: unsure (several characters: crop it to one): ")
    records = [
        json.loads(line) for line in predict("strokes", "one.png", "two.png", "--json")[1].splitlines()
    ]
    assert [record["unsure"] for record in records] == [None, "several characters: crop it to one"]
    assert predict("strokes", "two.png", "--csv")[1].rstrip().endswith(",several characters: crop it to one")


def test_a_picture_of_no_class_is_unsure(predict, tmp_path):
    # A network that knows nothing: all of ten classes are as probable.
    model = Model(
        MLP((64, 10)), np.zeros(650, np.float32), np.arange(10), (8, 8), Scaling(np.zeros(1), np.ones(1))
    )
    save_model(tmp_path / "blind.safetensors", model)
    save_picture("it.png", np.pad(np.full((9, 2), 255), 5))
    status, out, err = predict("blind.safetensors", "it.png")
    assert (status, err) == (0, "")
    assert out.startswith("it.png: unsure (no class has a probability of 40 %): 0 10.00 %")


# Unfinished runs


def test_a_stopped_run_predicts_from_its_checkpoint(models, predict, tmp_path):
    """The run of the fixture as it was killed: without model.safetensors."""
    np.save("rows.npy", load("digits").X_test[:20])
    finished = predict("digits", "rows.npy")
    run = tmp_path / "killed"
    run.mkdir()
    (run / "checkpoint.safetensors").write_bytes((models / "digits" / "checkpoint.safetensors").read_bytes())
    status, out, err = predict(run, "rows.npy")
    assert (status, out) == finished[:2]
    assert err == f"warning: {run}: unfinished run, 50 of 50 epochs: taking its checkpoint\n"


def test_a_killed_run_predicts(models, predict, tmp_path):
    """kill -9 while it writes one checkpoint after the other."""
    np.save("rows.npy", np.zeros((2, 3)))
    run = tmp_path / "run"
    start = [sys.executable, "-m", "xpnet", "train", "--quiet", "--device", "cpu", "--epochs", "100000"]
    options = [f"--data={models}/table.npz", f"--out={run}", "--checkpoint-every=1"]
    process = subprocess.Popen([*start, *options], env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    try:
        while not (run / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.01)
        first = (run / "checkpoint.safetensors").read_bytes()
        time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    assert not (run / "model.safetensors").exists()
    completed = []
    for _ in range(2):
        status, out, err = predict(run, "rows.npy")
        assert status == 0
        assert [set(found) for *_, found in answers(out)] == [{"plus", "minus"}] * 2
        completed.append(
            int(re.search(r"unfinished run, ([\d,]+) of 100,000 epochs", err)[1].replace(",", ""))
        )
        (run / "checkpoint.safetensors").write_bytes(first)
    assert completed[1] <= completed[0]


# Where it is computed


@pytest.mark.parametrize("where", NAMED[1:], indirect=True, ids=str)
@pytest.mark.parametrize("model", ["digits", "table", "numbers"])
def test_every_place_answers_alike(predict, model, where):
    X = load("digits").X_test if model == "digits" else np.random.default_rng(1).standard_normal((5, 3))
    np.save("rows.npy", X[:5])
    theirs = predict(model, "rows.npy", "--csv")[1]
    status, ours, err = predict(model, "rows.npy", "--csv", *where.split())
    assert (status, err) == (0, "")
    for row, expected in zip(*(csv.reader(io.StringIO(out)) for out in (ours, theirs)), strict=True):
        for cell, number in zip(row, expected, strict=True):
            assert cell == number or float(cell) == pytest.approx(float(number), rel=1e-4)


def test_a_run_on_a_gpu_predicts_without_one(predict, digits, cupy_backend, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["train", "--device", "cuda", "--quiet", "--epochs", "5", "--out", "run"]) == 0
    assert json.loads(Path("run/metrics.json").read_text())["backend"] == "cupy"
    status, there, err = predict("run", "rows.npy", "it.png", "--device", "cuda")
    assert (status, err) == (0, "")
    # The first hides GPUs, the second the driver of an emulated device.
    without = {"CUDA_VISIBLE_DEVICES": "", "EMU_CUDA_DRIVER": "0"}
    status, out, err = script("run", "rows.npy", "--device", "cuda", cwd=tmp_path, **without)
    assert (status, out) == (2, "")
    assert "device 'cuda' is not usable" in err
    os.mkdir("stopped")
    os.rename("run/checkpoint.safetensors", "stopped/checkpoint.safetensors")
    for folder in ("run", "stopped"):
        status, out, _ = script(folder, "rows.npy", "it.png", cwd=tmp_path, **without)
        assert status == 0
        for (*ours, found), (*theirs, expected) in zip(answers(out), answers(there), strict=True):
            assert ours == theirs
            assert found == pytest.approx(expected, abs=0.011)  # rounded to hundredths


# Models of estimators


def test_what_an_estimator_saved_predicts(predict):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    np.save("rows.npy", X[:5])
    labels = np.where(X[:, 0] > 0, "plus", "minus")
    models = {
        "labels": MLPClassifier((5,), "tanh", max_iter=20, class_weight={"plus": 2.0}),
        "numbers": MLPRegressor("quantile", (5,), ["elu"], quantile=0.9, max_iter=20),
    }
    for (name, model), y in zip(models.items(), (labels, X[:, :2] * 100), strict=True):
        with warnings.catch_warnings(action="ignore"):
            model.fit(X, y).save(f"{name}.safetensors")
    status, out, err = predict("labels.safetensors", "rows.npy")
    assert (status, err) == (0, "")
    for (*_, found), p in zip(answers(out), models["labels"].predict_proba(X[:5]), strict=True):
        assert found == {
            "minus": pytest.approx(100 * p[0], abs=0.01),
            "plus": pytest.approx(100 * p[1], abs=0.01),
        }
    lines = predict("numbers.safetensors", "rows.npy", "--json")[1].splitlines()
    assert [json.loads(line)["values"] for line in lines] == models["numbers"].predict(X[:5]).tolist()
