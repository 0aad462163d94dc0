"""The sink: counts every attempt that comes over the wire, whatever its address, port or protocol.

Owns a packet(7) socket per family on the wire. It sees what no server serves, so that "nothing arrived" is
a measurement. Counted are TCP segments that open something (neither ACK nor RST) and every packet of any
other protocol; not counted are neighbour discovery and multicast listener reports, which the kernels send
by themselves.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ETH_P = {4: 0x0800, 6: 0x86DD}
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SNAP = 128
_BUFFER = 4 << 20

_LOAD_BYTE, _LOAD_BYTE_AT_X, _LOAD_HEADER_LENGTH = 0x30, 0x50, 0xB1
_IF_EQUAL, _IF_BITS, _RETURN = 0x15, 0x45, 0x06
_ACK_OR_RST = 0x14

# bpf(4) programs over packets that begin at the IP header. A step: code, jumps if true and if false, operand.
_FILTERS = {
    4: (
        (_LOAD_BYTE, 0, 0, 9),
        (_IF_EQUAL, 0, 3, socket.IPPROTO_TCP),
        (_LOAD_HEADER_LENGTH, 0, 0, 0),
        (_LOAD_BYTE_AT_X, 0, 0, 13),
        (_IF_BITS, 1, 0, _ACK_OR_RST),
        (_RETURN, 0, 0, _SNAP),
        (_RETURN, 0, 0, 0),
    ),
    6: (
        (_LOAD_BYTE, 0, 0, 6),
        (_IF_EQUAL, 0, 2, socket.IPPROTO_TCP),
        (_LOAD_BYTE, 0, 0, 53),
        (_IF_BITS, 1, 0, _ACK_OR_RST),
        (_RETURN, 0, 0, _SNAP),
        (_RETURN, 0, 0, 0),
    ),
}
_PROTOCOLS = {
    socket.IPPROTO_TCP: "tcp",
    socket.IPPROTO_UDP: "udp",
    socket.IPPROTO_ICMP: "icmp",
    socket.IPPROTO_ICMPV6: "icmp",
}
_KERNEL_CHATTER = {*range(130, 138), 143}
"""ICMPv6 types of neighbour and listener discovery (RFC 4861, RFC 3810)."""


class Packets:
    """The counts since the process started."""

    def __init__(self, link: str) -> None:
        """Listen on `link`; needs CAP_NET_RAW. Raises OSError."""
        self.counts: Counter[tuple[str, str, int]] = Counter()
        self.missed = 0
        self._sockets = [_listen(link, version) for version in (4, 6)]

    def watch(self, on_readable: Callable[[socket.socket, Callable[[], None]], None]) -> None:
        """Register with an event loop, so that no burst finds a full buffer."""
        for sock in self._sockets:
            on_readable(sock, self.drain)

    def drain(self) -> None:
        """Count what has arrived."""
        for sock in self._sockets:
            while True:
                try:
                    packet = sock.recv(_SNAP)
                except BlockingIOError:
                    break
                self._count(packet)
            seen = sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            self.missed += struct.unpack("=II", seen)[1]

    def _count(self, packet: bytes) -> None:
        if packet[0] >> 4 == 4:
            protocol, target, start = packet[9], packet[16:20], (packet[0] & 15) * 4
        else:
            protocol, target, start = packet[6], packet[24:40], 40
            if protocol == socket.IPPROTO_HOPOPTS:
                protocol, start = packet[40], 48 + packet[41] * 8
        if protocol == socket.IPPROTO_ICMPV6 and packet[start] in _KERNEL_CHATTER:
            return
        port = 0
        if protocol in {socket.IPPROTO_TCP, socket.IPPROTO_UDP}:
            (port,) = struct.unpack_from("!H", packet, start + 2)
        name = _PROTOCOLS.get(protocol, f"ip-{protocol}")
        self.counts[name, str(ip_address(target)), port] += 1


def _listen(link: str, version: int) -> socket.socket:
    # Bound only once the filter is set, so that nothing unfiltered is ever queued. A socket bound to one
    # EtherType sees what comes in, never what goes out.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    steps = b"".join(struct.pack("=HBBI", *step) for step in _FILTERS[version])
    program = ctypes.create_string_buffer(steps, len(steps))
    header = struct.pack("@HP", len(_FILTERS[version]), ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    sock.bind((link, _ETH_P[version]))
    return sock
