"""`mvmctl ls`: the sandboxes that run, and those that once did."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli.printing import print_json, print_table
from mvm.cli.verbs import HELP, examples
from mvm.errors import MvmError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Row = dict[str, object]

_ANSWER_SECONDS = 2.0
_LONGEST_COMMAND = 40
_HEADER = ("NAME", "STATUS", "STARTED", "GRANTS", "DENIED", "PORTS", "COMMAND", "RUN")


@click.command("ls", context_settings=HELP, epilog=examples("mvmctl ls", "mvmctl ls -a --json"))
@click.option("-a", "--all", "every", is_flag=True, help="Ended ones too, oldest first.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def command(*, every: bool, as_json: bool) -> None:
    """List sandboxes: name, status, when it started, grants, denials, inbound ports, command, run id.

    A run that did not seal its record, since it crashed or was killed, is `unsealed`.
    """
    rows = list(_running())
    if every:
        rows = [*_ended({str(row["run"]) for row in rows}), *rows]
    if as_json:
        print_json({"schema": "mvm.list/1", "sandboxes": rows})
        return
    print_table(_HEADER, [_cells(row) for row in rows])


def _running() -> Iterator[Row]:
    from mvm.supervisor import registry
    from mvm.supervisor.client import Client

    for name in registry.names(os.environ):
        try:
            with Client(name, os.environ, timeout=_ANSWER_SECONDS) as client:
                described = client.describe()
        except MvmError:  # it has ended since, or its process is stopped: the others are listed all the same
            yield {**_nothing(name), "status": "not answering"}
            continue
        yield {**_nothing(name), **_row_of(described)}


def _nothing(name: str) -> Row:
    members = ("run", "status", "exit_code", "started", "ended", "backend", "pid", "grants", "denials")
    return {"name": name, **dict.fromkeys(members), "ports": [], "command": []}


def _row_of(described: dict[str, object]) -> Row:
    policy, denials = described["policy"], described["denials"]
    assert isinstance(policy, dict), "the supervisor is of this version"
    assert isinstance(denials, list), "the supervisor is of this version"
    return {
        "run": described["run"],
        "status": "running",
        "started": _started(str(described["run"])),
        "backend": described["backend"],
        "pid": described["pid"],
        "grants": len(policy["grants"]),
        "denials": sum(denial["count"] for denial in denials),
        "ports": described["ports"],
        "command": described["command"],
    }


def _started(run: str) -> str | None:
    from mvm.audit.state import find_run, state_directory
    from mvm.cli.history import read_past

    try:
        return read_past(find_run(state_directory(os.environ), run)).started
    except MvmError:
        return None


def _ended(running: set[str]) -> Iterator[Row]:
    from mvm.audit.state import list_runs, state_directory
    from mvm.cli.history import read_past

    for run in list_runs(state_directory(os.environ)):
        if run.id in running:
            continue
        past = read_past(run)
        yield {
            **_nothing(run.name),
            "run": run.id,
            "status": past.outcome,
            "exit_code": past.exit_code,
            "started": past.started,
            "ended": past.ended,
            "backend": past.backend,
            "denials": past.denials,
        }


def _cells(row: Row) -> tuple[str, ...]:
    ports, words = row["ports"], row["command"]
    assert isinstance(ports, list), "made above"
    assert isinstance(words, list), "made above"
    command = " ".join(words)
    code = row["exit_code"]
    return (
        str(row["name"]) or "-",
        str(row["status"]) if code is None else f"{row['status']} ({code})",
        str(row["started"])[:19] if row["started"] else "-",
        _or_dash(row["grants"]),
        _or_dash(row["denials"]),
        ",".join(ports) or "-",
        (command or "-") if len(command) <= _LONGEST_COMMAND else f"{command[: _LONGEST_COMMAND - 1]}…",
        _or_dash(row["run"]),
    )


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
