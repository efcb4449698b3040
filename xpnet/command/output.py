"""Standard output and standard error that are closed, full, or unable to encode a character."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

__all__ = ["discard_output", "guard_streams", "tolerate_errors"]


@contextlib.contextmanager
def guard_streams() -> Iterator[None]:
    r"""Make sys.stdout and sys.stderr take any text, and replace those that are closed.

    A character that the encoding lacks is written as \xNN or \uNNNN. Errors of stderr are ignored, because
    there is no place left to report them.
    """
    before = sys.stdout, sys.stderr
    if sys.stdout is None or sys.stderr is None:
        # The next file that is opened must not get the number of a closed stream.
        while (null := os.open(os.devnull, os.O_RDONLY)) <= 2:
            pass
        # Writing to it fails as it does for a closed file.
        closed = open(null, "w", encoding="utf-8")  # noqa: SIM115 (used until the process ends)
        sys.stdout, sys.stderr = sys.stdout or closed, sys.stderr or closed
    out = sys.stdout
    errors = out.errors if isinstance(out, io.TextIOWrapper) else None
    if isinstance(out, io.TextIOWrapper) and errors in ("strict", "surrogateescape"):
        out.reconfigure(errors="backslashreplace")
    try:
        with contextlib.redirect_stderr(cast(TextIO, _Tolerant(sys.stderr))):
            yield
    finally:
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors=errors)
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def tolerate_errors() -> Iterator[None]:
    """Let what is printed to sys.stdout be lost if it cannot be written.

    Raises:
        OSError: at the end, if writing failed, unless the stream is closed or its reader has ended.
    """
    out = _Tolerant(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, out)):
        yield
        out.flush()
    if out.error is not None and out.error.errno not in (errno.EPIPE, errno.EBADF):
        raise out.error


def discard_output(stream: TextIO) -> None:
    """Discard what a stream has not written yet. Otherwise Python would try once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


class _Tolerant:
    """A stream that discards all text after its first error, which it keeps."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                return self.stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.error = error
        discard_output(self.stream)
