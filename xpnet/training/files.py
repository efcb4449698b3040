"""Files of arrays: safetensors with JSON in the header, never pickle.

The header contains a SHA-256 hash of everything else, so that `read` detects a damaged or edited file.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import InputError

__all__ = ["Contents", "Tensors", "read", "replace_file", "write"]

Tensors = dict[str, NDArray[Any]]


class Contents(NamedTuple):
    """The contents of a file: its kind, the format version, arrays by name, and JSON-serializable data."""

    kind: str
    version: str
    tensors: Tensors
    about: dict[str, Any]


def write(path: Path, kind: str, version: str, tensors: Tensors, about: dict[str, Any]) -> None:
    """Write arrays and JSON-serializable data to a file. On failure, an existing file is left unchanged."""
    from safetensors.numpy import save

    # safetensors 0.8 silently corrupts arrays that are not C-contiguous.
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    header = {"format": kind, "version": version, "about": json.dumps(about)}
    header["sha256"] = _compute_digest(tensors, header)
    replace_file(path, save(tensors, header))


def replace_file(path: Path, data: bytes) -> None:
    """Write a file as a whole: to a temporary file, which is flushed to the disk and then renamed.

    On failure, an existing file is left unchanged, and the temporary file is removed.
    """
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # a rename is on the disk once the folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path, versions: Mapping[str, tuple[str, ...]]) -> Contents:
    """Read a file that `write` wrote.

    Args:
        versions: the accepted kinds, each with its readable versions. Error messages name the first kind.

    Raises:
        InputError: if the file does not exist, is truncated, was modified after it was written, or has
            another kind or version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            kind, version = header.get("format", ""), header.get("version", "none")
            if kind not in versions:
                raise InputError(
                    f"{path}: expected an {next(iter(versions))}, found {kind or 'another safetensors file'}"
                )
            if version not in versions[kind]:
                raise InputError(
                    f"{path}: expected format version {' or '.join(versions[kind])}, found {version}: "
                    "use the version of xpnet that wrote it, or train again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that NumPy does not have
        raise InputError(
            f"{path}: not a complete safetensors file (truncated, or another format): {error}"
        ) from None
    if header.pop("sha256", None) != _compute_digest(tensors, header):
        raise InputError(
            f"{path}: the SHA-256 hash does not match: the file was modified after it was written"
        )
    return Contents(kind, version, tensors, json.loads(header["about"]))


def _compute_digest(tensors: Tensors, header: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
