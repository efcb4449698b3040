"""Confusion and regression: the numbers are scikit-learn's, and every word can be read."""

import string

import numpy as np
import pytest
from class_names import DIGITS, FASHION, LONG, PERCENT
from sklearn.metrics import accuracy_score, confusion_matrix, mean_absolute_error, r2_score, recall_score

from xpnet.errors import InputError
from xpnet.plots import confusion, curves, regression

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure


def test_figures_draw_on_the_axes_given(assert_readable, judged):
    _, y, p = judged
    figure = Figure(layout="constrained", figsize=(12, 6))
    left, right = figure.subplots(1, 2)
    assert curves([{"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.5}], ax=left) is figure
    assert confusion(y, p.argmax(1), DIGITS, ax=right) is figure
    assert_readable(figure)


def shown(figure, K):
    """Return the counts and the recalls as a reader finds them in the picture."""
    counts, recalls = np.zeros((K, K), dtype=int), [""] * K
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        if column < K:
            counts[int(row), int(column)] = int(text.get_text().replace(",", ""))
        else:
            recalls[int(row)] = text.get_text()
    return counts, recalls


def test_confusion_shows_the_counts_and_recalls_of_scikit_learn(judged):
    _, y, p = judged
    predicted = p.argmax(1)
    figure = confusion(y, predicted, DIGITS, part="test")
    counts, recalls = shown(figure, 10)
    np.testing.assert_array_equal(counts, confusion_matrix(y, predicted))
    expected = recall_score(y, predicted, average=None)
    assert recalls == [f"{100 * recall:.0f}{PERCENT}" for recall in expected]
    right = accuracy_score(y, predicted, normalize=False)
    title = f"{right:.0f} of 597 test rows correct ({100 * accuracy_score(y, predicted):.2f}{PERCENT})"
    assert figure.axes[0].get_title() == title


@pytest.mark.parametrize(
    ("right", "wrong", "title", "recall"),
    [
        (1, 0, f"1 of 1 row correct (100.00{PERCENT})", "100"),
        (9_999, 1, f"9,999 of 10,000 rows correct (99.99{PERCENT})", "99"),
    ],
)
def test_confusion_counts_in_words_and_never_rounds_up_to_all(right, wrong, title, recall):
    figure = confusion([0] * (right + wrong), [0] * right + [1] * wrong, "ab")
    assert figure.axes[0].get_title() == title
    assert [text.get_text() for text in figure.axes[0].texts if text.get_position()[0] < 1] == [f"{right:,}"]
    assert shown(figure, 2)[1] == [f"{recall}{PERCENT}", "–"]


@pytest.mark.parametrize(
    ("classes", "n"),
    [
        (("no", "yes"), 12_345),
        (("malignant tumour of the breast", "benign"), 300),
        (DIGITS, 60_000),
        (FASHION, 10_000),
        (tuple(string.ascii_uppercase), 20_800),
        (LONG, 300),
    ],
    ids=["2", "2 long", "10", "10 words", "26", "26 long"],
)
def test_confusion_is_readable(assert_readable, classes, n):
    rng = np.random.default_rng(0)
    y_true = rng.integers(len(classes), size=n)
    y_pred = np.where(rng.random(n) < 0.8, y_true, rng.integers(len(classes), size=n))
    figure = confusion(y_true, y_pred, classes)
    assert_readable(figure)
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    image = ax.get_images()[0]
    for text in ax.texts:
        column, row = (int(i) for i in text.get_position())
        if column < len(classes):
            paper = image.cmap(image.norm(image.get_array()[row, column]))[:3] @ np.array([0.3, 0.6, 0.1])
            assert abs((text.get_color() == "white") - paper) > 0.3, (row, column)


def test_confusion_of_a_class_that_never_occurs():
    _, recalls = shown(confusion([0, 0], [0, 1], ["a", "b"]), 2)
    assert recalls == [f"50{PERCENT}", "–"]


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([0, 1], [0], "as many rows"),
        ([0, 2], [0, 1], r"y_true in 0 \.\.\. 1"),
        ([0, 1], [0, -1], r"y_pred in 0 \.\.\. 1"),
        ([0.0, 1.0], [0, 1], "integers"),
        ([[0, 1]], [0, 1], "shape"),
    ],
)
def test_confusion_of_what_does_not_fit(y_true, y_pred, message):
    with pytest.raises(InputError, match=message):
        confusion(y_true, y_pred, ["a", "b"])


@pytest.fixture
def numbers():
    """A function that returns true and predicted values (rows, outputs), each output in its own units."""

    def numbers(rows, outputs=1):
        rng = np.random.default_rng(0)
        units = np.array([1.0, 1e6, 1e-5, 30.0])[:outputs]
        y = rng.normal(size=(rows, outputs)) * units
        return y, y + 0.2 * rng.normal(size=(rows, outputs)) * units

    return numbers


def points(ax):
    """Return the dots (n, 2) drawn on the axes."""
    (dots,) = ax.collections
    return dots.get_offsets()


def test_regression_draws_predicted_against_true_values_and_the_residuals(numbers):
    y, p = numbers(50, 2)
    figure = regression(y, p, ["weight", "price"], part="test")
    assert figure.get_suptitle() == "50 test rows"
    for k, name in enumerate(["weight", "price"]):
        left, right = figure.axes[2 * k : 2 * k + 2]
        np.testing.assert_array_equal(points(left), np.stack([y[:, k], p[:, k]], axis=1))
        np.testing.assert_array_equal(points(right), np.stack([p[:, k], y[:, k] - p[:, k]], axis=1))
        assert (left.get_xlabel(), left.get_ylabel()) == ("true value", "predicted value")
        assert (right.get_xlabel(), right.get_ylabel()) == ("predicted value", "residual (true − predicted)")
        r2 = r2_score(y[:, k], p[:, k])
        assert left.get_title().startswith(f"{name}\nR² {r2:.4f}, mean absolute error ")
        # The line of a perfect prediction goes from corner to corner.
        (low, high), (line,) = left.get_xlim(), left.get_lines()
        assert left.get_ylim() == (low, high)
        assert line.get_xydata().tolist() == [[low, low], [high, high]]
    small, large = (mean_absolute_error(y[:, k], p[:, k]) for k in (0, 1))
    assert figure.axes[0].get_title().endswith(f" {small:.4g}")
    assert figure.axes[2].get_title().endswith(f" {large:,.0f}")


def test_regression_counts_many_rows_in_hexagons(numbers):
    y, p = numbers(30_000)
    left, right, bar = regression(y, p).axes
    for ax in (left, right):
        (hexagons,) = ax.collections
        assert hexagons.get_array().sum() == 30_000
        # Even a single row stands out from the paper, and more rows are darker.
        lightness = hexagons.cmap(hexagons.norm([1, 10, 100]))[:, :3] @ [0.3, 0.6, 0.1]
        assert 0.85 > lightness[0] > lightness[1] > lightness[2]
    assert bar.get_xlabel() == "rows in a hexagon (log scale)"


@pytest.mark.parametrize(("rows", "outputs"), [(1, 1), (300, 1), (300, 2), (3_000, 1), (3_000, 2)])
def test_regression_is_readable(assert_readable, numbers, rows, outputs):
    figure = regression(*numbers(rows, outputs), ["price in euro per square metre"] * outputs)
    assert_readable(figure)
    assert figure.get_suptitle() == ("1 row" if rows == 1 else f"{rows:,} rows")


@pytest.mark.parametrize("scale", [1e-9, 0.3, 500, 1e5, 1e6, 4e9])
def test_regression_in_any_units_is_readable(assert_readable, scale):
    y = scale * np.linspace(-2.2, 2.2, 30)
    assert_readable(regression(y, y))


@pytest.mark.parametrize(
    ("rows", "y", "p"), [(10, 0.0, 0.0), (10, 1.0, 2.0), (3_000, 1.0, 2.0), (3_000, 7e9, 7e9)]
)
def test_regression_where_all_values_are_equal(assert_readable, rows, y, p):
    figure = regression(np.full(rows, y), np.full(rows, p))
    assert_readable(figure)
    assert figure.axes[0].get_title().startswith("R² 1.0000" if y == p else "R² 0.0000")


def test_regression_of_many_outputs_draws_the_first(numbers):
    figure = regression(*numbers(20, 4), n=2)
    assert len(figure.axes) == 4
    assert figure.get_suptitle() == "20 rows, first 2 of 4 outputs"
    assert figure.axes[2].get_title().startswith("output 2\n")


@pytest.mark.parametrize(
    ("y", "p", "more", "message"),
    [
        ([1.0, 2.0], [1.0], {}, r"got \(2,\) and \(1,\)"),
        ([], [], {}, "at least one row"),
        ([1.0], [np.nan], {}, "finite"),
        ([1.0], [1.0], {"outputs": ["a", "b"]}, "names of 1 outputs, got 2"),
        ([1.0], [1.0], {"n": 0}, "at least n = 1 output"),
    ],
)
def test_regression_of_what_does_not_fit(y, p, more, message):
    with pytest.raises(InputError, match=message):
        regression(y, p, **more)
