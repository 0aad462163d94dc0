"""May this be opened? The only place that makes an `Allowed`, and its last word is a `Denied`.

Owns the running state of one sandbox's policy: which grants stand, since when, and what each
has used. Must never read a clock, a socket or text: names and times come in as arguments.
The dialler takes an `Allowed` and nothing else, so that its parameter type is the lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.policy.addresses import AddressClass, classify
from mvm.terms import HostName, Layer, Protocol, Reason, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mvm.policy.model import Grant, Policy
    from mvm.terms import Address, Host


class Tally:
    """Bytes carried one way under one grant, over all its flows.

    Attributes:
        carried: bytes so far.
        limit: the budget in bytes, or None.
    """

    __slots__ = ("carried", "limit")

    def __init__(self, limit: int | None) -> None:
        self.carried = 0
        self.limit = limit

    @property
    def spent(self) -> bool:
        """Whether the budget is used up."""
        return self.limit is not None and self.carried >= self.limit


class Usage:
    """What one grant has used.

    Attributes:
        since: when the grant took effect, in seconds of the caller's monotonic clock.
        up, down: bytes from and to the workload.
    """

    __slots__ = ("down", "since", "up")

    def __init__(self, since: float, grant: Grant | None = None) -> None:
        self.since = since
        self.up = Tally(None if grant is None else grant.max_up)
        self.down = Tally(None if grant is None else grant.max_down)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Leave to open one flow: made by `Authority` alone.

    Attributes:
        grant: what allows it.
        host: the name to resolve and to expect in the first bytes, or the literal address.
        port: the port to dial.
        usage: what the grant has used so far; the relay adds to it.
    """

    grant: Grant
    host: Host
    port: int
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A refusal and all that is known of what was refused.

    Attributes:
        reason: a stable word.
        layer: where it was seen.
        host: the name asked for, or None.
        address: the address asked for, or None.
        port: 0 where there is none.
        protocol: `tcp`, `udp`, `icmp` or another name; None for a DNS question.
    """

    reason: Reason
    layer: Layer
    host: str | None
    address: str | None
    port: int
    protocol: str | None


Key = tuple["Host", int, Protocol]


class Authority:
    """The standing policy of one sandbox.

    Args:
        policy: what is granted.
        now: when it takes effect, in seconds of a monotonic clock.
    """

    def __init__(self, policy: Policy, now: float) -> None:
        self.policy = policy
        self._grants: dict[Key, Grant] = {}
        self._usage: dict[Key, Usage] = {}
        self._open_usage = Usage(now)
        self._revoked: set[Host] = set()
        self._ports: dict[Host, set[tuple[int, Protocol]]] = {}
        self._below: dict[HostName, list[Grant]] = {}
        self._below_usage: dict[Grant, Usage] = {}
        self.replace(policy, now)

    def replace(self, policy: Policy, now: float) -> tuple[tuple[Grant, ...], tuple[Grant, ...]]:
        """Put another policy in force; a grant that stays as it was keeps its time and its budget.

        Returns:
            The grants that are new or changed, and those that are gone or changed.
        """
        before = self._grants
        after = {(g.host, g.port, g.protocol): g for g in policy.grants if g.depth is None}
        deep = {g: self._below_usage.get(g) or Usage(now, g) for g in policy.grants if g.depth is not None}
        kept = {key for key, grant in after.items() if before.get(key) == grant}
        self._usage = {k: self._usage[k] if k in kept else Usage(now, g) for k, g in after.items()}
        added = [grant for key, grant in after.items() if key not in kept]
        removed = [grant for key, grant in before.items() if key not in kept]
        added += [grant for grant in deep if grant not in self._below_usage]
        removed += [grant for grant in self._below_usage if grant not in deep]
        self._below_usage = deep
        self.policy, self._grants = policy, after
        self._ports, self._below = {}, {}
        for host, port, protocol in after:
            self._ports.setdefault(host, set()).add((port, protocol))
        for grant in policy.grants:
            if grant.depth is not None and isinstance(grant.host, str):
                self._below.setdefault(grant.host, []).append(grant)
        self._revoked = (self._revoked | {g.host for g in removed}) - self._ports.keys()
        return tuple(added), tuple(removed)

    def knows(self, name: str) -> bool:
        """Whether a host name may be asked for: it is granted on some port, or every name is."""
        return name in self._ports or self.policy.unrestricted or bool(self._above(name))

    def ports(self, host: Host) -> frozenset[tuple[int, Protocol]]:
        """The (port, protocol) pairs that stand for a host; empty where it is not named."""
        named = self._ports.get(host, set())
        if isinstance(host, str):
            named = named | {(grant.port, grant.protocol) for grant in self._above(host)}
        return frozenset(named)

    def decide(
        self, *, host: HostName | None, address: Address | None, port: int, protocol: Protocol, now: float
    ) -> Allowed | Denied:
        """Judge one attempt to open a flow.

        Args:
            host: the name that the destination address was given out for, or None for a literal.
            address: the literal destination, or the address given out for the name.
            port: the destination port.
            protocol: the transport.
            now: seconds of the same clock as `replace`.

        Returns:
            Leave to open it, or why not.
        """
        wanted: Host | None = host if host is not None else address
        allowed = self._find(wanted, port, protocol) if wanted is not None else None
        if isinstance(allowed, Allowed):
            spent = self.spent(allowed, now)
            if spent is None:
                return allowed
            return _denied(spent, Layer.QUOTA, host, address, port, protocol)
        if host is None:
            return _denied(self._why_literal(address), Layer(protocol), None, address, port, protocol)
        return _denied(self._why_name(host, port, protocol), Layer(protocol), host, None, port, protocol)

    def spent(self, allowed: Allowed, now: float) -> Reason | None:
        """Why a grant no longer stands (expired, over its budget), or None while it does."""
        grant, usage = allowed.grant, allowed.usage
        if grant.expires is not None and now - usage.since >= grant.expires:
            return Reason.EXPIRED
        return Reason.BUDGET_EXCEEDED if usage.up.spent or usage.down.spent else None

    def expiring(self) -> Iterable[tuple[Grant, Usage]]:
        """The grants that end by themselves, with their standing."""
        yield from ((g, self._usage[k]) for k, g in self._grants.items() if g.expires is not None)
        yield from ((g, u) for g, u in self._below_usage.items() if g.expires is not None)

    def _find(self, host: Host, port: int, protocol: Protocol) -> Allowed | None:
        key = (host, port, protocol)
        grant = self._grants.get(key)
        if grant is not None:
            return Allowed(grant=grant, host=host, port=port, usage=self._usage[key])
        if isinstance(host, str):
            for above in self._above(host):
                if (above.port, above.protocol) == (port, protocol):
                    usage = self._below_usage[above]
                    return Allowed(grant=above, host=host, port=port, usage=usage)
        if self.policy.unrestricted and (isinstance(host, str) or classify(host) is AddressClass.PUBLIC):
            return Allowed(grant=_any_grant(host, port, protocol), host=host, port=port, usage=self._open_usage)
        return None

    def _above(self, name: str) -> list[Grant]:
        found, rest, depth = [], name, 0
        while self._below and "." in rest:
            rest, depth = rest.partition(".")[2], depth + 1
            found += [g for g in self._below.get(HostName(rest), ()) if g.depth is not None and g.depth >= depth]
        return found

    def _why_literal(self, address: Address | None) -> Reason:
        if address is not None and address in self._ports:
            return Reason.PORT_NOT_GRANTED
        if address is not None and address in self._revoked:
            return Reason.REVOKED
        if address is not None and self.policy.unrestricted:
            return Reason.PRIVATE_ADDRESS
        return Reason.ADDRESS_LITERAL

    def _why_name(self, host: HostName, port: int, protocol: Protocol) -> Reason:
        ports = self.ports(host)
        if not ports:
            return Reason.REVOKED if host in self._revoked else Reason.HOST_NOT_GRANTED
        if any(granted == port and other is not protocol for granted, other in ports):
            return Reason.PROTOCOL_NOT_GRANTED
        return Reason.PORT_NOT_GRANTED


def admit(
    allowed: Allowed, candidates: tuple[Address, ...], own: frozenset[Address]
) -> tuple[Address, ...] | Denied:
    """Class every address that a granted name resolved to; one that is not public refuses them all.

    A grant that says `private` admits what is not public, except a metadata service, which only a
    grant of that very address reaches, and what cannot be dialled at all (multicast, unspecified).

    Args:
        allowed: the flow that is about to be dialled.
        candidates: the resolved addresses.
        own: those of the candidates that are the host's own.
    """
    for address in candidates:
        kind = classify(address)
        if kind is AddressClass.PUBLIC and address not in own:
            continue
        literal = allowed.host == address
        never = kind in {AddressClass.MULTICAST, AddressClass.UNSPECIFIED}
        if never or not allowed.grant.private or (kind is AddressClass.METADATA and not literal):
            name = allowed.host if isinstance(allowed.host, str) else None
            layer = Layer(allowed.grant.protocol)
            return _denied(Reason.PRIVATE_ADDRESS, layer, name, address, allowed.port, allowed.grant.protocol)
    return candidates


def _any_grant(host: Host, port: int, protocol: Protocol) -> Grant:
    from mvm.policy.model import Grant

    tls = Tls.REQUIRE if port == 443 and protocol is Protocol.TCP and isinstance(host, str) else Tls.AUTO
    return Grant(host=host, port=port, protocol=protocol, tls=tls, source="--network-preset unrestricted")


def _denied(
    reason: Reason, layer: Layer, host: str | None, address: Address | None, port: int, protocol: str
) -> Denied:
    text = None if address is None else str(address)
    return Denied(reason=reason, layer=layer, host=host, address=text, port=port, protocol=protocol)
