"""Tables of text, numbers and missing values on the command line: `--target` and prediction."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xpnet.command.cli import main
from xpnet.data.loading import load


def penguins(n=90, seed=0):
    """A table that predicts the species, mostly by the island, and by the bill."""
    rng = np.random.default_rng(seed)
    species = np.arange(n) % 3
    island = np.where(rng.random(n) < 0.9, species, rng.integers(3, size=n))
    bill = rng.normal(38 + 5 * species, 1.0).round(1)
    return pd.DataFrame(
        {
            "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[species],
            "island": np.array(["Biscoe", "Dream", "Torgersen"])[island],
            "bill": np.where(rng.random(n) < 0.1, np.nan, bill),
            "tag": [f"N{i}A{rng.integers(100)}" for i in range(n)],
            "sex": rng.choice(["male", "female", ""], n, p=[0.45, 0.45, 0.1]),
        }
    )


@pytest.fixture
def table(here):
    """The table as a file of a European Excel."""
    penguins().to_csv(here / "penguins.csv", index=False, sep=";", decimal=",", encoding="cp1252")
    return here / "penguins.csv"


def test_a_table_with_text_gaps_and_its_target_in_front(train, table, here):
    result = train("--data penguins.csv --target species --epochs 20 --out run")
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    first = lines.index("penguins: 65 training, 7 validation and 18 test rows")
    assert lines[first + 1 : first + 5] == [
        "numbers read with decimal commas",
        "2 text columns one-hot encoded (6 columns, missing values as a category): island, sex",
        "1 column with missing values, imputed by the mean and flagged: bill",
        "1 column left out: tag (72 different texts in 72 rows)",
    ]
    found = json.loads((here / "run" / "metrics.json").read_text())
    assert found["sizes"] == [8, 100, 3]
    assert found["test_accuracy"] > 0.8
    assert found["options"]["target"] == "species"


def test_quiet_does_not_describe_the_columns(train, table):
    assert train("--data penguins.csv --target species --epochs 1 --out run --quiet").out == ""


def test_a_number_as_target(train, table, here):
    penguins().dropna().to_csv(here / "penguins.csv", index=False)
    result = train("--data penguins.csv --target bill --loss squared_error --epochs 50 --out run")
    assert result.status == 0, result.err
    assert json.loads((here / "run" / "metrics.json").read_text())["test_r2"] > 0.8


def test_a_recipe_names_the_target(train, table, here):
    recipe = '[options]\ndata = "penguins.csv"\ntarget = "species"\nepochs = 1\n'
    (here / "mine.toml").write_text(recipe)
    assert train("--recipe mine.toml --out run").status == 0
    assert json.loads((here / "run" / "metrics.json").read_text())["options"]["target"] == "species"
    # Other data has other columns.
    assert train("--recipe mine.toml --data digits --out digits").status == 0


def test_a_resumed_run_keeps_its_target(train, table, here):
    assert train("--data penguins.csv --target species --epochs 1 --out run").status == 0
    result = train("--resume run --target island")
    assert result.status == 2
    assert "--target: the run has species, you gave island" in result.err
    result = train("--resume run --epochs 2")
    assert result.status == 0, result.err
    assert json.loads((here / "run" / "metrics.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "--data penguins.csv --target kind",
            ["penguins.csv: line 1: unknown column 'kind'", "species, island"],
        ),
        ("--data digits --target y", ["--target y: expected a .csv or .tsv file", "digits"]),
        ("--data mnist --target y", ["--target y", "mnist"]),
        ("--data some.npz --target y", ["--target y", "some.npz"]),
    ],
)
def test_a_target_that_is_none(train, table, here, options, words):
    np.savez(here / "some.npz", X=np.eye(4), y=[0, 1, 0, 1])
    result = train(f"{options} --epochs 1")
    assert result.status == 2
    for word in words:
        assert word in result.err
    assert not (here / "runs").exists()


# Prediction from the same kind of file


def predict(capsys, *words):
    status = main(["predict", *map(str, words)])
    return status, *capsys.readouterr()


def classes(out):
    return [re.match(r".*?: (\S+) ", line)[1] for line in out.splitlines()]


def test_the_table_itself_is_predicted_in_any_order_of_its_columns(train, table, here, capsys):
    assert train("--data penguins.csv --target species --epochs 20 --out run").status == 0
    status, out, err = predict(capsys, "run", "penguins.csv")
    assert (status, err) == (0, "")
    assert np.mean(np.array(classes(out)) == penguins()["species"]) > 0.9

    frame = penguins()[["bill", "sex", "island"]]
    frame.to_csv(here / "rows.csv", index=False)
    status, reordered, err = predict(capsys, "run", "rows.csv")
    assert (status, err) == (0, "")
    assert reordered == out.replace("penguins.csv", "rows.csv")


def test_unknown_categories_and_columns_are_said(train, table, here, capsys):
    assert train("--data penguins.csv --target species --epochs 1 --out run").status == 0
    Path("rows.csv").write_text("island,bill,sex,mass\nAnvers,40,male,3\nDream,41,,4\n")
    status, out, err = predict(capsys, "run", "rows.csv")
    assert status == 0
    assert len(out.splitlines()) == 2
    assert err.splitlines() == [
        "warning: rows.csv: 1 column not in the training data ignored: mass",
        "warning: rows.csv: island: 1 row with categories not in the training rows (Anvers): "
        "all its inputs are 0",
    ]
    Path("rows.csv").write_text("island,bill\nDream,40\n")
    status, out, err = predict(capsys, "run", "rows.csv")
    assert (status, out) == (1, "")
    assert "error: rows.csv: line 1: expected the columns" in err
    assert "none named sex" in err


def test_the_numbers_that_reach_the_network_are_those_it_was_trained_on(train, table, capsys):
    assert train("--data penguins.csv --target species --epochs 5 --seed 3 --out run").status == 0
    _, out, _ = predict(capsys, "run", "penguins.csv")
    predicted = np.array(classes(out))
    data = load("penguins.csv", target="species", seed=3)
    found = json.loads(Path("run/metrics.json").read_text())
    is_right = predicted == penguins()["species"].to_numpy()
    # Over all rows: the training, validation and test accuracy of the run, weighted by their rows.
    expected = (
        found["train_accuracy"] * 65 + found["validation_accuracy"] * 7 + found["test_accuracy"] * 18
    ) / 90
    assert len(data.y_train) == 72
    assert is_right.mean() == pytest.approx(expected)


def test_rows_of_text_without_a_header_are_all_predicted(train, here, capsys):
    rng = np.random.default_rng(0)
    rows = [(a, b, "p" if a == "a" else "q") for a, b in rng.choice(["a", "b", "c"], (60, 2)).tolist()]
    (here / "letters.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    assert train("--data letters.csv --epochs 100 --out run --quiet").status == 0
    (here / "new.csv").write_text("a,b\nb,a\na,a\n")
    assert main(["predict", "run", "new.csv", "--json", "--top", "1"]) == 0
    found = [json.loads(line)["classes"][0]["class"] for line in capsys.readouterr().out.splitlines()]
    assert found == ["p", "q", "p"]
