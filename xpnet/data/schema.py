"""The types of values that were read from JSON or TOML, as Python type hints."""

from collections.abc import Collection
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from xpnet.errors import InputError, choose

__all__ = ["check_table"]

NAMES: dict[Any, str] = {
    **{str: "a text", int: "a whole number", float: "a number", bool: "true or false"},
    **{dict: "a table", list: "a list"},
}
LARGEST = 2**64 - 1  # whole numbers, of uint64


def check_table(table: dict[str, Any], hints: dict[str, Any], *, required: Collection[str] = ()) -> None:
    """Raise InputError unless each key is one of `hints`, its value has that type, and none is missing.

    A list stands for a tuple, and a whole number for a number.
    """
    for key, value in table.items():
        choose("key", key, hints)
        if not _has_type(value, hints[key]):
            raise InputError(f"{key}: expected {_describe_type(hints[key])}, found {_show(value)}")
    for key in required:
        if key not in table:
            raise InputError(f"the key {key} is missing")


def _has_type(value: Any, hint: Any) -> bool:
    if get_origin(hint) is UnionType:
        return value is None or any(_has_type(value, option) for option in get_args(hint))
    if get_origin(hint) in (tuple, list):
        return isinstance(value, list | tuple) and all(_has_type(item, get_args(hint)[0]) for item in value)
    if type(value) is int and hint in (int, float):
        return -LARGEST <= value <= LARGEST
    return hint is object or type(value) is (get_origin(hint) or hint)


def _describe_type(hint: Any) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(_describe_type(option) for option in get_args(hint) if option is not NoneType)
    if get_origin(hint) in (tuple, list):
        noun, of, rest = _describe_type(get_args(hint)[0]).removeprefix("a ").partition(" of ")
        return f"a list of {noun}s{of}{rest}"
    return NAMES[get_origin(hint) or hint]


def _show(value: Any) -> str:
    """Return a value of any length for a message."""
    if isinstance(value, int) and abs(value) > LARGEST:  # Python refuses to print the longest
        return "one with more than 19 digits"
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."
