"""A user's table: read with its target to train on, or without to predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.columns import Column, Columns
from xpnet.data.delimited import Table, read_table
from xpnet.data.layout import Layout, detect_layout, is_number
from xpnet.data.loading import TEXT_FILES
from xpnet.data.npz import join_names, read_arrays
from xpnet.data.raw import Raw, check_numbers
from xpnet.errors import InputError, choose, format_count

__all__ = ["read_csv", "read_rows"]


def read_csv(path: str | Path, target: str | None = None) -> Raw:
    """Read a table of numbers and text, separated by commas, semicolons or tabs, with its target.

    The first line is a header if none of its fields is a number. Rows without a target are left out. See
    `detect_layout` for separators and encodings, and `MISSING` for what counts as a missing value.

    Args:
        target: name of the column to predict; by default the last column is.

    Returns:
        X (n, d) float64 and y (n,), float64 or text. Where columns are named, hold text or lack values, also
        the table, for `fit_columns`.

    Raises:
        InputError: a ragged line, a value that does not belong into its column, or no such target; the
            message names file, line and column, counted from 1.
    """
    layout = detect_layout(path)
    if not layout.first:
        return Raw(np.empty((0, 0)), np.empty(0))
    if len(layout.first) == 1:
        raise InputError(
            f"{path}: line {layout.line}: expected features and a target, separated by commas, semicolons or "
            "tabs, found 1 column"
        )
    has_header = _is_header(layout)
    if target is not None:
        _check_target(layout, target)
        has_header = True
    table = read_table(layout, has_header=has_header)
    if target is None and has_header and _occurs_below(layout.first, table):
        has_header = False
        table = read_table(layout, has_header=False)
    if has_header:
        _check_names(layout)
    j = len(layout.first) - 1 if target is None else layout.first.index(target)
    notes = _describe_layout(layout, table)
    has_target = ~np.isnan(table.values[:, j])
    if not has_target.all():
        if not has_target.any():
            raise InputError(f"{table.locate(0, j)}: expected a target, found none in any row")
        table = table.take(has_target)
        notes.append(f"{format_count((~has_target).sum(), 'row')} without a target left out")
    y = _read_target(table, j, layout.separator)
    X = np.delete(table.values, j, axis=1)
    has_text = any(texts is not None for k, texts in enumerate(table.texts) if k != j)
    is_plain = not has_header and not has_text and not np.isnan(X).any()
    return Raw(X, y, table=None if is_plain else table, target=j, notes=tuple(notes))


def read_rows(
    path: str | Path, n_features: int, columns: Columns | None = None
) -> tuple[NDArray[Any], list[str]]:
    """Read rows to predict from `.csv`, `.tsv`, `.npy` or `.npz` (`X`, or its only array).

    The target may be among the columns of a text file and is ignored then. Pictures are flattened.

    Args:
        n_features: number of features in each row.
        columns: what the features are made of, where the network was trained on a table with names, text or
            missing values. Columns are found by name if both files have a header line, else by position.

    Returns:
        array (n, n_features), float64 for text files and of the dtype stored for others, and notes: what a
        user should know of these rows.

    Raises:
        InputError: the file is missing, broken, of another kind or of other columns.
    """
    suffix = Path(path).suffix.lower()
    if suffix in TEXT_FILES:
        plain = Columns(tuple(map(Column, range(n_features))), n_features + 1, target=n_features)
        X, notes = _read_text_rows(path, columns or plain)
    elif suffix in (".npy", ".npz"):
        X, notes = _read_array_rows(path, n_features, columns)
    else:
        raise InputError(
            f"{path}: expected a file ending in .csv, .tsv, .npy or .npz, found {suffix or 'no ending'!r}"
        )
    if len(X) == 0:
        raise InputError(f"{path}: expected at least one row, found none")
    check_numbers(str(path), X)
    return X, notes


def _read_text_rows(path: str | Path, columns: Columns) -> tuple[NDArray[np.float64], list[str]]:
    layout = detect_layout(path)
    if not layout.first:
        return np.empty((0, 0)), []
    names = columns.names
    has_header = _is_header(layout) or (
        names is not None and {names[column.position] for column in columns.columns} <= set(layout.first)
    )
    if has_header and names is not None:
        _check_names(layout)
    place = f"{path}: line {layout.line}"
    found, kinds, notes = columns.match(place, len(layout.first), layout.first if has_header else None)
    if names is None and any(layout.first[c.position] in (c.categories or ()) for c in found.columns):
        has_header = False  # the first line holds a value of the table that was trained on: it is a row
    table = read_table(layout, has_header=has_header, kinds=kinds)
    for column in found.columns:
        missing = np.isnan(table.values[:, column.position])
        if missing.any() and not column.takes_missing:
            place = table.locate(int(missing.argmax()), column.position)
            raise InputError(f"{place}: expected a number, found a missing value")
    return found.encode(table), notes + found.find_unknown(table)


def _read_array_rows(
    path: str | Path, n_features: int, columns: Columns | None
) -> tuple[NDArray[Any], list[str]]:

    def choose(names: list[str]) -> list[str]:
        if "X" not in names and len(names) != 1:
            raise InputError(f"{path}: expected an array X or a single one, found {join_names(names)}")
        return ["X"] if "X" in names else names

    (X,) = read_arrays(path, choose).values()
    width = n_features if columns is None else columns.width - 1
    if X.shape == (width,):
        X = X[np.newaxis]
    elif X.ndim == 3:
        X = X.reshape(len(X), X.shape[1] * X.shape[2])
    if X.ndim != 2 or X.shape[1] != width:
        raise InputError(f"{path}: expected rows of {width} columns, found an array of shape {X.shape}")
    if columns is None:
        return X, []
    if any(column.categories is not None for column in columns.columns):
        raise InputError(f"{path}: the network was trained on columns of text: give it a .csv or .tsv file")
    if X.dtype.kind not in "biuf":
        raise InputError(f"{path}: expected numbers, found values of type {X.dtype}")
    found, _, notes = columns.match(str(path), width, None)
    table = Table(path, None, X.astype(np.float64), (None,) * width, np.arange(len(X)))
    return found.encode(table), notes + found.find_unknown(table)


def _is_header(layout: Layout) -> bool:
    return not any(is_number(field, layout.separator) for field in layout.first)


def _occurs_below(first: Sequence[str], table: Table) -> bool:
    """Whether a table is all text, and each field of its first line is a value of its column, too."""
    columns = zip(first, table.texts, strict=True)
    return all(texts is not None and field in texts for field, texts in columns)


def _check_target(layout: Layout, target: str) -> None:
    """Raise InputError unless the first line holds this name."""
    if target in layout.first:
        return
    place = f"{layout.path}: line {layout.line}"
    if not _is_header(layout):
        raise InputError(
            f"{place}: expected a header line with the target {target!r}, found {', '.join(layout.first[:8])}"
        )
    try:
        choose("column", target, layout.first)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None


def _check_names(layout: Layout) -> None:
    """Raise InputError if two columns have the same name."""
    names = [name for name in layout.first if name]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{layout.path}: line {layout.line}: expected different column names, found {name!r} twice"
            )


def _read_target(table: Table, j: int, separator: str) -> NDArray[Any]:
    """Return column `j`, float64 or text, or raise InputError if it is a mixture."""
    values, texts = table.values[:, j], table.texts[j]
    if texts is None:
        return values
    numeric = np.array([is_number(text, separator) for text in texts])[values.astype(np.int64)]
    if numeric.any():
        row = (numeric != numeric[0]).argmax()
        kind = "a number" if numeric[0] else "text"
        raise InputError(
            f"{table.locate(row, j)}: expected {kind} like the target in line {table.lines[0]}, "
            f"found {texts[int(values[row])]!r}"
        )
    return np.array(texts)[values.astype(np.int64)]


def _describe_layout(layout: Layout, table: Table) -> list[str]:
    notes = []
    if layout.encoding != "utf-8-sig":
        name = {"cp1252": "Windows-1252, as it is not UTF-8"}.get(layout.encoding, layout.encoding.upper())
        notes.append(f"read as {name}")
    if table.has_decimal_comma:
        notes.append("numbers read with decimal commas")
    return notes
