"""`mvmctl capability list`: the tools of a file, and where each leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import print_json, print_table
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.policy.capability import Capability

_HEADER = ("TOOL", "DESTINATION", "PORTS", "TTL", "REASON")


@click.command(
    "list",
    context_settings=HELP,
    epilog=examples("mvmctl capability list tools.json", "mvmctl capability list tools.json --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON, with the digest of each.")
@click.argument("file", metavar="FILE", type=click.Path())
def command(file: str, *, as_json: bool) -> None:
    """List the tools of a capability file: destinations, expected ports, life time and reason.

    A line each destination; a tool that may reach nothing has one without.
    """
    from mvm.cli.capability.use import read_tools

    tools = read_tools(file)
    if as_json:
        listed = [_to_json(capability) for capability in tools.capabilities]
        print_json({"schema": "mvm.tools/1", "tools": listed})
        return
    print_table(_HEADER, [row for capability in tools.capabilities for row in _rows(capability)])


def _to_json(capability: Capability) -> dict[str, object]:
    from mvm.policy.document import policy_digest
    from mvm.policy.parse import grant_to_json

    policy = capability.policy
    return {
        "tool": capability.tool,
        "digest": policy_digest(policy),
        "dns": policy.dns.mode,
        "ports": list(capability.ports),
        "destinations": [{**grant_to_json(grant), "source": grant.source} for grant in policy.grants],
    }


def _rows(capability: Capability) -> Iterator[tuple[str, ...]]:
    from mvm.policy.quantities import format_duration
    from mvm.policy.validate import spell_grant

    ports = ",".join(map(str, capability.ports)) or "-"
    for grant in capability.policy.grants:
        ttl = "-" if grant.expires is None else format_duration(grant.expires)
        yield capability.tool, spell_grant(grant), ports, ttl, grant.reason or "-"
    if not capability.policy.grants:
        yield capability.tool, "-", ports, "-", "-"
