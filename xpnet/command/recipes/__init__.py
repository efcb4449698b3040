"""Recipes: a network and its training in one TOML file, with the results of its article if it is from one.

title = "..."                                 # of the article, or what the recipe is for
note = "..."                                  # optional, what a reader should know
[options]                                     # the options of `xpnet train`, with _ for -
[printed]                                     # cost and accuracy in %, before the update of every n-th step
every, decimals, lines = 10, 6, [[0.230083, 13.26], ...]
[expected]                                    # values in metrics.json at the end of the run
test_accuracy = { article = 0.9688, at_least = 0.9688 }      # or near = ..., within = ...
"""

import os
import tomllib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_type_hints

from xpnet.command.formats import format_percent
from xpnet.command.options import NEUTRAL, Options, override, update_names
from xpnet.data.loading import NAMES
from xpnet.data.schema import check_table
from xpnet.errors import InputError, choose
from xpnet.maths.losses import LOSSES

__all__ = ["Expected", "Printed", "Recipe", "format_result", "load_recipe", "recipe_names"]

MOST_DECIMALS = 17  # a float64 has no more
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
    """A result at the end of a run: the article's value, and the tolerance of the comparison."""

    article: float
    at_least: float | None = None
    near: float | None = None
    within: float = 0.0

    @property
    def has_tolerance(self) -> bool:
        """Whether there is anything to compare with."""
        return self.at_least is not None or self.near is not None

    def describe(self, name: str) -> str:
        """Return which values of the result `name` agree with the article's."""
        if self.at_least is not None:
            return f"at least {format_result(self.at_least, name)}"
        if self.near is None:
            return "any value"
        within = f"{100 * self.within:g} %" if name.endswith("accuracy") else f"{self.within:g}"
        return f"{format_result(self.near, name)} ± {within}"

    def agrees(self, value: float) -> bool:
        """Whether this value agrees with the article's."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.near is None or abs(value - self.near) <= self.within


def format_result(value: float, name: str) -> str:
    """Return an accuracy as a percentage and any other result as a number."""
    return format_percent(value, exact=True) if name.endswith("accuracy") else f"{value:.6g}"


@dataclass(frozen=True)
class Recipe:
    """A network, how to train it, and the results to expect.

    Attributes:
        name: the argument of `--recipe`.
        options: values for fields of `Options`, as TOML holds them; the others keep their defaults.
    """

    name: str
    title: str
    note: str
    options: dict[str, Any]
    printed: Printed | None
    expected: dict[str, Expected]

    def override(self, given: dict[str, Any]) -> Options:
        """Return the recipe's options, overridden by those given.

        Raises:
            InputError: the recipe's data file does not exist, or `Options` raises it.
        """
        options = Options.from_dict(override(self.options, given))
        if (
            "data" not in given
            and Path(options.data).suffix
            and not Path(os.path.expanduser(options.data)).is_file()
        ):
            raise InputError(
                f"{self.name}: options: data: {options.data}: no such file; "
                f"give a path relative to the current folder, or --data FILE or one of {', '.join(NAMES)}"
            )
        return options

    def is_followed_by(self, options: Options) -> bool:
        """Whether a run with these options should give the recipe's results."""
        mine, theirs = asdict(Options.from_dict(self.options)), asdict(options)
        return all(mine[name] == theirs[name] for name in mine if name not in NEUTRAL)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with xpnet."""
    names = [file.name for file in _get_folder().iterdir()]
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_recipe(name_or_file: str) -> Recipe:
    """Return the recipe of this name, or the one in this `.toml` file.

    Raises:
        InputError: an unknown name, a missing or broken file, an unknown key, a value of the wrong type, or
            one for which `Options` raises it; the message names file and key, what was expected and found.
    """
    file: Traversable
    if name_or_file.endswith(".toml"):
        file = Path(os.path.expanduser(name_or_file))
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    else:
        file = _get_folder() / f"{choose('recipe', name_or_file, recipe_names())}.toml"
    place = name_or_file
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of the text, of TOML, or of a number of 5,000 digits
        raise InputError(f"{place}: not a TOML file: {error}") from None
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror}") from None

    _check(place, content, {"title": str, "note": str, "options": dict, "printed": dict, "expected": dict})
    options = update_names(content.get("options", {}))
    if options.get("batch_size") == "full":
        options["batch_size"] = None
    expected = content.get("expected", {})
    _check(f"{place}: expected", expected, dict.fromkeys(_FIGURES, dict))
    try:
        classifies = LOSSES[Options.from_dict(options).loss].classifies
    except InputError as error:
        raise InputError(f"{place}: options: {error}") from None
    if "printed" in content and not classifies:
        raise InputError(
            f"{place}: printed: expected a classification loss, because the cost is one of probabilities"
        )
    return Recipe(
        name_or_file,
        content.get("title", ""),
        content.get("note", "").strip(),
        options,
        _read_printed(f"{place}: printed", content.get("printed")),
        {name: _read_expected(f"{place}: expected.{name}", table) for name, table in expected.items()},
    )


def _get_folder() -> Traversable:
    return files("xpnet.command.recipes")


def _read_printed(place: str, table: dict[str, Any] | None) -> Printed | None:
    if table is None:
        return None
    hints = {"every": int, "decimals": int, "lines": list[list[float]]}
    _check(place, table, hints, required=hints)
    is_positive = table["every"] >= 1 and 0 <= table["decimals"] <= MOST_DECIMALS
    if not is_positive or any(len(line) != 2 for line in table["lines"]):
        raise InputError(
            f"{place}: expected every of at least 1, decimals from 0 to {MOST_DECIMALS}, "
            "and a cost and an accuracy in each line"
        )
    return Printed(**table)


def _read_expected(place: str, table: dict[str, Any]) -> Expected:
    _check(place, table, get_type_hints(Expected), required=["article"])
    if "within" in table and "near" not in table:
        raise InputError(f"{place}: within belongs to near, which is missing")
    return Expected(**table)


def _check(
    place: str, table: dict[str, Any], hints: dict[str, Any], *, required: Collection[str] = ()
) -> None:
    try:
        check_table(table, hints, required=required)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
