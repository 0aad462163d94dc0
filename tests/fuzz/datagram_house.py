"""The gatehouse with datagrams: two hosts that hear them, and a workload that sends them through the door.

Owns what stands for the door: what the kernel would say of a datagram (who sent it, and where to) travels in
front of it, over the socket that the gateway reads. The upstream sockets are real, and what is open is asked
of the kernel. Must never decide what is right: the model does.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from unittest.mock import patch

from mvm.gateway.door import DoorSockets
from mvm.kernel import sockets
from mvm.policy.parse import parse_grant
from tests.fuzz.gatehouse import HOSTS, Gatehouse

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.kernel.sockets import End as Place
    from mvm.kernel.sockets import Socket
    from mvm.policy.model import Grant

ADDRESSES = ("127.0.0.2", "127.0.0.3")
_STRANGER = "127.0.0.4"
_CLIENT = "::ffff:192.0.2.1"
T = TypeVar("T")


class Heard(NamedTuple):
    """A datagram, or an ICMP error without one, as it comes to the workload."""

    source: Place
    target: Place
    data: bytes


class DatagramHouse(Gatehouse):
    """A gateway with nothing granted, and hosts that speak UDP; close it after use."""

    def __init__(self, state: str) -> None:
        self.made = 0
        """How many upstream sockets the gateway has ever asked for."""
        super().__init__(state)
        for name in ("receive_steered", "send_steered", "send_unreachable", "upstream_socket"):
            self._patches.enter_context(patch(f"mvm.gateway.udp.sockets.{name}", getattr(self, f"_{name}")))
        self.hosts = [_bound(address) for address in ADDRESSES]
        self.stranger = _bound(_STRANGER)

    def _door(self) -> DoorSockets:
        made = super()._door()
        fields = [name for name in DoorSockets._fields if name != "tcp"]
        self._outside = dict(zip(fields, self._far, strict=True))
        for sock in self._far:
            sock.setblocking(False)
        return made

    def port(self, host: int) -> int:
        """The port on which a host hears."""
        number: int = self.hosts[host].getsockname()[1]
        return number

    def grant(self, host: int, words: str) -> Grant:
        """A grant of one of the hosts, with more words as a command line has them."""
        return parse_grant(f"{HOSTS[host]}:{self.port(host)}/udp,private{words}")

    # ---- the workload

    def place(self, host: int, family: int, off: int = 0) -> Place:
        """Where the workload sends to: the address that stands for a host's name, and a port."""
        pair = self.gateway.names.pair(HOSTS[host])
        assert pair is not None
        prefix = "::ffff:" if pair[family].version == 4 else ""
        return f"{prefix}{pair[family]}", self.port(host) + off

    @staticmethod
    def client(number: int) -> Place:
        """From where one of its sockets sends."""
        return _CLIENT, 40000 + number

    def send(self, client: Place, target: Place, data: bytes) -> None:
        """Send a datagram into the door, and let everything happen that follows from it."""
        self._outside["udp"].send(_written(client, target, data))
        self.settle()

    def answers(self, expected: int = 0) -> list[Heard]:
        """The datagrams that have come to the workload since this was last asked; so many are waited for."""
        return self._enough(
            lambda: [*_read(self._outside["datagrams4"]), *_read(self._outside["datagrams6"])], expected
        )

    def unreachable(self) -> list[Heard]:
        """The ICMP errors that have."""
        return [*_read(self._outside["errors4"]), *_read(self._outside["errors6"])]

    # ---- outside

    def came(self, host: int, expected: int = 0) -> list[tuple[bytes, Place]]:
        """What has come to a host since this was last asked, and from where; so many are waited for."""
        return self._enough(lambda: self._came(host), expected)

    def _came(self, host: int) -> list[tuple[bytes, Place]]:
        found = []
        while True:
            try:
                found.append(self.hosts[host].recvfrom(1 << 16))
            except BlockingIOError:
                return found

    def _enough(self, take: Callable[[], list[T]], expected: int) -> list[T]:
        """All there is, as many as are expected: under load the kernel may deliver a little later."""
        found = take()

        def are_there() -> bool:
            found.extend(take())
            return len(found) >= expected

        if len(found) < expected:
            self.settle_until(are_there)
        return found

    def open(self, host: int) -> set[int]:
        """The ports of the gateway's sockets that lead to a host, as the kernel has them (proc_net(5))."""
        packed = int.from_bytes(socket.inet_aton(ADDRESSES[host]), "little")
        remote = f"{packed:08X}:{self.port(host):04X}"
        rows = [line.split() for line in Path("/proc/net/udp").read_text("ascii").splitlines()[1:]]
        return {int(row[1].partition(":")[2], 16) for row in rows if row[2] == remote}

    def recorded(self) -> list[str]:
        """The hosts of all openings that are on disk."""
        lines = Path(self.log.path).read_bytes().splitlines()
        return [json.loads(line)["host"] for line in lines if b'"flow.opened"' in line]

    def close(self) -> None:
        """End everything."""
        super().close()
        for sock in (*self.hosts, self.stranger):
            sock.close()

    # ---- in the place of the door's own calls

    @staticmethod
    def _receive_steered(sock: socket.socket) -> tuple[bytes, Place, Place]:
        heard = _parsed(sock.recv(1 << 16))
        return heard.data, heard.source, heard.target

    @staticmethod
    def _send_steered(sock: socket.socket, data: bytes, source: Place, target: Place) -> None:
        sock.send(_written(source, target, data))

    @staticmethod
    def _send_unreachable(sock: socket.socket, refused: Place, sender: Place) -> None:
        sock.send(_written(refused, sender, b""))

    def _upstream_socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> Socket:
        self.made += 1
        assert len(self.recorded()) >= self.made, "a socket is made before its flow is recorded"
        return _REAL_UPSTREAM(family, kind)


_REAL_UPSTREAM = sockets.upstream_socket


def _bound(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind((address, 0))
    return made


def _written(source: Place, target: Place, data: bytes) -> bytes:
    return json.dumps([source, target]).encode() + b"\n" + data


def _parsed(frame: bytes) -> Heard:
    head, _, data = frame.partition(b"\n")
    source, target = json.loads(head)
    return Heard((source[0], source[1]), (target[0], target[1]), data)


def _read(sock: socket.socket) -> list[Heard]:
    found = []
    while True:
        try:
            found.append(_parsed(sock.recv(1 << 16)))
        except BlockingIOError:
            return found
