"""Datagrams: the workload's questions to port 53, and the flows of UDP grants.

A UDP flow is one (workload's address and port, granted address and port). Its datagrams leave by
a connected socket of the host's, so that only the granted host can answer, and answers come back
from the address the workload sent to. It ends after a minute in which nothing moved.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway import dns
from mvm.gateway.dial import find
from mvm.gateway.flow import refused
from mvm.gateway.loop import READ
from mvm.gateway.resolve import Failure
from mvm.kernel import sockets
from mvm.policy.decide import Denied
from mvm.terms import Layer, Protocol, Reason

if TYPE_CHECKING:
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.gateway import Gateway
    from mvm.policy.decide import Allowed
    from mvm.terms import Address

_IDLE_SECONDS = 60.0
_DATAGRAMS_A_TURN = 64
_QUEUED = 16
_MOST_FLOWS = 4096
_MAX_DATAGRAM = 65535
_DNS = 53

End = tuple[str, int]


class UdpDoor:
    """All datagrams of one sandbox.

    Args:
        gateway: whose it is.
        door: the sockets made inside.
    """

    def __init__(self, gateway: Gateway, door: DoorSockets) -> None:
        self._gateway, self._door = gateway, door
        self._flows: dict[tuple[End, End], UdpFlow] = {}
        gateway.loop.watch(door.udp.fileno(), READ, self._on_datagrams)

    def _on_datagrams(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, sender, target = sockets.receive_steered(self._door.udp)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error that some reply met; the next datagram is unharmed
            if target[1] == _DNS:
                reply = dns.answer(self._gateway, data, over_tcp=False)
                if reply is not None:
                    self.reply(reply, target, sender)
            else:
                self._take(data, sender, target)

    def _take(self, data: bytes, sender: End, target: End) -> None:
        flow = self._flows.get((sender, target))
        if flow is None:
            flow = self._open(sender, target)
        if flow is not None:
            flow.send(data)

    def _open(self, sender: End, target: End) -> UdpFlow | None:
        gateway = self._gateway
        allowed = gateway.decide(target[0], target[1], Protocol.UDP)
        if isinstance(allowed, Denied):
            gateway.deny(allowed)
            return None
        if len(self._flows) >= _MOST_FLOWS:
            next(iter(self._flows.values())).end("too many flows")
        flow = UdpFlow(self._gateway, self, allowed, gateway.next_flow(), (sender, target))
        self._flows[sender, target] = flow
        gateway.began(flow)
        flow.start()
        return flow

    def closed(self, ends: tuple[End, End]) -> None:
        """A flow has ended."""
        self._flows.pop(ends, None)

    def reply(self, data: bytes, source: End, target: End) -> None:
        """Send a datagram into the sandbox, from the address that the workload had sent to."""
        address = sockets.plain(source[0])
        sock = self._door.reply4 if address.version == 4 else self._door.reply6
        try:
            sockets.send_steered(sock, data, (address, source[1]), (sockets.plain(target[0]), target[1]))
        except OSError:
            return  # datagrams may be lost (RFC 768); the workload's buffer is full, or its socket gone


class UdpFlow:
    """One UDP flow, from its first datagram to a minute's silence."""

    def __init__(
        self, gateway: Gateway, door: UdpDoor, allowed: Allowed, number: int, ends: tuple[End, End]
    ) -> None:
        self._gateway, self._door, self.allowed, self.number = gateway, door, allowed, number
        self._ends = ends
        self._upstream: socket.socket | None = None
        self._queue: list[bytes] | None = []
        self._up = self._down = 0
        self.opened = monotonic()
        self.recorded = False
        self._moved = self.opened
        self._closed = False

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from and to the workload so far."""
        return self._up, self._down

    def start(self) -> None:
        """Find the host; datagrams wait meanwhile."""
        find(self.allowed, self._gateway.resolver, self._found)

    def _found(self, found: tuple[Address, ...] | Failure | Denied) -> None:
        if self._closed:
            return
        if isinstance(found, Denied):
            self._gateway.deny(found)
            self.end(found.reason)
        elif isinstance(found, Failure):
            self._gateway.record_failed(self, found)
            self.end(found.word)
        else:
            self._gateway.record_opened(self, found[:1])
            self.recorded = True
            self._connect(found[0])

    def _connect(self, address: Address) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            upstream = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            upstream.connect((str(address), self.allowed.port))
        except OSError as error:
            self.end((error.strerror or "unreachable").lower())
            return
        self._upstream = upstream
        self._gateway.loop.watch(upstream.fileno(), READ, self._on_answers)
        self._gateway.loop.after(_IDLE_SECONDS, self._check_idle)
        queue, self._queue = self._queue, None
        for data in queue or ():
            self.send(data)

    def send(self, data: bytes) -> None:
        """Pass one datagram to the host, within the budget."""
        self._moved = monotonic()
        if self._queue is not None:
            if len(self._queue) < _QUEUED:
                self._queue.append(data)
            return
        if self._upstream is None or self._over_budget():
            return
        try:
            self._up += self._upstream.send(data)
        except OSError:
            return  # as on the host itself: the datagram is lost, or an ICMP error came for an earlier one
        self.allowed.usage.up.carried += len(data)

    def _on_answers(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_A_TURN):
            if self._upstream is None or self._over_budget():
                return
            try:
                data = self._upstream.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for what was sent; more may follow
            self._moved = monotonic()
            self._down += len(data)
            self.allowed.usage.down.carried += len(data)
            self._door.reply(data, self._ends[1], self._ends[0])

    def _over_budget(self) -> bool:
        reason = self._gateway.authority.spent(self.allowed, monotonic())
        if reason is None:
            return False
        self.revoke(reason)
        return True

    def _check_idle(self) -> None:
        if self._closed:
            return
        left = self._moved + _IDLE_SECONDS - monotonic()
        if left <= 0:
            self.end("idle")
        else:
            self._gateway.loop.after(left, self._check_idle)

    def revoke(self, reason: Reason) -> None:
        """The grant no longer stands: the flow ends now."""
        layer = Layer.QUOTA if reason in {Reason.EXPIRED, Reason.BUDGET_EXCEEDED} else Layer.UDP
        self._gateway.deny(refused(self.allowed, reason, layer))
        self.end(reason)

    def end(self, why: str) -> None:
        """Close the flow."""
        if self._closed:
            return
        self._closed = True
        if self._upstream is not None:
            self._gateway.loop.forget(self._upstream.fileno())
            self._upstream.close()
        self._door.closed(self._ends)
        self._gateway.record_closed(self, None if why == "idle" else why)
