"""Pictures of data and predictions: they show the right rows and numbers, and every word can be read."""

import string

import numpy as np
import pytest
from class_names import DIGITS, FASHION, LONG, PERCENT
from sklearn.datasets import load_digits

from xpnet.errors import InputError
from xpnet.plots import examples, mistakes, prediction

pytest.importorskip("matplotlib")
from matplotlib.cbook import is_math_text
from matplotlib.text import Text


def test_the_worst_mistakes_come_first(judged):
    X, y, p = judged
    predicted = p.argmax(1)
    wrong = [row for row in np.argsort(-p.max(1), kind="stable") if predicted[row] != y[row]]
    figure = mistakes(X, y, p, DIGITS, (8, 8), part="test", n=7)
    assert figure.get_suptitle() == f"The 7 most confident of {len(wrong)} mistakes in 597 test pictures"
    panels = [ax for ax in figure.axes if ax.get_images()]
    assert len(panels) == 7
    for ax, row in zip(panels, wrong[:7], strict=True):
        np.testing.assert_array_equal(ax.get_images()[0].get_array(), X[row].reshape(8, 8))
        percentage = f"{100 * p[row].max():.0f}{PERCENT}"
        assert ax.get_title() == f"predicted {predicted[row]}, {percentage}\ntrue class {y[row]}"


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("classes", [DIGITS, FASHION, LONG[:10]], ids=lambda c: c[0][:9])
def test_mistakes_are_readable(assert_readable, judged, classes, n):
    assert_readable(mistakes(*judged, classes, (8, 8), n=n))


def test_a_page_of_mistakes_is_readable(assert_readable, judged):
    assert_readable(mistakes(*judged, FASHION, (8, 8), n=25))


@pytest.mark.parametrize(
    ("right", "wrong", "heading"),
    [
        (0, 1, "1 mistake in 1 picture"),
        (1, 1, "1 mistake in 2 pictures"),
        (0, 2, "2 mistakes in 2 pictures"),
        (9_000, 1_003, "The 2 most confident of 1,003 mistakes in 10,003 pictures"),
        (1, 0, "No mistakes in 1 picture"),
        (2, 0, "No mistakes in 2 pictures"),
    ],
)
def test_mistakes_are_counted_in_words(right, wrong, heading):
    n, y = right + wrong, [0] * right + [1] * wrong
    figure = mistakes(np.ones((n, 4)), y, np.tile([0.9, 0.1], (n, 1)), "ab", (2, 2), n=2)
    assert heading in [text.get_text() for text in figure.findobj(Text)]


def test_certainty_is_never_rounded_up_to_certain():
    figure = mistakes(np.ones((1, 4)), [0], [[0.001, 0.999]], ["a", "b"], (2, 2))
    assert figure.axes[0].get_title() == f"predicted b, >99{PERCENT}\ntrue class a"


@pytest.mark.parametrize(
    ("picture", "n", "message"), [((8, 7), 1, "expected X"), ((8, 8), 0, "at least n = 1")]
)
def test_mistakes_of_what_does_not_fit(judged, picture, n, message):
    with pytest.raises(InputError, match=message):
        mistakes(*judged, DIGITS, picture, n=n)


