"""Reader for IDX, the file format of MNIST: a magic number, the sizes, then the values, all big-endian.

00 00 | type | number of dimensions | one 4-byte size for each dimension | values
"""

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.data.limits import check_file, check_inflated
from xpnet.errors import InputError

__all__ = ["read_idx"]

TYPES = {8: "unsigned byte", 9: "signed byte", 11: "short", 12: "int", 13: "float", 14: "double"}
CHUNK = 1 << 16
MOST_DIMENSIONS = 8  # MNIST's pictures have 3
LONGEST_HEADER = 4 + 4 * MOST_DIMENSIONS


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not, whatever its name.

    No more is read, or decompressed, than the header promises.

    Returns:
        uint8 array with the shape the file declares.

    Raises:
        InputError: the file is missing, not IDX, not of unsigned bytes, too short or too long; the message
            names the file, the byte offset, what was expected there and what was found.
    """
    size = check_file(path)
    place = str(path)
    try:
        with open(path, "rb") as file:
            is_zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if is_zipped:
                place = f"{path} (offsets after decompression)"
                shape, start = _parse_header(place, _gunzip(str(path), file, LONGEST_HEADER))
                end = start + math.prod(shape)
                check_inflated(place, end, size)
                data = _gunzip(str(path), file, end)
                n = len(data)
            else:
                shape, start = _parse_header(place, bytearray(file.read(LONGEST_HEADER)))
                end, n = start + math.prod(shape), size
                file.seek(0)
                data = bytearray(file.read(end)) if n == end else bytearray()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if n != end:
        sizes = " x ".join(map(str, shape))
        found = "the end" if n < end else "more bytes" if is_zipped else f"{n - end} more bytes"
        raise InputError(
            f"{place}: byte {min(n, end)}: expected {sizes} values, up to byte {end}, found {found}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _parse_header(place: str, data: bytearray) -> tuple[tuple[int, ...], int]:
    """Return the shape that the first bytes of a file declare, and where the values start."""
    if len(data) < 4:
        raise InputError(f"{place}: byte 0: expected an IDX header of at least 4 bytes, found {len(data)}")
    if data[:2] != b"\0\0":
        raise InputError(f"{place}: byte 0: expected the IDX magic 00 00, found {data[:2].hex(' ')}")
    if data[2] != 8:
        found = f"0x{data[2]:02x} ({TYPES.get(data[2], 'no IDX type')})"
        raise InputError(
            f"{place}: byte 2: expected type 0x08 (unsigned byte), the only one read, found {found}"
        )
    if not 1 <= data[3] <= MOST_DIMENSIONS:
        raise InputError(f"{place}: byte 3: expected 1 to {MOST_DIMENSIONS} dimensions, found {data[3]}")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise InputError(
            f"{place}: byte {len(data)}: expected {data[3]} sizes up to byte {start}, found the end"
        )
    return struct.unpack_from(f">{data[3]}I", data, 4), start


def _gunzip(path: str, file: BinaryIO, limit: int) -> bytearray:
    """Return the decompressed file, or its first `limit` + 1 bytes if it is longer."""
    unzip = zlib.decompressobj(wbits=31)  # 31: a gzip header and checksum around the data
    out = bytearray()
    at = 0
    file.seek(0)
    while len(out) <= limit and not unzip.eof:  # in pieces, so that an error can say where it happened
        piece = file.read(CHUNK)
        if not piece:
            raise InputError(f"{path}: byte {at}: expected more gzip data, found the end of the file")
        try:
            out += unzip.decompress(piece, limit + 1 - len(out))
        except zlib.error as error:
            raise InputError(
                f"{path}: bytes {at} to {at + len(piece)}: expected gzip data, found {error}"
            ) from error
        at += len(piece)
    if unzip.eof and len(out) <= limit:
        end = at - len(unzip.unused_data)
        n_more = file.seek(0, 2) - end
        if n_more:
            raise InputError(
                f"{path}: byte {end}: expected the end of the file after the gzip data, "
                f"found {n_more} more bytes"
            )
    return out
