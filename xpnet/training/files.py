"""Files of arrays: safetensors with JSON in the header, never pickle.

A file is either complete or absent: it is written under another name, flushed to the disk, then renamed. Its
header holds a SHA-256 over everything else, so that a damaged or edited file is refused before any array is
used.
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

__all__ = ["Contents", "Tensors", "read", "write"]

Tensors = dict[str, NDArray[Any]]


class Contents(NamedTuple):
    """What a file holds: its kind and the version of that format, arrays by name, and what JSON can hold."""

    kind: str
    version: str
    tensors: Tensors
    about: dict[str, Any]


def write(path: Path, kind: str, version: str, tensors: Tensors, about: dict[str, Any]) -> None:
    """Write arrays, and what JSON can hold about them, as one complete file, or leave the old one."""
    from safetensors.numpy import save

    # safetensors 0.8 silently scrambles arrays that are not C-contiguous.
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    header = {"format": kind, "version": version, "about": json.dumps(about)}
    header["sha256"] = _digest(tensors, header)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(save(tensors, header))
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # the rename itself reaches the disk with the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read(path: Path, versions: Mapping[str, tuple[str, ...]]) -> Contents:
    """Read what `write` wrote.

    Args:
        versions: the kinds that are accepted, the one that is meant first, each with its readable versions.

    Raises:
        InputError: no such file, truncated, changed since it was written, of another kind or another version.
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
                    f"{path}: expected an {next(iter(versions))}, "
                    f"found {kind or 'some other safetensors file'}"
                )
            if version not in versions[kind]:
                raise InputError(
                    f"{path}: expected format version {' or '.join(versions[kind])}, found {version}: "
                    "use the xpnet that wrote it, or train again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, TypeError) as error:  # TypeError: a dtype that NumPy alone does not know
        raise InputError(
            f"{path}: not a complete safetensors file (truncated, or another format): {error}"
        ) from None
    if header.pop("sha256", None) != _digest(tensors, header):
        raise InputError(
            f"{path}: the contents do not match their SHA-256: the file was changed after it was written"
        )
    return Contents(kind, version, tensors, json.loads(header["about"]))


def _digest(tensors: Tensors, header: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
