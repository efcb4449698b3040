"""The folder of a run: made, and locked while a process writes to it."""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from errno import ENOLCK, ENOSYS, ENOTSUP
from pathlib import Path

from xpnet.errors import InputError
from xpnet.training.files import remove_parts

__all__ = ["lock_folder", "make_folder"]

NO_LOCKS = (ENOLCK, ENOSYS, ENOTSUP)

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # others may not read what is locked: not the process id
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def make_folder(out: str | None, data: str) -> Path:
    """Make the folder of a new run: `out`, or by default one named after the time and the data.

    Raises:
        InputError: the folder cannot be made.
    """
    if out is None:
        stem = f"{datetime.now():%Y%m%d-%H%M%S}-{data}"
        for name in itertools.chain([stem], (f"{stem}-{n}" for n in itertools.count(2))):
            # mkdir fails if the folder exists, so two runs started in the same second do not share it.
            with contextlib.suppress(FileExistsError):
                (Path("runs") / name).mkdir(parents=True)
                return Path("runs") / name
    folder = Path(str(out))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot create this folder ({error.strerror})") from None
    return folder


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let no other process write to the folder of a run.

    The operating system holds the lock on the file `run.lock`, which contains the process id, and releases it
    when the process ends in whatever way. What an earlier, killed process left half written is removed.

    Raises:
        InputError: another process has locked the folder.
        OSError: the folder cannot be written to.
    """
    path = folder / "run.lock"
    file = _acquire(path)
    try:
        remove_parts(folder)
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink()
        os.close(file)


def _acquire(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            try:
                _lock(file)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(
                    f"warning: {path.parent} is on a file system without locks ({error.strerror}): "
                    "train this run in one process at a time",
                    file=sys.stderr,
                )
            # Its former owner may have removed the file after it was opened here.
            if _has_name(file, path):
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                return file
        except (BlockingIOError, PermissionError):  # PermissionError on Windows
            owner = _read_owner(file)
            os.close(file)
            raise InputError(
                f"{path.parent}: the process {owner} is training this run. Wait until it ends, or stop it"
            ) from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _has_name(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _read_owner(file: int) -> str:
    """Return the process id in a lock file.

    It is written a moment after the lock is taken. Until then the file is empty, or has that of a process
    that was killed.
    """
    owner = ""
    for _ in range(50):
        os.lseek(file, 0, os.SEEK_SET)
        owner = os.read(file, 20).decode(errors="replace").strip()
        if _is_running(owner):
            break
        time.sleep(0.01)
    return owner or "of another command"


def _is_running(process: str) -> bool:
    if not process.isdecimal():
        return False
    if sys.platform != "win32":  # there os.kill would end it
        try:
            os.kill(int(process), 0)
        except (OverflowError, ProcessLookupError):
            return False
        except PermissionError:  # of another user
            pass
    return True
