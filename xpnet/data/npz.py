"""Arrays that NumPy has saved: `.npz` and `.npy`."""

import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["read_arrays", "read_npz"]

# What np.load has been seen to raise for damaged files.
BROKEN = (EOFError, MemoryError, RuntimeError, TokenError, ValueError, zipfile.BadZipFile, zlib.error)


def read_npz(path: str | Path) -> Raw:
    """Read `X` (n, d) or (n, height, width), `y` (n,) or (n, outputs) and, if there, `X_test` and `y_test`.

    Raises:
        InputError: the file is not one that NumPy saved, `X` or `y` is missing, or an array is pickled.
    """
    arrays = read_arrays(path)
    if not {"X", "y"} <= set(arrays):
        raise InputError(f"{path}: expected arrays X and y, found {', '.join(arrays) or 'none'}")
    return Raw(arrays["X"], arrays["y"], arrays.get("X_test"), arrays.get("y_test"))


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an `.npz` file by name, or the array of an `.npy` file as `X`.

    Raises:
        InputError: the file cannot be read, is not one that NumPy saved, or holds pickled objects.
    """
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