def tiles(ax, picture):
    """Return the pictures of a grid as its reader finds them, (row, column, height, width)."""
    (image,) = ax.get_images()
    left, right, bottom, top = image.get_extent()
    rows, columns = round(bottom - top), round(right - left)
    page = image.get_array().reshape(rows, image.get_size()[0] // rows, columns, -1).swapaxes(1, 2)
    return page[:, :, : picture[0], : picture[1]]


def named_rows(ax):
    """Return {the name beside a row of pictures: that row's number}."""
    return {label.get_text(): int(y) for label, y in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


def test_examples_are_the_first_of_each_class(digits):
    X, y = digits
    figure = examples(X, y, DIGITS, (8, 8))
    (ax,) = figure.axes
    page = tiles(ax, (8, 8))
    assert page.shape == (10, 10, 8, 8)
    assert named_rows(ax) == {name: row for row, name in enumerate(DIGITS)}
    for k in range(10):
        np.testing.assert_array_equal(page[k].reshape(10, 64), X[y == k][:10])
    assert figure.get_suptitle() == "The first 10 pictures of each class"


@pytest.mark.parametrize("K", [2, 3, 10, 26])
@pytest.mark.parametrize("n", [1, 30, 100, 300])
def test_each_class_shows_beside_its_name_and_no_more_than_n_pictures(K, n):
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(K), 200))
    X = np.stack([np.zeros(len(y)), *[y + 1] * 5], axis=1)  # told apart by their brightest pixel; paper is 0
    figure = examples(X, y, string.ascii_uppercase[:K], (2, 3), n=n)
    drawn, names = [], ""
    for ax in figure.axes:
        inks = tiles(ax, (2, 3)).max(axis=(2, 3))
        drawn += list(inks[inks > 0])
        for name, row in named_rows(ax).items():
            names += name
            assert (inks[row] == string.ascii_uppercase.index(name) + 1).all()
    assert names == string.ascii_uppercase[:K]
    assert set(np.bincount(np.array(drawn, dtype=int))[1:]) == {len(drawn) // K}  # as many of each
    assert max(n, K) / 2 < len(drawn) <= max(n, K)
    width, height = figure.get_size_inches()
    assert 1 / 3 < width / height < 4


@pytest.mark.parametrize(
    "classes",
    [("no", "yes"), DIGITS, FASHION, string.ascii_uppercase, LONG],
    ids=lambda c: c[0][:9] + str(len(c)),
)
@pytest.mark.parametrize("n", [1, 100])
def test_examples_are_readable(assert_readable, digits, classes, n):
    X, y = digits
    assert_readable(examples(X, np.arange(len(y)) % len(classes), classes, (8, 8), n=n))


def test_examples_of_few_pictures_and_of_a_class_that_never_occurs(assert_readable):
    X = np.arange(1.0, 13.0).reshape(3, 4)
    (ax,) = (figure := examples(X, [2, 0, 2], ["a", "b", "c"], (2, 2))).axes
    assert_readable(figure)
    page = tiles(ax, (2, 2)).reshape(3, 2, 4)
    np.testing.assert_array_equal(page[2], X[[0, 2]])
    np.testing.assert_array_equal(page[0], [X[1], np.ones(4)])  # as bright as paper
    np.testing.assert_array_equal(page[1], np.ones((2, 4)))


@pytest.mark.parametrize(
    ("X", "y", "n", "message"),
    [
        (np.ones((2, 4)), [0, 1], 0, "at least n = 1"),
        (np.ones((2, 3)), [0, 1], 9, r"X of shape \(2, 4\)"),
        (np.ones((2, 4)), [0, 2], 9, r"y in 0 \.\.\. 1"),
        (np.ones((0, 4)), np.zeros(0, dtype=int), 9, "at least one row"),
    ],
)
def test_examples_of_what_does_not_fit(X, y, n, message):
    with pytest.raises(InputError, match=message):
        examples(X, y, ["a", "b"], (2, 2), n=n)


def said(figure):
    """Return {class index: the words on its bar}."""
    return {int(text.get_position()[1]): text.get_text() for text in figure.axes[1].texts}


def test_prediction_shows_the_picture_and_its_probabilities(judged):
    X, y, p = judged
    row = int(np.flatnonzero(p.argmax(1) != y)[0])
    figure = prediction(X[row], p[row], DIGITS, (8, 8), true_class=y[row])
    paper, bars = figure.axes
    np.testing.assert_array_equal(paper.get_images()[0].get_array(), X[row].reshape(8, 8))
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], 100 * p[row])
    assert [label.get_text() for label in bars.get_yticklabels()] == list(DIGITS)
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the first class on top
    predicted, percentage = p[row].argmax(), f"{100 * p[row].max():.1f}{PERCENT}"
    assert figure.get_suptitle() == f"Predicted {predicted}, {percentage} (true class {y[row]})"
    assert said(figure)[predicted] == percentage


