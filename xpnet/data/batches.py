"""Shuffling, validation splits and one-hot targets, all computed on the host."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError

# (number of rows, epoch) -> the rows that the epoch visits, or None for all rows in their given order.
Order = Callable[[int, int], NDArray[np.int64] | None]

__all__ = ["Order", "hold_out", "make_slices", "one_hot", "shuffle", "split_rows"]


def make_slices(n: int, size: int) -> list[slice]:
    """Split n rows into consecutive slices of `size` rows. The last one may be shorter.

    >>> make_slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def shuffle(n: int, epoch: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Return the order (n,) in which an epoch visits the rows.

    It depends only on the arguments, so that a resumed run need not repeat earlier epochs.
    """
    # Not (seed, epoch): (seed, 0) is the random stream of the weights.
    return np.random.default_rng((seed, epoch + 1)).permutation(n)


def hold_out(
    y: NDArray[np.int64] | NDArray[np.float64], fraction: float, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split row numbers into (kept, held out), in ascending order.

    Args:
        y: (n,) class indices, for a stratified split that keeps the only row of a class if it can; or
            (n, k) numbers.
        fraction: fraction of the rows to hold out, above 0 and below 1. At least one row is held out.
        seed: seed of the random number generator.

    Raises:
        InputError: if `fraction` is out of range, or no row would be left to train on.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError(f"validation: expected a fraction above 0 and below 1, got {fraction}")
    n = y.shape[0]
    n_held = max(1, round(fraction * n))
    if n_held >= n:
        raise InputError(f"validation: a fraction of {fraction} leaves no row of {n} to train on")
    held = order = np.random.default_rng((seed, 0, 1)).permutation(n)
    if y.ndim == 1:
        # Largest remainder (Hamilton's method): each class first gives its fraction rounded down. The missing
        # rows come from the classes with the largest remainders, one row each.
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
    """Split n row numbers into (kept, held out) with scikit-learn's `train_test_split`.

    `hold_out` draws other rows for the same seed. Neither can change: a seed must always give the same rows.

    Args:
        size: fraction or number of the rows to hold out.
        strata: (n,) class indices, for a split that is stratified if possible. A row that is the only one of
            its class is kept. (n, 1) indices of two classes require a stratified split. None does not
            stratify.
        random_state: a seed or a `RandomState`.

    Raises:
        ValueError: if one of two classes has too few rows, or no row would be left.
    """
    from sklearn.model_selection import train_test_split  # imported here because it takes a second

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
    """Return one-hot targets (n, n_classes) for class indices y (n,), or y as a column if n_classes is 1."""
    if n_classes == 1:
        return y[:, np.newaxis].astype(np.float64)
    return np.eye(n_classes)[y]
