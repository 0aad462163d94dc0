"""One sandbox's gateway: holds the door's sockets outside of it, and opens what the policy allows.

    accept ─► decide ─► TcpFlow · DnsStream · PortalVisit      datagrams ─► UdpDoor
    edit   ─► Authority.replace ─► keys in the kernel, flows of what is gone reset
    every decision ─► the record, before its effect

Owns the sandbox's standing policy, its names and its flows. If it ends, nothing passes. When the
record can't be written, nothing more is opened.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Protocol as Structure

from mvm.audit.record import Kind
from mvm.errors import AuditError
from mvm.gateway import door, portal
from mvm.gateway.dns import DnsStream
from mvm.gateway.loop import READ
from mvm.gateway.names import PORTAL, Names
from mvm.gateway.refusals import Refusals
from mvm.gateway.resolve import Failure, HostResolver
from mvm.gateway.tcp import TcpFlow, say_and_close
from mvm.gateway.udp import UdpDoor
from mvm.kernel import nftables, sockets
from mvm.policy.decide import Allowed, Authority, Denied
from mvm.terms import HostName, Layer, Protocol, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.audit.denial import Denial
    from mvm.audit.log import Log
    from mvm.gateway.door import DoorSockets
    from mvm.gateway.loop import Loop, Timer
    from mvm.gateway.relay import Pipes
    from mvm.gateway.resolve import SystemThreads
    from mvm.policy.model import Grant, Policy
    from mvm.terms import Address

_ACCEPTS_A_TURN = 64
_SWEEP_SECONDS = 1.0
_DNS = 53
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class Visit(Structure):
    """What holds one connection of the workload's that must have spoken by a deadline."""

    deadline: float

    @property
    def overdue(self) -> bool:
        """Whether it has not."""

    def too_late(self) -> None:
        """End it for that."""

    def end(self, why: str) -> None:
        """End it because the sandbox ends."""


class Flow(Structure):
    """What one allowed flow tells the record."""

    allowed: Allowed
    number: int
    opened: float
    recorded: bool

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from and to the workload."""

    def revoke(self, reason: Reason) -> None:
        """The grant no longer stands."""

    def end(self, why: str) -> None:
        """The sandbox ends."""


class Watcher(Structure):
    """Who is told what happens in a sandbox, as it happens."""

    def denied(self, denial: Denial) -> None:
        """A distinct denial happened for the first time."""

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """A granted host could not be reached."""

    def unrecorded(self, error: AuditError) -> None:
        """The record can't be written; nothing is opened any more."""


