"""Sockets that are made inside a door and held outside of it, and the calls on them.

One function per kind; decides nothing. Each keeps the network namespace that it was made in.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.terms import Address

# linux/in.h, linux/in6.h, linux/udp.h: not all are in the socket module of every Python.
IP_PKTINFO, IP_TRANSPARENT, IP_RECVORIGDSTADDR = 8, 19, 20
IPV6_CHECKSUM, IPV6_RECVPKTINFO, IPV6_PKTINFO = 7, 49, 50
IPV6_RECVORIGDSTADDR, IPV6_TRANSPARENT = 74, 75
SO_ATTACH_FILTER = 26
_UDP_CHECKSUM_OFFSET = 6
_ANCILLARY_BYTES = 256
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_MAX_DATAGRAM = 65535
_BACKLOG = 4096


def _transparent(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    sock.bind(("::", port))
    return sock


def tcp_listener(port: int) -> socket.socket:
    """A dual-stack listener that may take connections to any address (tproxy)."""
    sock = _transparent(socket.SOCK_STREAM, port)
    sock.listen(_BACKLOG)
    return sock


def udp_receiver(port: int) -> socket.socket:
    """A dual-stack socket that gets datagrams to any address and says which (`receive_steered`)."""
    sock = _transparent(socket.SOCK_DGRAM, port)
    sock.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
    return sock


def udp_replier(family: socket.AddressFamily) -> socket.socket:
    """A raw socket that only sends: datagrams from any local address and port (`send_steered`)."""
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_UDP)
    drop_all = struct.pack("=HBBI", 0x06, 0, 0, 0)
    _attach_filter(sock, drop_all)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, _UDP_CHECKSUM_OFFSET)
    return sock


def _attach_filter(sock: socket.socket, program: bytes) -> None:
    import ctypes

    kept = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    )


def receive_steered(sock: socket.socket) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """One datagram: its bytes, the sender, and the address and port it was sent to.

    Addresses are text as Python gives them for a dual-stack socket (`::ffff:192.0.2.1` for IPv4).

    Raises:
        BlockingIOError: none is there.
        OSError: the socket failed.
    """
    data, ancillary, _flags, sender = sock.recvmsg(_MAX_DATAGRAM, _ANCILLARY_BYTES)
    target = ("", 0)
    for level, kind, value in ancillary:
        if level == socket.SOL_IP and kind == IP_RECVORIGDSTADDR:
            port = int.from_bytes(value[2:4], "big")
            target = (f"::ffff:{socket.inet_ntoa(value[4:8])}", port)
        elif level == socket.IPPROTO_IPV6 and kind == IPV6_RECVORIGDSTADDR:
            port = int.from_bytes(value[2:4], "big")
            target = (socket.inet_ntop(socket.AF_INET6, value[8:24]), port)
    return data, (sender[0], sender[1]), target


def send_steered(
    sock: socket.socket, data: bytes, source: tuple[Address, int], target: tuple[Address, int]
) -> None:
    """Send one datagram by a replier, from `source` to `target`, both inside the door.

    The checksum of IPv6 is the kernel's; of IPv4 it is left out (RFC 768 allows it).

    Raises:
        OSError: it did not go out.
    """
    header = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0)
    address = source[0]
    if isinstance(address, IPv4Address):
        control = (socket.SOL_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, address.packed, bytes(4)))
        sock.sendmsg([header, data], [control], 0, (str(target[0]), 0))
    else:
        control = (socket.IPPROTO_IPV6, IPV6_PKTINFO, address.packed + struct.pack("=I", 0))
        sock.sendmsg([header, data], [control], 0, (str(target[0]), 0, 0, 0))


def plain(address: str) -> Address:
    """The address behind the text of a dual-stack socket (IPv4-mapped becomes IPv4)."""
    value = IPv6Address(address)
    return value.ipv4_mapped or value


def reset_on_close(sock: socket.socket) -> None:
    """Make close send RST instead of FIN (SO_LINGER with zero time)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
