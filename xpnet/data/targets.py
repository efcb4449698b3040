"""Targets in the form for training: class indices for classification, float64 numbers for regression."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["encode_labels", "make_labels", "parse_numeric_targets"]

REGRESSION = "use a regression loss (--loss squared_error)"
# Every whole number below has a float64 of its own, so no two labels are taken for one.
LARGEST_WHOLE = 2**53


def parse_numeric_targets(name: str, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return y as float64 (n, outputs), or raise InputError if it is text."""
    if y.dtype.kind == "U":
        raise InputError(
            f"{name}: expected numbers as targets of a regression loss, found text ({str(y.flat[0])!r}): "
            "use a cross-entropy loss"
        )
    return y.astype(np.float64).reshape(len(y), -1)


def encode_labels(name: str, raw: Raw) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the class names and the indices (n,) of the training and the test labels.

    Raises:
        InputError: labels that are not classes, fewer than two classes, fewer rows than classes, or a test
            label that does not occur in the training part.
    """
    y = _parse_labels(name, raw.y)
    values = np.unique(y)
    if len(values) < 2:
        raise InputError(f"{name}: expected labels of at least two classes, found only {str(values[0])!r}")
    classes = raw.classes or tuple(str(value) for value in values)
    if raw.classes:
        values = np.arange(len(classes))
    if len(y) < len(classes):
        raise InputError(f"{name}: expected at least {len(classes)} rows, one of each class, found {len(y)}")
    if raw.y_test is None:
        return classes, np.searchsorted(values, y), None
    y_test = _parse_labels(name, raw.y_test)
    unknown = (~np.isin(y_test, values)).nonzero()[0]
    if len(unknown):
        raise InputError(
            f"{name}: y_test: row {unknown[0]} (counted from 0): expected a label that y has, "
            f"found {str(y_test[unknown[0]])!r}"
        )
    return classes, np.searchsorted(values, y), np.searchsorted(values, y_test)


def make_labels(classes: tuple[str, ...], y: NDArray[Any]) -> NDArray[Any]:
    """Return what the labels y call the classes: int64 (K,) where they are whole numbers, else the names."""
    if y.dtype.kind == "U" or not all(name.removeprefix("-").isdecimal() for name in classes):
        return np.array(classes)
    return np.array(classes).astype(np.int64)


def _parse_labels(name: str, y: NDArray[Any]) -> NDArray[Any]:
    """Return text or int64 labels (n,), or raise InputError for other labels."""
    if y.ndim == 2 and y.shape[1] > 1:
        raise InputError(
            f"{name}: expected one label in each row, found {y.shape[1]}: give class numbers, or {REGRESSION}"
        )
    y = y.reshape(-1)
    if y.dtype.kind == "f":
        wrong = ((y != np.floor(y)) | (np.abs(y) > LARGEST_WHOLE)).nonzero()[0]
        if len(wrong):
            raise InputError(
                f"{name}: expected text or whole numbers as labels, found {y[wrong[0]]}: "
                f"for numeric targets {REGRESSION}"
            )
    return y if y.dtype.kind == "U" else y.astype(np.int64)
