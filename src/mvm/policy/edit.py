"""A standing policy with grants more, or less: what `network allow`, `revoke` or a tool puts in force.

Owns what an edit keeps. Must never change what it was not asked to: other grants, answers, inbound ports.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy.validate import grant_key, merge_grants, policy_of, spell_grant, with_more_static
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.policy.model import Dns, Grant, Policy


def grant_more(policy: Policy, grants: Sequence[Grant]) -> tuple[Policy, tuple[Finding, ...]]:
    """Add grants to a policy; one for the same host, port and protocol stands in place of the one before.

    Args:
        policy: what stands.
        grants: what is added.

    Returns:
        The policy, and what to warn of. Where the policy resolved no names so far, `system` does as soon as
        a name is granted that has no fixed answer, as on the command line of `run`.

    Raises:
        PolicyRefused: two of the grants disagree, or the sum is refused.
    """
    findings: list[Finding] = []
    more = merge_grants(grants, findings)
    if findings:
        raise PolicyRefused(findings)
    anew = {grant_key(grant) for grant in more}
    kept = [grant for grant in policy.grants if grant_key(grant) not in anew]
    return _with(policy, [*kept, *more], _resolving(policy.dns, more))


def grant_tool(policy: Policy, tool: Policy) -> tuple[Policy, tuple[Finding, ...]]:
    """Add what a tool stands for to a policy: its grants, and who resolves where nobody did so far.

    Args:
        policy: what stands.
        tool: the tool's own policy; only its grants and its DNS count.

    Returns:
        As `grant_more`.

    Raises:
        PolicyRefused: the sum is refused.
    """
    dns = policy.dns if policy.dns.mode is not DnsMode.NONE else replace(tool.dns, static=policy.dns.static)
    return grant_more(replace(policy, dns=with_more_static(dns, tool.dns)), tool.grants)


def grant_less(policy: Policy, places: Sequence[Grant]) -> Policy:
    """Take grants out of a policy.

    Args:
        policy: what stands.
        places: host, port and protocol of each grant that goes, with its subdomains where it has them.

    Raises:
        PolicyRefused: one of them is not granted.
    """
    gone = {_place(place) for place in places}
    standing = {_place(grant) for grant in policy.grants}
    absent = [place for place in places if _place(place) not in standing]
    if absent:
        raise PolicyRefused([_not_granted(place) for place in absent])
    kept = [grant for grant in policy.grants if _place(grant) not in gone]
    return _with(policy, kept, policy.dns)[0]


def _place(grant: Grant) -> tuple[str, int, str]:
    return str(grant.host), grant.port, str(grant.protocol)


def _not_granted(place: Grant) -> Finding:
    return Finding(
        code="not-granted",
        path=spell_grant(place),
        message="this is not granted, so that it cannot be revoked",
        hint="`mvmctl network show NAME` lists what is; a UDP grant is written HOST:PORT/udp",
    )


def _resolving(dns: Dns, grants: Sequence[Grant]) -> Dns:
    fixed = {name for name, _ in dns.static}
    if dns.mode is not DnsMode.NONE or all(
        not isinstance(grant.host, str) or grant.host in fixed for grant in grants
    ):
        return dns
    return replace(dns, mode=DnsMode.SYSTEM)


def _with(policy: Policy, grants: Sequence[Grant], dns: Dns) -> tuple[Policy, tuple[Finding, ...]]:
    return policy_of(
        grants=grants,
        dns=dns,
        preset=policy.preset,
        unrestricted=policy.unrestricted,
        forwards=policy.forwards,
        ttl=policy.ttl,
    )
