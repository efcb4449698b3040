"""The command `xpnet`, also as `python -m xpnet`."""

import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command in a process of its own and return its exit status."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        # A module that is being imported may catch an exception, or turn it into another one.
        signal.signal(signal.SIGINT, _stop)
    from xpnet.command.cli import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(argv)


def _stop(*_: object) -> None:
    print("\nStopped", file=sys.stderr, flush=True)
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
