"""The gateway's sockets, in a namespace where every address is local."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from mvm.gateway import door
from mvm.gateway.door import Layout
from mvm.gateway.names import POOLS
from mvm.kernel import sockets
from mvm.terms import Protocol
from tests.kernel.test_rtnetlink import in_namespace

if TYPE_CHECKING:
    from mvm.gateway.door import DoorSockets

pytestmark = pytest.mark.kernel

PLACES = [("198.18.1.0", "::ffff:198.18.1.0"), ("100::100", "100::100")]


def opened(address: str, protocol: Protocol) -> DoorSockets:
    """A door with one granted place, at port 443."""
    made = door.open_door(Layout.LOCAL, POOLS, unrestricted=False)
    door.edit(made.rules, [door.key(ip_address(address), protocol, 443)], ())
    return made


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.mark.parametrize(("address", "spelled"), PLACES)
def test_an_accepted_connection_tells_where_it_was_going(address: str, spelled: str) -> None:
    """Address and port as the workload gave them; without Nagle's delay, not blocking, reset when told."""

    def act() -> tuple[object, ...]:
        made = opened(address, Protocol.TCP)
        listener = sockets.Socket(socket.AF_INET6, socket.SOCK_STREAM, 0, made.tcp.detach())
        with socket.create_connection((address, 443), timeout=5) as client:
            accepted = sockets.accept(listener)
            place = accepted.getsockname()[:2]
            quick = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            with pytest.raises(BlockingIOError):
                accepted.recv(1)
            sockets.reset_on_close(accepted)
            accepted.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            with pytest.raises(BlockingIOError):
                sockets.accept(listener)
            return (*place, bool(quick))

    assert in_namespace(act) == (spelled, 443, True)


@pytest.mark.parametrize(("address", "spelled"), PLACES)
def test_a_datagram_tells_where_it_was_going_and_is_answered_from_there(address: str, spelled: str) -> None:
    """The sender, where it sent to, and an answer that a connected socket takes for its peer's."""

    def act() -> tuple[object, ...]:
        made = opened(address, Protocol.UDP)
        with socket.socket(_family(address), socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.connect((address, 443))
            client.send(b"question")
            own = client.getsockname()[1]
            made.udp.setblocking(True)
            data, sender, target = sockets.receive_steered(made.udp)
            replier = made.datagrams4 if "ffff" in spelled else made.datagrams6
            sockets.send_steered(replier, b"answer", target, sender)
            return data, sender[1] == own, target, client.recv(100)

    assert in_namespace(act) == (b"question", True, (spelled, 443), b"answer")


@pytest.mark.parametrize(("address", "spelled"), PLACES)
def test_a_refused_datagram_is_heard_as_a_closed_port(address: str, spelled: str) -> None:
    """The ICMP error finds the very socket that sent, and no other."""

    def act() -> tuple[bool, bool]:
        made = opened(address, Protocol.UDP)
        with (
            socket.socket(_family(address), socket.SOCK_DGRAM) as client,
            socket.socket(_family(address), socket.SOCK_DGRAM) as other,
        ):
            for sock in (client, other):
                sock.settimeout(0.5)
                sock.connect((address, 443))
            client.send(b"question")
            made.udp.setblocking(True)
            _, sender, target = sockets.receive_steered(made.udp)
            sockets.send_unreachable(made.errors4 if "ffff" in spelled else made.errors6, target, sender)
            heard = []
            for sock in (client, other):
                try:
                    sock.recv(1)
                except ConnectionRefusedError:
                    heard.append(True)
                except TimeoutError:
                    heard.append(False)
            return heard[0], heard[1]

    assert in_namespace(act) == (True, False)


def test_sockets_that_only_send_hear_nothing() -> None:
    """What arrives in the namespace does not pile up at the raw sockets."""

    def act() -> list[bool]:
        made = opened("198.18.1.0", Protocol.UDP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", 9))
            client.sendto(b"x", ("198.18.1.0", 443))
        silent = []
        for sock in (made.datagrams4, made.datagrams6, made.errors4, made.errors6):
            try:
                sock.recv(1)
                silent.append(False)
            except BlockingIOError:
                silent.append(True)
        return silent

    assert in_namespace(act) == [True] * 4


@pytest.mark.parametrize(
    ("text", "address"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::1"), ("::1", "::1"), ("::", "::")],
)
def test_the_plain_address_behind_a_dual_stack_one(text: str, address: str) -> None:
    """IPv4 comes out of its envelope, nothing else does."""
    assert sockets.plain(text) == ip_address(address)


def test_the_internet_checksum() -> None:
    """RFC 1071: a message that carries its own checksum sums to zero."""
    data = bytes(range(1, 41))
    summed = data[:2] + sockets._checksum(data[:2] + b"\0\0" + data[4:]) + data[4:]  # noqa: SLF001
    assert sockets._checksum(summed) == b"\0\0"  # noqa: SLF001
