"""`mvmctl audit verify`: whether records are what was written."""

from __future__ import annotations

import os

import click

from mvm.cli import names
from mvm.cli.printing import out, print_json, printable, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError


@click.command(
    "verify",
    context_settings=HELP,
    epilog=examples("mvmctl audit verify --all", "mvmctl audit verify agent-sandbox --sealed"),
)
@click.option("--all", "every", is_flag=True, help="Every run.")
@click.option("--sealed", is_flag=True, help="Let nothing pass that was not sealed.")
@click.option(
    "--key", metavar="FILE", help="The public key (PEM) to check seals with, not this machine's own."
)
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
@click.argument("which", nargs=-1, metavar="[RUN...]", shell_complete=names.known)
def command(which: tuple[str, ...], *, every: bool, sealed: bool, key: str | None, as_json: bool) -> int:
    """Check that no record was changed, cut, reordered or removed, and that each seal is right.

    Exits 0 if all are good, 65 if one is bad; its first bad line is named. A run that did not seal its
    record, since it still runs or crashed, is good up to its last whole line, and 65 with --sealed.
    """
    from mvm.audit.keys import public_key, read_public_key
    from mvm.audit.report import verify_runs
    from mvm.audit.state import state_directory

    if every == bool(which):
        raise UsageError("name the runs to verify, or say --all", hint="mvmctl ls -a lists them")
    directory = state_directory(os.environ)
    found = public_key(directory) if key is None else read_public_key(key)
    if key is not None and found is None:
        raise UsageError(f"there is no public key {key}", hint="it is keys/verify.pem of the state directory")
    results, status = verify_runs(directory, which, key=found, sealed=sealed)
    if as_json:
        runs = [result.to_json() for result in results]
        print_json({"schema": "mvm.verification/1", "ok": status == 0, "runs": runs})
        return status
    for result in results:
        line = printable(result.describe())
        out(line if result.acceptable else styled(line, "red"))
    return status
