"""Data sets: by name, or from a user's own file."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.batches import split_rows
from xpnet.data.dataset import Dataset, Scaling
from xpnet.data.digits import load_digits
from xpnet.data.mat import load_mat
from xpnet.data.mnist import load_mnist, load_mnist_5000
from xpnet.data.raw import Raw, check
from xpnet.data.table import load_csv, load_npz
from xpnet.data.targets import REGRESSION, class_indices, make_labels
from xpnet.data.targets import numeric_targets as as_numbers
from xpnet.errors import InputError, choose

__all__ = ["NAMES", "Dataset", "Scaling", "load"]

NAMES = ("digits", "mnist", "fashion-mnist", "mnist-5000")
READERS: dict[str, Callable[[Path], Raw]] = {".csv": load_csv, ".mat": load_mat, ".npz": load_npz}


def load(
    name_or_file: str | Path,
    *,
    data_dir: str | Path | None = None,
    seed: int = 0,
    test: float = 0.2,
    numeric_targets: bool = False,
    quiet: bool = False,
) -> Dataset:
    """Load one of `NAMES`, or a `.csv`, `.mat` or `.npz` file.

    Pictures and uint8 tables are scaled by one over the highest value a pixel takes, floating-point pictures
    from MATLAB are left as they are, and other tables are standardised column by column with the mean and
    the standard deviation of the training part.

    Args:
        name_or_file: a name, or a path with one of these endings.
        data_dir: the folder of the four files of MNIST or Fashion-MNIST; without it they are downloaded into
            the user's cache.
        seed: of the split into training and test rows, for data without a test part. The split has equal
            shares of each class in both parts.
        test: the share of the test rows in that split; 0 leaves them out.
        numeric_targets: keep the labels as float64 (n, outputs), for squared error and Poisson losses.
        quiet: download without showing progress.

    Raises:
        InputError: an unknown name, a missing or broken file, or data that nothing can be learnt from.
    """
    name = str(name_or_file)
    raw = _read(name, data_dir, quiet)
    check(name, raw)
    y: NDArray[Any]
    y_test: NDArray[Any] | None
    classes: tuple[str, ...] | None = None
    if numeric_targets:
        y = as_numbers(name, raw.y)
        y_test = None if raw.y_test is None else as_numbers(name, raw.y_test)
    else:
        classes, y, y_test = class_indices(name, raw)

    X = raw.X.reshape(len(raw.X), -1)
    if raw.X_test is None or y_test is None:
        train, held_out = _split(name, y, classes, test, seed)
        X, X_test, y, y_test = X[train], X[held_out], y[train], y[held_out]
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
        scaling=_scaling(X, raw),
        target_scaling=_standardising(y) if numeric_targets else None,
        labels=None if classes is None else make_labels(classes, raw.y),
    )


def _read(name: str, data_dir: str | Path | None, quiet: bool) -> Raw:
    if name == "digits":
        return load_digits()
    if name == "mnist-5000":
        return load_mnist_5000(data_dir, quiet=quiet)
    if name in NAMES:
        return load_mnist(name, data_dir, quiet=quiet)
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if not suffix and path.name == name and not path.exists():
        choose("data set", name, NAMES)
    if suffix not in READERS:
        raise InputError(
            f"{path}: expected a file ending in {', '.join(READERS)} or one of the data sets "
            f"{', '.join(NAMES)}, found {suffix or 'no ending'!r}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return READERS[suffix](path)


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
    return split_rows(len(y), n_test, strata=None if classes is None else y, random_state=seed)


def _scaling(X: NDArray[Any], raw: Raw) -> Scaling:
    highest = raw.highest
    if highest is None and X.dtype == np.uint8:
        highest = 255.0
    if highest is None and raw.X.ndim == 3:
        highest = float(np.abs(X.astype(np.float64)).max()) or 1.0
    if highest is not None:
        return Scaling(np.zeros(1), np.array([1 / highest]))
    return _standardising(X)


def _standardising(X: NDArray[Any]) -> Scaling:
    std = X.std(axis=0, dtype=np.float64)
    # Rounding gives a constant column a tiny standard deviation, which must not become a huge factor.
    std[(X.min(axis=0) == X.max(axis=0)) | (std < np.finfo(np.float32).tiny)] = 1.0
    return Scaling(X.mean(axis=0, dtype=np.float64), 1 / std)
