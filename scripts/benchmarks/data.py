"""MNIST if it is at hand, else random pictures of its shape. Nothing is downloaded."""

from typing import NamedTuple

import numpy as np

from xpnet.data.mnist import load_mnist
from xpnet.errors import InputError


class Pictures(NamedTuple):
    """Training and test rows: X float32 in 0 ... 1, y class indices; and what they are, in words."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    what: str


def pictures(data_dir=None):
    """Return MNIST from `data_dir` or from where `xpnet.load` keeps it, else random data of its shape.

    Raises:
        InputError: a folder was given and MNIST is not in it.
    """
    try:
        raw = load_mnist("mnist", data_dir, download=False)
    except InputError:
        if data_dir is not None:
            raise
        X, y = random_rows(70_000, 784)
        return Pictures(X[:60_000], y[:60_000], X[60_000:], y[60_000:], "random data of MNIST's shape")
    return Pictures(
        _scaled(raw.X), raw.y.astype(np.int64), _scaled(raw.X_test), raw.y_test.astype(np.int64), "MNIST"
    )


def random_rows(n, inputs, classes=10, seed=0):
    """Return X (n, inputs), four of five numbers 0 as in MNIST, and labels: a random map of X, and noise.

    Without the noise the network could be sure of itself, up to probabilities so small (below 1e-38) that a
    processor computes with them slowly.
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


def _scaled(pictures):
    return pictures.reshape(len(pictures), -1).astype(np.float32) / np.float32(255.0)
