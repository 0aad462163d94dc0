"""How results are printed: JSON for programs, aligned tables for people, plain lines into a pipe.

Owns layout and colour. Must never print a control character that came from elsewhere in a table: it could
move what a person reads.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP = "  "
_PLAIN = "\x1b[0m"
_CODES = {"bold": "\x1b[1m", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}


def out(text: str = "") -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{text}\n")


def err(text: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(f"{text}\n")


def print_json(value: object) -> None:
    """Print one JSON value: on several lines for a person, on one for a program."""
    import json

    indent = 2 if sys.stdout.isatty() else None
    out(json.dumps(value, ensure_ascii=False, indent=indent))


def print_json_line(value: object) -> None:
    """Print one of many JSON values, on a line of its own, at once."""
    import json

    out(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows with their columns aligned; the header only for a person.

    Args:
        header: a title each column.
        rows: as many cells each.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    shown = sys.stdout.isatty()
    titled = [list(header), *cells] if shown else cells
    widths = [max(map(len, column)) for column in zip(*titled, strict=True)]
    for number, row in enumerate(titled):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = _GAP.join(padded).rstrip()
        out(styled(line, "bold") if shown and number == 0 else line)


def printable(text: str) -> str:
    """Spell what a terminal would act on, or can't show."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def styled(text: str, style: str) -> str:
    """Colour a text on stdout, where that is a terminal and nobody said NO_COLOR."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"{_CODES[style]}{text}{_PLAIN}" if wanted else text
