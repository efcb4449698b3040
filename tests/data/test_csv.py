"""Tables as people have them: separators, text, missing values, and rows to predict of the same kind."""

import csv
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from xpnet.data.columns import Columns
from xpnet.data.delimited import MISSING
from xpnet.data.loading import load
from xpnet.data.table import read_csv, read_rows
from xpnet.errors import InputError


def refusal(action, *args, **kwargs):
    """Return the message with which the action is refused."""
    with pytest.raises(InputError) as caught:
        action(*args, **kwargs)
    return str(caught.value)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def passengers(n=120, seed=0, **csv_format):
    """A table like that of the Titanic's passengers: ids, names with commas, text, gaps, target in front."""
    rng = np.random.default_rng(seed)
    out = io.StringIO()
    writer = csv.writer(out, **csv_format)
    writer.writerow(["Id", "Survived", "Class", "Name", "Sex", "Age", "Ticket", "Fare", "Port"])
    for i in range(n):
        writer.writerow(
            [
                i + 1,
                rng.integers(2),
                rng.integers(1, 4),
                f'Smith, Mr. "{i}"\nof Southampton',
                rng.choice(["male", "female"]),
                rng.choice(["", "NaN", "?", round(rng.uniform(1, 80), 1)], p=[0.1, 0.05, 0.05, 0.8]),
                f"{rng.choice(['', 'PC '])}{10000 + i}",
                round(rng.exponential(30), 4),
                rng.choice(["S", "C", "Q", ""], p=[0.5, 0.3, 0.1, 0.1]),
            ]
        )
    return out.getvalue()


def encode_by_scikit_learn(frame, train):
    """Return all rows, each column encoded by the transformer that suits it, fitted to the training rows."""
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    transformers = [
        (name, SimpleImputer(add_indicator=True) if is_number else one_hot, [name])
        for name, is_number in ((name, frame[name].dtype.kind in "if") for name in frame)
    ]
    return ColumnTransformer(transformers).fit(frame.iloc[train]).transform(frame)


# What is read


IRIS = "5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,virginica\n6.4,3.2,virginica\n"


