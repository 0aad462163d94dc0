"""What stands in one sandbox: the policy in force, the addresses of its names, and the kernel's keys.

    edit     plan ─► record ─► authority, resolver, keys ─► flows of what is gone reset
    expiry   a time ─► record ─► keys ─► flows reset
    budget   used up mid-flow ─► keys ─► flows reset
    lookup   a granted name ─► record ─► keys ─► its addresses

Owns the order of these. Where the record can't be written, nothing is granted, and what was to be
taken away is taken away all the same.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from mvm.audit.record import Kind
from mvm.errors import AuditError
from mvm.gateway import door
from mvm.kernel.sockets import plain
from mvm.policy.decide import Authority, Denied
from mvm.terms import PORTAL, Layer, Protocol, Reason

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable

    from mvm.gateway.book import Book
    from mvm.gateway.loop import Loop, Timer
    from mvm.gateway.names import Names
    from mvm.gateway.resolve import HostResolver
    from mvm.policy.decide import Allowed, Change, Usage
    from mvm.policy.model import Grant, Policy
    from mvm.terms import Address, HostName

PORTAL_PORT = 80


class Standing:
    """The grants of one sandbox in force.

    Args:
        policy: what is granted at first.
        loop: who waits for expiries.
        rules: the door's, for its keys.
        names: the addresses given out.
        resolver: who resolves; its DNS policy follows that of the edits.
        book: the record.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        loop: Loop,
        rules: socket.socket,
        names: Names,
        resolver: HostResolver,
        book: Book,
    ) -> None:
        self._loop, self._rules, self._names, self._resolver, self._book = loop, rules, names, resolver, book
        self.authority = Authority(policy, monotonic())
        self._keys: set[bytes] = set(door.EVERY_HOST if policy.unrestricted else ())
        self._answered: set[HostName] = set()
        self._timer: Timer | None = None
        self._steer()
        self._wait_for_expiry()

    # ---- judging

    def decide(self, address: str, port: int, protocol: Protocol) -> Allowed | Denied:
        """Judge a flow by the destination that the workload gave, as a dual-stack socket writes it."""
        host = self._names.host(address)
        literal = None if host is not None else plain(address)
        if self._book.broken is None:
            return self.authority.decide(
                host=host, address=literal, port=port, protocol=protocol, now=monotonic()
            )
        return Denied(
            reason=Reason.REVOKED,
            layer=Layer(protocol),
            host=host,
            address=None if literal is None else str(literal),
            port=port,
            protocol=protocol,
        )

    def names(self, address: str, port: int, protocol: Protocol) -> bool:
        """Whether a grant names this very destination."""
        return self.authority.names(self._names.host(address) or plain(address), port, protocol)

    def lookup(self, host: HostName) -> tuple[Address, Address] | Reason:
        """The addresses that stand for a name, if it may be asked for; recorded before they are given."""
        if host != PORTAL and not (self._book.broken is None and self.authority.knows(host)):
            return Reason.REVOKED if self._book.broken is not None else Reason.HOST_NOT_GRANTED
        pair = self._names.pair(host)
        if pair is None:
            return Reason.BUDGET_EXCEEDED
        if host == PORTAL:
            return pair
        if not self._book.answered(host, [str(address) for address in pair]):
            return Reason.REVOKED
        if host not in self._answered:
            self._answered.add(host)
            self._edit_keys(self._keys_of(host, pair) - self._keys, set())
        return pair

    # ---- edits

    def replace(self, policy: Policy, *, by: str, anew: Collection[Grant] = ()) -> tuple[int, int]:
        """Put another policy in force: recorded before it takes effect, flows of what is gone reset.

        Args:
            policy: all that is granted from now on.
            by: one word for who did it, for the record.
            anew: grants whose time and budget begin again even where they stand already.

        Returns:
            How many grants are new or said anew, and how many are gone.

        Raises:
            AuditError: it can't be recorded; nothing new is granted.
        """
        change = self.authority.plan(policy, monotonic(), anew)
        ended = self._book.flows_of(change.ended)
        try:
            self._record(change, by)
        except AuditError:
            self._book.revoke(ended, Reason.REVOKED)
            raise
        self.authority.apply(change, monotonic())
        self._resolver.use(policy.dns)
        self._steer()
        self._book.revoke(ended, Reason.REVOKED)
        self._wait_for_expiry()
        return len(change.granted), len(change.revoked)

    def _record(self, change: Change, by: str) -> None:
        from mvm.policy.document import policy_digest
        from mvm.policy.grants import grant_to_record

        after = policy_digest(change.policy)
        self._book.write(
            Kind.POLICY_CHANGED,
            before=policy_digest(self.authority.policy),
            after=after,
            by=by,
            preset=change.policy.preset,
            unrestricted=change.policy.unrestricted,
            grants=len(change.policy.grants),
            added=len(change.granted),
            removed=len(change.revoked),
        )
        for grant in change.revoked:
            self._book.write(Kind.GRANT_REVOKED, **_place(grant), by=by, policy=after)
        for grant in change.granted:
            self._book.write(Kind.GRANT_DECIDED, **grant_to_record(grant), by=by, policy=after)

    # ---- grants that end by themselves

    def _wait_for_expiry(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = [
            usage.since + usage.expires for _, usage in self.authority.ending if usage.expires is not None
        ]
        if ends:
            self._timer = self._loop.at(min(ends), self._expire)

    def _expire(self) -> None:
        now = monotonic()
        self._timer = None
        for grant, usage in tuple(self.authority.ending):
            if usage.expires is not None and now - usage.since >= usage.expires:
                self._retire(usage, Reason.EXPIRED, grant)
        self._wait_for_expiry()

    def use_up(self, usage: Usage) -> None:
        """A budget was found to be used up: it is over with the grant, for all of its flows."""
        if not usage.over:
            self._retire(usage, Reason.BUDGET_EXCEEDED, None)

    def _retire(self, usage: Usage, reason: Reason, expired: Grant | None) -> None:
        usage.over = True
        flows = self._book.flows_of((usage,))
        if expired is not None:
            self._book.note(Kind.GRANT_EXPIRED, **_place(expired), flows=len(flows))
        self._steer()
        self._book.revoke(flows, reason)

    # ---- keys

    def _steer(self) -> None:
        """Bring the kernel's keys to what the policy says now."""
        wanted = self._keys_at(PORTAL_PORT, Protocol.TCP, self._names.pair(PORTAL) or ())
        if self.authority.policy.unrestricted:
            wanted |= set(door.EVERY_HOST)
        for address in self.authority.literals:
            wanted |= self._keys_of(address, (address,))
        for host in self._names.given:
            wanted |= self._keys_of(host, self._names.pair(host) or ())
        self._edit_keys(wanted - self._keys, self._keys - wanted)

    def _keys_of(self, host: HostName | Address, addresses: Iterable[Address]) -> set[bytes]:
        found: set[bytes] = set()
        for port, protocol in self.authority.ports(host):
            found |= self._keys_at(port, protocol, addresses)
        return found

    @staticmethod
    def _keys_at(port: int, protocol: Protocol, addresses: Iterable[Address]) -> set[bytes]:
        return {door.key(address, protocol, port) for address in addresses}

    def _edit_keys(self, add: set[bytes], remove: set[bytes]) -> None:
        self._keys |= add
        self._keys -= remove
        try:
            door.edit(self._rules, add, remove)
        except OSError:
            return  # somebody with the sandbox owner's rights took the table; nothing leaves even so

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _place(grant: Grant) -> dict[str, object]:
    return {"host": str(grant.host), "port": grant.port, "protocol": grant.protocol}
