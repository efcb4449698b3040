"""The tables of all subcommands, as Markdown."""


def table(header, alignment, rows):
    """Return the lines of a Markdown table.

    Args:
        header: the titles of the columns.
        alignment: one letter per column, `l` for left or `r` for right.
        rows: for each row its cells, as text.
    """
    rules = {"l": "---", "r": "--:"}
    return [_line(header), "|" + "|".join(rules[letter] for letter in alignment) + "|", *map(_line, rows)]


def _line(cells):
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


# The header of `cells`, after the median.
SPREAD = ("quartiles", "best", "ratio", "quartiles")


def cells(times, ratio, spec=",.0f"):
    """Return [median, quartiles, best, ratio, its quartiles] of two summaries; `spec` formats the times."""
    spread = " - ".join(format(quartile, spec) for quartile in times["quartiles"])
    ratios = " - ".join(f"{quartile:.2f}" for quartile in ratio["quartiles"])
    return [f"{times['median']:{spec}}", spread, f"{times['best']:{spec}}", f"{ratio['median']:.2f}", ratios]


def make_bar(name, measured, bar):
    """Return what was measured beside its bar, the largest value allowed. The two decimals shown decide."""
    return {
        "name": name,
        "measured": measured,
        "bar": bar,
        "met": measured is not None and bool(round(measured, 2) <= bar),
    }


def bar_table(bars):
    """Return the lines of a table of bars, with an empty line before; none without bars."""
    verdicts = {True: "met", False: "missed", None: "undecided"}
    rows = [
        [
            bar["name"],
            "-" if bar["measured"] is None else f"{bar['measured']:.2f}",
            f"<= {bar['bar']:.2f}",
            verdicts[bar["met"]],
        ]
        for bar in bars
    ]
    return ["", *table(["", "measured", "bar", ""], "lrrl", rows)] if rows else []


def count(n, noun):
    """Return a number with its noun, as in "1 row" and "10,000 rows"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