@pytest.mark.parametrize(
    "text",
    [
        IRIS,
        "length,width,kind\n" + IRIS,
        "\ufefflength,width,kind\r\n\r\n" + IRIS.replace("\n", "\r\n"),
        IRIS.replace("setosa", '" setosa "').replace(",", " , ") + "\n  \n",
        "length\twidth\tkind\n" + IRIS.replace(",", "\t"),
        IRIS.replace(",", ";"),
        "length;width;kind\n" + IRIS.replace(",", ";").replace(".", ","),
        IRIS.replace(",", ";").replace(".", ",").replace("setosa", '"setosa"'),
        IRIS.replace(",", "\t").replace(".", ","),
    ],
    ids=[
        *("plain", "header", "from a spreadsheet", "spaces and quotes", "tabs", "semicolons"),
        *("decimal commas", "decimal commas without header", "decimal commas and tabs"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_numbers_and_a_label(tmp_path, text, encoding):
    data = load(write(tmp_path / "iris.csv", text.removeprefix("\ufeff" * (encoding == "utf-16")), encoding))
    assert (data.name, data.classes, data.picture) == ("iris", ("setosa", "virginica"), None)
    rows = {tuple(row): data.classes[k] for row, k in zip(data.X_train, data.y_train, strict=True)}
    rows |= {tuple(row): data.classes[k] for row, k in zip(data.X_test, data.y_test, strict=True)}
    expected = [line.split(",") for line in IRIS.split()]
    assert rows == {(float(a), float(b)): kind for a, b, kind in expected}


def test_missing_values_are_those_of_pandas_and_a_question_mark():
    assert STR_NA_VALUES | {"?"} == MISSING


def test_the_ending_tsv(tmp_path):
    data = load(write(tmp_path / "iris.tsv", IRIS.replace(",", "\t")))
    assert data.classes == ("setosa", "virginica")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b;y\n1,5;2,25;0\n3;4,75;1\n", [[1.5, 2.25], [3, 4.75]]),
        ("1,5;2,25;0\n3,5;4,75;1\n", [[1.5, 2.25], [3.5, 4.75]]),
        ("1,5;2,5;x,y\n3,5;4,5;z,y\n", [[1.5, 2.5], [3.5, 4.5]]),
        ("1.5;2.25;0\n-3e2;+4;1\n", [[1.5, 2.25], [-300, 4]]),
        ("-1,5E+02;2;0\n3;4;1\n", [[-150, 2], [3, 4]]),
        ("1,2,a;b\n3,4,c\n", [[1, 2], [3, 4]]),
        ("1,2,a;b\n3,4,c;d\n", [[1, 2], [3, 4]]),
        ("9;Smith, John;1\n8;Doe, Jane;2\n7;Smith, John;3\n", [[9, 0], [8, 1], [7, 0]]),
        ('"1";"2";"a,b"\n"3";"4";"c"\n', [[1, 2], [3, 4]]),
    ],
)
def test_separators_and_decimal_marks(tmp_path, text, values):
    assert read_csv(write(tmp_path / "t.csv", text)).X.tolist() == values


def test_a_header_with_more_commas_than_semicolons(tmp_path):
    path = write(tmp_path / "t.csv", "last, first, second;y\nLee;no\nRay;yes\nLee;no\nLee;yes\n")
    assert read_csv(path).table.names == ("last, first, second", "y")


@pytest.mark.parametrize("target", ["y", "größe"])
def test_a_file_of_excel_in_windows_1252(tmp_path, target):
    text = f"ort;wert;{target}\n" + "Köln;1,5;2\nKöln;2,5;3\nBonn;3,5;4\nBonn;0,5;1\n" * 2
    data = load(write(tmp_path / "t.csv", text, "cp1252"), target=target, numeric_targets=True)
    assert data.columns.columns[0].categories == ("Bonn", "Köln")
    assert any("Windows-1252" in note for note in data.notes)
    assert any("decimal commas" in note for note in data.notes)
    data = load(write(tmp_path / "t.csv", text), target=target, numeric_targets=True)
    assert not any("Windows-1252" in note for note in data.notes)


def test_numeric_targets(tmp_path):
    path = write(tmp_path / "prices.csv", "size,price\n1,10.5\n2,20.5\n3,30.5\n4,40.5\n")
    data = load(path, numeric_targets=True)
    np.testing.assert_array_equal(data.y_train, data.X_train * 10 + 0.5)
    assert "--loss squared_error" in refusal(load, path)


def test_classes_are_in_numeric_order(tmp_path):
    assert load(write(tmp_path / "a.csv", "1,10\n2,9\n3,10\n4,9\n")).classes == ("9", "10")


def test_a_first_line_that_recurs_is_no_header(tmp_path):
    rows = "p,x\ne,y\n" * 10
    assert len(read_csv(write(tmp_path / "mushrooms.csv", rows)).X) == 20
    assert len(read_csv(write(tmp_path / "mushrooms.csv", "cap,kind\n" + rows)).X) == 20
    assert len(read_csv(write(tmp_path / "mushrooms.csv", rows), target="x").X) == 19


def test_text_after_many_numbers_is_read_as_text(tmp_path):
    # Longer than the rows that are read at a time; "01" and "1" must stay different.
    zone = ["01", "1"] * 6000 + ["1a", "", "b1"] * 2000
    lines = [f"{z},{i % 7},{i % 2}" for i, z in enumerate(zone)]
    data = load(write(tmp_path / "t.csv", "\n".join(["zone,n,y", *lines])), test=0.0)
    assert data.columns.columns[0].categories == ("01", "1", "1a", "b1")
    frame = pd.read_csv(tmp_path / "t.csv", dtype={"zone": str})
    expected = encode_by_scikit_learn(frame[["zone", "n"]], np.arange(len(zone)))
    np.testing.assert_array_equal(data.X_train, expected)


# Encoding


@pytest.mark.parametrize(
    "csv_format", [{}, {"delimiter": ";"}, {"delimiter": "\t", "quoting": csv.QUOTE_ALL}]
)
@pytest.mark.parametrize("seed", range(3))
def test_columns_are_encoded_as_by_scikit_learn(tmp_path, seed, csv_format):
    path = write(tmp_path / "t.csv", passengers(seed=seed, **csv_format))
    data = load(path, target="Survived", seed=seed)

    frame = pd.read_csv(path, na_values="?", sep=csv_format.get("delimiter", ","))
    y = frame.pop("Survived").to_numpy()
    train, test = train_test_split(np.arange(len(y)), test_size=24, random_state=seed, stratify=y)
    X = encode_by_scikit_learn(frame.drop(columns=["Name", "Ticket"]), train)
    assert X.shape[1] == 1 + 1 + 2 + 2 + 1 + 4
    np.testing.assert_allclose(data.X_train, X[train], rtol=1e-14)
    np.testing.assert_allclose(data.X_test, X[test], rtol=1e-14)
    np.testing.assert_array_equal(data.y_train, y[train])
    np.testing.assert_array_equal(data.y_test, y[test])


def test_numbers_are_standardised_and_indicators_left_as_they_are(tmp_path):
    data = load(write(tmp_path / "t.csv", passengers()), target="Survived")
    scaled = data.scaling(data.X_train, "float64")
    indicators = [2, 3, 5, 7, 8, 9, 10]
    np.testing.assert_array_equal(scaled[:, indicators], data.X_train[:, indicators])
    assert set(np.unique(scaled[:, indicators])) == {0.0, 1.0}
    numbers = [0, 1, 4, 6]
    expected = StandardScaler().fit_transform(data.X_train[:, numbers])
    np.testing.assert_allclose(scaled[:, numbers], expected, atol=1e-12)


def test_what_was_done_is_said(tmp_path):
    notes = load(write(tmp_path / "t.csv", passengers()), target="Survived").notes
    assert notes == (
        "2 text columns one-hot encoded (6 columns, missing values as a category): Sex, Port",
        "1 column with missing values, imputed by the mean and flagged: Age",
        "2 columns left out: Name (96 different texts in 96 rows), Ticket (96 different texts in 96 rows)",
    )
    assert load(write(tmp_path / "t.csv", IRIS)).notes == ()


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (["a", "b", "c", "d", "e", "f", "a", "a"], "x (6 different texts in 8 rows)"),
        (["a", "b", "c", "", "", "", "", ""], "x (3 different texts in 3 rows)"),
        (["NA"] * 8, "x (no values)"),
    ],
)
def test_columns_of_no_use_are_left_out(tmp_path, column, reason):
    lines = [f"{x},{i},{i % 2}" for i, x in enumerate(column)]
    data = load(write(tmp_path / "t.csv", "\n".join(["x,n,y", *lines])), test=0.0)
    assert data.X_train.tolist() == [[i] for i in range(8)]
    assert data.notes == (f"1 column left out: {reason}",)
    lines = [line.replace(f",{i},", ",") for i, line in enumerate(lines)]
    message = refusal(load, write(tmp_path / "t.csv", "\n".join(["x,y", *lines])), test=0.0)
    assert f"expected at least one column to train on, found only {reason}" in message


