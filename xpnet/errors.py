"""What xpnet raises at its border. The command line turns these into a sentence and an exit code."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["INSTALL_PLOT", "BackendError", "DivergenceError", "InputError", "choose"]

# What installs matplotlib and Pillow, in a clone: there is no package of this name to install from an index.
INSTALL_PLOT = 'pip install -e ".[plot]"'


class InputError(ValueError):
    """Something the caller gave cannot be used: an unknown name, a broken file, data that does not fit."""


class BackendError(RuntimeError):
    """No array library can do what was asked for on this machine."""


class DivergenceError(ArithmeticError):
    """The loss or the parameters stopped being finite during training."""


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is one of `valid`.

    Raises:
        InputError: otherwise; the message lists the valid names and the closest match.

    >>> choose("optimizer", "adm", ["sgd", "adam"])
    Traceback (most recent call last):
        ...
    xpnet.errors.InputError: unknown optimizer 'adm': did you mean 'adam'? Choose from sgd, adam
    """
    names = list(valid)
    if name in names:
        return name
    close = get_close_matches(name.lower(), [valid.lower() for valid in names], n=1)
    hint = "".join(f"did you mean {valid!r}? " for valid in names if [valid.lower()] == close)
    raise InputError(f"unknown {kind} {name!r}: {hint}Choose from {', '.join(names)}")
