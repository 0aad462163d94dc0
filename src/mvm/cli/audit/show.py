"""`mvmctl audit show`: the record of one run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.audit.record import Kind
from mvm.cli import names
from mvm.cli.audit.lines import describe_record
from mvm.cli.printing import out, print_json_line
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from mvm.audit.state import Run

kinds_option = click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([str(kind) for kind in Kind]),
    metavar="KIND",
    help="Only records of this kind: flow.denied, dns.denied, grant.decided, … May be repeated.",
)


@click.command(
    "show",
    context_settings=HELP,
    epilog=examples("mvmctl audit show", "mvmctl audit show agent-sandbox --kind flow.denied --json"),
)
@kinds_option
@click.option("--json", "as_json", is_flag=True, help="Print each record as a line of JSON, as it is kept.")
@click.argument("which", required=False, metavar="[RUN]", shell_complete=names.known)
def command(which: str | None, *, kinds: tuple[str, ...], as_json: bool) -> None:
    """Show the record of a run: grants, names, flows and denials, in their order.

    RUN is a run id or its beginning, or the name of a sandbox, which means its newest run; left out, the
    newest run of all. Times are UTC. The record is shown as it stands; `audit verify` judges it.
    """
    from mvm.audit.report import read_records

    run = find(which)
    for record in read_records(run.log, kinds=kinds):
        if as_json:
            print_json_line(record)
        else:
            out(describe_record(record))


def find(which: str | None) -> Run:
    """Find a run, the newest where none is named."""
    from mvm.audit.state import find_run, list_runs, state_directory

    directory = state_directory(os.environ)
    if which is not None:
        return find_run(directory, which)
    runs = list_runs(directory)
    if not runs:
        raise UsageError("there is no record of any run yet", hint="mvmctl run -- CMD makes one")
    return runs[-1]