def test_half_as_many_categories_as_rows_are_kept(tmp_path):
    lines = [f"{'abcd'[i % 4]},{i % 2}" for i in range(8)]
    data = load(write(tmp_path / "t.csv", "\n".join(["x,y", *lines])), test=0.0)
    assert data.columns.columns[0].categories == ("a", "b", "c", "d")


def test_more_than_1000_categories_are_left_out(tmp_path):
    def notes(n):
        lines = [f"c{i % n},{i},{i % 2}" for i in range(3 * n)]
        return load(write(tmp_path / "t.csv", "\n".join(["x,n,y", *lines])), test=0.0).notes

    assert "one-hot encoded (1,000 columns)" in notes(1000)[0]
    assert notes(1001) == ("1 column left out: x (1,001 different texts in 3,003 rows)",)


def test_row_numbers_as_pandas_writes_them_are_left_out(tmp_path):
    frame = pd.DataFrame({"a": [3.0, 5.0, 4.0, 1.0], "y": [0, 1, 0, 1]})
    frame.to_csv(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", test=0.0)
    assert data.X_train.tolist() == [[3], [5], [4], [1]]
    assert data.notes == ("1 column left out: column 1 (without a name)",)


@pytest.mark.parametrize("label", ["", " ", "NA", "?"])
def test_rows_without_a_target_are_left_out(tmp_path, label):
    text = f"y,a,b\nno,1,2\n{label},3,4\nyes,5,6\n{label},7,\nno,9,10\n"
    data = load(write(tmp_path / "t.csv", text), target="y", test=0.0)
    assert data.X_train.tolist() == [[1, 2], [5, 6], [9, 10]]
    assert [data.classes[k] for k in data.y_train] == ["no", "yes", "no"]
    assert data.notes == ("2 rows without a target left out",)


def test_what_only_test_rows_have(tmp_path):
    # 20 rows of which 4 are for testing: whatever the split, some seed puts the odd row among them.
    lines = [f"{'ab'[i % 2]},{i},{i % 2}" for i in range(18)] + ["odd,18,0", "a,,1"]
    path = write(tmp_path / "t.csv", "\n".join(["x,n,y", *lines]))
    said = set()
    for seed in range(30):
        data = load(path, seed=seed)
        n = data.columns.columns[1]
        for note in data.notes:
            if note.startswith("test rows: x"):
                assert "1 row with categories not in the training rows (odd)" in note
                (row,) = np.flatnonzero(data.X_test[:, 2] == 18)
                assert data.X_test[row, :2].tolist() == [0, 0]
                said.add("category")
            if note.startswith("test rows: n"):
                assert "1 missing value, none in training" in note
                assert not n.has_flag
                assert data.X_test[:, -1].tolist().count(n.mean) == 1
                assert n.mean == pytest.approx(data.X_train[:, -1].mean())
                said.add("missing")
    assert said == {"category", "missing"}


def test_columns_survive_json(tmp_path):
    columns = load(write(tmp_path / "t.csv", passengers()), target="Survived").columns
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns
    plain = load(write(tmp_path / "t.csv", "1,,x\n2,3,y\n" * 4)).columns
    assert Columns.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain


def test_plain_numbers_need_no_encoding(tmp_path):
    assert load(write(tmp_path / "t.csv", IRIS)).columns is None
    named = load(write(tmp_path / "t.csv", "a,b,y\n" + IRIS))
    np.testing.assert_array_equal(named.X_train, load(write(tmp_path / "t.csv", IRIS)).X_train)


def test_reading_takes_no_more_memory_than_its_numbers_and_a_few_megabytes(tmp_path):
    X = np.random.default_rng(0).normal(size=(30_000, 20)).round(5)
    path = write(tmp_path / "t.csv", "\n".join(",".join(map(str, row)) + ",red" for row in X.tolist()))
    tracemalloc.start()
    raw = read_csv(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(raw.X, X)
    # As fields all of them would take 39 MB, as numbers twice 5 MB.
    assert peak < 28e6


# --target


@pytest.mark.parametrize("target", ["Survived", "Class", "Fare"])
def test_the_target_may_be_any_column(tmp_path, target):
    path = write(tmp_path / "t.csv", passengers())
    raw, frame = read_csv(path, target), pd.read_csv(path)
    np.testing.assert_array_equal(raw.y, frame[target])
    assert raw.X.shape[1] == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,label\n1,2\n", ["line 1", "unknown column 'lable'", "Did you mean 'label'?", "a, label"]),
        ("5.1,3.5,x\n", ["line 1", "expected a header line with the target 'lable'", "found 5.1, 3.5, x"]),
        ("lable,a\nNA,1\n,2\n", ["line 2, column 1 ('lable')", "expected a target, found none"]),
        ("a,lable,a\n1,2,3\n", ["line 1", "expected different column names, found 'a' twice"]),
        ("a,lable\n1,2\n1,x\n", ["line 3, column 2 ('lable')", "expected a number like", "found 'x'"]),
    ],
)
def test_a_bad_target(tmp_path, text, said):
    message = refusal(load, write(tmp_path / "bad.csv", text), target="lable")
    assert all(part in message for part in ["bad.csv", *said]), message