class Gateway:
    """The doors of one sandbox.

    Args:
        loop: where everything is watched.
        sockets: made inside the door; owned from now on.
        policy: what is granted.
        log: the run's record.
        watcher: who is told.
        pipes: shared by the gateways of a process.
        system: likewise.
    """

    def __init__(  # noqa: PLR0913  what a gateway is made of
        self,
        *,
        loop: Loop,
        sockets: DoorSockets,
        policy: Policy,
        log: Log,
        watcher: Watcher,
        pipes: Pipes,
        system: SystemThreads,
    ) -> None:
        self.loop, self.pipes, self._sockets, self._log, self._watcher = loop, pipes, sockets, log, watcher
        self._system = system
        self.names = Names()
        self.authority = Authority(policy, monotonic())
        self.resolver = HostResolver(loop, policy.dns, system)
        self._failed: AuditError | None = None
        self._flows: dict[int, Flow] = {}
        self._visits: dict[int, Visit] = {}
        self._numbers = count(1)
        self._sweeping = False
        self._expiry: Timer | None = None
        self._answered: set[HostName] = set()
        self._keys: set[bytes] = set()
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.totals = [0, 0]
        self.opened = 0
        for sock in sockets:
            if sock is not sockets.rules:
                sock.setblocking(False)
        self.refusals = Refusals(self, sockets, watcher.denied)
        self._udp = UdpDoor(self, sockets)
        self._steer()
        self._schedule_expiry()
        loop.watch(sockets.tcp.fileno(), READ, self._on_accept)

    # ---- what comes from the workload

    def _on_accept(self, _events: int) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                client, _peer = self._sockets.tcp.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._refuse_one()
                return
            client.setblocking(False)
            self._begin(client)

    def _refuse_one(self) -> None:
        """No descriptor is left: refuse the next connection with the one kept for this, and go on."""
        os.close(self._reserve)
        try:
            client, _peer = self._sockets.tcp.accept()
            say_and_close(client, b"")
        except OSError:
            pass  # it has gone, or the descriptor went to another thread: the next turn tries again
        try:
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1

    def _begin(self, client: socket.socket) -> None:
        try:
            address, port = client.getsockname()[:2]
        except OSError:
            client.close()
            return
        if port == _DNS:
            self._visit(client.fileno(), DnsStream(self, client))
            return
        if port == portal.PORT and self.names.host(address) == PORTAL:
            self._visit(client.fileno(), portal.PortalVisit(self, client))
            return
        verdict = self.decide(address, port, Protocol.TCP)
        if isinstance(verdict, Denied):
            self.deny(verdict)
            say_and_close(client, b"")
            return
        flow = TcpFlow(self, client, verdict, self.next_flow())
        self.began(flow)
        self._visit(-flow.number, flow)
        flow.start()

    def _visit(self, key: int, visit: Visit) -> None:
        self._visits[key] = visit
        if not self._sweeping:
            self._sweeping = True
            self.loop.after(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """End what has not spoken in time; deadlines of one kind come in order, and the rest is soon gone."""
        now = monotonic()
        due = [(key, visit) for key, visit in self._visits.items() if visit.deadline <= now]
        for key, visit in due:
            self._visits.pop(key, None)
            if visit.overdue:
                visit.too_late()
        self._sweeping = bool(self._visits)
        if self._sweeping:
            self.loop.after(_SWEEP_SECONDS, self._sweep)

    def decide(self, address: str, port: int, protocol: Protocol) -> Allowed | Denied:
        """Judge a flow by the destination that the workload gave, as a dual-stack socket writes it."""
        literal = sockets.plain(address) if ":" in address else None
        host = self.names.host(address)
        if host is None and literal is None:
            from mvm.policy.addresses import ip_address

            literal = ip_address(address)
        if self._failed is not None:
            return Denied(
                reason=Reason.REVOKED,
                layer=Layer(protocol),
                host=host,
                address=str(literal),
                port=port,
                protocol=protocol,
            )
        return self.authority.decide(host=host, address=literal, port=port, protocol=protocol, now=monotonic())

    def lookup(self, name: str) -> tuple[bytes | None, bytes | None] | None:
        """The addresses that stand for a name if it may be asked for, else None."""
        host = HostName(name)
        if host != PORTAL and not self.authority.knows(name):
            return None
        pair = self.names.pair(host)
        if pair is None:
            return None
        keys = {door.key(a, protocol, port) for port, protocol in self.authority.ports(host) for a in pair}
        self._edit_keys(keys - self._keys, set())
        return pair[0].packed, pair[1].packed

    # ---- flows, for the record

    def next_flow(self) -> int:
        """A number for a flow."""
        return next(self._numbers)

    def began(self, flow: Flow) -> None:
        """A flow is there."""
        self._flows[flow.number] = flow

    def ended(self, visit: object) -> None:
        """A visit is over."""
        for key, other in self._visits.items():
            if other is visit:
                del self._visits[key]
                return

    def record(self, kind: str, fields: dict[str, object]) -> None:
        """Record, or note that nothing can be recorded any more.

        For what has happened already; what is about to happen is recorded by `_record_first`.
        """
        try:
            self._record_first(kind, **fields)
        except AuditError:
            return  # noted by _record_first; the run ends with it

    def _record_first(self, kind: str, **fields: object) -> None:
        if self._failed is not None:
            raise self._failed
        try:
            self._log.append(kind, **fields)
        except AuditError as error:
            self._failed = error
            self._watcher.unrecorded(error)
            raise

    def record_opened(self, flow: Flow, addresses: tuple[Address, ...]) -> None:
        """Record the decision to open a flow.

        Raises:
            AuditError: it can't be recorded; the flow must not be opened.
        """
        allowed = flow.allowed
        self._record_first(
            Kind.FLOW_OPENED,
            flow=flow.number,
            host=str(allowed.host),
            port=allowed.port,
            protocol=allowed.grant.protocol,
            addresses=[str(address) for address in addresses],
        )
        self.opened += 1

    def record_failed(self, flow: Flow, failure: Failure) -> None:
        """A granted host could not be reached: told, and recorded when the flow closes."""
        self._watcher.failed(str(flow.allowed.host), flow.allowed.port, failure)

    def record_closed(self, flow: Flow, why: str | None) -> None:
        """Record the end of a flow that was opened or failed."""
        self._flows.pop(flow.number, None)
        self._visits.pop(-flow.number, None)
        if not flow.recorded:
            return
        up, down = flow.carried
        self.totals[0] += up
        self.totals[1] += down
        fields = {
            "flow": flow.number,
            "host": str(flow.allowed.host),
            "port": flow.allowed.port,
            "protocol": flow.allowed.grant.protocol,
            "up": up,
            "down": down,
            "duration_s": round(monotonic() - flow.opened, 6),
            "error": None if why is None else Failure(why).word,
        }
        self.record(Kind.FLOW_CLOSED, fields)

    def record_answered(self, name: HostName) -> None:
        """Record that a name's addresses were given out, once a name."""
        if name not in self._answered:
            self._answered.add(name)
            pair = self.names.pair(name) if self.authority.knows(name) else None
            addresses = None if pair is None else [str(address) for address in pair]
            self.record(Kind.DNS_ANSWERED, {"host": name, "addresses": addresses})

    def deny(self, denied: Denied) -> None:
        """Record a denial and tell of it."""
        self.refusals.add(denied)
