"""Server sockets at any address.

Owns binding, and the loop over a UDP socket's datagrams. Must never know what is said over them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
_BIGGEST = 1 << 16

Peer = tuple[Any, ...]
"""A socket address as the socket module spells it."""


def bind(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """A non-blocking socket at any address, whether an interface has it or not. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    sock.bind((address, port))
    return sock


class DatagramSocket:
    """A UDP endpoint that calls back for each datagram."""

    def __init__(
        self, address: str, port: int, received: Callable[[DatagramSocket, bytes, Peer], None]
    ) -> None:
        """Listen at once, in the running loop. Raises OSError."""
        self._sock = bind(socket.SOCK_DGRAM, address, port)
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._drain)

    def send(self, data: bytes, peer: Peer) -> None:
        """Send one datagram; it is lost where the socket cannot take it, as datagrams are."""
        with contextlib.suppress(OSError):
            self._sock.sendto(data, peer)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _drain(self) -> None:
        while True:
            try:
                data, peer = self._sock.recvfrom(_BIGGEST)
            except BlockingIOError:
                return
            self._received(self, data, peer)