@pytest.mark.parametrize("name", ["digits", "mnist", "some.npz", "some.mat"])
def test_a_target_of_data_without_named_columns(name):
    message = refusal(load, name, target="y")
    assert message.startswith("--target y: expected a .csv or .tsv file")
    assert name in message


# Bad files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["X has no rows"]),
        ("\n \n", ["X has no rows"]),
        ("a,b,label\n", ["X has no rows"]),
        ("1,2,x\n3,y\n", ["line 2", "expected 3 columns like line 1", "found 2"]),
        ("a,b,c\n\n1,2,x\n3,4,5,y\n", ["line 4", "expected 3 columns like line 1", "found 4"]),
        ("a;b;c\n1,5;2;x\n3;y\n", ["line 3", "expected 3 columns like line 1", "found 2"]),
        ('a,b\n1,"x\ny"\n2,3,4\n', ["line 4", "expected 2 columns", "found 3"]),
        ("1,2,x\n-inf,3,y\n", ["line 2, column 1", "expected a finite number", "found '-inf'"]),
        ("1,2,x\n1,3e38,y\n1,4e38,z\n", ["line 3, column 2", "float32", "found '4e38'"]),
        ("1,2,0\n3,4,inf\n", ["line 2, column 3", "found 'inf'"]),
        ("1,2,\n3,4,\n", ["line 1, column 3", "expected a target, found none in any row"]),
        (
            "1,2,0\n3,4,1\n5,6,one\n",
            ["line 3, column 3", "expected a number like the target in line 1", "'one'"],
        ),
        ("1,2,x\n3,4,1\n", ["line 2, column 3", "expected text", "'1'"]),
        ("a\n1\n", ["line 1", "expected features and a target", "found 1 column"]),
        ('1,2,x\n3,4,"y\n', ["line 2", "expected fields separated by ','"]),
        ("1,2,x\n3,4,x\n", ["at least two classes"]),
        (
            "a,b\n" + "1,x\n2,y\n" * 5 + "1O,x\n",
            ["line 12, column 1 ('a')", "expected a number like 90.91 % of the column", "found '1O'"],
        ),
        (
            "a;b;y\n1,5;2;x\n2,5;1.000;y\n" + "1;2;y\n" * 6,
            ["line 3, column 2 ('b')", "expected decimal commas as in line 2, column 1 ('1,5')", "'1.000'"],
        ),
        ("0,1,y\n" + "5,6,0\n3,4,1\n" * 5, ["line 1, column 3", "found 'y'", "header", "--target"]),
        ("a,b\n" + "1,x\n2,y\n" * 5 + "2020_1,x\n", ["line 12, column 1", "found '2020_1'"]),
    ],
)
def test_bad_files(tmp_path, text, said):
    message = refusal(load, write(tmp_path / "bad.csv", text))
    assert all(part in message for part in ["bad.csv", *said]), message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "found a zero byte: save a spreadsheet as CSV"),
        (b"1,2,\x81\n", "expected text in UTF-8"),
        (b"\xff\xfe1", "expected text in UTF-8"),
    ],
)
def test_files_that_are_not_text(tmp_path, content, said):
    (tmp_path / "bad.csv").write_bytes(content)
    assert said in refusal(load, tmp_path / "bad.csv")


