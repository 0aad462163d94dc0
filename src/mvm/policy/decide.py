"""May this be opened? The only place that makes an `Allowed`, and its last word is a `Denied`.

Owns the running state of one sandbox's policy: which grants stand, since when, and what each
has used. Must never read a clock, a socket or text: names and times come in as arguments.
The dialler takes an `Allowed` and nothing else, so that its parameter type is the lock.

    a new policy has                            the grant's time and budget   its open flows
    the same grant                              go on                         go on
    the same, but for its reason and the like   go on                         go on
    another expiry or budget, or it is to be    begin anew                    go on
    granted anew
    another `tls` or `private`                  begin anew                    are to end
    no such grant                               -                             are to end
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from mvm.policy.addresses import AddressClass, classify
from mvm.terms import HostName, Layer, Protocol, Reason, Tls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mvm.policy.model import Grant, Policy
    from mvm.terms import Address, Host

_MOST_REVOKED = 4096


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
    def left(self) -> int | None:
        """How many bytes the budget still allows, or None where there is none."""
        return None if self.limit is None else max(0, self.limit - self.carried)


class Usage:
    """What one grant has used, shared by all its flows.

    Attributes:
        since: when the grant took effect, in seconds of the caller's monotonic clock.
        expires: seconds after that at which it ends, or None.
        up, down: bytes from and to the workload.
        over: set by whoever has recorded that it has ended by itself.
    """

    __slots__ = ("down", "expires", "over", "since", "up")

    def __init__(self, since: float, grant: Grant | None = None) -> None:
        self.up, self.down = Tally(None), Tally(None)
        self.begin(since, grant)

    def begin(self, since: float, grant: Grant | None) -> None:
        """Count from now, by the grant's limits; flows that are open count on here."""
        self.since, self.over = since, False
        self.expires = None if grant is None else grant.expires
        self.up.carried = self.down.carried = 0
        self.up.limit = None if grant is None else grant.max_up
        self.down.limit = None if grant is None else grant.max_down

    def spent(self, now: float) -> Reason | None:
        """Why the grant no longer stands (expired, over its budget), or None while it does."""
        if self.expires is not None and now - self.since >= self.expires:
            return Reason.EXPIRED
        return Reason.BUDGET_EXCEEDED if 0 in {self.up.left, self.down.left} or self.over else None


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


class Candidate(NamedTuple):
    """An address that a granted name resolved to, with what is known of it.

    Attributes:
        kind: where it leads, after unwrapping.
        own: whether it is one of this machine's own.
    """

    address: Address
    kind: AddressClass
    own: bool


