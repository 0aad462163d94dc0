"""`mvmctl down`: sandboxes ended and cleaned up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.printing import out, print_json
from mvm.cli.verbs import HELP, examples
from mvm.errors import MvmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.supervisor.client import Client


@click.command(
    "down", context_settings=HELP, epilog=examples("mvmctl down agent-sandbox", "mvmctl down --all")
)
@click.option("--all", "every", is_flag=True, help="Stop every sandbox of this user.")
@click.option(
    "--time",
    "grace",
    type=click.FloatRange(0, 86_400),
    default=10.0,
    show_default=False,
    metavar="SECONDS",
    help="How long its first command may take to end after SIGTERM; 10 if left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results of the sandboxes as JSON.")
@click.argument("which", nargs=-1, metavar="[NAME...]", shell_complete=names.running)
def command(which: tuple[str, ...], *, every: bool, grace: float, as_json: bool) -> int:
    """Stop sandboxes: SIGTERM to the first command, then an end to everything, and nothing left behind.

    Prints the names of those that have ended.
    """
    from mvm.supervisor import registry

    if every == bool(which):
        raise UsageError("name the sandboxes to stop, or say --all", hint="mvmctl ls lists them")
    wanted = registry.names(os.environ) if every else list(dict.fromkeys(which))
    results, failure = _stop(wanted, grace)
    if as_json:
        print_json({"schema": "mvm.stopped/1", "sandboxes": list(results.values())})
    else:
        for name in results:
            out(name)
    if failure is not None:
        raise failure
    return 0


def _stop(wanted: Sequence[str], grace: float) -> tuple[dict[str, dict[str, object]], MvmError | None]:
    """Ask them all, then wait for each, so that their times of grace pass side by side."""
    from mvm.supervisor.client import Client

    failure: MvmError | None = None
    clients: dict[str, Client] = {}
    for name in wanted:
        try:
            clients[name] = Client(name, os.environ, timeout=grace + 10)
            clients[name].say({"do": "stop", "grace": grace})
        except MvmError as error:
            failure = error
    results: dict[str, dict[str, object]] = {}
    for name, client in clients.items():
        with client:
            try:
                results[name] = client.result()
            except MvmError as error:
                failure = error
    return results, failure
