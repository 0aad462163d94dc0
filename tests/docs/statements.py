"""Security statements in the pages: what they are, and which claims carry them.

    a block of a page (paragraph, list item, row of a table) ─ a strong word in it ─► a statement
    <!-- claim: no-route, rules-are-not-the-boundary --> at its end ─► carried by these claims

A strong word is one that promises for every case (`never`, `only`, `nothing`, `cannot` …) or by its meaning
(`isolated`, `safe`, `prevents` …); words in code are names, and promise nothing. What promises
nothing about safety, or says a limit aloud, stands in `reviewed.txt` with its page and its words, so that a
person has read it once; a word changed in it asks for that again.

Owns the reading of pages for this. Must never judge whether a sentence is true: its claim's tests do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tests.support.source import ROOT, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REVIEWED = ROOT / "tests" / "docs" / "reviewed.txt"
_STRONG = re.compile(
    r"\b(never|cannot|can't|can not|only|nothing|nobody|no way|none|always|impossible|unreachable|denied|"
    r"refused|refuses|exactly|must|alone|nowhere|stays? closed|isolate[sd]?|safe|safely|secure|securely|"
    r"blocks|blocked|prevents?|prevented|protects?|protected|guarantees?|guaranteed|ensures?|"
    r"no (?!longer\b|more\b|less\b|matter\b))\b",
    re.IGNORECASE,
)
_MARK = re.compile(r"<!-- claim: ([a-z0-9, -]+) -->")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CODE = re.compile(r"`[^`]*`")
_WRITTEN = re.compile(r"<!-- the table is written by .*?<!-- to here -->", re.DOTALL)
_FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_NOT_READ = (
    "docs/reference/mvmctl.md",
    "docs/explanation/evidence.md",
    "docs/explanation/benchmarks.md",
    "docs/explanation/performance.md",
)
"""What programs write, and speed: what these promise stands elsewhere too."""


class Statement(NamedTuple):
    """A block that promises something.

    Attributes:
        page: where it stands.
        text: its words, on one line, without marks.
        claims: the claims that carry it.
    """

    page: str
    text: str
    claims: tuple[str, ...]


def pages() -> list[Path]:
    """Every page that people write."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if not name_of(page).startswith(_NOT_READ)]


def statements(page: str, text: str) -> Iterator[Statement]:
    """The statements of one page."""
    for block in _blocks(_WRITTEN.sub("", _FENCE.sub("", text))):
        marked = tuple(word.strip() for mark in _MARK.findall(block) for word in mark.split(","))
        words = " ".join(_COMMENT.sub("", block).split())
        if words and not words.startswith("#") and (marked or _STRONG.search(_CODE.sub("", words))):
            yield Statement(page, words, marked)


def _blocks(text: str) -> Iterator[str]:
    """Paragraphs; of a list its items, of a table its rows."""
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"\n(?=\s*[-*] |\s*\d+\. |\|)", paragraph)


def reviewed() -> set[tuple[str, str]]:
    """Page and words of each statement that a person has found to claim nothing."""
    lines = REVIEWED.read_text("utf-8").splitlines()
    parts = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {(page, words) for page, _, words in parts}
