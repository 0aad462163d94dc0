"""Datagrams: the workload's questions to port 53, and the flows of UDP grants.

A UDP flow is one (workload's address and port, granted address and port). Its datagrams leave by
a connected socket of the host's, so that only the granted host can answer, and answers come back
from the address the workload sent to. What can't be passed on is answered by ICMP port unreachable.
It ends after a minute in which nothing moved.
"""

from __future__ import annotations

import errno
import socket
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway.book import CLEAN, UNRECORDED, End
from mvm.gateway.deadlines import Deadlines
from mvm.gateway.failure import Failure, failure_of
from mvm.gateway.loop import READ
from mvm.kernel import sockets
from mvm.policy.decide import Denied
from mvm.terms import Layer, Protocol, Reason

if TYPE_CHECKING:
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.gateway import Gateway
    from mvm.gateway.resolve import Found
    from mvm.kernel.sockets import End as Place
    from mvm.kernel.sockets import Socket
    from mvm.policy.decide import Allowed, Candidate, Tally

IDLE_SECONDS = 60.0
_DATAGRAMS_A_TURN = 256
_QUEUED = 16
_MOST_FLOWS = 4096
_MAX_DATAGRAM = 65535
_DNS = 53
_MAPPED = "::ffff:"


class UdpDoor:
    """All datagrams of one sandbox.

    Args:
        gateway: whose it is.
        door: the sockets made inside.
    """

    def __init__(self, gateway: Gateway, door: DoorSockets) -> None:
        self._gateway, self._door = gateway, door
        self._flows: dict[tuple[Place, Place], UdpFlow] = {}
        self.idle: Deadlines[UdpFlow] = Deadlines(gateway.loop, IDLE_SECONDS, UdpFlow.fall_silent)
        gateway.loop.watch(door.udp.fileno(), READ, self._on_datagrams)

    def _on_datagrams(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, sender, target = sockets.receive_steered(self._door.udp)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error that some reply met; the next datagram is unharmed
            if target[1] == _DNS and not self._gateway.standing.names(*target, Protocol.UDP):
                from mvm.gateway import dns

                reply = dns.answer(self._gateway, data, over_tcp=False)
                if reply is not None:
                    self.reply(reply, target, sender)
            else:
                self._take(data, sender, target)

    def _take(self, data: bytes, sender: Place, target: Place) -> None:
        flow = self._flows.get((sender, target)) or self._open(sender, target)
        if flow is not None:
            flow.send(data)

    def _open(self, sender: Place, target: Place) -> UdpFlow | None:
        allowed = self._gateway.standing.decide(*target, Protocol.UDP)
        if isinstance(allowed, Denied):
            self._gateway.refusals.add(allowed)
            self.refuse(target, sender)
            return None
        if len(self._flows) >= _MOST_FLOWS:
            self.idle.first.end(End("sandbox", "too-many-flows"))
        flow = self._flows[sender, target] = UdpFlow(self._gateway, self, allowed, (sender, target))
        flow.begin()
        return flow

    def closed(self, ends: tuple[Place, Place]) -> None:
        """A flow has ended."""
        self._flows.pop(ends, None)

    def reply(self, data: bytes, source: Place, target: Place) -> None:
        """Send a datagram into the sandbox, from the address that the workload had sent to."""
        sock = self._door.datagrams4 if source[0].startswith(_MAPPED) else self._door.datagrams6
        try:
            sockets.send_steered(sock, data, source, target)
        except OSError:
            return  # datagrams may be lost (RFC 768); the workload's buffer is full, or its socket gone

    def refuse(self, refused_place: Place, sender: Place) -> None:
        """Answer a datagram that is not passed on, as a closed port would."""
        sock = self._door.errors4 if refused_place[0].startswith(_MAPPED) else self._door.errors6
        try:
            sockets.send_unreachable(sock, refused_place, sender)
        except OSError:
            return  # as above

    def close(self) -> None:
        """Take no more."""
        self.idle.close()
        self._gateway.loop.unwatch(self._door.udp.fileno())


class UdpFlow:
    """One UDP flow, from its first datagram to a minute's silence.

    Attributes: those of `book.Flow`.
    """

    __slots__ = (
        "_door",
        "_down",
        "_end",
        "_ends",
        "_gateway",
        "_moved",
        "_queue",
        "_up",
        "_upstream",
        "address",
        "allowed",
        "began",
        "number",
        "recorded",
    )

    def __init__(self, gateway: Gateway, door: UdpDoor, allowed: Allowed, ends: tuple[Place, Place]) -> None:
        self._gateway, self._door, self.allowed, self._ends = gateway, door, allowed, ends
        self._upstream: Socket | None = None
        self._queue: list[bytes] = []
        self._up = self._down = 0
        self._end: End | None = None
        self.number = 0
        self.began = self._moved = monotonic()
        self.address: str | None = None
        self.recorded = False

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from and to the workload so far."""
        return self._up, self._down

    def begin(self) -> None:
        """Find the host; datagrams wait meanwhile."""
        self._gateway.book.begin(self)
        self._door.idle.add(self)
        self._gateway.resolver.resolve(self.allowed.host, self._found)

    def _found(self, found: Found) -> None:
        if self._end is not None:
            return
        from mvm.gateway.dial import judge

        judged = judge(self.allowed, found)
        if isinstance(judged, Denied):
            self._gateway.refusals.add(judged)
            self._refuse(End("policy", judged.reason))
        elif isinstance(judged, Failure):
            self._refuse(self._gateway.book.fail(self.allowed, judged))
        else:
            self._connect(judged)

    def _connect(self, candidates: tuple[Candidate, ...]) -> None:
        """Take the first address that this machine has a route to: more can't be known beforehand."""
        gateway, failure = self._gateway, Failure("no address")
        if not gateway.book.open(self, [str(candidate.address) for candidate in candidates], None):
            self._refuse(UNRECORDED)
            return
        for candidate in candidates:
            family = socket.AF_INET if candidate.address.version == 4 else socket.AF_INET6
            try:
                upstream = sockets.upstream_socket(family, socket.SOCK_DGRAM)
            except OSError as error:
                failure = failure_of(error)
                continue
            try:
                upstream.connect((str(candidate.address), self.allowed.port))
            except OSError as error:
                failure = failure_of(error)
                upstream.close()
                continue
            self._begin_relay(upstream, str(candidate.address))
            return
        self._refuse(gateway.book.fail(self.allowed, failure))

    def _begin_relay(self, upstream: Socket, address: str) -> None:
        self._upstream, self.address = upstream, address
        self._gateway.loop.watch(upstream.fileno(), READ, self._on_answers)
        queue, self._queue = self._queue, []
        for data in queue:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Pass one datagram to the host, within the budget."""
        if self._end is not None:
            return
        self._moved = monotonic()
        if self._upstream is None:
            if len(self._queue) < _QUEUED:
                self._queue.append(data)
            return
        if self._is_over(self.allowed.usage.up, len(data)):
            return
        try:
            self._upstream.send(data)
        except OSError as error:
            self._failed(error)
            return
        self._up += len(data)
        self.allowed.usage.up.carried += len(data)

    def _on_answers(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            if self._upstream is None:
                return
            try:
                data = self._upstream.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(error)
                continue
            if self._is_over(self.allowed.usage.down, len(data)):
                return
            self._moved = monotonic()
            self._down += len(data)
            self.allowed.usage.down.carried += len(data)
            self._door.reply(data, self._ends[1], self._ends[0])

    def _failed(self, error: OSError) -> None:
        """An ICMP error came for an earlier datagram, or this one is lost; only the former is passed on."""
        if error.errno == errno.ECONNREFUSED:
            self._gateway.book.fail(self.allowed, failure_of(error))
            self._door.refuse(self._ends[1], self._ends[0])

    def _is_over(self, tally: Tally, size: int) -> bool:
        """Whether a datagram is more than the budget still allows; that ends all flows of the grant."""
        if tally.limit is None or tally.carried + size <= tally.limit:
            return False
        usage = self.allowed.usage
        self.revoke(Reason.BUDGET_EXCEEDED)
        self._gateway.standing.use_up(usage)
        return True

    def fall_silent(self) -> None:
        """Its minute is over: end it, unless something moved meanwhile."""
        if monotonic() - self._moved >= IDLE_SECONDS:
            self.end(CLEAN)
        else:
            self._door.idle.add(self)

    # ---- its end

    def revoke(self, reason: Reason) -> None:
        """The grant no longer stands: the flow ends now."""
        layer = Layer.QUOTA if reason in {Reason.EXPIRED, Reason.BUDGET_EXCEEDED} else Layer.UDP
        self._refuse(End("policy", reason))
        from mvm.gateway.flow import refused

        self._gateway.refusals.add(refused(self.allowed, reason, layer))

    def _refuse(self, end: End) -> None:
        """End it, and have the workload know."""
        self._door.refuse(self._ends[1], self._ends[0])
        self.end(end)

    def end(self, end: End) -> None:
        """Close the flow."""
        if self._end is not None:
            return
        self._end = end
        self._queue.clear()
        if self._upstream is not None:
            self._gateway.loop.forget(self._upstream.fileno())
            self._upstream.close()
            self._upstream = None
        self._door.idle.drop(self)
        self._door.closed(self._ends)
        self._gateway.book.close(self, end)
