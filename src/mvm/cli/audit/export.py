"""`mvmctl audit export`: records, in a form that other programs read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.printing import err, out, printable
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.audit.state import Run


@click.command(
    "export",
    context_settings=HELP,
    epilog=examples("mvmctl audit export --all --format ocsf", "mvmctl audit export agent-sandbox"),
)
@click.option("--all", "every", is_flag=True, help="Every run.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "ocsf"]),
    default="jsonl",
    show_default=True,
    help="jsonl: the records as they are kept. ocsf: events of the Open Cybersecurity Schema Framework.",
)
@click.argument("which", nargs=-1, metavar="[RUN...]", shell_complete=names.known)
def command(which: tuple[str, ...], *, every: bool, form: str) -> int:
    """Print the records of runs, one JSON object a line.

    Each record is verified first: of a run whose record is bad nothing is printed, and the exit status is 65.
    A run that did not seal its record is printed up to its last whole line, and that is told on stderr.
    """
    from mvm.audit.keys import public_key
    from mvm.audit.report import verify_runs
    from mvm.audit.state import state_directory

    if every == bool(which):
        raise UsageError("name the runs to export, or say --all", hint="mvmctl ls -a lists them")
    directory = state_directory(os.environ)
    results, status = verify_runs(directory, which, key=public_key(directory))
    for result in results:
        if not result.acceptable or not result.verdict.sealed:
            err(f"mvmctl: {printable(result.describe())}")
        if result.acceptable:
            for line in _lines(result.run, form):
                out(line)
    return status


def _lines(run: Run, form: str) -> Iterator[str]:
    from mvm.audit.report import read_records
    from mvm.canonical import encode

    records = read_records(run.log)
    if form == "jsonl":
        yield from (encode(record).decode() for record in records)
        return
    import json

    from mvm.audit.ocsf import to_ocsf

    for event in to_ocsf(records):
        yield json.dumps(event, ensure_ascii=False, separators=(",", ":"))
