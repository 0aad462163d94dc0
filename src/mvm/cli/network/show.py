"""`mvmctl network show`: what a running sandbox may reach, where that came from, and what is left of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.printing import out, print_json, print_table, printable
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from mvm.policy.model import Grant, Policy

    Standing = dict[str, object]


@click.command("show", context_settings=HELP, epilog=examples("mvmctl network show agent-sandbox"))
@click.option("--json", "as_json", is_flag=True, help="Print the policy as JSON.")
@click.argument("name", shell_complete=names.running)
def command(name: str, *, as_json: bool) -> None:
    """Show what a running sandbox may reach.

    Each grant with what is left of its time and budget, and where it came from.
    """
    from mvm.supervisor.client import Client, policy_of_description

    with Client(name, os.environ) as client:
        described = client.describe()
    if as_json:
        print_json({"schema": "mvm.network/1", **described})
        return
    _print(described, policy_of_description(described))


def _print(described: dict[str, object], policy: Policy) -> None:
    from mvm.policy.parse import format_dns, format_forward

    digest, standing = described["policy"], described["standing"]
    assert isinstance(digest, dict), "the supervisor is of this version"
    assert isinstance(standing, list), "the supervisor is of this version"
    out(f"policy {digest['digest']} of {described['name']}, run {described['run']}")
    profile = described["profile"]
    if isinstance(profile, dict):
        said = [
            f"{key} {value}" for key, value in profile.items() if isinstance(value, str) and key != "name"
        ]
        out(printable("profile " + ", ".join([str(profile["name"]), *said])))
    out(f"dns {format_dns(policy.dns)}")
    for host, found in policy.dns.static:
        out(f"answer {host} = {', '.join(map(str, found))}")
    for forward in policy.forwards:
        out(f"inbound {format_forward(forward)}")
    if policy.unrestricted:
        out("every public host is open, by name")
    if not policy.grants:
        out("no host is granted" if not policy.unrestricted else "no host is granted by name")
    rows = [_cells(grant, usage) for grant, usage in zip(policy.grants, standing, strict=True)]
    print_table(("GRANT", "TIME LEFT", "BUDGET LEFT", "FROM"), rows)


def _cells(grant: Grant, usage: Standing) -> tuple[str, str, str, str]:
    from mvm.policy.parse import format_grant

    return format_grant(grant), _time_left(usage), _budget_left(grant, usage), printable(grant.source) or "-"


def _time_left(usage: Standing) -> str:
    from mvm.policy.parse import format_duration
    from mvm.terms import Seconds

    left = usage["left_s"]
    if left is None:
        return "-"
    seconds = float(str(left))
    return format_duration(Seconds(max(1, round(seconds)))) if seconds > 0 else "expired"


def _budget_left(grant: Grant, usage: Standing) -> str:
    limits = (("up", grant.max_up, usage["up"]), ("down", grant.max_down, usage["down"]))
    parts = [
        f"{max(0, most - int(str(used)))} of {most} {way}" for way, most, used in limits if most is not None
    ]
    return ", ".join(parts) or "-"
