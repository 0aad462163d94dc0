"""`docs/reference/mvmctl.md`: the help of every command, as the program prints it.

Owns the page. Run as a program (`python3 dev.py reference`) it writes the page; the test beside it compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.verbs import program
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "reference" / "mvmctl.md"
_WIDTH = 100
_HEAD = """\
# mvmctl

The help of every command, as `mvmctl COMMAND --help` prints it. `python3 dev.py reference` writes this page.
"""


def commands(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """A context for a command and for each command in it, in the order of their help."""
    settings = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield from commands(found, inner, context)


def write_page() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for context in commands(program(), "mvmctl"):
        text = context.command.get_help(context).rstrip()
        parts.append(f"## {context.command_path}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(write_page(), "utf-8")
