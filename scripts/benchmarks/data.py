"""The data: MNIST if it is on this machine, otherwise random data of its shape. Nothing is downloaded."""

from typing import NamedTuple

import numpy as np

from xpnet.data.mnist import read_mnist
from xpnet.errors import InputError


class Pictures(NamedTuple):
    """Training and test data: X float32 from 0 to 1, y class indices, and a description."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    what: str


def load_pictures(data_dir=None):
    """Return MNIST from `data_dir` or xpnet's cache, otherwise random data of its shape.

    Raises:
        InputError: `data_dir` is given and does not contain MNIST.
    """
    try:
        raw = read_mnist("mnist", data_dir, download=False)
    except InputError:
        if data_dir is not None:
            raise
        X, y = make_rows(70_000, 784)
        return Pictures(X[:60_000], y[:60_000], X[60_000:], y[60_000:], "random data of MNIST's shape")
    X, X_test = _scale(raw.X), _scale(raw.X_test)
    return Pictures(X, raw.y.astype(np.int64), X_test, raw.y_test.astype(np.int64), "MNIST")


def make_rows(n, inputs, classes=10, seed=0):
    """Return random X (n, inputs), four fifths of it 0 as in MNIST, and labels: a random map of X plus noise.

    Without the noise, probabilities would become denormal numbers (below 1e-38), and the computation slow.
    """
    rng = np.random.default_rng(seed)
    X = rng.random((n, inputs), dtype=np.float32)
    X -= np.float32(0.8)
    np.maximum(X, 0, out=X)
    X *= np.float32(5.0)
    scores = X @ rng.standard_normal((inputs, classes), dtype=np.float32)
    scores -= scores.mean(axis=0)
    scores += scores.std() * rng.standard_normal(scores.shape, dtype=np.float32)
    return X, scores.argmax(axis=1)


def _scale(pictures):
    return pictures.reshape(len(pictures), -1).astype(np.float32) / np.float32(255.0)
