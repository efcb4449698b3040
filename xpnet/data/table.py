"""A user's own data: `.npz` with `X` and `y`, or `.csv` with one example in each line and its label last."""

import csv
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.raw import Raw, check_numbers
from xpnet.errors import InputError

__all__ = ["load_csv", "load_npz", "read_rows"]

# What np.load has been seen to raise for damaged files.
BROKEN = (EOFError, MemoryError, RuntimeError, TokenError, ValueError, zipfile.BadZipFile, zlib.error)


def load_npz(path: str | Path) -> Raw:
    """Read `X` (n, d) or (n, height, width), `y` (n,) or (n, outputs) and, if there, `X_test` and `y_test`.

    Raises:
        InputError: not such a file, `X` or `y` is missing, or an array is pickled.
    """
    arrays = _arrays(path)
    if not {"X", "y"} <= set(arrays):
        raise InputError(f"{path}: expected arrays X and y, found {', '.join(arrays) or 'none'}")
    return Raw(arrays["X"], arrays["y"], arrays.get("X_test"), arrays.get("y_test"))


def load_csv(path: str | Path) -> Raw:
    """Read comma-separated numbers with the label, number or text, in the last column.

    The first line is a header if none of its features is a number.

    Returns:
        X (n, d) float64 and y (n,), float64 or text.

    Raises:
        InputError: a ragged line, text where a number belongs, NaN or infinity; the message names file, line
            and column, counted from 1.
    """
    X, rest, lines = _read_csv(path)
    labels = [fields[0] for fields in rest]
    numeric = [_is_number(label) for label in labels]
    column = X.shape[1] + 1
    for label, line, is_number in zip(labels, lines, numeric, strict=True):
        place = f"{path}: line {line}, column {column}"
        if not label:
            raise InputError(f"{place}: expected a label, found nothing")
        if is_number != numeric[0]:
            kind = "a number" if numeric[0] else "text"
            raise InputError(f"{place}: expected {kind} like the label in line {lines[0]}, found {label!r}")
        if is_number:
            _numbers(f"{path}: line {line}", [label], column)
    return Raw(X, np.array(labels, dtype=np.float64 if all(numeric) else np.str_))


def read_rows(path: str | Path, n_features: int) -> NDArray[Any]:
    """Read rows to predict from `.npy`, `.npz` (`X`, or its only array) or `.csv`, without their labels.

    A csv may have one column more than `n_features`: the label, which is dropped. Pictures are flattened.

    Returns:
        array (n, n_features) of the dtype stored, float64 for csv.

    Raises:
        InputError: the file is missing, broken, of another kind or of another number of columns.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        X = _read_csv(path, n_features)[0]
    elif suffix in (".npy", ".npz"):
        arrays = _arrays(path)
        if "X" not in arrays and len(arrays) != 1:
            raise InputError(
                f"{path}: expected an array X or a single one, found {', '.join(arrays) or 'none'}"
            )
        X = arrays["X"] if "X" in arrays else next(iter(arrays.values()))
        if X.shape == (n_features,):
            X = X[np.newaxis]
        elif X.ndim == 3:
            X = X.reshape(len(X), X.shape[1] * X.shape[2])
    else:
        raise InputError(
            f"{path}: expected a file ending in .csv, .npy or .npz, found {suffix or 'no ending'!r}"
        )
    if X.ndim != 2 or X.shape[1] != n_features:
        raise InputError(f"{path}: expected rows of {n_features} columns, found an array of shape {X.shape}")
    if len(X) == 0:
        raise InputError(f"{path}: expected at least one row, found none")
    check_numbers(str(path), X)
    return X


def _arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            file.seek(0)
            # np.load takes any other file for a pickle, and advises to trust it.
            if not start.startswith((b"PK", b"\x93NUMPY")):
                raise EOFError(f"a file that starts with {start.hex(' ') or 'nothing'}")
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"X": loaded}
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except BROKEN as error:
        raise InputError(
            f"{path}: expected arrays of numbers or text saved by NumPy (pickled objects are refused), "
            f"found: {error}"
        ) from error


def _read_csv(
    path: str | Path, n_features: int | None = None
) -> tuple[NDArray[np.float64], list[list[str]], list[int]]:
    """Return the features (n, d), the fields that follow them in each row, and the line of each row."""
    rows: list[NDArray[np.float64]] = []
    rest: list[list[str]] = []
    lines: list[int] = []
    width = first = d = 0
    for line, fields in _fields(path):
        if not width:
            width, first = len(fields), line
            d = n_features or width - 1
            if d == 0:
                raise InputError(
                    f"{path}: line {line}: expected features and a label, comma-separated, found 1 column"
                )
            if width - d not in (0, 1):
                raise InputError(
                    f"{path}: line {line}: expected {d} columns, and perhaps a label, found {width}"
                )
            if not any(_is_number(field) for field in fields[:d]):
                continue
        if len(fields) != width:
            raise InputError(
                f"{path}: line {line}: expected {width} columns like line {first}, found {len(fields)}"
            )
        rows.append(_numbers(f"{path}: line {line}", fields[:d]))
        rest.append(fields[d:])
        lines.append(line)
    return np.array(rows, dtype=np.float64).reshape(len(rows), d), rest, lines


def _fields(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number, counted from 1, and the stripped fields of each line that is not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            try:
                for fields in reader:
                    if fields and (len(fields) > 1 or fields[0].strip()):
                        yield reader.line_num, [field.strip() for field in fields]
            except csv.Error as error:
                raise InputError(
                    f"{path}: line {reader.line_num}: not comma-separated values: {error}"
                ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected text in UTF-8, found byte 0x{error.object[error.start]:02x}"
        ) from error


def _numbers(place: str, fields: list[str], first_column: int = 1) -> NDArray[np.float64]:
    numbers = np.empty(len(fields))
    for column, field in enumerate(fields):
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(
                f"{place}, column {first_column + column}: expected a finite number, found {field!r}"
            )
        numbers[column] = value
    return numbers


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