# Rows to predict


def rows_of(path, columns, n_features=11):
    return read_rows(path, n_features, columns)


@pytest.mark.parametrize(
    "text", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", "1,2,x\n3,4,y\n", "a,b,label\n1,2,x\n3,4,y\n", "1,2,5\n3,4,6\n"]
)
def test_rows_of_numbers_with_or_without_labels(tmp_path, text):
    X, notes = read_rows(write(tmp_path / "r.csv", text), 2)
    assert X.tolist() == [[1, 2], [3, 4]]
    assert notes == []


def test_the_training_file_is_predicted_as_it_was_trained_on(tmp_path):
    path = write(tmp_path / "t.csv", passengers())
    data = load(path, target="Survived", test=0.0)
    X, notes = rows_of(path, data.columns)
    np.testing.assert_array_equal(X, data.X_train)
    assert notes == []


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.drop(columns="Survived"),
        lambda frame: frame[frame.columns[::-1]],
        lambda frame: frame.drop(columns=["Survived", "Name", "Ticket"]),
        lambda frame: frame[["Port", "Fare", "Age", "Class", "Sex", "Id"]],
    ],
    ids=["the same", "without target", "reversed", "without what was left out", "only what is needed"],
)
def test_columns_are_found_by_name(tmp_path, change):
    path = write(tmp_path / "t.csv", passengers())
    data = load(path, target="Survived", test=0.0)
    change(pd.read_csv(path, na_values="?")).to_csv(tmp_path / "r.csv", index=False, sep=";", decimal=",")
    X, notes = rows_of(tmp_path / "r.csv", data.columns)
    np.testing.assert_array_equal(X, data.X_train)
    assert notes == []


