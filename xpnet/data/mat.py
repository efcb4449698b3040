"""MATLAB files of the `ex4data1.mat` kind: a matrix `X` with one example in each row, and labels `y`.

xpnet reads them itself because SciPy's compiled reader crashes the process for some damaged files. This
reader only slices bytes whose length it has checked. It takes what a data set consists of, full matrices of
real numbers or characters, in files of MATLAB 5 to 7 (MathWorks, "MAT-File Format"):

    128 bytes of header, then elements: type | number of bytes | data, filled up to 8 bytes
    a matrix is an element of elements: flags with its class, dimensions, name, values in column-major order
"""

import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.data.limits import check_file, check_inflated
from xpnet.data.npz import join_names
from xpnet.data.raw import Raw
from xpnet.errors import InputError

__all__ = ["read_mat"]

# Tables often have 4, 9 or 16 columns, and pictures are hardly ever that small.
SMALLEST_SIDE = 8

MATRIX, COMPRESSED, INT8, INT32, UINT32 = 14, 15, 1, 5, 6
# Values of a matrix are stored in the smallest type that holds them, whatever its class.
DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ENCODINGS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
CHARACTERS, SPARSE, NUMERIC = 4, 5, range(6, 16)
CLASSES = {1: "a cell array", 2: "a structure", 3: "an object", 16: "a function", 17: "an object"}
IS_COMPLEX = 8
MOST_DIMENSIONS = 32


class Element(NamedTuple):
    """A piece of a MATLAB file: its type, its data, and where the next one starts."""

    kind: int
    data: memoryview
    end: int


