"""Text files into columns of numbers and of text."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xpnet.data.layout import Layout, is_number, parse_decimal_comma, read_records
from xpnet.data.raw import LARGEST
from xpnet.errors import InputError

__all__ = ["MISSING", "Kind", "Table", "read_table"]

# What pandas.read_csv takes for a missing value, and the question mark of the UCI repository.
MISSING = frozenset(
    {"", "?", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaN", "nan", "-NaN", "-nan", "NULL"}
    | {"null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
# Rows and fields read at a time: fields are Python strings, which take much more memory than numbers.
ROWS, FIELDS = 4096, 1 << 21
# In a column with at least this share of numbers, text is an error.
NUMERIC_SHARE = 0.9

# None: decide by the values, number or text.
Kind = Literal["number", "text", "ignored"] | None


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a text file.

    Attributes:
        path: the file.
        names: d column names, or None without a header line.
        values: (n, d) float64. A number, or the index of a text in its column's `texts`; NaN where missing.
        texts: for each column its different texts, or None for a column of numbers.
        lines: (n,) the line of each row in the file, counted from 1.
        has_decimal_comma: whether its numbers are written as 1,5.
    """

    path: str | Path
    names: tuple[str, ...] | None
    values: NDArray[np.float64]
    texts: tuple[tuple[str, ...] | None, ...]
    lines: NDArray[np.int64]
    has_decimal_comma: bool = False

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "Table":
        """Return a table of these rows."""
        return replace(self, values=self.values[rows], lines=self.lines[rows])

    def locate(self, row: int, column: int) -> str:
        """Return the place of a field as error messages name it."""
        return _locate(self.path, self.lines[row], column, self.names)


def read_table(layout: Layout, *, has_header: bool, kinds: Sequence[Kind] | None = None) -> Table:
    """Read a text file, some thousand rows at a time.

    Args:
        kinds: of each column. By default each is text if any of its values is; values that are not numbers
            are errors in a column of kind "number", and where at least 90 % of its values are numbers.

    Raises:
        InputError: a line with more or fewer fields than the first, text in a column of numbers, infinity, or
            both decimal marks; the message names file, line and column, counted from 1.
    """
    width = len(layout.first)
    names = layout.first if has_header else None
    kinds = kinds or [None] * width
    known: set[int] = set()
    while True:
        columns = [_Column("text" if j in known else kind, layout.separator) for j, kind in enumerate(kinds)]
        lines = array("q")
        blocks = [np.empty((0, width))]
        for rows in _read_rows(layout, lines, skip=int(has_header)):
            block = np.full((len(rows), width), np.nan)
            for j, fields in enumerate(zip(*rows, strict=True)):
                if kinds[j] != "ignored":
                    block[:, j] = columns[j].parse(fields)
            blocks.append(block)
        late = {j for j, column in enumerate(columns) if column.is_late}
        if not late:
            break
        # Their first rows were taken for numbers. The texts of those are gone, so the file is read once more.
        known |= late
    table = Table(
        layout.path,
        names,
        np.concatenate(blocks),
        tuple(None if column.texts is None else tuple(column.texts) for column in columns),
        np.array(lines, dtype=np.int64),
        any(column.comma is not None for column in columns if column.texts is None),
    )
    _check_numbers(table, columns)
    for j, kind in enumerate(kinds):
        if kind is None:
            _check_mixed(table, j, layout.separator)
    return table