def test_columns_without_a_header_are_found_by_position(tmp_path):
    path = write(tmp_path / "t.csv", passengers())
    data = load(path, target="Survived", test=0.0)
    frame = pd.read_csv(path, na_values="?")
    frame.to_csv(tmp_path / "all.csv", index=False, header=False)
    frame.drop(columns="Survived").to_csv(tmp_path / "without.csv", index=False, header=False)
    for name in ("all.csv", "without.csv"):
        np.testing.assert_array_equal(rows_of(tmp_path / name, data.columns)[0], data.X_train)
    frame[["Id", "Age"]].to_csv(tmp_path / "few.csv", index=False, header=False)
    message = refusal(rows_of, tmp_path / "few.csv", data.columns)
    assert "few.csv: line 1: expected 8 columns, or 9 with the target, found 2" in message


def test_numbers_in_a_table_with_names_are_found_by_name(tmp_path):
    # The target in front: by position the network would be given it.
    path = write(tmp_path / "t.csv", "y,a,b\n0,1,2\n1,3,4\n0,5,6\n1,7,8\n")
    columns = load(path, target="y", test=0.0).columns
    X, _ = rows_of(write(tmp_path / "r.csv", "b,y,a\n2,0,1\n"), columns)
    assert X.tolist() == [[1, 2]]
    assert rows_of(path, columns)[0].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_names_may_be_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "2019,2020,y\n1,2,0\n3,4,1\n5,6,0\n")
    columns = load(path, target="y", test=0.0).columns
    X, _ = rows_of(write(tmp_path / "r.csv", "2020,2019\n2,1\n"), columns)
    assert X.tolist() == [[1, 2]]


def test_what_training_did_not_have_is_said(tmp_path):
    path = write(tmp_path / "t.csv", "colour,n,y\n" + "red,1,0\nblue,2,1\n" * 4)
    columns = load(path, test=0.0).columns
    text = "n,colour,size\n3,green,1\n4,red,1\n,blue,1\n5,lime,1\n6,,1\n"
    X, notes = rows_of(write(tmp_path / "r.csv", text), columns)
    assert X.tolist() == [[0, 0, 3], [0, 1, 4], [1, 0, 1.5], [0, 0, 5], [0, 0, 6]]
    assert notes == [
        "1 column not in the training data ignored: size",
        "colour: 1 missing value, none in training: all its inputs are 0",
        "colour: 2 rows with categories not in the training rows (green, lime): all its inputs are 0",
        "n: 1 missing value, none in training: imputed by the mean",
    ]


