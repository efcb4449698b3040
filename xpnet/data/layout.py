"""How a text file holds a table: its encoding, its separator, its records."""

import csv
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from xpnet.data.limits import check_file
from xpnet.errors import InputError

__all__ = ["Layout", "detect_layout", "is_number", "parse_decimal_comma", "read_records"]

SAMPLE = 20  # records that decide on the separator
BLOCK = 1 << 22  # characters read at a time


class Layout(NamedTuple):
    """How a text file holds a table.

    Attributes:
        line: the first line that is not blank, counted from 1.
        first: its fields.
    """

    path: str | Path
    encoding: str
    separator: str
    line: int
    first: tuple[str, ...]


def detect_layout(path: str | Path) -> Layout:
    """Find out the encoding and the separator of a text file.

    The separator is the tab, semicolon or comma that gives each of the first 20 rows the same number of
    fields, at least two. Where several do, as with decimal commas, it is the one with more numbers.

    Raises:
        InputError: the file cannot be read or is not text.
    """
    layout = Layout(path, _detect_encoding(path), ",", 1, ())
    samples: dict[str, list[tuple[int, list[str]]]] = {separator: [] for separator in "\t;,"}
    for separator, sample in samples.items():
        with suppress(InputError):  # quotes that end elsewhere than at this separator
            sample.extend(islice(read_records(layout._replace(separator=separator)), SAMPLE))
    separator = max(samples, key=lambda separator: _rate(separator, samples[separator]))
    if not samples[separator]:
        return layout
    line, fields = samples[separator][0]
    return layout._replace(separator=separator, line=line, first=tuple(field.strip() for field in fields))


def _rate(separator: str, sample: list[tuple[int, list[str]]]) -> tuple[bool, float, int]:
    """Return what speaks for a separator: regular rows, the share of numbers, the number of columns."""
    widths = [len(fields) for _, fields in sample] or [0]
    numeric = [is_number(field, separator) for _, fields in sample for field in fields]
    is_regular = len(set(widths)) == 1 and widths[0] > 1
    return is_regular, is_regular and sum(numeric) / len(numeric), widths[0]


def is_number(field: str, separator: str) -> bool:
    """Whether a field is a number, with a decimal comma if commas do not separate fields.

    >>> is_number("1,5", ";"), is_number("1,5", ","), is_number("1_5", ",")
    (True, False, False)
    """
    try:
        float(field) if separator == "," else parse_decimal_comma(field)
    except ValueError:
        return False
    return "_" not in field


def parse_decimal_comma(field: str) -> float:
    """Return the number in a field such as 1,5."""
    return float(field.replace(",", "."))


def read_records(layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line, counted from 1, and the fields of each record that is not blank."""
    path = layout.path
    with open(path, newline="", encoding=layout.encoding) as file:
        reader = csv.reader(file, delimiter=layout.separator, strict=True, skipinitialspace=True)
        try:
            for fields in reader:
                if fields and (len(fields) > 1 or fields[0].strip()):
                    yield reader.line_num, fields
        except csv.Error as error:
            raise InputError(
                f"{path}: line {reader.line_num}: expected fields separated by {layout.separator!r}: {error}"
            ) from error


def _detect_encoding(path: str | Path) -> str:
    """Return UTF-8, UTF-16 where the file starts with its mark, or else what Excel writes: Windows-1252."""
    check_file(path)
    try:
        with open(path, "rb") as binary:
            marked = binary.read(2) in (b"\xff\xfe", b"\xfe\xff")
        for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
            with suppress(UnicodeError), open(path, encoding=encoding, newline="") as file:
                while text := file.read(BLOCK):
                    if "\0" in text:
                        raise InputError(
                            f"{path}: expected text, found a zero byte: save a spreadsheet as CSV (UTF-8)"
                        )
                    if len(text) == BLOCK and "\n" not in text and "\r" not in text:
                        raise InputError(f"{path}: expected rows, found a line of over {BLOCK:,} characters")
                return encoding
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    raise InputError(f"{path}: expected text in UTF-8, found other bytes: save a spreadsheet as CSV (UTF-8)")
