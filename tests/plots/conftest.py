"""What the tests of all figures share: a judge of their words, and predictions to draw."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier


def drawn_texts(figure):
    """Return each text drawn in the figure, and (n, 4): its left, bottom, right and top in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # everything is where a drawing has it, in two thirds of the time
    hidden = [text for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for text in undrawn(ax, axis)]
    found = {}
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text().strip() and text not in hidden:
            box = text.get_tightbbox(renderer)
            if box is not None and box.width > 0:
                found[text] = box.extents
    return list(found), np.array(list(found.values()))


def undrawn(ax, axis):
    """Return the texts that axes switched off, and ticks beyond the limits, own all the same."""
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks() + axis.get_minor_ticks()
    if not ax.axison:
        return [axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2))]
    beyond = [tick for tick in ticks if not low <= tick.get_loc() <= high]
    return [label for tick in beyond for label in (tick.label1, tick.label2)]


@pytest.fixture(scope="session")
def assert_readable():
    """A function that fails where a word of a figure is cut off or lies on another."""

    def assert_readable(figure):
        texts, boxes = drawn_texts(figure)
        page = figure.bbox
        inside = (boxes[:, :2] >= (page.x0, page.y0)) & (boxes[:, 2:] <= (page.x1, page.y1))
        assert inside.all(), texts[inside.all(axis=1).argmin()]
        # Two boxes overlap where they do so both across and up.
        overlap = np.ones((len(texts), len(texts)), dtype=bool)
        for low, high in ((0, 2), (1, 3)):
            overlap &= boxes[:, None, low] < boxes[None, :, high]
            overlap &= boxes[None, :, low] < boxes[:, None, high]
        pairs = np.argwhere(np.triu(overlap, 1))
        assert not len(pairs), [texts[i] for i in pairs[0]]

    return assert_readable


@pytest.fixture(scope="session")
def judged():
    """Pictures shown to a little-trained network: X, the true classes, its probabilities."""
    X, y = load_digits(return_X_y=True)
    network = MLPClassifier((16,), random_state=0)
    for _ in range(8):
        network.partial_fit(X[:1200] / 16, y[:1200], classes=range(10))
    return X[1200:], y[1200:], network.predict_proba(X[1200:] / 16)
