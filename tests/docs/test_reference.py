"""The reference is what the program says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.cli.verbs import program
from tests.docs.reference import PAGE, commands, write_page

if TYPE_CHECKING:
    from click import Context

COMMANDS = tuple(commands(program(), "mvmctl"))


def test_the_reference_is_what_help_prints() -> None:
    """`docs/reference/mvmctl.md` is the help of every command, word for word (`python3 dev.py reference`)."""
    assert PAGE.read_text("utf-8") == write_page()


@pytest.mark.parametrize("context", COMMANDS, ids=lambda context: context.command_path.replace(" ", "-"))
def test_every_help_has_an_example(context: Context) -> None:
    """The help of each command ends with lines that somebody may type as they stand."""
    text = context.command.get_help(context)
    _, found, examples = text.partition("Example")
    assert found
    assert f"\n    {context.command_path.split()[0]} " in examples
