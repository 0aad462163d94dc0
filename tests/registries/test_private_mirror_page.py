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
EXAMPLE = re.compile(
    r"^(\w+)[^\n]*, in `~/([^`]+)`[^`]*(?:`[^`]*`[^`]*)*?\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMANDS = {"Maven": "mvn"}


def examples() -> list[tuple[str, str, str]]:
    """Give each example's tool, file and text."""
    return [
        (COMMANDS.get(tool, tool), name, text)
        for tool, name, text in EXAMPLE.findall(PAGE.read_text("utf-8"))
    ]


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