def test_categories_that_are_numbers(tmp_path):
    # As numbers 01 and 1 would be the same.
    path = write(tmp_path / "t.csv", "zone,y\n" + "01,0\n1,1\nA,0\nB,1\n" * 3)
    columns = load(path, test=0.0).columns
    assert columns.columns[0].categories == ("01", "1", "A", "B")
    X, notes = rows_of(write(tmp_path / "r.csv", "zone\n1\n01\n"), columns)
    assert X.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert notes == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour,m\nred,1\n", ["line 1", "found none named n among colour, m"]),
        ("colour,n\nred,1\nred,x\n", ["line 3, column 2 ('n')", "expected a finite number, found 'x'"]),
        ("colour,n\nred,inf\n", ["line 2, column 2 ('n')", "expected a finite number", "found 'inf'"]),
        ("colour,n,n\nred,1,2\n", ["line 1", "found 'n' twice"]),
        ("colour,n\n", ["expected at least one row, found none"]),
        ("", ["expected at least one row, found none"]),
    ],
)
def test_rows_that_do_not_fit_the_columns(tmp_path, text, said):
    path = write(tmp_path / "t.csv", "colour,n,y\n" + "red,1,0\nblue,2,1\n" * 4)
    columns = load(path, test=0.0).columns
    message = refusal(rows_of, write(tmp_path / "r.csv", text), columns)
    assert all(part in message for part in ["r.csv", *said]), message


def test_rows_of_arrays(tmp_path):
    X = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "one.npy", X[0].ravel())
    save(tmp_path / "b.npz", X=X, y=np.zeros(2))
    save(tmp_path / "c.npz", rows=X.reshape(2, 6))
    for name in ("a.npy", "b.npz", "c.npz"):
        rows, notes = read_rows(tmp_path / name, 6)
        assert rows.dtype == np.uint8
        assert rows.tolist() == X.reshape(2, 6).tolist()
        assert notes == []
    assert read_rows(tmp_path / "one.npy", 6)[0].tolist() == [list(range(6))]


def test_arrays_for_columns_of_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "y,a,b\n0,1,2\n1,,4\n0,5,6\n1,9,8\n")
    columns = load(path, target="y", test=0.0).columns
    np.save(tmp_path / "a.npy", [[3.0, np.nan], [np.nan, 7.0]])
    X, notes = read_rows(tmp_path / "a.npy", 3, columns)
    assert X.tolist() == [[3, 0, 5], [5, 1, 7]]
    assert notes == ["column 2: 1 missing value, none in training: imputed by the mean"]
    np.save(tmp_path / "wide.npy", np.ones((2, 4)))
    assert "expected rows of 2 columns" in refusal(read_rows, tmp_path / "wide.npy", 3, columns)
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    assert "expected numbers" in refusal(read_rows, tmp_path / "text.npy", 3, columns)
    text = load(write(tmp_path / "t.csv", "c,y\n" + "red,0\nblue,1\n" * 4), test=0.0).columns
    np.save(tmp_path / "a.npy", np.ones((2, 1)))
    assert "trained on columns of text: give it a .csv" in refusal(read_rows, tmp_path / "a.npy", 2, text)


def test_bad_rows(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 5)))
    assert "expected rows of 4 columns, found an array of shape (2, 5)" in refusal(
        read_rows, tmp_path / "a.npy", 4
    )
    np.save(tmp_path / "nan.npy", np.array([[1.0, 2.0], [np.nan, 3.0]]))
    assert "row 1, column 0" in refusal(read_rows, tmp_path / "nan.npy", 2)
    np.save(tmp_path / "zero.npy", np.array(1.0))
    assert "shape ()" in refusal(read_rows, tmp_path / "zero.npy", 1)
    np.save(tmp_path / "none.npy", np.ones((0, 2)))
    assert "at least one row" in refusal(read_rows, tmp_path / "none.npy", 2)
    save(tmp_path / "two.npz", a=np.ones((2, 2)), b=np.ones(2))
    assert "found a, b" in refusal(read_rows, tmp_path / "two.npz", 2)
    assert "expected 4 columns" in refusal(read_rows, write(tmp_path / "r.csv", "1,2\n"), 4)
    message = refusal(read_rows, write(tmp_path / "r.csv", "1,2\n3,\n"), 2)
    assert "line 2, column 2: expected a number, found a missing value" in message
    assert "no such file" in refusal(read_rows, tmp_path / "gone.csv", 4)
    assert "no such file" in refusal(read_rows, tmp_path / "gone.npy", 4)
    assert "found '.txt'" in refusal(read_rows, tmp_path / "rows.txt", 4)
