"""Sockets that are made inside a door and held outside of it, and the calls on them.

One function per kind and per call; decides nothing. Each keeps the network namespace that it was made in.
Flows use the C type of socket: Python's own costs a class instance and a few look-ups more, each time.
"""

from __future__ import annotations

import _socket
import errno
import os
import resource
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.terms import Address

Socket = _socket.socket
"""A socket of a flow, non-blocking."""

End = tuple[str, int]
"""Address and port as a dual-stack socket writes them: IPv4 is `::ffff:192.0.2.1`."""

# linux/in.h, linux/in6.h, linux/udp.h: not all are in the socket module of every Python.
IP_PKTINFO, IP_TRANSPARENT, IP_RECVORIGDSTADDR = 8, 19, 20
IPV6_CHECKSUM, IPV6_PKTINFO = 7, 50
IPV6_RECVORIGDSTADDR, IPV6_TRANSPARENT = 74, 75
SO_ATTACH_FILTER, SO_MARK = 26, 36
_DROP_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)
_UDP_CHECKSUM_OFFSET = 6
_ANCILLARY_BYTES = 256
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_MAX_DATAGRAM = 65535
_BACKLOG = 4096
_ROOM_FOR_DATAGRAMS = 1 << 22  # as far as net.core.rmem_max lets it
_NEW = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# RFC 792 and RFC 4443: destination unreachable, port unreachable.
_UNREACHABLE4, _UNREACHABLE6 = (3, 3), (1, 4)
_UDP = 17

KEPT = 8
"""How many descriptors are kept from flows."""


def _transparent(kind: int, mark: int) -> socket.socket:
    tried = "a socket of IPv6"
    try:
        sock = socket.socket(socket.AF_INET6, kind | _NEW)
        tried = "a transparent socket (tproxy)"
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    except OSError as refusal:
        raise OSError(refusal.errno, f"{tried}: {refusal.strerror}") from None
    return sock


def tcp_listener(port: int, mark: int) -> socket.socket:
    """A dual-stack listener that may take connections to any address and port (tproxy).

    What it accepts inherits its mark, TCP_NODELAY, and SO_REUSEADDR: so an open flow to some port hinders no
    server of the workload's on the same port, as long as that server sets SO_REUSEADDR too.
    """
    sock = _transparent(socket.SOCK_STREAM, mark)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("::", port))
    sock.listen(_BACKLOG)
    return sock


def accept(listener: Socket) -> Socket:
    """Take the next connection.

    Raises:
        BlockingIOError: there is none.
        OSError: it has gone, or no descriptor is left.
    """
    descriptor, _peer = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  socket.accept wraps it
    client = Socket(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    client.setblocking(False)
    return client


def udp_receiver(port: int, mark: int) -> socket.socket:
    """A dual-stack socket that gets datagrams to any address and port, and says which (`receive_steered`)."""
    sock = _transparent(socket.SOCK_DGRAM, mark)
    # A thousand threads that ask for names at once: what finds no room is lost, and costs each 5 seconds.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM_FOR_DATAGRAMS)
    sock.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1)
    sock.bind(("::", port))
    return sock


def datagram_sender(family: socket.AddressFamily, mark: int) -> socket.socket:
    """A raw socket that only sends: datagrams from any address and port (`send_steered`)."""
    sock = _raw(family, socket.IPPROTO_UDP, mark)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, _UDP_CHECKSUM_OFFSET)
    return sock


def error_sender(family: socket.AddressFamily, mark: int) -> socket.socket:
    """A raw socket that only sends: ICMP errors in the name of any address (`send_unreachable`)."""
    return _raw(family, socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6, mark)


def _raw(family: socket.AddressFamily, protocol: int, mark: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | _NEW, protocol)
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    if family == socket.AF_INET6:
        # Else IPv6 sends only from addresses that a link has, not from those that a route makes local.
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    _attach_filter(sock, _DROP_ALL)
    return sock


def _attach_filter(sock: socket.socket, program: bytes) -> None:
    import ctypes

    kept = ctypes.create_string_buffer(program, len(program))
    filters = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filters)


def receive_steered(sock: socket.socket) -> tuple[bytes, End, End]:
    """One datagram: its bytes, the sender, and the address and port it was sent to.

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


def send_steered(sock: socket.socket, data: bytes, source: End, target: End) -> None:
    """Send one datagram by a `datagram_sender` of the addresses' family, from `source` to `target`.

    The checksum of IPv6 is the kernel's; of IPv4 it is left out (RFC 768 allows it).

    Raises:
        OSError: it did not go out.
    """
    header = struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0)
    _send_raw(sock, [header, data], plain(source[0]), plain(target[0]))


def send_unreachable(sock: socket.socket, refused: End, sender: End) -> None:
    """Tell by an `error_sender` of the addresses' family that a datagram to `refused` found no open port.

    Raises:
        OSError: it did not go out.
    """
    source, target = plain(refused[0]), plain(sender[0])
    ports = struct.pack("!HHHH", sender[1], refused[1], 8, 0)
    if isinstance(source, IPv4Address):
        kind, code = _UNREACHABLE4
        original = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, _UDP, 0) + target.packed + source.packed
        message = struct.pack("!BBHI", kind, code, 0, 0) + original + ports
        message = message[:2] + _checksum(message) + message[4:]
    else:
        kind, code = _UNREACHABLE6
        original = struct.pack("!IHBB", 6 << 28, 8, _UDP, 64) + target.packed + source.packed
        message = struct.pack("!BBHI", kind, code, 0, 0) + original + ports
    _send_raw(sock, [message], source, target)


def _checksum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


def _send_raw(sock: socket.socket, parts: list[bytes], source: Address, target: Address) -> None:
    if isinstance(source, IPv4Address):
        control = (socket.SOL_IP, IP_PKTINFO, struct.pack("=I4s4s", 0, source.packed, bytes(4)))
        sock.sendmsg(parts, [control], 0, (str(target), 0))
    else:
        information = (socket.IPPROTO_IPV6, IPV6_PKTINFO, source.packed + struct.pack("=I", 0))
        sock.sendmsg(parts, [information], 0, (str(target), 0, 0, 0))


def plain(address: str) -> Address:
    """The address behind the text of a dual-stack socket, which maps IPv4, or of a packet, which doesn't."""
    if ":" not in address:
        return IPv4Address(address)
    value = IPv6Address(address)
    return value.ipv4_mapped or value


def upstream_socket(family: socket.AddressFamily, kind: socket.SocketKind) -> Socket:
    """A socket of the caller's own namespace to dial with.

    Raises:
        OSError: no descriptor is left for it, or this machine has no such family.
    """
    sock = Socket(family, kind | _NEW, 0)
    if is_among_last(sock.fileno()):
        sock.close()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return sock


def is_among_last(descriptor: int) -> bool:
    """Say whether a new descriptor is among the last that this process may have, which no flow gets.

    They are for what goes on when a workload has used up the rest: the record, reports, a module that is
    loaded late. The kernel gives the lowest number that is free, so above it there are no more than KEPT.
    The limit is asked each time: it can be lowered from outside while this runs (prlimit(2)).
    """
    return descriptor >= _first_kept()


def _first_kept() -> float:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if most == resource.RLIM_INFINITY else most - KEPT


def reset_on_close(sock: Socket) -> None:
    """Make close send RST instead of FIN (SO_LINGER with zero time)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
