"""How the command line writes the command that was typed, counts, percentages and losses."""

import re
import shlex
import sys
from pathlib import Path

from xpnet.errors import format_count

__all__ = [
    "escape",
    "format_command",
    "format_count",
    "format_loss",
    "format_message",
    "format_percent",
    "format_score",
]


_LONG_WORD = re.compile(r"(\S{300})\S+")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def format_command(name: str = "") -> str:
    """Return how to call `xpnet <name>` in the way in which this process was started.

    One of `xpnet train`, `python -m xpnet train` and `python scripts/train.py`.
    """
    program = Path(sys.argv[0])
    python = Path(sys.executable or "python").name.removesuffix(".exe")
    if name and program.name in ("train.py", "predict.py", "export.py"):
        return f"{python} {shlex.quote(str(program.with_name(name + '.py')))}"
    if (program.parent.name, program.name) == ("xpnet", "__main__.py"):
        return f"{python} -m xpnet {name}".rstrip()
    return f"xpnet {name}".rstrip()


def escape(text: object, *, keep: str = "") -> str:
    r"""Return text in which characters that control a terminal are written as `\u001b`, as in JSON.

    They are control characters, those that change the direction of text, and surrogates. Text from files may
    have them: names of classes, columns and files, titles of recipes, answers of servers.

    Args:
        keep: characters to leave as they are, such as a line break in a message.

    >>> print(escape("a\x1b[2Jb"))
    a\u001b[2Jb
    """
    return _CONTROLS.sub(lambda match: match[0] if match[0] in keep else f"\\u{ord(match[0]):04x}", str(text))


def format_message(error: object) -> str:
    """Return the text of an error or a warning, escaped but for line breaks, with long words cut short."""
    return _LONG_WORD.sub(r"\1...", escape(error, keep="\n"))


def format_percent(share: float, *, exact: bool = False) -> str:
    """Return a share of 1 as a percentage with two decimals, or more where `exact` and it has more."""
    rounded = f"{100 * share:.2f}"
    return f"{max(rounded, f'{100 * share:.6g}', key=len) if exact else rounded} %"


def format_loss(loss: float) -> str:
    """Return a loss with four decimals, or with four digits where it is huge."""
    return f"{loss:.4f}" if abs(loss) < 1e5 else f"{loss:.4g}"


def format_score(score: float, name: str) -> str:
    """Return an accuracy as a percentage and any other score with four decimals."""
    return format_percent(score) if name == "accuracy" else f"{score:.4f}"
