"""What a table's columns become as inputs of a network: learnt from the training rows, applied to all."""

import math
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from xpnet.data.delimited import Kind, Table
from xpnet.data.schema import check_table
from xpnet.errors import InputError, format_count

__all__ = ["Column", "Columns", "fit_columns"]

# A column of text with more categories than this, or than half as many as rows with a value, is left out:
# names, tickets and free text say nothing about the next row.
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Column:
    """A column that the network is given: a number, or one 0/1 input for each category of a text.

    Attributes:
        position: its place in the rows of the training file, counted from 0.
        mean: what stands for a missing number, the mean of the training rows; None for text.
        categories: the texts in the training rows, sorted; None for numbers.
        has_flag: whether a further 0/1 input marks missing values, as some training row had one.
    """

    position: int
    mean: float | None = None
    categories: tuple[str, ...] | None = None
    has_flag: bool = False

    @property
    def takes_missing(self) -> bool:
        """Whether a missing value can be encoded."""
        return self.mean is not None or self.categories is not None

    @property
    def n_inputs(self) -> int:
        """Number of inputs of the network that come from this column."""
        return (1 if self.categories is None else len(self.categories)) + self.has_flag


@dataclass(frozen=True)
class Columns:
    """The columns of a table that the network is given, and where they are found in a file.

    The inputs are those of scikit-learn's `SimpleImputer(add_indicator=True)` for columns of numbers, and of
    `OneHotEncoder(handle_unknown="ignore")` for columns of text, in the order of the columns.

    Attributes:
        columns: in the order of the training file.
        width: number of columns of the training file, with the target and those that are left out.
        target: position of the target in it.
        names: the names of all its columns, None without a header line.
    """

    columns: tuple[Column, ...]
    width: int
    target: int
    names: tuple[str, ...] | None = None

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Columns":
        """Return what `to_dict` was called on; lists, as JSON has them, count as tuples.

        Raises:
            InputError: the dictionary does not describe columns.
        """
        hints = get_type_hints(cls) | {"columns": list[dict[str, Any]]}
        check_table(saved, hints, required=hints)
        for column in saved["columns"]:
            check_table(column, get_type_hints(Column), required=["position"])
        columns = tuple(
            Column(**{**column, "categories": column["categories"] and tuple(column["categories"])})
            for column in saved["columns"]
        )
        names = saved["names"] and tuple(saved["names"])
        width, target = saved["width"], saved["target"]
        positions = {column.position for column in columns}
        is_plain = len(positions) == len(columns) > 0 and target not in positions
        if not is_plain or not all(0 <= j < width for j in {target, *positions}):
            raise InputError(f"columns: expected different positions below {width}, the target elsewhere")
        if names is not None and len(names) != width:
            raise InputError(f"columns: expected {width} names, found {len(names)}")
        if any(column.mean is not None and not math.isfinite(column.mean) for column in columns):
            raise InputError("columns: expected finite means")
        return cls(columns, width, target, names)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return asdict(self)

    def encode(self, table: Table) -> NDArray[np.float64]:
        """Return the inputs (n, n_inputs) for rows of a table with these columns in their positions."""
        X = np.zeros((len(table.values), self.n_inputs))
        first = 0
        for column in self.columns:
            values = table.values[:, column.position]
            missing = np.isnan(values)
            if column.categories is None:
                X[:, first] = values if column.mean is None else np.where(missing, column.mean, values)
            else:
                known = {category: i for i, category in enumerate(column.categories)}
                index = np.array([known.get(text, -1) for text in table.texts[column.position] or ()] + [-1])
                category = index[np.where(missing, -1, values).astype(np.int64)]
                rows = np.flatnonzero(category >= 0)
                X[rows, first + category[rows]] = 1.0
            first += column.n_inputs
            if column.has_flag:
                X[:, first - 1] = missing
        return X

    def is_indicator(self) -> NDArray[np.bool_]:
        """Return which inputs (n_inputs,) are 0 or 1: categories and flags."""
        indicators: list[bool] = []
        for column in self.columns:
            indicators += [column.categories is not None] * (column.n_inputs - column.has_flag)
            indicators += [True] * column.has_flag
        return np.array(indicators)

    @property
    def n_inputs(self) -> int:
        """Number of inputs of the network."""
        return sum(column.n_inputs for column in self.columns)

    @property
    def encodes(self) -> bool:
        """Whether some column is text or had missing values, so that a row is not the inputs."""
        return any(column.categories is not None or column.has_flag for column in self.columns)

    def name_inputs(self) -> list[str]:
        """Return the names (n_inputs,): "age", "age is missing", "sex=female"."""
        found = []
        for column in self.columns:
            name = _name(self, column.position)
            found += [name] if column.categories is None else [f"{name}={text}" for text in column.categories]
            found += [f"{name} is missing"] * column.has_flag
        return found

    def match(
        self, place: str, width: int, names: tuple[str, ...] | None
    ) -> tuple["Columns", list[Kind], list[str]]:
        """Find the columns in another file, by name where both have a header line, else by position.

        A file without the target may be one column narrower.

        Args:
            place: how messages name the first line of the file.
            width: number of columns of the file.
            names: their names, or None.

        Returns:
            these columns with their positions in that file, the kind of each column of the file, and notes.

        Raises:
            InputError: a column is missing, or the file has another number of columns.
        """
        positions, notes = {}, []
        if names is not None and self.names is not None:
            missing = [self.names[c.position] for c in self.columns if self.names[c.position] not in names]
            if missing:
                raise InputError(
                    f"{place}: expected the columns that the network was trained on, found none named "
                    f"{_join(missing)} among {_join(names)}"
                )
            positions = {c.position: names.index(self.names[c.position]) for c in self.columns}
            extra = [name for name in names if name and name not in self.names]
            if extra:
                notes.append(
                    f"{format_count(len(extra), 'column')} not in the training data ignored: {_join(extra)}"
                )
        elif width == self.width:
            positions = {c.position: c.position for c in self.columns}
        elif width == self.width - 1:
            positions = {c.position: c.position - (c.position > self.target) for c in self.columns}
        else:
            raise InputError(
                f"{place}: expected {self.width - 1} columns, or {self.width} with the target, found {width}"
            )
        moved = tuple(Column(positions[c.position], c.mean, c.categories, c.has_flag) for c in self.columns)
        kinds: list[Kind] = ["ignored"] * width
        for column in moved:
            kinds[column.position] = "number" if column.categories is None else "text"
        return Columns(moved, width, self.target, names), kinds, notes

    def find_unknown(self, table: Table) -> list[str]:
        """Say what these rows have that no training row had: categories, and missing values."""
        notes = []
        for column in self.columns:
            name = _name(table, column.position)
            values = table.values[:, column.position]
            missing = np.isnan(values)
            if missing.any() and not column.has_flag:
                treatment = "all its inputs are 0" if column.categories else "imputed by the mean"
                notes.append(
                    f"{name}: {format_count(missing.sum(), 'missing value')}, none in training: {treatment}"
                )
            if column.categories is not None:
                texts = np.array(table.texts[column.position] or [""])
                found = texts[values[~missing].astype(np.int64)]
                unknown = found[~np.isin(found, column.categories)]
                if len(unknown):
                    rows = format_count(len(unknown), "row")
                    notes.append(
                        f"{name}: {rows} with categories not in the training rows "
                        f"({_join(sorted(set(unknown.tolist())))}): all its inputs are 0"
                    )
        return notes


