"""What is written by the program about itself: the help of every command, findings, schemas, evidence.

Owns which files: `docs/reference/mvmctl.md`, the table in `docs/reference/policy.md`,
`docs/explanation/evidence.md`, and those in `schema/`.
Run as a program (`python3 dev.py reference [EVIDENCE…]`) it writes them; the test beside it compares.
Files of evidence that are named become the recorded runs.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from mvm.cli.verbs import program
from mvm.policy.schema import schema_documents
from tests.docs.evidence_page import PAGE as EVIDENCE_PAGE
from tests.docs.evidence_page import shown, write_evidence_page
from tests.docs.findings import write_table
from tests.docs.recorded import keep
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = ROOT / "docs" / "reference" / "mvmctl.md"
POLICY_PAGE = ROOT / "docs" / "reference" / "policy.md"
SCHEMAS = ROOT / "schema"
_TABLE = ("<!-- the table is written by `python3 dev.py reference` -->\n\n", "\n<!-- to here -->\n")
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


def write_policy_page() -> str:
    """The page on the policy language as it stands, with its table of findings made anew."""
    before, begins, rest = POLICY_PAGE.read_text("utf-8").partition(_TABLE[0])
    _, ends, after = rest.partition(_TABLE[1])
    assert begins, "the page has no place for the table"
    assert ends, "the table has no end"
    return f"{before}{begins}{write_table()}{ends}{after}"


def write_files() -> dict[Path, str]:
    """The text of every file that is written from the program."""
    schemas = {
        SCHEMAS / name: json.dumps(schema, indent=2) + "\n" for name, schema in schema_documents().items()
    }
    pages = {PAGE: write_page(), POLICY_PAGE: write_policy_page(), EVIDENCE_PAGE: write_evidence_page()}
    return {**pages, **schemas}


if __name__ == "__main__":
    for evidence in sys.argv[1:]:
        keep(evidence, shown())
    for path, text in write_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
