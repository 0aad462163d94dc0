"""The reference is what the program says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.cli.verbs import program
from tests.docs.findings import codes_in_source, examples, is_of
from tests.docs.reference import SCHEMAS, commands, write_files
from tests.support.source import name_of

if TYPE_CHECKING:
    from pathlib import Path

    from click import Context

COMMANDS = tuple(commands(program(), "mvmctl"))
FILES = write_files()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_reference_is_what_the_program_says(path: Path) -> None:
    """Help, findings and schemas are as the program writes them, byte for byte (`dev.py reference`)."""
    assert path.read_text("utf-8") == FILES[path]


def test_no_schema_is_left_behind() -> None:
    """Every file in `schema/` is one that is written."""
    assert {path for path in SCHEMAS.iterdir() if path.suffix == ".json"} <= FILES.keys()


def test_every_finding_stands_in_the_reference() -> None:
    """Each code in the source of the policy language has an example, each example a code in the source."""
    written, provoked = codes_in_source(), examples().keys()
    assert len(provoked) > 90
    assert [one for one in sorted(written) if not any(is_of(code, one) for code in provoked)] == []
    assert [code for code in provoked if not any(is_of(code, one) for one in written)] == []


@pytest.mark.parametrize("context", COMMANDS, ids=lambda context: context.command_path.replace(" ", "-"))
def test_every_help_has_an_example(context: Context) -> None:
    """The help of each command ends with lines that somebody may type as they stand."""
    text = context.command.get_help(context)
    _, found, examples = text.partition("Example")
    assert found
    assert f"\n    {context.command_path.split()[0]} " in examples