def fit_columns(table: Table, target: int) -> tuple[Columns, list[str]]:
    """Learn means and categories from the training rows of a table.

    Returns:
        the columns, and what a user should know of them, in sentences.

    Raises:
        InputError: no column is left.
    """
    columns, left_out = [], []
    for position in range(len(table.texts)):
        if position == target:
            continue
        name = _name(table, position)
        values, texts = table.values[:, position], table.texts[position]
        present = values[~np.isnan(values)]
        has_flag = len(present) < len(values)
        if table.names and not table.names[position]:
            left_out.append(f"{name} (without a name)")  # pandas writes row numbers so
        elif not len(present):
            left_out.append(f"{name} (no values)")
        elif texts is None:
            columns.append(Column(position, float(present.mean()), None, has_flag))
        else:
            categories = sorted(texts[int(i)] for i in np.unique(present))
            if len(categories) > min(MOST_CATEGORIES, len(present) / 2):
                left_out.append(
                    f"{name} ({len(categories):,} different texts in {format_count(len(present), 'row')})"
                )
            else:
                columns.append(Column(position, None, tuple(categories), has_flag))
    if not columns:
        raise InputError(
            f"{table.path}: expected at least one column to train on, found only {', '.join(left_out)}"
        )
    notes = _describe(table, columns)
    if left_out:
        notes.append(f"{format_count(len(left_out), 'column')} left out: {', '.join(left_out)}")
    return Columns(tuple(columns), len(table.texts), target, table.names), notes


def _describe(table: Table, columns: list[Column]) -> list[str]:
    text = [column for column in columns if column.categories is not None]
    imputed = [column for column in columns if column.categories is None and column.has_flag]
    notes = []
    if text:
        more = ", missing values as a category" if any(column.has_flag for column in text) else ""
        inputs = format_count(sum(column.n_inputs for column in text), "column")
        notes.append(
            f"{format_count(len(text), 'text column')} one-hot encoded ({inputs}{more}): "
            f"{_join([_name(table, column.position) for column in text])}"
        )
    if imputed:
        notes.append(
            f"{format_count(len(imputed), 'column')} with missing values, imputed by the mean and flagged: "
            f"{_join([_name(table, column.position) for column in imputed])}"
        )
    return notes


def _name(table: Table | Columns, position: int) -> str:
    return (table.names and table.names[position]) or f"column {position + 1}"


def _join(names: Any) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(list(names)[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
