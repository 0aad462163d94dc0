"""`mvmctl compile`: what a Python file declares, as canonical JSON."""

from __future__ import annotations

import sys

import click

from mvm.cli.verbs import HELP, examples


@click.command(
    "compile",
    context_settings=HELP,
    epilog=examples("mvmctl compile app.py"),
)
@click.argument("file", metavar="APP.py", type=click.Path())
def command(file: str) -> None:
    """Print the sandboxes that a Python file declares, as canonical JSON (RFC 8785), one line.

    The file is read and never imported: a declaration is made of literals, constants of the module, lists,
    dictionaries, f-strings of these, and mvm's own words. Anything else in one is refused, with its line and
    column and status 65. Importing the module gives the same bytes.
    """
    from mvm.canonical import encode
    from mvm.compile.module import read_program
    from mvm.supervisor.documents import read_text

    text = read_text(file, kind="file", hint="name a Python file")
    data = encode(read_program(text, path=file).to_json())
    sys.stdout.flush()
    sys.stdout.buffer.write(data + b"\n")
