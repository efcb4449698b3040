"""Reader for IDX, the file format of MNIST: a magic number, the sizes, then the values, all big-endian.

00 00 | type | number of dimensions | one 4-byte size for each dimension | values
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError

__all__ = ["read_idx"]

TYPES = {8: "unsigned byte", 9: "signed byte", 11: "short", 12: "int", 13: "float", 14: "double"}
CHUNK = 1 << 16


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, gzipped or not, whatever its name.

    Returns:
        uint8 array with the shape the file declares.

    Raises:
        InputError: the file is missing, not IDX, not of unsigned bytes, too short or too long; the message
            names the file, the byte offset, what was expected there and what was found.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    place = str(path)
    if data[:2] == b"\x1f\x8b":
        data, place = _gunzip(place, data), f"{path} (offsets after decompression)"

    if len(data) < 4:
        raise InputError(f"{place}: byte 0: expected an IDX header of at least 4 bytes, found {len(data)}")
    if data[:2] != b"\0\0":
        raise InputError(f"{place}: byte 0: expected the IDX magic 00 00, found {data[:2].hex(' ')}")
    if data[2] != 8:
        found = f"0x{data[2]:02x} ({TYPES.get(data[2], 'no IDX type')})"
        raise InputError(
            f"{place}: byte 2: expected type 0x08 (unsigned byte), the only one read, found {found}"
        )
    if data[3] == 0:
        raise InputError(f"{place}: byte 3: expected at least one dimension, found 0")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise InputError(
            f"{place}: byte {len(data)}: expected {data[3]} sizes up to byte {start}, found the end"
        )
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    end = start + math.prod(shape)
    if len(data) != end:
        sizes = " x ".join(map(str, shape))
        found = "the end" if len(data) < end else f"{len(data) - end} more bytes"
        raise InputError(
            f"{place}: byte {min(len(data), end)}: expected {sizes} values, up to byte {end}, found {found}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _gunzip(path: str, data: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)  # 31: a gzip header and checksum around the data
    out = []
    for at in range(0, len(data), CHUNK):  # in pieces, so that an error can say where it happened
        try:
            out.append(unzip.decompress(data[at : at + CHUNK]))
        except zlib.error as error:
            end = min(at + CHUNK, len(data))
            raise InputError(f"{path}: bytes {at} to {end}: expected gzip data, found {error}") from error
    if not unzip.eof:
        raise InputError(f"{path}: byte {len(data)}: expected more gzip data, found the end of the file")
    # After the end of the stream every further piece lands in unused_data too.
    if unzip.unused_data:
        end = len(data) - len(unzip.unused_data)
        raise InputError(
            f"{path}: byte {end}: expected the end of the file after the gzip data, "
            f"found {len(unzip.unused_data)} more bytes"
        )
    return b"".join(out)
