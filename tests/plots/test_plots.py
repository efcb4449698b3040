"""The figures show the right numbers, and every word of them can be read."""

import itertools
import string

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, recall_score
from sklearn.neural_network import MLPClassifier

from xpnet.errors import InputError
from xpnet.plots import confusion, curves, examples, mistakes, prediction, weights

pytest.importorskip("matplotlib")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LONG = tuple(f"{c} is a class with quite a long name indeed" for c in string.ascii_lowercase)


@pytest.fixture(scope="module")
def judged():
    """Pictures a little-trained network was asked about: X, the truth, its probabilities."""
    X, y = load_digits(return_X_y=True)
    network = MLPClassifier((16,), random_state=0)
    for _ in range(8):
        network.partial_fit(X[:1200] / 16, y[:1200], classes=range(10))
    return X[1200:], y[1200:], network.predict_proba(X[1200:] / 16)


def history(epochs, score="validation_accuracy"):
    losses = [2.3 * 0.95**epoch for epoch in range(epochs)]
    rows = [
        {"epoch": i + 1, "train_loss": loss, "validation_loss": loss + 0.1} for i, loss in enumerate(losses)
    ]
    return [row | {score: 1 - row["train_loss"] / 4} for row in rows] if score else rows


def words(figure):
    """Return the text and extent of every word of a drawn figure."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # which places the words just as well, in half the time
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    # Axes switched off, and ticks beyond the limits, own texts that are not drawn.
    boxes = [(text, text.get_tightbbox(canvas.get_renderer())) for text in texts]
    hidden = [tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in undrawn(ax, axis)]
    return [(text, box) for text, box in boxes if box is not None and box.width > 0 and text not in hidden]


def undrawn(ax, axis):
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks() + axis.get_minor_ticks()
    if not ax.axison:
        return [axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2))]
    beyond = [tick for tick in ticks if not low <= tick.get_loc() <= high]
    return [label for tick in beyond for label in (tick.label1, tick.label2)]


def assert_readable(figure):
    found = words(figure)
    page = figure.bbox
    for text, box in found:
        assert page.x0 <= box.x0, text
        assert page.y0 <= box.y0, text
        assert box.x1 <= page.x1, text
        assert box.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 0 or height <= 0, (one, other)


@pytest.mark.parametrize("epochs", [1, 2, 12, 200])
@pytest.mark.parametrize("score", ["validation_accuracy", "validation_r2", None])
def test_curves_are_readable(epochs, score):
    figure = curves(history(epochs, score))
    assert_readable(figure)
    assert len(figure.axes) == (2 if score else 1)
    assert figure.axes[0].get_title() == "Loss"
    assert all(ax.get_xlabel() == "epoch" and ax.get_ylabel() for ax in figure.axes)


def test_curves_draw_the_values_of_the_epochs_that_have_them():
    rows = [
        {"epoch": 1, "train_loss": 1.0},
        {"epoch": 2, "train_loss": 0.5, "validation_loss": 0.7, "validation_accuracy": 0.75},
        {"epoch": 3, "train_loss": 0.4, "validation_loss": None, "validation_accuracy": None},
    ]
    loss, accuracy = curves(rows).axes
    training, validation = loss.get_lines()
    np.testing.assert_array_equal(training.get_xydata(), [(1, 1.0), (2, 0.5), (3, 0.4)])
    np.testing.assert_array_equal(validation.get_xydata(), [(2, 0.7)])
    assert accuracy.get_title() == "Validation: best 75.0% after epoch 2"


def test_curves_differ_in_more_than_colour():
    training, validation = curves(history(12)).axes[0].get_lines()
    assert training.get_linestyle() != validation.get_linestyle()
    assert training.get_marker() != validation.get_marker()


@pytest.mark.parametrize("empty", [[], [{"epoch": 1}]])
def test_curves_without_a_history(empty):
    with pytest.raises(InputError, match="train before drawing"):
        curves(empty)


def test_figures_draw_on_the_axes_given(judged):
    _, y, p = judged
    figure = Figure(layout="constrained", figsize=(12, 6))
    left, right = figure.subplots(1, 2)
    assert curves(history(5), ax=left) is figure
    assert confusion(y, p.argmax(1), DIGITS, ax=right) is figure
    assert_readable(figure)


def shown(figure, K):
    """Return the counts and the recalls as a reader finds them in the picture."""
    counts, recalls = np.zeros((K, K), dtype=int), [""] * K
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        if column < K:
            counts[int(row), int(column)] = int(text.get_text())
        else:
            recalls[int(row)] = text.get_text()
    return counts, recalls


def test_confusion_shows_the_counts_and_recalls_of_scikit_learn(judged):
    _, y, p = judged
    believed = p.argmax(1)
    counts, recalls = shown(confusion(y, believed, DIGITS), 10)
    np.testing.assert_array_equal(counts, confusion_matrix(y, believed))
    assert recalls == [f"{recall:.0%}" for recall in recall_score(y, believed, average=None)]


@pytest.mark.parametrize(
    ("classes", "n"),
    [
        (("no", "yes"), 12_345),
        (("malignant tumour of the breast", "benign"), 300),
        (DIGITS, 60_000),
        (FASHION, 10_000),
        (tuple(string.ascii_uppercase), 20_800),
        (LONG, 20_800),
    ],
    ids=["2", "2 long", "10", "10 words", "26", "26 long"],
)
def test_confusion_is_readable(classes, n):
    rng = np.random.default_rng(0)
    y_true = rng.integers(len(classes), size=n)
    y_pred = np.where(rng.random(n) < 0.8, y_true, rng.integers(len(classes), size=n))
    figure = confusion(y_true, y_pred, classes)
    assert_readable(figure)
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("what the network believed", "truth")
    image = ax.get_images()[0]
    for text in ax.texts:
        column, row = (int(i) for i in text.get_position())
        if column < len(classes):
            paper = image.cmap(image.norm(image.get_array()[row, column]))[:3] @ np.array([0.3, 0.6, 0.1])
            assert abs((text.get_color() == "white") - paper) > 0.3, (row, column)


def test_confusion_of_a_class_that_never_occurs():
    _, recalls = shown(confusion([0, 0], [0, 1], ["a", "b"]), 2)
    assert recalls == ["50%", "–"]


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


def test_the_worst_mistakes_come_first(judged):
    X, y, p = judged
    believed = p.argmax(1)
    wrong = [row for row in np.argsort(-p.max(1), kind="stable") if believed[row] != y[row]][:7]
    panels = [ax for ax in mistakes(X, y, p, DIGITS, (8, 8), n=7).axes if ax.get_images()]
    assert len(panels) == 7
    for ax, row in zip(panels, wrong, strict=True):
        np.testing.assert_array_equal(ax.get_images()[0].get_array(), X[row].reshape(8, 8))
        assert ax.get_title() == f"believed {believed[row]}, {p[row].max():.0%}\ntruth {y[row]}"


@pytest.mark.parametrize("n", [1, 3, 8, 25])
@pytest.mark.parametrize("classes", [DIGITS, FASHION, [f"{d} is quite a long name for one" for d in DIGITS]])
def test_mistakes_are_readable(judged, classes, n):
    assert_readable(mistakes(*judged, classes, (8, 8), n=n))


def test_no_mistake_is_said_in_words(judged):
    X, _, p = judged
    (text,) = mistakes(X, p.argmax(1), p, DIGITS, (8, 8)).findobj(Text)
    assert text.get_text() == f"No mistakes: all {len(X)} are right."


def test_certainty_is_never_rounded_up_to_certain():
    figure = mistakes(np.ones((1, 4)), [0], [[0.001, 0.999]], ["a", "b"], (2, 2))
    assert figure.axes[0].get_title() == "believed b, >99%\ntruth a"


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
def test_examples_are_readable(digits, classes, n):
    X, y = digits
    assert_readable(examples(X, np.arange(len(y)) % len(classes), classes, (8, 8), n=n))


def test_examples_of_few_pictures_and_of_a_class_that_never_occurs():
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
    figure = prediction(X[row], p[row], DIGITS, (8, 8), truth=y[row])
    paper, bars = figure.axes
    np.testing.assert_array_equal(paper.get_images()[0].get_array(), X[row].reshape(8, 8))
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], 100 * p[row])
    assert [label.get_text() for label in bars.get_yticklabels()] == list(DIGITS)
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the first class on top
    believed = p[row].argmax()
    title = f"The network says {believed} ({p[row].max():.1%}), the truth is {y[row]}"
    assert figure.get_suptitle() == title
    assert said(figure)[believed] == f"{p[row].max():.1%}"


def test_prediction_writes_the_values_that_matter_and_marks_the_truth():
    figure = prediction([0.0], [0.9, 0.0004, 0.0046, 0.095], "abcd", (1, 1), truth=1)
    assert said(figure) == {0: "90.0%", 1: "<0.1%, the truth", 3: "9.5%"}
    bars = figure.axes[1]
    assert [bar.get_hatch() is not None for bar in bars.patches] == [False, True, False, False]
    assert [label.get_fontweight() for label in bars.get_yticklabels()].index("bold") == 1


def test_prediction_that_is_right():
    figure = prediction([0.0], [0.0, 1.0], "ab", (1, 1), truth=1)
    assert said(figure) == {1: ">99.9%, the truth"}
    assert figure.get_suptitle() == "The network says b (>99.9%), the truth is b"


def test_prediction_where_nobody_knows_the_truth():
    figure = prediction([0.0], [0.25, 0.75], "ab", (1, 1))
    assert said(figure) == {0: "25.0%", 1: "75.0%"}
    assert figure.get_suptitle() == "The network says b (75.0%)"


@pytest.mark.parametrize(
    "classes",
    [("no", "yes"), LONG[:2], DIGITS, FASHION, string.ascii_uppercase, LONG, ("x" * 60, "y" * 200)],
    ids=lambda c: c[0][:9] + str(len(c)),
)
@pytest.mark.parametrize("truth", [None, 0, 1])
@pytest.mark.parametrize("sure", [0.0, 0.49, 0.51, 1.0])
def test_prediction_is_readable(classes, truth, sure):
    K = len(classes)
    p = np.full(K, (1 - sure) / K)
    p[1] += sure
    assert_readable(prediction(np.ones(12), p, classes, (3, 4), truth=truth))


@pytest.mark.parametrize(
    ("x", "p", "truth", "message"),
    [
        (np.ones(3), [0.5, 0.5], None, r"shapes \(\(4,\), \(2,\)\)"),
        (np.ones(4), [1.0], None, "shapes"),
        (np.ones(4), [0.5, 0.5], 2, r"truth in 0 \.\.\. 1"),
    ],
)
def test_prediction_of_what_does_not_fit(x, p, truth, message):
    with pytest.raises(InputError, match=message):
        prediction(x, p, "ab", (2, 2), truth=truth)


def test_weights_are_drawn_unit_by_unit():
    W = np.random.default_rng(0).normal(size=(12, 25))
    ax, bar = weights(W, (3, 4)).axes
    page = tiles(ax, (3, 4))
    assert page.shape == (5, 5, 3, 4)
    np.testing.assert_array_equal(page.reshape(25, 12), W.T)
    low, high = ax.get_images()[0].get_clim()
    assert low == -high < 0
    assert bar.get_xlabel().startswith("weight")
    assert "dark: ink here excites it" in bar.get_xlabel()


@pytest.mark.parametrize(
    ("units", "n", "title"),
    [
        (1, 100, "What the 1 hidden unit looks for"),
        (3, 100, "What the 3 hidden units look for"),
        (25, 100, "What the 25 hidden units look for"),
        (400, 100, "What the first 100 of 400 hidden units look for"),
        (30, 7, "What the first 7 of 30 hidden units look for"),
    ],
)
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_weights_are_readable(units, n, title, scale):
    W = scale * np.random.default_rng(0).normal(size=(12, units))
    figure = weights(W, (3, 4), n=n)
    assert_readable(figure)
    assert figure.get_suptitle() == title


def test_the_signs_of_weights_stay_apart_in_grey_print():
    image = weights(np.eye(4), (2, 2)).axes[0].get_images()[0]
    linear = image.cmap(np.linspace(0, 1, 9))[:, :3] ** 2.2
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16
    np.testing.assert_allclose(np.diff(lightness), -9, atol=2)  # evenly, from light to dark
    zero = image.cmap(0.5)[:3]
    assert max(zero) - min(zero) < 0.02  # 0 has no colour


@pytest.mark.parametrize(
    ("W", "n", "message"),
    [
        (np.ones((4, 3)), 0, "at least n = 1"),
        (np.ones((3, 4)), 9, r"W of shape \(4, units\)"),
        (np.ones(4), 9, "W of shape"),
        (np.ones((4, 0)), 9, "W of shape"),
    ],
)
def test_weights_of_what_does_not_fit(W, n, message):
    with pytest.raises(InputError, match=message):
        weights(W, (2, 2), n=n)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="xpnet\\[plot\\]"):
        curves(history(2))