def read_mat(path: str | Path) -> Raw:
    """Read `X` (n, d) and `y` (n,), (n, 1), (1, n) or (n, outputs) from a MATLAB file of version 5 to 7.

    Where d is the square of at least 8, the rows are pictures stored in column-major order, as MATLAB does,
    and are returned as (n, side, side). Their labels 1 ... 10 become 1 ... 9 and 0: MATLAB counts from 1, and
    such files label the digit zero as 10.

    Raises:
        InputError: the file is not a MATLAB file, or a variable is missing or is not a full matrix.
    """
    check_file(path)
    try:
        matrices = _read_matrices(path)
        names = list(matrices)
        if not {"X", "y"} <= set(names):
            raise InputError(f"{path}: expected variables X and y, found {join_names(names)}")
        X, y = (_read_values(path, name, *matrices[name]) for name in ("X", "y"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a MATLAB file: {error}") from None
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


def _read_matrices(path: str | Path) -> dict[str, tuple[memoryview, int, str]]:
    """Return for each name the elements after it, the flags with the class, and the byte order."""
    with open(path, "rb") as file:
        header = file.read(128)
        mark = header[124:]
        if mark in (b"\x00\x02IM", b"\x02\x00MI") or b"\0" in header[:4]:  # HDF5, or version 4
            raise InputError(f"{path}: expected a MATLAB file of version 5 to 7: save it with -v7")
        if mark not in (b"\x00\x01IM", b"\x01\x00MI"):
            raise ValueError("bytes 124 to 127: expected the mark of a MATLAB file")
        order = "<" if mark.endswith(b"IM") else ">"
        rest = memoryview(file.read())
    found, at = {}, 0
    while at < len(rest):
        element = _read_element(rest, at, order)
        matrix, at = element.data, element.end
        if element.kind == COMPRESSED:
            at = at - (-len(matrix)) % 8  # compressed elements are not filled up
            matrix = _inflate(path, element.data, order)
        elif element.kind != MATRIX:
            raise ValueError(f"byte {128 + at}: expected a matrix, found an element of type {element.kind}")
        if not matrix:
            continue
        flags = _read_element(matrix, 0, order)
        if flags.kind != UINT32 or len(flags.data) != 8:
            raise ValueError("expected a matrix to start with 8 bytes of flags")
        sizes = _read_element(matrix, flags.end, order)
        name = _read_element(matrix, sizes.end, order)
        found[bytes(name.data).decode("latin-1")] = (
            matrix[flags.end :],
            int(np.frombuffer(flags.data, f"{order}u4")[0]),
            order,
        )
    return found


def _read_values(path: str | Path, name: str, matrix: memoryview, flags: int, order: str) -> NDArray[Any]:
    """Return a matrix of numbers or characters, in the type that it is stored in."""
    matrix_class = flags & 0xFF
    if matrix_class == SPARSE:
        raise InputError(f"{path}: {name}: expected a full matrix, found a sparse one: save full({name})")
    if matrix_class != CHARACTERS and matrix_class not in NUMERIC:
        found = CLASSES.get(matrix_class, f"class {matrix_class}")
        raise InputError(f"{path}: {name}: expected a matrix of numbers, found {found}")
    if flags >> 8 & IS_COMPLEX:
        raise InputError(f"{path}: {name}: expected real numbers, found complex ones")
    sizes = _read_element(matrix, 0, order)
    values = _read_element(matrix, _read_element(matrix, sizes.end, order).end, order)
    stored: NDArray[Any]
    if matrix_class == CHARACTERS and values.kind in ENCODINGS:
        encoding = ENCODINGS[values.kind] + ("" if values.kind == 16 else "-le" if order == "<" else "-be")
        stored = np.frombuffer(bytes(values.data).decode(encoding).encode("utf-32-le"), "<u4")
    elif values.kind in DTYPES:
        dtype = np.dtype(DTYPES[values.kind])
        whole = len(values.data) // dtype.itemsize * dtype.itemsize
        stored = np.frombuffer(values.data[:whole], order + dtype.str[1:]).astype(dtype)
    else:
        raise ValueError(f"{name}: expected values, found an element of type {values.kind}")
    if sizes.kind != INT32 or len(sizes.data) % 4:
        raise ValueError(f"{name}: expected dimensions, found an element of type {sizes.kind}")
    shape = np.frombuffer(sizes.data, f"{order}i4").tolist()
    if not 2 <= len(shape) <= MOST_DIMENSIONS or min(shape) < 0 or math.prod(shape) != stored.size:
        raise ValueError(f"{name}: expected the values of shape {shape[:8]}, found {stored.size}")
    if matrix_class == CHARACTERS:
        # A row of characters is a text.
        texts = np.ascontiguousarray(stored.astype(np.uint32).reshape(shape, order="F"))
        return texts.view(f"U{shape[-1]}")[..., 0] if texts.size else np.empty(shape[:-1], "U1")
    return stored.reshape(shape, order="F")


def _read_element(data: memoryview, at: int, order: str) -> Element:
    """Return the element at a position, or raise ValueError if it does not fit there."""
    if at + 8 > len(data):
        raise ValueError(f"byte {at}: expected an element, found the end")
    kind, n = np.frombuffer(data[at : at + 8], f"{order}u4").tolist()
    start = at + 8
    if kind >> 16:  # at most 4 bytes, which stand where others have their number of bytes
        kind, n, start = kind & 0xFFFF, kind >> 16, at + 4
        if n > 4:
            raise ValueError(f"byte {at}: expected at most 4 bytes in a small element, found {n}")
    if start + n > len(data):
        raise ValueError(f"byte {at}: expected {n} bytes, found {len(data) - start}")
    end = start + n
    return Element(kind, data[start:end], at + 8 if start == at + 4 else end + -n % 8)


def _inflate(path: str | Path, data: memoryview, order: str) -> memoryview:
    """Return the data of the one matrix in a compressed element."""
    unzip = zlib.decompressobj()
    head = unzip.decompress(data, 8)
    if len(head) < 8:
        raise ValueError("expected a matrix in a compressed element, found nothing")
    kind, n = np.frombuffer(head, f"{order}u4").tolist()
    if kind != MATRIX:
        raise ValueError(f"expected a matrix in a compressed element, found type {kind}")
    check_inflated(str(path), n, len(data))
    body = unzip.decompress(unzip.unconsumed_tail, n) if n else b""
    # One byte more would be there only if the matrix did not end; without it, the checksum is compared.
    if len(body) != n or unzip.decompress(unzip.unconsumed_tail, 1) or not unzip.eof:
        raise ValueError(f"expected a matrix of {n} bytes in a compressed element, found another length")
    return memoryview(body)
