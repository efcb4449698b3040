"""Downloads with a checksum, resumed after an interruption."""

import hashlib
import os
import sys
from collections.abc import Iterable
from errno import ENOSPC
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from xpnet.errors import InputError

__all__ = ["fetch"]

CHUNK = 1 << 16
TIMEOUT = 30  # seconds without a byte


def fetch(urls: Iterable[str], sha256: str, path: Path, *, quiet: bool = False) -> None:
    """Download the file with this SHA-256 to `path`, from the first of the mirrors `urls` that has it.

    The bytes are written to `path` + ".part", which is renamed once the checksum is right. After an
    interruption that file is kept, and the next call downloads only the rest. If the disk is full, it is
    removed. Progress is shown on stderr
    unless `quiet`: as a bar on a terminal, as one line elsewhere.

    Raises:
        InputError: no mirror has the file; the message says what was tried and where to put it by hand.
    """
    part = path.with_name(path.name + ".part")
    tried = []
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            resumed = _append(url, part, quiet)
            found = _compute_sha256(part)
            if found != sha256 and resumed:
                part.unlink()  # the earlier part may have been the wrong one: once more, from the start
                _append(url, part, quiet)
                found = _compute_sha256(part)
            if found == sha256:
                os.replace(part, path)
                return
            part.unlink()
            tried.append(f"{url}: expected SHA-256 {sha256}, found {found}")
        except HTTPError as error:
            error.close()
            tried.append(f"{url}: {error}")
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) == ENOSPC:
                part.unlink(missing_ok=True)  # a full disk must not stay full
            tried.append(f"{url}: {getattr(error, 'reason', None) or error or type(error).__name__}")
    raise InputError(
        "\n  ".join([f"cannot download {path.name}. Tried:", *tried])
        + f"\nPut {path.name} into {path.parent} by hand, "
        + "or name the folder that holds it (data_dir, --data-dir)."
    )


def _append(url: str, part: Path, quiet: bool) -> bool:
    """Bring `part` up to the length of the file at `url`; return whether earlier bytes were kept."""
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT)
    except HTTPError as error:
        if have and error.code == 416:  # nothing after `have`: the part is whole, or longer than the file
            error.close()
            return True
        raise
    with response:
        # A server that does not know ranges answers 200 and sends the file from its first byte.
        resumed: bool = response.status == 206
        got = have if resumed else 0
        length = response.headers["Content-Length"]
        total = None if length is None else got + int(length)
        chunk = response.read(CHUNK)
        if not chunk:  # before the file is touched, which may hold a good part
            raise ConnectionError("the connection ended before the first byte")
        on_terminal = sys.stderr.isatty()
        if not quiet and not on_terminal:
            print(f"downloading {url}", file=sys.stderr, flush=True)
        hidden = quiet or not on_terminal
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(desc=part.stem, initial=got, total=total, unit="B", unit_scale=True, disable=hidden) as bar,
        ):
            while chunk:
                got += file.write(chunk)
                bar.update(len(chunk))
                chunk = response.read(CHUNK)
    if total is not None and got < total:
        raise ConnectionError(f"the connection ended after {got} of {total} bytes")
    return resumed


def _compute_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
