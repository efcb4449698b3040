"""Data sets: by name, or from a user's own file."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.batches import split_rows
from xpnet.data.dataset import Dataset, Scaling
from xpnet.data.raw import Raw, check_arrays
from xpnet.data.targets import REGRESSION, encode_labels, make_labels, parse_numeric_targets
from xpnet.errors import InputError, choose

if TYPE_CHECKING:
    from xpnet.data.columns import Columns

__all__ = ["NAMES", "TEXT_FILES", "load"]

NAMES = ("digits", "mnist", "fashion-mnist", "mnist-5000")
TEXT_FILES = (".csv", ".tsv")
ENDINGS = sorted((*TEXT_FILES, ".mat", ".npz"))


def load(
    name_or_file: str | Path,
    *,
    target: str | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    test: float = 0.2,
    numeric_targets: bool = False,
    quiet: bool = False,
) -> Dataset:
    """Load one of `NAMES`, or a `.csv`, `.tsv`, `.mat` or `.npz` file.

    Pictures and uint8 tables are scaled by one over the highest value of a pixel. Floating-point pictures
    from MATLAB are left as they are. Other tables are standardised column by column with the mean and the
    standard deviation of the training rows; columns of text are one-hot encoded and missing values are
    imputed by the mean of the training rows.

    Args:
        name_or_file: a name, or a path with one of these endings.
        target: name of the column to predict in a `.csv` or `.tsv` file; by default the last column is.
        data_dir: folder with the four files of MNIST or Fashion-MNIST; by default they are downloaded into
            the user's cache.
        seed: of the split into training and test rows, for data without a test part. The split has equal
            shares of each class in both parts.
        test: fraction of the rows to hold out for testing in that split; 0 for none.
        numeric_targets: keep the targets as float64 (n, outputs), for squared error and Poisson losses.
        quiet: download without showing progress.

    Raises:
        InputError: unknown name, missing or broken file, or data unsuitable for training.
    """
    name = str(name_or_file)
    raw = _read_raw(name, data_dir, target, quiet)
    check_arrays(name, raw)
    y: NDArray[Any]
    y_test: NDArray[Any] | None
    classes: tuple[str, ...] | None = None
    if numeric_targets:
        y = parse_numeric_targets(name, raw.y)
        y_test = None if raw.y_test is None else parse_numeric_targets(name, raw.y_test)
    else:
        classes, y, y_test = encode_labels(name, raw)

    X = raw.X.reshape(len(raw.X), -1)
    columns: Columns | None = None
    notes = list(raw.notes)
    if raw.X_test is None or y_test is None:
        train, held_out = _split(name, y, classes, test, seed)
        y, y_test = y[train], y[held_out]
        if raw.table is None:
            X, X_test = X[train], X[held_out]
        else:
            from xpnet.data.columns import fit_columns

            table, table_test = raw.table.take(train), raw.table.take(held_out)
            columns, learned = fit_columns(table, raw.target)
            X, X_test = columns.encode(table), columns.encode(table_test)
            notes += learned + [f"test rows: {note}" for note in columns.find_unknown(table_test)]
    else:
        X_test = raw.X_test.reshape(len(raw.X_test), -1)
    return Dataset(
        name=name if name in NAMES else Path(name).stem,
        X_train=X,
        y_train=y,
        X_test=X_test,
        y_test=y_test,
        classes=classes,
        picture=raw.X.shape[1:] if raw.X.ndim == 3 else None,
        scaling=_fit_scaling(X, raw, columns),
        target_scaling=_standardise(y) if numeric_targets else None,
        labels=None if classes is None else make_labels(classes, raw.y),
        columns=columns,
        notes=tuple(notes),
    )


def _read_raw(name: str, data_dir: str | Path | None, target: str | None, quiet: bool) -> Raw:
    path = Path(os.path.expanduser(name))  # unchanged if there is no such user
    suffix = path.suffix.lower()
    if target is not None and suffix not in TEXT_FILES:
        raise InputError(
            f"--target {target}: expected a .csv or .tsv file, whose columns can have names, got {name}"
        )
    # Each reader is imported where it is needed: together they take longer to import than all the rest.
    if name == "digits":
        from xpnet.data.digits import read_digits

        return read_digits()
    if name in NAMES:
        from xpnet.data.mnist import read_mnist, read_mnist_5000

        if name == "mnist-5000":
            return read_mnist_5000(data_dir, quiet=quiet)
        return read_mnist(name, data_dir, quiet=quiet)
    if not suffix and path.name == name and not path.exists():
        choose("data set", name, NAMES)
    if suffix not in ENDINGS:
        raise InputError(
            f"{path}: expected a file ending in {', '.join(ENDINGS)} or one of the data sets "
            f"{', '.join(NAMES)}, found {suffix or 'no ending'!r}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if suffix == ".mat":
        from xpnet.data.mat import read_mat

        return read_mat(path)
    if suffix == ".npz":
        from xpnet.data.npz import read_npz

        return read_npz(path)
    from xpnet.data.table import read_csv

    return read_csv(path, target)


def _split(
    name: str, y: NDArray[Any], classes: tuple[str, ...] | None, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row numbers of the training and of the test part."""
    if share == 0.0:
        return np.arange(len(y)), np.arange(0)
    if len(y) < 2:
        raise InputError(f"{name}: expected at least 2 rows, to learn from and to be judged on, found 1")
    n_test = math.ceil(share * len(y))
    if classes is not None:
        # A class with one row cannot be both learnt and judged. Splitting without strata would hide that, and
        # would hide its usual cause: quantities taken for class numbers.
        counts = np.bincount(y)
        if counts.min() == 1:
            raise InputError(
                f"{name}: expected at least 2 rows of each of {len(classes)} classes, found 1 of class "
                f"{classes[counts.argmin()]!r}: add rows or leave that one out; "
                f"if the labels are quantities {REGRESSION}"
            )
        n_test = max(n_test, len(classes))
    if n_test >= len(y):
        raise InputError(
            f"{name}: expected at least 1 row to train on, found none: "
            f"holding out {share:g} of the {len(y)} rows for testing takes all (test, --test)"
        )
    return split_rows(len(y), n_test, strata=None if classes is None else y, random_state=seed)


def _fit_scaling(X: NDArray[Any], raw: Raw, columns: "Columns | None") -> Scaling:
    highest = raw.highest
    if highest is None and X.dtype == np.uint8:
        highest = 255.0
    if highest is None and raw.X.ndim == 3:
        highest = float(np.abs(X.astype(np.float64)).max()) or 1.0
    if highest is not None:
        return Scaling(np.zeros(1), np.array([1 / highest]))
    scaling = _standardise(X)
    if columns is not None:
        # A category of one row in 10,000 would be standardised to 100 there.
        scaling.shift[columns.is_indicator()] = 0.0
        scaling.factor[columns.is_indicator()] = 1.0
    return scaling


def _standardise(X: NDArray[Any]) -> Scaling:
    std = X.std(axis=0, dtype=np.float64)
    # Rounding gives a constant column a tiny standard deviation, which must not become a huge factor.
    std[(X.min(axis=0) == X.max(axis=0)) | (std < np.finfo(np.float32).tiny)] = 1.0
    return Scaling(X.mean(axis=0, dtype=np.float64), 1 / std)
