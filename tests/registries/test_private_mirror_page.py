"""The how-to page on private mirrors says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.registries.discover import discover

from .machine import names

if TYPE_CHECKING:
    from .machine import Machine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "private-mirror.md"
INTRODUCTION = re.compile(r"^(\w+).*?, in `~/([^`]+)`", re.DOTALL)
COMMANDS = {"Maven": "mvn"}


def examples() -> list[tuple[str, str, str]]:
    """Give each example's tool, file and text."""
    parts = PAGE.read_text("utf-8").split("```")
    found = []
    for before, block in zip(parts[::2], parts[1::2], strict=False):
        match = INTRODUCTION.search(before.strip().rpartition("\n\n")[2])
        if match:
            found.append((COMMANDS.get(match[1], match[1]), match[2], block.partition("\n")[2]))
    return found


def test_every_tool_with_a_file_has_an_example() -> None:
    """The page has one example for each tool that it names."""
    assert [tool for tool, _, _ in examples()] == ["pip", "uv", "npm", "cargo", "go", "gem", "mvn"]


@pytest.mark.parametrize(("tool", "name", "text"), examples())
def test_example_leaves_the_mirror_only(machine: Machine, tool: str, name: str, text: str) -> None:
    """With the page's file in the home, the tool's only host is the mirror."""
    before = {found.tool: found for found in discover(machine.environ, machine.project)}[tool]
    if not before.present:
        pytest.skip(before.note)
    machine.write(name, text)
    after = {found.tool: found for found in discover(machine.environ, machine.project)}[tool]
    assert names(after) == {"https://mirror.example:8443"}
    assert names(before).isdisjoint(names(after))
