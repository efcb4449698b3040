"""Checks before a file is read: what it is, and how much memory its contents may take."""

import os
import stat

from xpnet.errors import InputError

__all__ = ["check_file", "check_inflated"]

# Compressed data may take this many bytes, or 100 times its size in the file if that is more. Real data sets
# do not shrink to a hundredth, but deflate shrinks zeros to a thousandth.
MOST_INFLATED = 1 << 28
LARGEST_RATIO = 100


def check_file(path: str | os.PathLike[str]) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        InputError: there is no such file, or it is a folder, a pipe or a device, which may never end.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise InputError(f"{path}: cannot read it: expected a file, found {kind}")
    return found.st_size


def check_inflated(place: str, n_bytes: int, n_compressed: int) -> None:
    """Raise InputError if `n_compressed` bytes promise `n_bytes`, many more than data shrinks to."""
    if n_bytes > max(MOST_INFLATED, LARGEST_RATIO * n_compressed):
        raise InputError(
            f"{place}: expected compressed data of at most {MOST_INFLATED:,} bytes, or of {LARGEST_RATIO} "
            f"times the {n_compressed:,} bytes in the file, found {n_bytes:,}: save it without compression"
        )
