"""MATLAB files of the `ex4data1.mat` kind: a matrix `X` with one example in each row, and labels `y`."""

import math
import warnings
import zlib
from pathlib import Path

import numpy as np

from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["read_mat"]

# Tables often have 4, 9 or 16 columns, and pictures are hardly ever that small.
SMALLEST_SIDE = 8


def read_mat(path: str | Path) -> Raw:
    """Read `X` (n, d) and `y` (n,), (n, 1), (1, n) or (n, outputs) from a MATLAB file up to version 7.

    Where d is the square of at least 8, the rows are pictures stored in column-major order, as MATLAB does,
    and are returned as (n, side, side). Their labels 1 ... 10 become 1 ... 9 and 0: MATLAB counts from 1, and
    such files label the digit zero as 10.

    Raises:
        InputError: the file is not a MATLAB file, or a variable is missing or is not a full matrix.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with warnings.catch_warnings():
            # SciPy warns of what it will make of a sparse matrix, which is refused below.
            warnings.simplefilter("ignore", DeprecationWarning)
            variables = loadmat(path)
    except NotImplementedError:
        raise InputError(f"{path}: expected a MATLAB file up to version 7: save it with -v7") from None
    except (OSError, EOFError, ValueError, TypeError, LookupError, MatReadError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a MATLAB file: {error}") from error
    names = [name for name in variables if not name.startswith("__")]
    for name in ("X", "y"):
        if name not in names:
            raise InputError(f"{path}: expected variables X and y, found {', '.join(names) or 'none'}")
        if not isinstance(variables[name], np.ndarray):
            raise InputError(f"{path}: {name}: expected a full matrix, found a sparse one: save full({name})")
    X, y = variables["X"], variables["y"]
    if y.shape[0] == 1 or y.shape[-1] == 1:
        y = y.reshape(-1)

    highest = None
    side = math.isqrt(X.shape[-1])
    if X.ndim == 2 and side**2 == X.shape[-1] and side >= SMALLEST_SIDE:
        X = X.reshape(-1, side, side).transpose(0, 2, 1)
        if X.dtype != np.uint8:
            highest = 1.0
        if y.dtype.kind in "iuf" and set(np.unique(y)) == set(range(1, 11)):
            y = np.where(y == 10, 0, y)
    return Raw(X, y, highest=highest)