def test_prediction_writes_the_values_that_matter_and_marks_the_true_class():
    figure = prediction([0.0], [0.9, 0.0004, 0.0046, 0.095], "abcd", (1, 1), true_class=1)
    assert said(figure) == {0: f"90.0{PERCENT}", 1: f"<0.1{PERCENT}, true class", 3: f"9.5{PERCENT}"}
    bars = figure.axes[1]
    assert [bar.get_hatch() is not None for bar in bars.patches] == [False, True, False, False]
    assert [label.get_fontweight() for label in bars.get_yticklabels()].index("bold") == 1


def test_prediction_that_is_right():
    figure = prediction([0.0], [0.0, 1.0], "ab", (1, 1), true_class=1)
    assert said(figure) == {1: f">99.9{PERCENT}, true class"}
    assert figure.get_suptitle() == f"Predicted b, >99.9{PERCENT} (true class b)"


def test_prediction_where_nobody_knows_the_true_class():
    figure = prediction([0.0], [0.25, 0.75], "ab", (1, 1))
    assert said(figure) == {0: f"25.0{PERCENT}", 1: f"75.0{PERCENT}"}
    assert figure.get_suptitle() == f"Predicted b, 75.0{PERCENT}"


def test_dollar_signs_in_class_names_are_no_mathematics():
    """matplotlib sets what stands between two of them in italics, without the spaces."""
    X, p, classes = np.ones((1, 1)), np.array([[0.2, 0.8]]), ["$1 to $2", "$3 to $4"]
    for figure in (
        prediction(X[0], p[0], classes, (1, 1), true_class=0),
        mistakes(X, [0], p, classes, (1, 1)),
        examples(X, [0], classes, (1, 1)),
    ):
        figure.draw_without_rendering()
        named = [text for text in figure.findobj(Text) if "to" in text.get_text()]
        assert named
        assert not any(is_math_text(text.get_text()) for text in named)


def chances(K, sure):
    """Return probabilities (K,) of which the second class has `sure` more than each of the others."""
    p = np.full(K, (1 - sure) / K)
    p[1] += sure
    return p


# The longest words beside a bar are the true class's; they end farthest right where it has half of all.
@pytest.mark.parametrize(
    "classes",
    [("no", "yes"), LONG[:2], DIGITS, FASHION, string.ascii_uppercase, LONG, ("x" * 60, "y" * 200)],
    ids=lambda c: c[0][:9] + str(len(c)),
)
@pytest.mark.parametrize("sure", [0.0, 0.49])
def test_prediction_is_readable(assert_readable, classes, sure):
    p = chances(len(classes), sure)
    assert_readable(prediction(np.ones(12), p, classes, (3, 4), true_class=1))


@pytest.mark.parametrize("true_class", [None, 0, 1])
@pytest.mark.parametrize("sure", [0.51, 1.0])
def test_a_confident_prediction_is_readable(assert_readable, true_class, sure):
    assert_readable(prediction(np.ones(12), chances(10, sure), FASHION, (3, 4), true_class=true_class))


@pytest.mark.parametrize(
    ("x", "p", "true_class", "message"),
    [
        (np.ones(3), [0.5, 0.5], None, r"shapes \(\(4,\), \(2,\)\)"),
        (np.ones(4), [1.0], None, "shapes"),
        (np.ones(4), [0.5, 0.5], 2, r"true_class in 0 \.\.\. 1"),
    ],
)
def test_prediction_of_what_does_not_fit(x, p, true_class, message):
    with pytest.raises(InputError, match=message):
        prediction(x, p, "ab", (2, 2), true_class=true_class)
