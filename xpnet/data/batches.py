"""Batches: shuffled row numbers, hold-outs and one-hot targets, all computed on the host."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError

# Rows that go through the network at once in evaluation, and in a batch of all rows.
CHUNK = 8192

# (number of rows, epoch) -> the rows the epoch visits, or None for all of them in their order.
Order = Callable[[int, int], NDArray[np.int64] | None]

__all__ = ["CHUNK", "Order", "hold_out", "one_hot", "shuffle", "slices", "split_rows"]


def slices(n: int, size: int) -> list[slice]:
    """Cut n rows into consecutive slices of `size`, the last of which may be shorter.

    >>> slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def shuffle(n: int, epoch: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return the order (n,) in which an epoch visits the rows.

    It depends on its arguments only, so a resumed run need not repeat the epochs before.
    """
    # Not (seed, epoch): (seed, 0) is the stream of the weights.
    return np.random.default_rng((seed, epoch + 1)).permutation(n)


def hold_out(
    y: NDArray[np.int64] | NDArray[np.float64], fraction: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split row numbers into (kept, held out), in ascending order.

    Args:
        y: (n,) class indices, of which each class gives its share as far as it has two members; or (n, k)
            numbers.
        fraction: share of the rows to hold out, 0 to 1 (exclusive); at least one row is.

    Raises:
        InputError: fraction outside (0, 1), or no row would be left to train on.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"validation: expected a fraction between 0 and 1, got {fraction}")
    n = y.shape[0]
    n_held = max(1, round(fraction * n))
    if n_held >= n:
        raise InputError(f"validation: a fraction of {fraction} leaves no row of {n} to train on")
    held = order = np.random.default_rng((seed, 0, 1)).permutation(n)
    if y.ndim == 1:
        # Each class gives the whole rows of its share; what is missing then, one row each from those with the
        # largest remainders (Hamilton's method).
        labels, counts = np.unique(y, return_counts=True)
        rows = np.floor(fraction * counts).astype(np.int64)
        lacking = np.where(counts > 1, fraction * counts - rows, -1.0)
        rows[np.argsort(-lacking, kind="stable")[: n_held - rows.sum()]] += 1
        held = np.concatenate([order[y[order] == label][:k] for label, k in zip(labels, rows, strict=True)])
    held = np.sort(held[:n_held])
    return np.setdiff1d(order, held), held


def split_rows(
    n: int, size: float, *, strata: NDArray[Any] | None, random_state: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split n row numbers into (kept, held out) as scikit-learn's `train_test_split` draws them.

    Not as `hold_out` draws them: for each of the two, the same seed must go on giving the same rows.

    Args:
        size: share of the rows to hold out, or their number.
        strata: (n,) class indices, of which each gives its share as far as it can; a row that is the only one
            of its class is kept. Or (n, 1) for two classes that must be able to; None for any rows.
        random_state: a seed or a `RandomState`.

    Raises:
        ValueError: of two classes one has too few rows, or no row would be left.
    """
    from sklearn.model_selection import train_test_split  # only here: it takes a second to import

    def draw(rows: NDArray[np.int64], strata: NDArray[Any] | None) -> Any:
        return train_test_split(rows, test_size=size, random_state=random_state, stratify=strata)

    rows = np.arange(n)
    if strata is None or strata.ndim == 2:
        return tuple(draw(rows, strata))
    alone = (np.bincount(strata) == 1)[strata]
    alone = alone & ~alone.all()
    try:
        kept, held = draw(rows[~alone], strata[~alone])
    except ValueError:  # more classes than rows to hold out
        kept, held = draw(rows[~alone], None)
    return np.concatenate([kept, rows[alone]]), held


def one_hot(y: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Return Y (n, n_classes), 1 in column y of each row; for n_classes = 1, y itself as a column."""
    if n_classes == 1:
        return y[:, np.newaxis].astype(np.float64)
    return np.eye(n_classes)[y]