class _Column:
    """Parses the fields of one column: numbers, until a field is none."""

    def __init__(self, kind: Kind, separator: str) -> None:
        self.kind, self.separator = kind, separator
        self.texts: dict[str, int] | None = {} if kind == "text" else None
        self.is_late = False  # whether text came after rows that were taken for numbers
        self.n = 0  # rows that were
        # Row and field of the first of each.
        self.text: tuple[int, str] | None = None
        self.infinite: tuple[int, str] | None = None
        self.comma: tuple[int, str] | None = None
        self.point: tuple[int, str] | None = None

    def parse(self, fields: Sequence[str]) -> NDArray[np.float64]:
        """Return the numbers, or the indices of the texts, NaN where missing."""
        if self.texts is None:
            values = self._parse_numbers(fields)
            if self.text is None or self.kind == "number":
                self.n += len(fields)
                return values
            self.texts, self.is_late = {}, self.n > 0
        texts = self.texts
        return np.array(
            [
                np.nan if field in MISSING else texts.setdefault(field, len(texts))
                for field in map(str.strip, fields)
            ]
        )

    def _parse_numbers(self, fields: Sequence[str]) -> NDArray[np.float64]:
        """Return numbers, and NaN from the first text on, which is noted."""
        everything = " ".join(fields)
        as_float: Callable[[str], float] = float
        if self.separator != ",":
            self.point = self.point or self._find(".", fields, everything)
            if "," in everything:
                self.comma = self.comma or self._find(",", fields, everything)
                as_float = parse_decimal_comma
        has_underscore = "_" in everything  # float takes 2020_1 for a number
        if not has_underscore:
            with suppress(ValueError):
                values = np.fromiter(map(as_float, fields), np.float64, len(fields))
                if (np.abs(values) <= LARGEST).all():
                    return values
        values = np.full(len(fields), np.nan)
        fields = [field.strip() for field in fields]
        numbers = []
        for i, field in enumerate(fields):
            if field in MISSING:
                number = np.nan
            else:
                try:  # not suppress, which would take longer than all the rest
                    number = as_float(field)
                except ValueError:
                    number = np.nan
                if number != number or (has_underscore and "_" in field):
                    self.text = self.text or (self.n + i, field)
                    break
            numbers.append(number)
        values[: len(numbers)] = numbers
        infinite = np.abs(values) > LARGEST
        if infinite.any() and self.infinite is None:
            self.infinite = self.n + int(infinite.argmax()), fields[infinite.argmax()]
        return values

    def _find(self, mark: str, fields: Sequence[str], everything: str) -> tuple[int, str] | None:
        if mark not in everything:
            return None
        return next((self.n + i, field.strip()) for i, field in enumerate(fields) if mark in field)


def _check_numbers(table: Table, columns: list[_Column]) -> None:
    """Raise InputError for the first field that its column of numbers cannot have."""
    numeric = [(j, column) for j, column in enumerate(columns) if column.texts is None]
    for j, column in numeric:
        for found, expected in (
            (column.text, "a finite number"),
            (column.infinite, "a finite number that float32 can hold"),
        ):
            if found is not None:
                raise InputError(f"{table.locate(found[0], j)}: expected {expected}, found {found[1]!r}")
    commas = [(*column.comma, j) for j, column in numeric if column.comma is not None]
    points = [(*column.point, j) for j, column in numeric if column.point is not None]
    if commas and points:
        (row, comma, j), (other, point, k) = min(commas), min(points)
        raise InputError(
            f"{table.locate(other, k)}: expected decimal commas as in line {table.lines[row]}, "
            f"column {j + 1} ({comma!r}), found {point!r}: write all numbers with the same decimal mark and "
            "without thousands separators"
        )


def _check_mixed(table: Table, j: int, separator: str) -> None:
    """Raise InputError if column `j` was read as text, but nearly all of its values are numbers."""
    texts = table.texts[j]
    if not texts:
        return
    numeric = np.array([is_number(text, separator) for text in texts])
    rows = np.flatnonzero(~np.isnan(table.values[:, j]))
    is_numeric = numeric[table.values[rows, j].astype(np.int64)]
    share = is_numeric.mean()
    if NUMERIC_SHARE <= share < 1.0:
        row = rows[np.flatnonzero(~is_numeric)[0]]
        text = texts[int(table.values[row, j])]
        remedy = "leave the field empty if the value is missing"
        if row == 0 and table.names is None:
            remedy = "if this line is a header, name the column to predict (--target)"
        raise InputError(
            f"{table.locate(row, j)}: expected a number like {100 * share:.2f} % of the column, "
            f"found {text!r}: {remedy}"
        )


def _read_rows(layout: Layout, lines: "array[int]", *, skip: int) -> Iterator[list[list[str]]]:
    """Yield lists of rows, each with as many fields as the first, and add their lines to `lines`."""
    records = islice(read_records(layout), skip, None)
    width = len(layout.first)
    while sample := list(islice(records, max(1, min(ROWS, FIELDS // width)))):
        for line, fields in sample:
            if len(fields) != width:
                raise InputError(
                    f"{layout.path}: line {line}: expected {width} columns like line {layout.line}, "
                    f"found {len(fields)}"
                )
            lines.append(line)
        yield [fields for _, fields in sample]


def _locate(path: str | Path, line: int, column: int, names: tuple[str, ...] | None) -> str:
    name = f" ({names[column]!r})" if names and names[column] else ""
    return f"{path}: line {line}, column {column + 1}{name}"
