"""The weights of a layer as pictures: each is the right one, and every word can be read."""

import numpy as np
import pytest

from xpnet.errors import InputError
from xpnet.plots import weights

pytest.importorskip("matplotlib")


def tiles(ax, picture):
    """Return the pictures of a grid as its reader finds them, (row, column, height, width)."""
    (image,) = ax.get_images()
    left, right, bottom, top = image.get_extent()
    rows, columns = round(bottom - top), round(right - left)
    page = image.get_array().reshape(rows, image.get_size()[0] // rows, columns, -1).swapaxes(1, 2)
    return page[:, :, : picture[0], : picture[1]]


def test_weights_are_drawn_unit_by_unit():
    W = np.random.default_rng(0).normal(size=(12, 25))
    ax, bar = weights(W, (3, 4)).axes
    page = tiles(ax, (3, 4))
    assert page.shape == (5, 5, 3, 4)
    np.testing.assert_array_equal(page.reshape(25, 12), W.T)
    low, high = ax.get_images()[0].get_clim()
    assert low == -high < 0
    assert bar.get_xlabel().startswith("weight")
    assert "dark: ink here raises it" in bar.get_xlabel()


@pytest.mark.parametrize(
    ("units", "n", "title"),
    [
        (1, 100, "What the hidden unit responds to"),
        (3, 100, "What each hidden unit responds to"),
        (25, 100, "What each hidden unit responds to"),
        (1400, 100, "What each hidden unit responds to (first 100 of 1,400)"),
        (30, 7, "What each hidden unit responds to (first 7 of 30)"),
    ],
)
def test_weights_are_readable(assert_readable, units, n, title):
    figure = weights(np.random.default_rng(0).normal(size=(12, units)), (3, 4), n=n)
    assert_readable(figure)
    assert figure.get_suptitle() == title


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1e6])
def test_weights_of_any_size_are_readable(assert_readable, scale):
    assert_readable(weights(scale * np.random.default_rng(0).normal(size=(12, 3)), (3, 4)))


def test_weights_of_classes_are_drawn_under_their_names():
    W = np.random.default_rng(0).normal(size=(12, 3))
    figure = weights(W, (3, 4), unit="class", names=["cat", "dog", "$1 to $2"])
    assert figure.get_suptitle() == "What each class responds to"
    drawn = {ax.get_title(): ax.get_images()[0] for ax in figure.axes if ax.get_title()}
    assert list(drawn) == ["cat", "dog", r"\$1 to \$2"]
    for k, image in enumerate(drawn.values()):
        np.testing.assert_array_equal(image.get_array(), W[:, k].reshape(3, 4))
        assert image.get_clim() == drawn["cat"].get_clim()
    low, high = drawn["cat"].get_clim()
    assert low == -high < 0


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("output", ["quite a long name rather than another one"]),
        ("class", "ab"),
        ("class", list("0123456789")),
        ("class", [f"{c} is a class with quite a long name indeed" for c in "abcdef"]),
    ],
    ids=["1", "2", "10", "6 long"],
)
def test_weights_of_classes_are_readable(assert_readable, unit, names):
    W = np.random.default_rng(0).normal(size=(12, len(names)))
    assert_readable(weights(W, (3, 4), unit=unit, names=names))


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
        (np.ones((4, 3)), 9, "names of 3 units, got 2"),
    ],
)
def test_weights_of_what_does_not_fit(W, n, message):
    with pytest.raises(InputError, match=message):
        weights(W, (2, 2), names=["a", "b"], n=n)
