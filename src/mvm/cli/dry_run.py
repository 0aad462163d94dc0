"""What `--dry-run` prints: the resolved policy, each part with its source, and the plan.

Owns the layout and the object `mvm.plan/1`. Nothing is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.cli.policy_options import working_directory
from mvm.cli.printing import out, print_json, printable

if TYPE_CHECKING:
    from mvm.cli.sandbox_options import Wanted
    from mvm.policy.resolve import Resolved
    from mvm.supervisor.prepare import Prepared

SCHEMA = "mvm.plan/1"


def print_dry_run(wanted: Wanted, *, as_json: bool) -> None:
    """Print what would be done.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable: it would be refused.
    """
    from mvm.supervisor.prepare import dry_run

    prepared = dry_run(wanted.request, wanted.environ, working_directory())
    if as_json:
        print_json(to_json(wanted, prepared))
        return
    for line in describe_policy(wanted.resolved):
        out(line)
    for finding in prepared.request.warnings:
        out(f"  warning: {printable(finding.message)}")
    for title, lines in prepared.plan.describe():
        out(title)
        for line in lines:
            out(f"  {printable(line)}")


def to_json(wanted: Wanted, prepared: Prepared) -> dict[str, object]:
    """Give the object `mvm.plan/1`."""
    from mvm.policy.report import finding_to_json

    return {
        "schema": SCHEMA,
        "policy": policy_with_sources(wanted.resolved),
        "warnings": [finding_to_json(finding) for finding in prepared.request.warnings],
        "profile": None if wanted.request.profile is None else wanted.request.profile.to_json(),
        "command": list(prepared.request.argv),
        "flake": wanted.request.flake,
        "image": {"kind": prepared.image.kind, "digest": prepared.image.digest},
        "plan": [{"step": title, "lines": list(lines)} for title, lines in prepared.plan.describe()],
    }


def policy_with_sources(resolved: Resolved) -> dict[str, object]:
    """Give a policy as JSON in which each part says where it came from."""
    from mvm.policy.document import policy_digest, policy_to_json
    from mvm.policy.parse import grant_to_json

    policy = resolved.policy
    return {
        "digest": policy_digest(policy),
        "grants": [{**grant_to_json(grant), "source": grant.source} for grant in policy.grants],
        "preset": str(policy.preset),
        "unrestricted": policy.unrestricted,
        "document": policy_to_json(policy),
        "sources": dict(resolved.sources),
    }


def describe_policy(resolved: Resolved) -> list[str]:
    """Write a policy for people, each part with its source."""
    from mvm.policy.document import policy_digest
    from mvm.policy.parse import format_dns, format_duration, format_forward, format_grant

    policy, sources = resolved.policy, resolved.sources
    rows = [("preset", str(policy.preset), sources[".network.preset"])]
    rows += [("allow", format_grant(grant), grant.source) for grant in policy.grants]
    if policy.unrestricted:
        rows.append(("allow", "every public host, by name", sources[".network.preset"]))
    rows.append(("dns", format_dns(policy.dns), sources[".network.dns"]))
    rows += [("answer", f"{name} = {', '.join(map(str, found))}", "") for name, found in policy.dns.static]
    for number, forward in enumerate(policy.forwards):
        rows.append(("inbound", format_forward(forward), sources[f".network.ports[{number}]"]))
    if policy.ttl is not None:
        rows.append(("ttl", format_duration(policy.ttl), sources[".network.ttl"]))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"policy {policy_digest(policy)}"]
    for kind, what, source in rows:
        line = f"  {kind:<{widths[0]}}  {printable(what):<{widths[1]}}"
        lines.append(f"{line}  from {printable(source)}" if source else line.rstrip())
    return lines
