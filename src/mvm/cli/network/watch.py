"""`mvmctl network watch`: the flows and denials of a running sandbox, as they happen."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mvm.audit.record import Kind
from mvm.cli import names
from mvm.cli.audit.lines import describe_record
from mvm.cli.following import Following
from mvm.cli.printing import out, print_json_line, printable
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = (
    Kind.FLOW_OPENED,
    Kind.FLOW_CLOSED,
    Kind.GRANT_DECIDED,
    Kind.GRANT_REVOKED,
    Kind.GRANT_EXPIRED,
    Kind.POLICY_CHANGED,
    Kind.RUN_ENDED,
)


@click.command(
    "watch",
    context_settings=HELP,
    epilog=examples("mvmctl network watch agent-sandbox", "mvmctl network watch agent-sandbox --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@click.argument("name", shell_complete=names.running)
def command(name: str, *, as_json: bool) -> None:
    """Show the flows and denials of a running sandbox as they happen, until it has ended.

    A denial is shown once, with the command that would allow it; a failure of the network is shown as
    such. Edits of the policy and grants that expire are shown too.
    """
    from mvm.audit.report import follow_records
    from mvm.audit.state import find_run, state_directory
    from mvm.supervisor.client import Client

    with Client(name, os.environ) as client:
        run = find_run(state_directory(os.environ), str(client.describe()["run"]))
    with Following(run.log, run) as following:
        if following.has_ended:
            raise UsageError(f"the sandbox {name!r} has ended", hint="mvmctl audit show has its record")
        is_new = False

        def wait() -> bool:
            nonlocal is_new
            is_new = True
            _print_heard(following, name, as_json=as_json)
            more = following.wait()
            _print_heard(following, name, as_json=as_json)
            return more

        for record in follow_records(run.log, wait=wait, kinds=_KINDS):
            if is_new:
                _print(str(record["kind"]), record, name, as_json=as_json)


def _print_heard(following: Following, name: str, *, as_json: bool) -> None:
    for message in following.take_heard():
        for event in ("denial", "failure"):
            told = message.get(event)
            if isinstance(told, dict):
                _print(event, told, name, as_json=as_json)


def _print(event: str, told: Mapping[str, object], name: str, *, as_json: bool) -> None:
    if as_json:
        print_json_line({"event": event, **told})
    else:
        out(_describe(event, told, name))
        sys.stdout.flush()


def _describe(event: str, told: Mapping[str, object], name: str) -> str:
    if event == "denial":
        from mvm.supervisor.notices import describe

        return printable(f"{str(told['time'])[11:23]}  denied          {describe(dict(told), of=name)}")
    if event == "failure":
        place = f"{told['host']}:{told['port']}"
        return printable(
            f"              unreachable     {place}: {told['error']} (the network, not the policy)"
        )
    return describe_record(told)
