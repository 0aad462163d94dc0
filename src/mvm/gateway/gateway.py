"""One sandbox's gateway: holds the door's sockets outside of it, and opens what the policy allows.

    listener ─► TcpFlow · DnsStream · PortalVisit      udp ─► questions · UdpFlow
                 │ allowed and recorded
                 └─► dial ─► relay                     standing: edits, expiry, the kernel's keys
    whatever was denied ─► refusals                    book: what the record is told

Owns the parts and their end. If it ends, nothing passes. What only a flow needs is imported with the first
one: most commands never open any, and a start would pay for it.
"""

from __future__ import annotations

from operator import methodcaller
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway.book import BY_SANDBOX, Book
from mvm.gateway.deadlines import CONNECT_SECONDS, FIRST_FLIGHT_SECONDS, QUESTION_SECONDS, Deadlines
from mvm.gateway.farewell import Farewells
from mvm.gateway.listener import Listener
from mvm.gateway.names import POOLS, Names
from mvm.gateway.refusals import Refusals
from mvm.gateway.resolve import HostResolver
from mvm.gateway.standing import Standing
from mvm.gateway.udp import UdpDoor

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Protocol

    from mvm.audit.denial import Denial
    from mvm.audit.log import Log
    from mvm.errors import AuditError
    from mvm.gateway.dial import Dial
    from mvm.gateway.dns import DnsStream
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.failure import Failure
    from mvm.gateway.loop import Loop, Timer
    from mvm.gateway.names import Pools
    from mvm.gateway.portal import PortalVisit
    from mvm.gateway.relay import Pipes
    from mvm.gateway.resolve import SystemThreads
    from mvm.gateway.tcp import TcpFlow
    from mvm.policy.decide import Authority
    from mvm.policy.model import Grant, Policy

    class Watcher(Protocol):
        """Who is told what happens in a sandbox, as it happens."""

        def denied(self, denial: Denial) -> None:
            """A distinct denial happened for the first time."""

        def failed(self, host: str, port: int, failure: Failure) -> None:
            """A granted host could not be reached."""

        def unrecorded(self, error: AuditError) -> None:
            """The record can't be written; nothing is opened any more."""


_FLUSH_SECONDS = 1.0


class Gateway:
    """The doors of one sandbox, from now until `close`.

    Args:
        loop: where everything is watched.
        sockets: made inside the door; owned from now on.
        policy: what is granted, as `door.open_door` was told.
        log: the run's record; stays the caller's.
        watcher: who is told.
        pipes: shared by the gateways of a process.
        system: likewise.
        pools: the addresses that stand for names, as `door.open_door` was told.

    Attributes:
        refusals: what was denied (`refusals.ledger`).
    """

    def __init__(
        self,
        *,
        loop: Loop,
        sockets: DoorSockets,
        policy: Policy,
        log: Log,
        watcher: Watcher,
        pipes: Pipes,
        system: SystemThreads,
        pools: Pools = POOLS,
    ) -> None:
        self.loop, self.pipes, self._sockets = loop, pipes, sockets
        for sock in (sockets.udp, sockets.reports):
            sock.setblocking(False)
        self._flush: Timer | None = None
        self._is_open = True
        self.names = Names(pools)
        self.book = Book(log, watcher, loop.soon)
        self.resolver = HostResolver(loop, policy.dns, system)
        self.standing = Standing(
            policy, loop=loop, rules=sockets.rules, names=self.names, resolver=self.resolver, book=self.book
        )
        self.refusals = Refusals(self, sockets, watcher.denied)
        self.farewells = Farewells(loop)
        late, cut = methodcaller("too_late"), methodcaller("cut")
        self.first_flights: Deadlines[TcpFlow] = Deadlines(loop, FIRST_FLIGHT_SECONDS, late)
        self.dials: Deadlines[Dial] = Deadlines(loop, CONNECT_SECONDS, late)
        self.streams: Deadlines[DnsStream] = Deadlines(loop, QUESTION_SECONDS, cut)
        self.visits: Deadlines[PortalVisit] = Deadlines(loop, FIRST_FLIGHT_SECONDS, cut)
        self._udp = UdpDoor(self, sockets)
        self._listener = Listener(self, sockets.tcp)

    # ---- what the supervisor asks

    @property
    def authority(self) -> Authority:
        """The policy in force."""
        return self.standing.authority

    @property
    def opened(self) -> int:
        """How many flows were opened."""
        return self.book.opened

    @property
    def totals(self) -> tuple[int, int]:
        """Bytes from and to the workload, of flows that have ended."""
        return self.book.totals[0], self.book.totals[1]

    @property
    def failures(self) -> list[dict[str, object]]:
        """What could not be reached: host, port, error, count."""
        return self.book.failures()

    def flows(self) -> list[dict[str, object]]:
        """What was opened, by place: host, port, protocol, flows, up, down."""
        return self.book.sums()

    def replace(self, policy: Policy, *, by: str, anew: Collection[Grant] = ()) -> tuple[int, int]:
        """Put another policy in force (`Standing.replace`)."""
        return self.standing.replace(policy, by=by, anew=anew)

    def describe(self) -> dict[str, object]:
        """What `http://policy.mvm.internal/` says: the grants, what is left of them, and the denials."""
        now = monotonic()
        policy = self.authority.policy
        grants = []
        for grant, usage in self.authority.grants:
            spent = usage.spent(now)
            ends = None if usage.expires is None else max(0.0, usage.since + usage.expires - now)
            grants.append(
                {
                    "host": str(grant.host),
                    "port": grant.port,
                    "protocol": grant.protocol,
                    "tls": grant.tls,
                    "private": grant.private,
                    "subdomains": grant.depth,
                    "reason": grant.reason,
                    "expires_in_s": None if ends is None else round(ends, 3),
                    "up_left": usage.up.left,
                    "down_left": usage.down.left,
                    "ended": spent,
                }
            )
        return {
            "schema": "mvm.portal/1",
            "unrestricted": policy.unrestricted,
            "dns": policy.dns.mode,
            "grants": grants,
            "denials": [denial.to_json() for denial in self.refusals.ledger.denials],
        }

    # ---- what the parts ask

    def flush_later(self) -> None:
        """Something was counted that is to be recorded within a second."""
        if self._flush is None and self._is_open:
            self._flush = self.loop.after(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self.refusals.flush()
        self.book.flush()

    # ---- the end

    def close(self) -> None:
        """End every flow, record the last counts, and let go of every socket. Does nothing a second time."""
        if not self._is_open:
            return
        self._is_open = False
        self._listener.close()
        for flow in tuple(self.book.flows.values()):
            flow.end(BY_SANDBOX)
        for stream in self.streams.take_all():
            stream.cut()
        for visit in self.visits.take_all():
            visit.cut()
        self.farewells.close()
        self._udp.close()
        self.refusals.close()
        self.book.flush()
        self.standing.close()
        self.first_flights.close()
        self.dials.close()
        if self._flush is not None:
            self._flush.cancel()
        for sock in self._sockets:
            sock.close()
