"""What every reader returns, and the checks for data from any file."""

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError

if TYPE_CHECKING:
    from xpnet.data.delimited import Table

__all__ = ["LARGEST", "Raw", "check_arrays", "check_numbers"]

# Networks train in float32 unless told otherwise: a larger number would turn into infinity there.
LARGEST = np.float64(np.finfo(np.float32).max)


class Raw(NamedTuple):
    """A data set as read: not yet split, flattened or encoded.

    Attributes:
        X, X_test: (n, d) a table, or (n, height, width) pictures.
        y, y_test: (n,) labels, text or numbers; or (n, outputs) numeric targets.
        highest: the value of the brightest pixel, where the dtype does not tell.
        classes: class names, where y already holds their indices.
        table: the columns of a table that need encoding, with NaN for missing values in X, and its `target`.
        notes: what a user should know of how the data was read, in sentences.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    X_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None
    highest: float | None = None
    classes: tuple[str, ...] | None = None
    table: "Table | None" = None
    target: int = -1
    notes: tuple[str, ...] = ()


def check_arrays(name: str, raw: Raw) -> None:
    """Raise InputError, naming data set, array and place, unless shapes agree and numbers are finite."""
    _check_part(name, "X", raw.X, "y", raw.y)
    if raw.table is None:
        check_numbers(f"{name}: X", raw.X)
    if (raw.X_test is None) != (raw.y_test is None):
        raise InputError(f"{name}: expected X_test and y_test together, found only one of them")
    if raw.X_test is not None and raw.y_test is not None:
        _check_part(name, "X_test", raw.X_test, "y_test", raw.y_test)
        check_numbers(f"{name}: X_test", raw.X_test)
        if raw.X_test.shape[1:] != raw.X.shape[1:]:
            raise InputError(
                f"{name}: expected rows of X_test of the shape of those of X, {raw.X.shape[1:]}, "
                f"found {raw.X_test.shape[1:]}"
            )


def check_numbers(name: str, values: NDArray[Any]) -> None:
    """Raise InputError, naming the first other value's row and column, unless all are finite numbers."""
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected numbers, found values of type {values.dtype}")
    if values.dtype.kind == "f" and values.size:
        flat = values.reshape(len(values), -1)
        wrong = np.argwhere(~(np.abs(flat) <= LARGEST))  # true for NaN, too
        if len(wrong):
            row, column = wrong[0]
            raise InputError(
                f"{name}: row {row}, column {column} (counted from 0): "
                f"expected a finite number that float32 can hold, found {flat[row, column]}"
            )


def _check_part(name: str, X_name: str, X: NDArray[Any], y_name: str, y: NDArray[Any]) -> None:
    if X.ndim not in (2, 3):
        raise InputError(f"{name}: {X_name}: expected shape (n, d) or (n, height, width), found {X.shape}")
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise InputError(f"{name}: {y_name}: expected shape (n,) or (n, outputs), found {y.shape}")
    if X.size == 0:
        missing = "rows" if len(X) == 0 else "columns"
        raise InputError(f"{name}: {X_name} has no {missing}: expected at least one, found shape {X.shape}")
    if len(X) != len(y):
        raise InputError(
            f"{name}: expected as many rows in {y_name} as in {X_name}, {len(X)}, found {len(y)}"
        )
    if y.dtype.kind not in "biufU":
        raise InputError(f"{name}: {y_name}: expected numbers or text (str), found values of type {y.dtype}")
    if y.dtype.kind != "U":
        check_numbers(f"{name}: {y_name}", y)
    else:
        _check_text(f"{name}: {y_name}", y)


def _check_text(name: str, values: NDArray[Any]) -> None:
    """Raise InputError unless all values are text: code points of Unicode without surrogates."""
    length = values.dtype.itemsize // 4
    codes = values.astype(values.dtype.newbyteorder("=")).reshape(-1).view(np.uint32).reshape(-1, length)
    is_surrogate = (codes >= 0xD800) & (codes < 0xE000)
    wrong = np.flatnonzero((is_surrogate | (codes > sys.maxunicode)).any(axis=1))
    if len(wrong):
        raise InputError(f"{name}: row {wrong[0]} (counted from 0): expected text, found other bytes")
