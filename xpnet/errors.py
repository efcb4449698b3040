"""The errors that xpnet raises. The command line prints their messages and sets the exit status."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BackendError",
    "DivergenceError",
    "InputError",
    "OutOfMemoryError",
    "choose",
    "find_nearest",
    "format_count",
]

# Names that other libraries use.
SYNONYMS = {
    # losses
    "mse": "squared_error",
    "l2_loss": "squared_error",
    "mae": "absolute_error",
    "l1": "absolute_error",
    "l1_loss": "absolute_error",
    "smooth_l1": "huber",
    "ce": "softmax_cross_entropy",
    "crossentropy": "softmax_cross_entropy",
    "cross_entropy": "softmax_cross_entropy",
    "categorical_crossentropy": "softmax_cross_entropy",
    "sparse_categorical_crossentropy": "softmax_cross_entropy",
    "log_loss": "softmax_cross_entropy",
    "nll": "softmax_cross_entropy",
    "nll_loss": "softmax_cross_entropy",
    "softmax": "softmax_cross_entropy",
    "bce": "logistic_cross_entropy",
    "binary_crossentropy": "logistic_cross_entropy",
    "binary_cross_entropy": "logistic_cross_entropy",
    # activations
    "sigmoid": "logistic",
    "linear": "identity",
    # initial distributions
    "xavier": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
    "kaiming": "he_normal",
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
    # devices and dtypes
    "gpu": "cuda",
    "half": "float32",
    "float16": "float32",
    "bfloat16": "float32",
    "fp16": "float32",
    "fp32": "float32",
    "single": "float32",
    "double": "float64",
    "fp64": "float64",
    # options
    "--gpu": "--device",
    "--learning-rate": "--lr",
    "--layers": "--hidden",
    "--solver": "--optimizer",
}


class InputError(ValueError):
    """Invalid input: an unknown name, a damaged file, or data that does not fit."""


class BackendError(RuntimeError):
    """No array library on this machine supports what was requested."""


class DivergenceError(ArithmeticError):
    """The loss or the parameters became infinite or NaN during training."""


class OutOfMemoryError(MemoryError):
    """The device does not have enough memory. The message says how much is needed, and what to try."""


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is one of `valid`.

    Raises:
        InputError: `name` is not valid. The message suggests the nearest valid name and lists all of them.

    >>> choose("loss", "mse", ["squared_error"])
    Traceback (most recent call last):
        ...
    xpnet.errors.InputError: unknown loss 'mse'. Did you mean 'squared_error'? Choose from squared_error
    """
    names = list(valid)
    if name in names:
        return name
    nearest = find_nearest(name, names)
    hint = "" if nearest is None else f"Did you mean {nearest!r}? "
    raise InputError(f"unknown {kind} {name!r}. {hint}Choose from {', '.join(names)}")


def find_nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that `name` most likely stands for, or None if nothing is similar.

    `name` may be a synonym, an abbreviation or a misspelling.

    >>> find_nearest("--epoch", ["--lr", "--epochs"])
    '--epochs'
    """
    names = {name.lower(): name for name in valid}
    given = name.lower()
    for synonym in (given, given.replace("-", "_")):
        if synonym in SYNONYMS:  # a similar spelling would mislead: softplus is not softmax
            return names.get(SYNONYMS[synonym])
    longer = [known for known in names if known.startswith(given)]
    close = longer if len(longer) == 1 else get_close_matches(given, names, n=1)
    return names[close[0]] if close else None


def format_count(n: int, noun: str) -> str:
    """Return a number with its noun, such as `1 epoch` or `2,050 steps`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
