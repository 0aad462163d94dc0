"""A whole gateway in this process: real flows over real sockets, and a clock that a test moves.

Owns what stands around the gateway: two hosts on the loopback, the workload's ends of flows, a record on
disk, and the clock. The door is left out: who asks for a flow does so by name, as the listener does once it
knows the address. Must never decide what is right: the model does.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from contextlib import ExitStack
from ipaddress import ip_address
from time import monotonic
from typing import TYPE_CHECKING
from unittest.mock import patch

from mvm.audit.log import Log
from mvm.audit.run_id import make_run_id
from mvm.gateway.door import DoorSockets
from mvm.gateway.gateway import Gateway
from mvm.gateway.loop import Loop
from mvm.gateway.relay import Pipes
from mvm.gateway.resolve import SystemThreads
from mvm.gateway.tcp import TcpFlow
from mvm.policy.decide import Allowed
from mvm.policy.model import Dns, Grant, Policy
from mvm.policy.parse import parse_grant
from mvm.terms import DnsMode, HostName, Preset, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.audit.denial import Denial
    from mvm.errors import AuditError
    from mvm.gateway.failure import Failure
    from mvm.policy.decide import Denied

HOSTS = (HostName("one.example.test"), HostName("two.example.test"))
_ADDRESSES = (ip_address("127.0.0.2"), ip_address("127.0.0.3"))
_CLOCKS = "book deadlines gateway loop resolve standing tcp udp"
_TURNS = 12
_PATIENCE_S, _PAUSE_S = 1.0, 0.005


class Upstream:
    """One host: what was opened to it, and what came."""

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[tuple[socket.socket, bytearray]] = []
        self.came: list[bytearray] = []
        """The bytes of each connection that was ever opened."""
        self._spoke_first: set[int] = set()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def heard_first(self) -> list[bytearray]:
        """The bytes of those on which it said nothing before the workload did: no TLS or HTTP server does."""
        return [came for came in self.came if id(came) not in self._spoke_first]

    def look(self) -> None:
        """Take what has come."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                break
            sock.setblocking(False)
            self.came.append(bytearray())
            self._open.append((sock, self.came[-1]))
        self._open = [(sock, came) for sock, came in self._open if self._read(sock, came)]

    def say(self, data: bytes) -> None:
        """Send something on every open connection."""
        for sock, came in self._open:
            if not came:
                self._spoke_first.add(id(came))
            try:
                sock.send(data)
            except OSError:
                continue  # it has been reset, and is found gone by the next look

    @staticmethod
    def _read(sock: socket.socket, came: bytearray) -> bool:
        with contextlib.suppress(ConnectionResetError):
            try:
                while data := sock.recv(1 << 16):
                    came += data
            except BlockingIOError:
                return True
        sock.close()
        return False

    def close(self) -> None:
        """Let go of everything."""
        self._listener.close()
        for sock, _ in self._open:
            sock.close()


class Gatehouse:
    """A gateway with nothing granted; close it after use."""

    def __init__(self, state: str) -> None:
        self.now = 1000.0
        self._patches = ExitStack()
        for name in _CLOCKS.split():
            self._patches.enter_context(patch(f"mvm.gateway.{name}.monotonic", lambda: self.now))
        self.upstreams = [Upstream(str(address)) for address in _ADDRESSES]
        self.log = Log.create(state, make_run_id(1_750_000_000_000, bytes(range(10))))
        self._loop, self._pipes, self._far = Loop(), Pipes(), list[socket.socket]()
        self.gateway = Gateway(
            loop=self._loop,
            sockets=self._door(),
            policy=self.policy([]),
            log=self.log,
            watcher=self,
            pipes=self._pipes,
            system=SystemThreads(),
        )
        self.unwritten: list[AuditError] = []

    def _door(self) -> DoorSockets:
        """Sockets like a door's, on which nothing ever comes; the kernel's rules are gone already."""
        kinds = {"tcp": socket.SOCK_STREAM, "rules": socket.SOCK_RAW}
        made: dict[str, socket.socket] = {}
        for name in DoorSockets._fields:
            if name == "tcp":
                made[name] = socket.create_server(("127.0.0.1", 0))
                made[name].setblocking(False)
                continue
            made[name], other = socket.socketpair(socket.AF_UNIX, kinds.get(name, socket.SOCK_DGRAM) & 3 or 2)
            made[name].setblocking(False)
            self._far.append(other)
        made["rules"].close()
        return DoorSockets(**made)

    def policy(self, grants: list[Grant]) -> Policy:
        """A policy of these grants, whose names lead to the two hosts."""
        static = tuple((host, (address,)) for host, address in zip(HOSTS, _ADDRESSES, strict=True))
        dns = Dns(mode=DnsMode.SYSTEM, static=static)
        return Policy(
            grants=tuple(grants), dns=dns, preset=Preset.NONE, unrestricted=False, forwards=(), ttl=None
        )

    def grant(self, host: int, words: str) -> Grant:
        """A grant of one of the hosts, with more words as a command line has them."""
        return parse_grant(f"{HOSTS[host]}:{self.upstreams[host].port},private,{words}")

    # ---- the workload

    def connect(self, host: int, port: int | None = None) -> socket.socket | None:
        """Open a flow to one of the hosts as the listener does; None where it is denied."""
        port = self.upstreams[host].port if port is None else port
        pair = self.gateway.names.pair(HOSTS[host])
        assert pair is not None
        verdict: Allowed | Denied = self.gateway.standing.decide(str(pair[0]), port, Protocol.TCP)
        if not isinstance(verdict, Allowed):
            self.gateway.refusals.add(verdict)
            return None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        for sock in (ours, theirs):
            sock.setblocking(False)
        TcpFlow(self.gateway, theirs, verdict).begin()
        return ours

    def settle(self) -> None:
        """Let everything happen that is due at this time of the clock."""
        for _ in range(_TURNS):
            self._loop.soon(self._loop.stop)
            self._loop.run()
        for upstream in self.upstreams:
            upstream.look()

    def settle_until(self, holds: Callable[[], bool]) -> bool:
        """Whether something holds, within a second: a loaded kernel may deliver what was sent a bit later."""
        end = monotonic() + _PATIENCE_S
        while not holds():
            if monotonic() > end:
                return False
            select.select((), (), (), _PAUSE_S)
            self.settle()
        return True

    def close(self) -> None:
        """End everything."""
        self.gateway.close()
        self._loop.close()
        self._pipes.close()
        for upstream in self.upstreams:
            upstream.close()
        for sock in self._far:
            sock.close()
        self.log.close()
        self._patches.close()

    # ---- the watcher

    def denied(self, denial: Denial) -> None:
        """Nobody listens: the model looks at what is open."""

    def failed(self, host: str, port: int, failure: Failure) -> None:
        """Both hosts listen: nothing fails."""

    def unrecorded(self, error: AuditError) -> None:
        """The record can't be written any more."""
        self.unwritten.append(error)


def reset(sock: socket.socket) -> None:
    """Close a connection by RST, as a killed workload may."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
