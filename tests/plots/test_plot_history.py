"""The learning curves: what they draw, which epoch they say was kept, and that every word can be read."""

import pytest

from xpnet.errors import InputError
from xpnet.plots import curves

pytest.importorskip("matplotlib")

PERCENT = "\N{NO-BREAK SPACE}%"


def history(epochs, score="accuracy", parts=("train", "validation")):
    """Return records whose loss falls and whose score rises, in training and validation alike."""
    rows = []
    for epoch in range(1, epochs + 1):
        loss = 2.3 * 0.95**epoch
        row = {"epoch": epoch, "train_loss": loss}
        if "validation" in parts:
            row["validation_loss"] = loss + 0.1
        if score:
            row |= {f"{part}_{score}": 1 - loss / 4 for part in parts}
        rows.append(row)
    return rows


def labelled(ax):
    """Return {label in the legend: the points drawn under it}."""
    shown = [text.get_text() for text in ax.get_legend().get_texts()]
    assert shown == [line.get_label() for line in ax.get_lines()]
    return {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}


BOTH = ("train", "validation")


@pytest.mark.parametrize(
    ("epochs", "score", "parts"),
    [
        (1, "accuracy", BOTH),
        (2, "accuracy", BOTH),
        (12, "accuracy", BOTH),
        (2000, "accuracy", BOTH),
        (12, "r2", ("validation",)),
        (12, "accuracy", ("train",)),
        (12, None, ()),
    ],
)
def test_curves_are_readable(assert_readable, epochs, score, parts):
    figure = curves(history(epochs, score, parts), loss_includes=["label smoothing", "L2 penalty"])
    assert_readable(figure)
    assert len(figure.axes) == (2 if score else 1)
    assert all(ax.get_xlabel() == "epoch" and ax.get_ylabel() for ax in figure.axes)


def test_curves_draw_the_values_of_the_epochs_that_have_them():
    rows = [
        {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5},
        {"epoch": 2, "train_loss": 0.5, "train_accuracy": 0.875, "validation_loss": 0.7},
        {"epoch": 3, "train_loss": 0.4, "validation_loss": None, "validation_accuracy": 0.75},
    ]
    loss, accuracy = (labelled(ax) for ax in curves(rows).axes)
    assert loss["training (mean during the epoch)"] == [[1, 1.0], [2, 0.5], [3, 0.4]]
    assert loss["validation (after the epoch)"] == [[2, 0.7]]
    assert accuracy["training"] == [[1, 50.0], [2, 87.5]]
    assert accuracy["validation"] == [[3, 75.0]]


def test_the_epoch_kept_is_marked_and_so_is_a_better_one():
    rows = history(4)
    for row, loss, accuracy in zip(rows, [0.9, 0.5, 0.4, 0.6], [0.5, 0.98, 0.96, 0.97], strict=True):
        row |= {"validation_loss": loss, "validation_accuracy": accuracy}

    last = curves(rows)
    loss, accuracy = last.axes
    assert loss.get_title() == "Validation loss: 0.6000 at epoch 4 (kept)\nlowest: 0.4000 at epoch 3"
    assert labelled(loss)["kept"] == [[4, 0.6]]
    assert labelled(loss)["lowest"] == [[3, 0.4]]
    assert accuracy.get_title() == (
        f"Validation accuracy: 97.00{PERCENT} at epoch 4 (kept)\nhighest: 98.00{PERCENT} at epoch 2"
    )
    assert labelled(accuracy)["kept"] == [[4, 97.0]]
    assert labelled(accuracy)["highest"] == [[2, 98.0]]

    loss, accuracy = curves(rows, kept=3).axes
    assert loss.get_title() == "Validation loss: 0.4000 at epoch 3 (kept)"
    assert "lowest" not in labelled(loss)
    assert accuracy.get_title().startswith(f"Validation accuracy: 96.00{PERCENT} at epoch 3 (kept)\nhighest")


def test_an_earlier_epoch_as_good_as_the_one_kept_is_not_called_better():
    rows = [{"epoch": e, "train_loss": 1.0, "validation_r2": 0.5} for e in (1, 2)]
    assert curves(rows).axes[1].get_title() == "Validation R²: 0.5000 at epoch 2 (kept)"


def test_without_validation_the_training_accuracy_is_drawn():
    loss, accuracy = curves(history(3, parts=("train",))).axes
    at_end = f"{100 - 25 * 2.3 * 0.95**3:.2f}{PERCENT}"
    assert accuracy.get_title() == f"Training accuracy: {at_end} at epoch 3 (kept)"
    assert list(labelled(accuracy)) == ["training", "kept"]
    assert loss.get_title().startswith("Training loss: ")


def test_large_numbers_have_commas():
    rows = [{"epoch": e, "train_loss": 2e6 + e, "validation_loss": 1e6 + e} for e in (1, 900, 1_800)]
    (ax,) = curves(rows).axes
    ax.figure.draw_without_rendering()
    assert ax.get_title() == "Validation loss: 1,001,800 at epoch 1,800 (kept)\nlowest: 1,000,001 at epoch 1"
    for axis, expected in ((ax.xaxis, "1,500"), (ax.yaxis, "2,000,000")):
        assert expected in [label.get_text() for label in axis.get_ticklabels()]


def test_the_legend_names_what_only_the_training_loss_includes():
    (ax,) = curves(history(3, None), loss_includes=["label smoothing", "L2 penalty"]).axes
    training, validation, *_ = labelled(ax)
    assert training == "training (mean during the epoch,\nwith label smoothing and L2 penalty)"
    assert validation == "validation (after the epoch)"


def test_curves_differ_in_more_than_colour():
    training, validation, *_ = curves(history(12)).axes[0].get_lines()
    assert training.get_linestyle() != validation.get_linestyle()
    assert training.get_marker() != validation.get_marker()


def test_a_loss_that_falls_far_is_drawn_on_a_log_scale():
    near, far = curves(history(3)).axes[0], curves(history(200)).axes[0]
    assert (near.get_yscale(), near.get_ylabel()) == ("linear", "loss")
    assert (far.get_yscale(), far.get_ylabel()) == ("log", "loss (log scale)")


@pytest.mark.parametrize(
    ("rows", "kept", "message"),
    [
        ([], None, "train before drawing"),
        ([{"epoch": 1}], None, "train before drawing"),
        ([{"epoch": 1, "train_loss": 1.0}, {"epoch": 2, "train_loss": 0.9}], 3, r"1 \.\.\. 2, got 3"),
    ],
)
def test_curves_of_what_does_not_fit(rows, kept, message):
    with pytest.raises(InputError, match=message):
        curves(rows, kept=kept)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"matplotlib: pip install matplotlib$"):
        curves(history(2))
