"""What a run draws, prints and saves about the rows it is judged by."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.metrics import precision_recall_fscore_support

from xpnet.command.cli import main
from xpnet.command.predictions import class_scores


@pytest.fixture
def drawn(here, monkeypatch):
    """A function that runs `xpnet train` into the folder run, and returns {name: figure} it would save."""
    pytest.importorskip("matplotlib")
    figures = {}
    save = "xpnet.command.report._save_figure"
    monkeypatch.setattr(save, lambda figure, path: figures.update({path.name: figure}))

    def run(options):
        assert main(["train", "--device", "cpu", "--quiet", "--out", "run", *options.split()]) == 0
        return figures

    return run


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


PICTURES = {"confusion.png", "examples.png", "mistakes.png", "prediction.png", "weights.png"}


def test_a_run_on_pictures_draws_the_test_rows(drawn):
    figures = drawn("--epochs 2 --hidden 5")
    assert set(figures) == {"curves.png"} | PICTURES
    assert "of 360 test rows correct" in figures["confusion.png"].axes[0].get_title()
    assert "in 360 test pictures" in figures["mistakes.png"].get_suptitle()
    assert figures["weights.png"].get_suptitle() == "What each hidden unit responds to"
    assert "at epoch 2 (kept)" in figures["curves.png"].axes[1].get_title()


@pytest.mark.parametrize(
    ("options", "rows"),
    [("--test 0", "180 validation rows"), ("--test 0 --validation 0", "1,797 training rows")],
)
def test_a_run_without_test_rows_says_which_it_draws(drawn, options, rows):
    assert f"of {rows} correct" in drawn(f"--epochs 1 {options}")["confusion.png"].axes[0].get_title()


def test_a_run_without_epochs_draws_no_curves(drawn):
    assert set(drawn("--epochs 0")) == PICTURES


def test_without_a_hidden_layer_the_weights_are_those_of_the_classes(drawn, here):
    figure = drawn("--epochs 2 --hidden none")["weights.png"]
    assert figure.get_suptitle() == "What each class responds to"
    W = load_file(here / "run" / "model.safetensors")["layers.0.weight"]
    tiles = {ax.get_title(): ax.get_images()[0].get_array() for ax in figure.axes if ax.get_title()}
    assert list(tiles) == list("0123456789")
    for k, tile in enumerate(tiles.values()):
        np.testing.assert_array_equal(tile, W[:, k].reshape(8, 8))


def test_a_single_logistic_output_is_named_by_both_classes(drawn, here):
    X, y = load_digits(return_X_y=True)
    np.savez(here / "pair.npz", X=X[y < 2].reshape(-1, 8, 8).astype(np.uint8), y=y[y < 2])
    figures = drawn("--data pair.npz --loss logistic_cross_entropy --hidden none --epochs 3")
    assert figures["weights.png"].get_suptitle() == "What the output responds to"
    assert figures["weights.png"].axes[0].get_title() == "1 rather than 0"
    support = [row["support"] for row in metrics(here / "run")["test_per_class"]]
    assert support == [36, 36]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_curves_name_the_epoch_kept(drawn, here, keep):
    loss, accuracy = drawn(f"--epochs 40 --early-stopping 2 --lr 0.02 --keep {keep}")["curves.png"].axes
    found = metrics(here / "run")
    assert found["best_epoch"] < found["epochs"]
    kept = found["best_epoch"] if keep == "best" else found["epochs"]
    assert f": {found['validation_loss']:.4f} at epoch {kept} (kept)" in loss.get_title()
    assert f": {100 * found['validation_accuracy']:.2f}" in accuracy.get_title()
    assert f"at epoch {kept} (kept)" in accuracy.get_title()
    assert (f"at epoch {found['best_epoch']}" in loss.get_title().partition("\n")[2]) == (keep == "last")


def test_without_validation_the_curves_show_the_training_accuracy(drawn, here):
    _, accuracy = drawn("--epochs 2 --validation 0")["curves.png"].axes
    share = 100 * metrics(here / "run")["train_accuracy"]
    assert accuracy.get_title().startswith(f"Training accuracy: {share:.2f}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "training (mean during the epoch)"),
        ("--l2 0.001", "training (mean during the epoch,\nwith L2 penalty)"),
        (
            "--label-smoothing 0.1 --l2 0.001",
            "training (mean during the epoch,\nwith label smoothing and L2 penalty)",
        ),
    ],
)
def test_the_legend_names_what_the_training_loss_includes(drawn, options, words):
    loss, _ = drawn(f"--epochs 1 {options}")["curves.png"].axes
    assert loss.get_legend().get_texts()[0].get_text() == words


def test_a_run_that_predicts_numbers_draws_them_as_they_are_stored(drawn, here):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = np.stack([X[:, 0] * 1e5 + 7e5, X[:, 1] * 1e-3], axis=1)
    np.savez(here / "numbers.npz", X=X[:60], y=y[:60], X_test=X[60:], y_test=y[60:])
    figures = drawn("--data numbers.npz --loss squared_error --epochs 40 --batch-size 10 --lr 0.01")
    assert set(figures) == {"curves.png", "regression.png"}
    figure = figures["regression.png"]
    assert figure.get_suptitle() == "20 test rows"
    errors = []
    for k in range(2):
        true, predicted = figure.axes[2 * k].collections[0].get_offsets().T
        np.testing.assert_allclose(true, y[60:, k], rtol=1e-5)
        errors.append(1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum())
    assert np.mean(errors) == pytest.approx(metrics(here / "run")["test_r2"], abs=1e-4)


# Precision, recall and F1 of each class


def test_the_scores_of_the_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, predicted = rng.integers(5, size=200), rng.integers(5, size=200)
    predicted[predicted == 1] = 2  # a class that is never predicted
    y[y == 3] = 4  # one that never occurs
    predicted[predicted == 4], y[y == 0] = 3, 2  # and the others partly
    classes = ["a", "b", "c", "d", "e", "neither"]
    expected = precision_recall_fscore_support(y, predicted, labels=range(6), zero_division=np.nan)
    found = class_scores(y, predicted, classes)
    assert [row["class"] for row in found] == classes
    assert None in [row["precision"] for row in found]
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        ours = [np.nan if row[key] is None else row[key] for row in found]
        np.testing.assert_allclose(ours, values, rtol=1e-12)


def test_a_run_prints_and_saves_the_scores_of_each_class(train, here):
    result = train("--epochs 2 --out run")
    found = metrics(here / "run")
    rows = found["test_per_class"]
    assert [row["class"] for row in rows] == list("0123456789")
    assert sum(row["support"] for row in rows) == 360
    recalled = sum(row["recall"] * row["support"] for row in rows)
    assert recalled / 360 == pytest.approx(found["test_accuracy"])
    lines = result.out.splitlines()
    start = lines.index("test         precision      recall          F1     support")
    for line, row in zip(lines[start + 1 : start + 11], rows, strict=True):
        shares = [f"{100 * row[key]:.2f} %" for key in ("precision", "recall", "f1")]
        assert line.split() == [row["class"], *" ".join(shares).split(), str(row["support"])]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("n_classes", [20, 21])
def test_the_table_of_more_than_20_classes_is_only_saved(train, here, n_classes):
    y = np.arange(200) % n_classes
    np.savez(here / "many.npz", X=np.random.default_rng(0).normal(size=(200, 4)), y=y)
    result = train("--data many.npz --epochs 1 --out run")
    assert ("precision" in result.out) == (n_classes == 20)
    assert len(metrics(here / "run")["test_per_class"]) == n_classes


def test_a_run_that_predicts_numbers_has_no_classes(train, here):
    rng = np.random.default_rng(0)
    np.savez(here / "numbers.npz", X=rng.normal(size=(40, 3)), y=rng.normal(size=40))
    assert "precision" not in train("--data numbers.npz --loss squared_error --epochs 1 --out run").out
    assert not [key for key in metrics(here / "run") if key.endswith("per_class")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", None),
        ("--l2 0.01", "includes L2 penalty,"),
        ("--label-smoothing 0.1 --l2 0.01", "includes label smoothing and L2 penalty,"),
    ],
)
def test_the_table_names_what_its_loss_leaves_out(train, options, said):
    out = train(f"--epochs 1 --hidden 5 {options}").out
    lines = [line for line in out.splitlines() if "loss during training" in line]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]
