"""What one policy allows that another does not: by meaning, not by text.

Owns the comparison. Must never compare reasons, sources or spellings: two policies that open the same things
do not differ here, whatever is said about why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.policy.parse import format_dns, format_duration, format_forward, format_size
from mvm.policy.validate import spell_grant
from mvm.terms import DnsMode, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mvm.policy.model import Dns, Grant, Policy
    from mvm.terms import HostName

_LOOSENESS = {Tls.REQUIRE: 0, Tls.AUTO: 1, Tls.OFF: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """One thing that a policy allows beyond another.

    Attributes:
        kind: `unrestricted`, `grant`, `dns`, `answer`, `port` or `ttl`.
        subject: what is allowed, as people write it.
        details: how it goes further, where the other policy allows some of it; else empty.
        source: where it comes from, or an empty string.
    """

    kind: str
    subject: str
    details: tuple[str, ...] = ()
    source: str = ""

    def to_json(self) -> dict[str, object]:
        """Give it as an object of its attributes."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "details": list(self.details),
            "source": self.source,
        }


def excess(policy: Policy, over: Policy) -> tuple[Excess, ...]:
    """Say what a policy allows that another does not.

    Args:
        policy: the one that may allow more.
        over: the one that it is held against.

    Returns:
        Nothing where whatever `policy` allows `over` allows too; else each thing once, grants in their order.
    """
    found = []
    if policy.unrestricted and not over.unrestricted:
        found.append(Excess(kind="unrestricted", subject="every public host, every port"))
    found += _of_grants(policy.grants, over)
    found += _of_dns(policy, over)
    theirs = {(str(one.address), one.host_port): one.guest_port for one in over.forwards}
    for forward in policy.forwards:
        if theirs.get((str(forward.address), forward.host_port)) != forward.guest_port:
            found.append(Excess(kind="port", subject=format_forward(forward)))
    if over.ttl is not None and (policy.ttl is None or policy.ttl > over.ttl):
        subject = "no end" if policy.ttl is None else f"a life time of {format_duration(policy.ttl)}"
        found.append(Excess(kind="ttl", subject=subject, details=(f"not {format_duration(over.ttl)}",)))
    return tuple(found)


def as_text(more: Sequence[Excess], sign: str) -> str:
    """Write each thing on a line behind a sign (`+`, `-`); an empty string for none."""
    lines = []
    for one in more:
        details = f" ({', '.join(one.details)})" if one.details else ""
        source = f"  # {one.source}" if one.source else ""
        lines.append(f"{sign} {one.kind} {one.subject}{details}{source}\n")
    return "".join(lines)


# ---- grants


def _of_grants(grants: Iterable[Grant], over: Policy) -> Iterable[Excess]:
    by_host: dict[object, list[Grant]] = {}
    for other in over.grants:
        by_host.setdefault(other.host, []).append(other)
    for grant in grants:
        if over.unrestricted and _is_anybodys(grant):
            continue
        near = [other for other in _near(grant, by_host) if _is_same_place(grant, other)]
        beyond = [tuple(_beyond(grant, other)) for other in near]
        if () not in beyond:
            details = min(beyond, key=len) if beyond else ()
            subject = _spell(grant)
            yield Excess(kind="grant", subject=subject, details=details, source=grant.source)


def _spell(grant: Grant) -> str:
    depth = "" if grant.depth is None else f" and names up to {grant.depth} labels below, not itself"
    return f"{spell_grant(grant)}{depth}"


def _is_anybodys(grant: Grant) -> bool:
    """Tell a grant that an unrestricted policy allows anyway: TLS as the port has it, no private address."""
    from mvm.policy.addresses import AddressClass, classify
    from mvm.policy.fields import default_tls

    if grant.private or _LOOSENESS[grant.tls] > _LOOSENESS[default_tls(grant.port, grant.protocol)]:
        return False
    return isinstance(grant.host, str) or classify(grant.host) is AddressClass.PUBLIC


def _near(grant: Grant, by_host: dict[object, list[Grant]]) -> Iterable[Grant]:
    """Give the other policy's grants of the same host, and of the names that it lies below."""
    yield from by_host.get(grant.host, ())
    rest = grant.host if isinstance(grant.host, str) else ""
    while "." in rest:
        rest = rest.partition(".")[2]
        yield from by_host.get(rest, ())


def _is_same_place(grant: Grant, other: Grant) -> bool:
    if (grant.port, grant.protocol) != (other.port, other.protocol):
        return False
    if other.depth is None:
        return grant.depth is None and grant.host == other.host
    assert isinstance(grant.host, str), "only names have subdomains, and only names lie below one"
    below = grant.host.count(".") - str(other.host).count(".")
    return below + (grant.depth or 0) <= other.depth and (below > 0 or grant.depth is not None)


def _beyond(grant: Grant, other: Grant) -> Iterable[str]:
    if grant.private and not other.private:
        yield "private addresses too"
    if _LOOSENESS[grant.tls] > _LOOSENESS[other.tls]:
        yield f"tls {grant.tls}, not {other.tls}"
    if other.expires is not None and (grant.expires is None or grant.expires > other.expires):
        lasts = "without an end" if grant.expires is None else f"for {format_duration(grant.expires)}"
        yield f"{lasts}, not for {format_duration(other.expires)}"
    for way, ours, theirs in (
        ("up", grant.max_up, other.max_up),
        ("down", grant.max_down, other.max_down),
    ):
        if theirs is not None and (ours is None or ours > theirs):
            much = "without a budget" if ours is None else format_size(ours)
            yield f"{much} {way}, not {format_size(theirs)}"


# ---- DNS


def _of_dns(policy: Policy, over: Policy) -> Iterable[Excess]:
    """Tell who else may learn names and say where they lead; less DNS than the other's is no excess."""
    ours, theirs = policy.dns, over.dns
    if ours.mode is not DnsMode.NONE and format_dns(ours) != format_dns(theirs):
        yield Excess(kind="dns", subject=format_dns(ours), details=(f"not {format_dns(theirs)}",))
    fixed = _answers(theirs)
    for name, found in _answers(ours).items():
        more = [address for address in found if address not in fixed.get(name, ())]
        if more:
            yield Excess(kind="answer", subject=f"{name} is {', '.join(more)}")


def _answers(dns: Dns) -> dict[HostName, tuple[str, ...]]:
    return {name: tuple(map(str, found)) for name, found in dns.static}
