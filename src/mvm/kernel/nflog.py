"""Reports of refused packets (NFLOG, linux/netfilter/nfnetlink_log.h).

Subscribing needs rights over the network namespace; reading does not, so the socket is made
inside and read outside. Reading is pure.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

from mvm.kernel import netlink

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from mvm.terms import Address

SNAP_BYTES = 80
_SUBSYSTEM = 4 << 8
_CONFIG = 1
_COPY_PACKET = 2
_PAYLOAD = 9
_SO_RCVBUF, _SOL_SOCKET = 8, 1
_EXTENSION_HEADERS = frozenset((0, 43, 60))


class Packet(NamedTuple):
    """What is known of a refused packet: protocol number, and both ends; ports are 0 where there are none."""

    protocol: int
    source: Address
    source_port: int
    destination: Address
    destination_port: int


def subscribe(group: int) -> socket.socket:
    """A socket on which the reports of one log group of this network namespace arrive, each at once."""
    sock = netlink.open_socket(netlink.NETLINK_NETFILTER)
    sock.setsockopt(_SOL_SOCKET, _SO_RCVBUF, 1 << 20)
    _configure(sock, group, netlink.attribute(1, b"\x01"))
    _configure(
        sock, group, netlink.attribute(2, struct.pack("!IBx", SNAP_BYTES, _COPY_PACKET)), netlink.be32(5, 1)
    )
    return sock


def _configure(sock: socket.socket, group: int, *attributes: bytes) -> None:
    body = struct.pack("!BBH", 0, 0, group) + b"".join(attributes)
    request = netlink.message(_SUBSYSTEM | _CONFIG, netlink.NLM_F_REQUEST | netlink.NLM_F_ACK, 1, body)
    netlink.transact(sock, [request], ["nflog: subscribe"])


def packets(data: bytes) -> Iterator[Packet]:
    """The packets of one received report; those cut too short to tell are left out."""
    for kind, _sequence, body in netlink.messages(data):
        if kind != _SUBSYSTEM:
            continue
        for attribute, value in netlink.attributes(body[4:]):
            if attribute == _PAYLOAD:
                packet = read_packet(value)
                if packet is not None:
                    yield packet


def read_packet(data: bytes) -> Packet | None:
    """The ends of an IPv4 or IPv6 packet, or None if it is cut short."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        source: Address = IPv4Address(data[12:16])
        target: Address = IPv4Address(data[16:20])
        return _with_ports(data, data[9], (data[0] & 15) * 4, source, target)
    if len(data) >= 40 and data[0] >> 4 == 6:
        number, offset = data[6], 40
        while number in _EXTENSION_HEADERS and len(data) >= offset + 2:
            number, offset = data[offset], offset + 8 * (data[offset + 1] + 1)
        return _with_ports(data, number, offset, IPv6Address(data[8:24]), IPv6Address(data[24:40]))
    return None


def _with_ports(data: bytes, protocol: int, offset: int, source: Address, target: Address) -> Packet:
    ports = (0, 0)
    if protocol in (6, 17) and len(data) >= offset + 4:
        ports = struct.unpack_from("!HH", data, offset)
    return Packet(protocol, source, ports[0], target, ports[1])
