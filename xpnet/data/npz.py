"""Arrays that NumPy has saved: `.npz` and `.npy`."""

import math
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from xpnet.data.limits import check_file, check_inflated
from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["join_names", "read_arrays", "read_npz"]

CHUNK = 1 << 20
# Of a damaged archive, `zipfile` raises these.
BROKEN = (EOFError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)
# Of a damaged header, which is a Python literal, `ast.literal_eval` and NumPy raise these.
BROKEN_HEADER = (MemoryError, RecursionError, SyntaxError, TokenError, TypeError, ValueError)


def read_npz(path: str | Path) -> Raw:
    """Read `X` (n, d) or (n, height, width), `y` (n,) or (n, outputs) and, if there, `X_test` and `y_test`.

    Raises:
        InputError: the file is not one that NumPy saved, `X` or `y` is missing, or an array is pickled.
    """

    def choose(names: list[str]) -> list[str]:
        if not {"X", "y"} <= set(names):
            raise InputError(f"{path}: expected arrays X and y, found {join_names(names)}")
        return [name for name in ("X", "y", "X_test", "y_test") if name in names]

    arrays = read_arrays(path, choose)
    return Raw(arrays["X"], arrays["y"], arrays.get("X_test"), arrays.get("y_test"))


def read_arrays(path: str | Path, choose: Callable[[list[str]], list[str]]) -> dict[str, NDArray[Any]]:
    """Read arrays of an `.npz` file by name, or the array of an `.npy` file as `X`.

    An array is allocated only if its shape agrees with the size of the file, or of its member of the archive.

    Args:
        choose: returns which of the names in the file to read.

    Raises:
        InputError: the file cannot be read, is not one that NumPy saved, or holds pickled objects.
    """
    size = check_file(path)
    place = str(path)
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            file.seek(0)
            if start.startswith(b"\x93NUMPY"):
                return {name: _read_array(file, size) for name in choose(["X"])}
            if not start.startswith(b"PK"):
                raise ValueError(f"a file that starts with {start.hex(' ') or 'nothing'}")
            with zipfile.ZipFile(file) as archive:
                members = {
                    member.filename.removesuffix(".npy"): member
                    for member in archive.infolist()
                    if member.filename.endswith(".npy")
                }
                arrays = {}
                for name in choose(list(members)):
                    place, member = f"{path}: {name}", members[name]
                    # NumPy writes nothing else. Other methods have no limit to what they expand to.
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise ValueError("a member of an archive with another compression than deflate")
                    check_inflated(place, member.file_size, min(size, member.compress_size))
                    with archive.open(member) as stored:
                        arrays[name] = _read_array(stored, member.file_size)
                return arrays
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror or error}") from error
    except BROKEN as error:
        raise InputError(
            f"{place}: expected arrays of numbers or text saved by NumPy (pickled objects are refused), "
            f"found: {error}"
        ) from error


def join_names(names: list[str]) -> str:
    """Return the first names of what a file holds."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "none"


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Read a file of `size` bytes in NumPy's format; raise ValueError if its header says anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python says to a damaged literal
            version = npy.read_magic(file)
            if version == (1, 0):
                shape, is_fortran, dtype = npy.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, is_fortran, dtype = npy.read_array_header_2_0(file)
            else:
                raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format, not 1.0 or 2.0")
    except BROKEN_HEADER as error:
        raise ValueError(f"a damaged header ({type(error).__name__}: {error})") from None
    if dtype.kind in "OV" or dtype.itemsize == 0:
        raise ValueError(f"values of type {dtype}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or max(shape, default=0) > sys.maxsize or file.tell() + n_bytes != size:
        raise ValueError(
            f"a header for shape {shape} and type {dtype}, which the size of the file contradicts"
        )
    data = np.empty(n_bytes, dtype=np.uint8)
    filled = 0
    while filled < n_bytes:
        piece = file.read(min(CHUNK, n_bytes - filled))
        if not piece:
            raise EOFError(f"the end after {filled} of {n_bytes} bytes")
        data[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    values = data.view(dtype)
    return values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
