"""The page that mvm began with, taken apart: its commands, its declarations, its JSON and its rules.

Owns the reading of `vectors/page/network-egress-policy.txt`, a copy of the page as it was published. Must
never mend what stands there: it is typed as it is written.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "tests" / "vectors" / "page" / "network-egress-policy.txt"
_TEXT = PAGE.read_text("utf-8")


def commands() -> list[tuple[str, ...]]:
    """The words of each command, in the order of the page."""
    return [tuple(shlex.split(text.replace("\\\n", " "))) for text in _blocks(r"^mvmctl (?:.*\\\n)*.*$")]


def declarations() -> list[str]:
    """Each declaration: an argument of a call, as it is written."""
    return list(_blocks(r"^network=(?:.*\(\n(?:.*\n)*?\)$|.*\)$)"))


def capability() -> str:
    """The JSON of a capability."""
    (text,) = _blocks(r"^\{\n(?:.+\n)*\}$")
    return text


def rules(title: str) -> list[str]:
    """The bullets below a line that begins with `title`, each as a name for a test: words and underscores."""
    lines = _TEXT.partition(f"\n{title}")[2].split("\n\n", 2)[1].splitlines()
    return [re.sub(r"\W+", "_", line.lower()).strip("_") for line in lines if line.strip()]


def _blocks(pattern: str) -> Iterator[str]:
    for match in re.finditer(pattern, _TEXT, re.MULTILINE):
        yield match[0]
