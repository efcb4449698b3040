"""Recipes: a network and its training as one TOML file, with the figures of its article if it is from one.

title = "..."                                 # of the article, or what it is for
note = "..."                                  # what a reader should know, optional
[options]                                     # the options of `xpnet train`, with _ for -
[printed]                                     # every so many steps, before the update: cost, accuracy in %
every, decimals, lines = 10, 6, [[0.230083, 13.26], ...]
[expected]                                    # figures of metrics.json at the end of the run
test_accuracy = { article = 0.9688, at_least = 0.9688 }      # or near = ..., within = ...
"""

import tomllib
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from xpnet.command.options import DEPENDENTS, NEUTRAL, Options
from xpnet.data import NAMES
from xpnet.errors import InputError, choose
from xpnet.maths.losses import LOSSES

__all__ = ["Expected", "Printed", "Recipe", "load_recipe", "recipe_names"]

_HINTS = get_type_hints(Options)
_FIGURES = [
    f"{part}_{figure}" for part in ("train", "validation", "test") for figure in ("loss", "accuracy", "r2")
]


@dataclass(frozen=True)
class Printed:
    """The lines an article prints: at steps 0, `every`, 2 `every` ... a cost and an accuracy in percent."""

    every: int
    decimals: int
    lines: list[list[float]]


@dataclass(frozen=True)
class Expected:
    """A figure at the end of a run: what the article has, and what counts as the same."""

    article: float
    at_least: float | None = None
    near: float | None = None
    within: float = 0.0

    def __str__(self) -> str:
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "anything" if self.near is None else f"{self.near:g}, give or take {self.within:g}"

    def agrees(self, figure: float) -> bool:
        """Whether this figure counts as the article's."""
        if self.at_least is not None:
            return figure >= self.at_least
        return self.near is None or abs(figure - self.near) <= self.within


@dataclass(frozen=True)
class Recipe:
    """A published network: how to train it, and what is known to come out.

    Attributes:
        name: what `--recipe` was given.
        options: values for fields of `Options`, as TOML holds them; the others keep their defaults.
    """

    name: str
    title: str
    note: str
    options: dict[str, Any]
    printed: Printed | None
    expected: dict[str, Expected]

    def options_with(self, given: dict[str, Any]) -> Options:
        """Return the recipe's options, overridden by those given.

        Raises:
            InputError: the recipe's data file does not exist, or `Options` refuses the outcome.
        """
        dropped = {name for owner in given for name in DEPENDENTS.get(owner, ())}
        options = Options.from_dict({k: v for k, v in self.options.items() if k not in dropped} | given)
        if (
            "data" not in given
            and Path(options.data).suffix
            and not Path(options.data).expanduser().is_file()
        ):
            raise InputError(
                f"{self.name}: options: data: {options.data}: no such file; "
                f"name it from the folder you are in, or give --data FILE or one of {', '.join(NAMES)}"
            )
        return options

    def is_followed_by(self, options: Options) -> bool:
        """Whether a run with these options should come to the recipe's figures."""
        mine, theirs = asdict(Options.from_dict(self.options)), asdict(options)
        return all(mine[name] == theirs[name] for name in mine if name not in NEUTRAL)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with xpnet."""
    names = [file.name for file in _folder().iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name_or_file: str) -> Recipe:
    """Return the recipe of this name, or the one in this `.toml` file.

    Raises:
        InputError: an unknown name, a missing or broken file, an unknown key, a value of the wrong type, or
            one that `Options` refuses; the message names file and key, what was expected and what was found.
    """
    file: Traversable
    if name_or_file.endswith(".toml"):
        file = Path(name_or_file).expanduser()
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    else:
        file = _folder() / f"{choose('recipe', name_or_file, recipe_names())}.toml"
    place = name_or_file
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{place}: not a TOML file: {error}") from None
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror}") from None

    _check(place, content, {"title": str, "note": str, "options": dict, "printed": dict, "expected": dict})
    options = content.get("options", {})
    if options.get("batch_size") == "full":
        options["batch_size"] = None
    _check(f"{place}: options", options, _HINTS)
    expected = content.get("expected", {})
    _check(f"{place}: expected", expected, dict.fromkeys(_FIGURES, dict))
    try:
        classifies = LOSSES[Options.from_dict(options).loss].classifies
    except InputError as error:
        raise InputError(f"{place}: options: {error}") from None
    if "printed" in content and not classifies:
        raise InputError(
            f"{place}: printed: expected a loss of classes, for the cost is one of probabilities"
        )
    return Recipe(
        name_or_file,
        content.get("title", ""),
        content.get("note", "").strip(),
        options,
        _printed(f"{place}: printed", content.get("printed")),
        {name: _expected(f"{place}: expected.{name}", table) for name, table in expected.items()},
    )


def _folder() -> Traversable:
    return files("xpnet.command.recipes")


def _printed(place: str, table: dict[str, Any] | None) -> Printed | None:
    if table is None:
        return None
    _check(place, table, {"every": int, "decimals": int, "lines": list[list[float]]}, required=True)
    if table["every"] < 1 or table["decimals"] < 0 or any(len(line) != 2 for line in table["lines"]):
        raise InputError(
            f"{place}: expected every of at least 1, decimals of at least 0, "
            "and a cost and an accuracy in each line"
        )
    return Printed(**table)


def _expected(place: str, table: dict[str, Any]) -> Expected:
    _check(place, table, get_type_hints(Expected))
    if "article" not in table:
        raise InputError(f"{place}: the key article is missing")
    if "within" in table and "near" not in table:
        raise InputError(f"{place}: within belongs to near, which is missing")
    return Expected(**table)


def _check(place: str, table: dict[str, Any], hints: dict[str, Any], *, required: bool = False) -> None:
    """Raise InputError unless each key of `table` is one of `hints`, and its value of that type."""
    for key, value in table.items():
        try:
            choose("key", key, hints)
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        if not _fits(value, hints[key]):
            raise InputError(f"{place}: {key}: expected {_described(hints[key])}, found {value!r}")
    for key in hints if required else ():
        if key not in table:
            raise InputError(f"{place}: the key {key} is missing")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is UnionType:
        return value is None or any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) in (tuple, list):
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    return type(value) is hint or (hint is float and type(value) is int)


def _described(hint: Any) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(_described(option) for option in get_args(hint) if option is not NoneType)
    if get_origin(hint) in (tuple, list):
        noun, of, rest = _described(get_args(hint)[0]).removeprefix("a ").partition(" of ")
        return f"a list of {noun}s{of}{rest}"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    return names[hint]