Place = tuple["Host", int, Protocol]
_Key = tuple["Host", int, Protocol, int | None]
_Standing = dict[_Key, tuple["Grant", Usage]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What putting a policy in force means, before it is done.

    Attributes:
        policy: the one to be put in force.
        granted: grants that are new, or said anew.
        revoked: grants that are gone, or stand no longer as they did.
        ended: what the flows belong to that are to end.
    """

    policy: Policy
    granted: tuple[Grant, ...]
    revoked: tuple[Grant, ...]
    ended: tuple[Usage, ...]
    standing: _Standing
    renewed: tuple[tuple[Usage, Grant], ...]


class Authority:
    """The standing policy of one sandbox.

    Args:
        policy: what is granted.
        now: when it takes effect, in seconds of a monotonic clock.
    """

    def __init__(self, policy: Policy, now: float) -> None:
        self._standing: _Standing = {}
        self._anywhere = Usage(now)
        self._revoked: dict[Host, set[tuple[int, Protocol]]] = {}
        self.policy = replace(policy, grants=(), unrestricted=False)
        self.apply(self.plan(policy, now), now)

    def plan(self, policy: Policy, now: float, anew: Collection[Grant] = ()) -> Change:
        """Compare another policy with the one in force; nothing changes yet.

        Args:
            policy: what is to be granted.
            now: when, in seconds of the monotonic clock.
            anew: grants of it whose time and budget are to begin again even where they stand already.
        """
        standing: _Standing = {}
        granted: list[Grant] = []
        revoked: list[Grant] = []
        ended: list[Usage] = []
        renewed: list[tuple[Usage, Grant]] = []
        for grant in policy.grants:
            key = (grant.host, grant.port, grant.protocol, grant.depth)
            before, usage = self._standing.get(key, (None, None))
            if before is None or usage is None:
                usage = Usage(now, grant)
            elif (before.tls, before.private) != (grant.tls, grant.private):
                revoked.append(before)
                ended.append(usage)
                usage = Usage(now, grant)
            elif grant in anew or _limits(before) != _limits(grant):
                renewed.append((usage, grant))
            elif before == grant:
                standing[key] = (grant, usage)
                continue
            standing[key] = (grant, usage)
            granted.append(grant)
        for key, (before, usage) in self._standing.items():
            if key not in standing:
                revoked.append(before)
                ended.append(usage)
        if self.policy.unrestricted and not policy.unrestricted:
            ended.append(self._anywhere)
        return Change(
            policy=policy,
            granted=tuple(granted),
            revoked=tuple(revoked),
            ended=tuple(ended),
            standing=standing,
            renewed=tuple(renewed),
        )

    def apply(self, change: Change, now: float) -> None:
        """Put it in force."""
        for usage, grant in change.renewed:
            usage.begin(now, grant)
        self.policy, self._standing = change.policy, change.standing
        if any(usage is self._anywhere for usage in change.ended):
            self._anywhere = Usage(now)
        self._allowed: dict[Place, Allowed] = {}
        self._places: dict[Host, set[tuple[int, Protocol]]] = {}
        self._above: dict[Host, list[tuple[Grant, Usage]]] = {}
        for (host, port, protocol, depth), standing in change.standing.items():
            if depth is None:
                self._places.setdefault(host, set()).add((port, protocol))
            else:
                self._above.setdefault(host, []).append(standing)
        for grant in change.revoked:
            self._revoked.setdefault(grant.host, set()).add((grant.port, grant.protocol))
        for grant in change.granted:
            self._revoked.get(grant.host, set()).discard((grant.port, grant.protocol))
        while len(self._revoked) > _MOST_REVOKED:
            del self._revoked[next(iter(self._revoked))]

    def knows(self, name: HostName) -> bool:
        """Whether a host name may be asked for: it is granted on some port, or every name is."""
        return name in self._places or self.policy.unrestricted or bool(self._from_above(name))

    def names(self, host: Host | None, port: int, protocol: Protocol) -> bool:
        """Whether a grant names this very place."""
        return host is not None and (host, port, protocol, None) in self._standing

    def ports(self, host: Host) -> frozenset[tuple[int, Protocol]]:
        """The (port, protocol) pairs granted for a host that have not ended by themselves."""
        named = {
            (port, protocol)
            for port, protocol in self._places.get(host, ())
            if not self._standing[host, port, protocol, None][1].over
        }
        above = {(g.port, g.protocol) for g, usage in self._from_above(host) if not usage.over}
        return frozenset(named | above)

    @property
    def literals(self) -> Iterable[Address]:
        """The addresses that are granted as such."""
        return (host for host in self._places if not isinstance(host, str))

    @property
    def ending(self) -> Iterable[tuple[Grant, Usage]]:
        """The grants that end by themselves at some time and have not yet."""
        return ((g, u) for g, u in self._standing.values() if u.expires is not None and not u.over)

    @property
    def grants(self) -> Iterable[tuple[Grant, Usage]]:
        """All grants with what they have used, those too that have ended by themselves."""
        return self._standing.values()

    def decide(
        self, *, host: HostName | None, address: Address | None, port: int, protocol: Protocol, now: float
    ) -> Allowed | Denied:
        """Judge one attempt to open a flow.

        Args:
            host: the name that the destination address was given out for, or None for a literal.
            address: the literal destination, or the address given out for the name.
            port: the destination port.
            protocol: the transport.
            now: seconds of the same clock as `plan`.

        Returns:
            Leave to open it, or why not.
        """
        wanted: Host | None = host if host is not None else address
        allowed = self._find(wanted, port, protocol) if wanted is not None else None
        if isinstance(allowed, Allowed):
            spent = allowed.usage.spent(now)
            if spent is None:
                return allowed
            why, layer = spent, Layer.QUOTA
        elif host is None:
            why, layer = self._why_literal(address, port, protocol), Layer(protocol)
        else:
            why, layer = self._why_name(host, port, protocol), Layer(protocol)
        literal = address if host is None else None
        return _denied(why, layer, host=host, address=literal, port=port, protocol=protocol)

    def _find(self, host: Host, port: int, protocol: Protocol) -> Allowed | None:
        allowed = self._allowed.get((host, port, protocol))
        if allowed is not None:
            return allowed
        named = self._standing.get((host, port, protocol, None))
        if named is not None:
            allowed = Allowed(grant=named[0], host=host, port=port, usage=named[1])
            self._allowed[host, port, protocol] = allowed
            return allowed
        for grant, usage in self._from_above(host):
            if (grant.port, grant.protocol) == (port, protocol):
                return Allowed(grant=grant, host=host, port=port, usage=usage)
        if self.policy.unrestricted and (isinstance(host, str) or classify(host) is AddressClass.PUBLIC):
            grant = _any_grant(host, port, protocol)
            return Allowed(grant=grant, host=host, port=port, usage=self._anywhere)
        return None

    def _from_above(self, host: Host) -> list[tuple[Grant, Usage]]:
        """The grants of subdomains that a name falls under."""
        found: list[tuple[Grant, Usage]] = []
        if not self._above or not isinstance(host, str):
            return found
        depth, rest = 0, host.partition(".")[2]
        while rest:
            depth += 1
            for grant, usage in self._above.get(HostName(rest), ()):
                if grant.depth is not None and grant.depth >= depth:
                    found.append((grant, usage))
            rest = rest.partition(".")[2]
        return found

    def _why_literal(self, address: Address | None, port: int, protocol: Protocol) -> Reason:
        if address is not None and (address in self._places or address in self._revoked):
            return self._why_port(address, port, protocol)
        return Reason.PRIVATE_ADDRESS if self.policy.unrestricted else Reason.ADDRESS_LITERAL

    def _why_name(self, host: HostName, port: int, protocol: Protocol) -> Reason:
        if self.ports(host) or host in self._places or host in self._revoked:
            return self._why_port(host, port, protocol)
        return Reason.HOST_NOT_GRANTED

    def _why_port(self, host: Host, port: int, protocol: Protocol) -> Reason:
        ports = self.ports(host) | self._places.get(host, set())
        if not ports or (port, protocol) in self._revoked.get(host, ()):
            return Reason.REVOKED
        if any(granted == port and other is not protocol for granted, other in ports):
            return Reason.PROTOCOL_NOT_GRANTED
        return Reason.PORT_NOT_GRANTED


def _limits(grant: Grant) -> tuple[object, ...]:
    return grant.expires, grant.max_up, grant.max_down


def candidates(addresses: Iterable[Address], own: Collection[Address] = ()) -> tuple[Candidate, ...]:
    """Class resolved addresses, once for all flows that are dialled with them.

    Args:
        addresses: in the order of preference.
        own: those of them that are this machine's own.
    """
    return tuple(Candidate(address, classify(address), address in own) for address in addresses)


def admit(allowed: Allowed, found: tuple[Candidate, ...]) -> tuple[Candidate, ...] | Denied:
    """Judge every address that a granted name resolved to; one that is not public refuses them all.

    A grant that says `private` admits what is not public, except a metadata service, which only a
    grant of that very address reaches, and what cannot be dialled at all (multicast, unspecified).

    Args:
        allowed: the flow that is about to be dialled.
        found: the resolved addresses.
    """
    for address, kind, own in found:
        if kind is AddressClass.PUBLIC and not own:
            continue
        never = kind in {AddressClass.MULTICAST, AddressClass.UNSPECIFIED}
        stranger = kind is AddressClass.METADATA and allowed.host != address
        if never or stranger or not allowed.grant.private:
            name = allowed.host if isinstance(allowed.host, str) else None
            port, protocol = allowed.port, allowed.grant.protocol
            why, layer = Reason.PRIVATE_ADDRESS, Layer(protocol)
            return _denied(why, layer, host=name, address=address, port=port, protocol=protocol)
    return found


def _any_grant(host: Host, port: int, protocol: Protocol) -> Grant:
    from mvm.policy.model import Grant

    tls = Tls.REQUIRE if port == 443 and protocol is Protocol.TCP and isinstance(host, str) else Tls.AUTO
    return Grant(host=host, port=port, protocol=protocol, tls=tls, source="--network-preset unrestricted")


def _denied(
    why: Reason, layer: Layer, *, host: str | None, address: Address | None, port: int, protocol: str
) -> Denied:
    text = None if address is None else str(address)
    return Denied(reason=why, layer=layer, host=host, address=text, port=port, protocol=protocol)
