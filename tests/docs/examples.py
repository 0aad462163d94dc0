"""Examples in the documentation that say of themselves that they run: found, and compared with what happens.

```console runs      `$ ` begins a command; what stands below is what it prints (stdout, then stderr),
$ mvmctl run …       `…` alone on a line is any number of lines, inside a line anything,
…                    `[6]` at the end is its exit status
[6]
```

The commands of a block run one after another, in one directory and on one record.

A block with ```LANGUAGE file=NAME is a file that stands where the examples below it on its page are run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^```(?:(console|python) runs|\w+ file=([\w.-]+))\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_STATUS = re.compile(r"\[(\d+)\]")


class Example(NamedTuple):
    """One command, or one piece of Python.

    Attributes:
        place: `file:line`.
        language: `console` or `python`.
        text: the command without its prompt, or the program.
        prints: what it prints, with the wildcards.
        status: how it ends.
        files: by name, what stands beside it.
        before: the commands above it in its block, without their prompts.
    """

    place: str
    language: str
    text: str
    prints: tuple[str, ...]
    status: int
    files: dict[str, str]
    before: tuple[str, ...] = ()


def examples() -> Iterator[Example]:
    """All of them, in the order of the pages."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield from examples_of(page.read_text("utf-8"), str(page.relative_to(ROOT)))


def examples_of(text: str, page: str) -> Iterator[Example]:
    """Those of one page."""
    files: dict[str, str] = {}
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 2
        language, name, inside = block.groups()
        if name is not None:
            files = {**files, name: inside}
        elif language == "python":
            yield Example(f"{page}:{line}", "python", inside, (), 0, files)
        else:
            yield from _commands(page, line, inside, files)


def _commands(page: str, line: int, text: str, files: dict[str, str]) -> Iterator[Example]:
    before: tuple[str, ...] = ()
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        place, line = f"{page}:{line}", line + part.count("\n")
        command, *below = part.rstrip("\n").split("\n")
        status = _STATUS.fullmatch(below[-1]) if below else None
        prints = below[:-1] if status else below
        ends = int(status[1]) if status else 0
        yield Example(place, "console", command, tuple(prints), ends, files, before)
        before = (*before, command)


def pattern(prints: tuple[str, ...]) -> str:
    """The regular expression that what was printed must match as a whole."""
    parts = (
        "(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in prints
    )
    return "".join(parts)
