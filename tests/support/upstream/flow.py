"""One accepted connection, plain or under TLS, with everything that arrives counted.

Owns reading, writing and ending a connection. Must never know what is said over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.upstream.ledger import Arrived, Ledger

_CHUNK = 1 << 16
_T = TypeVar("_T")


class Stream(Protocol):
    """What a service talks through."""

    record: Arrived

    async def receive(self) -> bytes:
        """The next bytes, or none at the end. Raises ConnectionError, ssl.SSLError."""

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionError, ssl.SSLError."""

    def saw_name(self, name: str) -> None:
        """Note a host name that the peer asked for."""


class Flow:
    """A TCP connection. States of its record: open (None), then `end`, `reset` or `closed` (by us first)."""

    def __init__(self, sock: socket.socket, record: Arrived, ledger: Ledger) -> None:
        """Take over the accepted, non-blocking `sock`."""
        self.record = record
        self._sock = sock
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> bytes:
        """The next bytes, or none at the end. Raises ConnectionError."""
        try:
            data = await self._loop.sock_recv(self._sock, _CHUNK)
        except ConnectionError:
            self._ended("reset")
            raise
        if data:
            self.record.bytes += len(data)
            self._ledger.changed()
        else:
            self._ended("end")
        return data

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionError."""
        try:
            await self._loop.sock_sendall(self._sock, data)
        except ConnectionError:
            self._ended("reset")
            raise

    def saw_name(self, name: str) -> None:
        """Note a host name that the peer asked for."""
        self.record.names.append(name)
        self._ledger.changed()

    def finish(self) -> None:
        """Say that nothing more will be sent (FIN)."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End it with RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End it; does nothing the second time."""
        self._ended("closed")
        self._sock.close()

    def _ended(self, how: str) -> None:
        if self.record.ending is None:
            self.record.ending = how
            self._ledger.changed()


class TlsFlow:
    """TLS over a flow, done in memory so that the flow counts what crosses the wire."""

    def __init__(self, flow: Flow, context: ssl.SSLContext) -> None:
        """Prepare the server's side; nothing is sent before `greet`."""
        self.record = flow.record
        self._flow = flow
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def greet(self) -> None:
        """Do the handshake. Raises ConnectionError, ssl.SSLError."""
        await self._pump(self.tls.do_handshake)

    async def receive(self) -> bytes:
        """The next bytes, or none at the end. Raises ConnectionError, ssl.SSLError."""
        try:
            return await self._pump(lambda: self.tls.read(_CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises ConnectionError, ssl.SSLError."""
        await self._pump(lambda: self.tls.write(data))

    def saw_name(self, name: str) -> None:
        """Note a host name that the peer asked for."""
        self._flow.saw_name(name)

    async def say_goodbye(self) -> None:
        """Send close_notify without waiting for the peer's."""
        with contextlib.suppress(ssl.SSLError, OSError):
            self.tls.unwrap()
        with contextlib.suppress(OSError):
            await self._flow.send(self._outgoing.read())

    async def _pump(self, step: Callable[[], _T]) -> _T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._flow.receive()
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._flow.send(self._outgoing.read())


class Inbox:
    """Reads a stream by lines and lengths."""

    def __init__(self, stream: Stream) -> None:
        """Start with nothing kept."""
        self._stream = stream
        self._kept = bytearray()

    async def until(self, mark: bytes) -> bytes | None:
        """Everything up to and with `mark`; None at the end. Raises ConnectionError, ssl.SSLError."""
        while (at := self._kept.find(mark)) < 0:
            if not await self._more():
                return None
        return self._take(at + len(mark))

    async def exactly(self, size: int) -> bytes | None:
        """The next `size` bytes; None at the end. Raises ConnectionError, ssl.SSLError."""
        while len(self._kept) < size:
            if not await self._more():
                return None
        return self._take(size)

    async def skip(self, size: int) -> bool:
        """Drop `size` bytes without keeping them; False at the end. Raises ConnectionError, ssl.SSLError."""
        while size > len(self._kept):
            size -= len(self._kept)
            self._kept.clear()
            if not await self._more():
                return False
        del self._kept[:size]
        return True

    async def _more(self) -> bool:
        data = await self._stream.receive()
        self._kept += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken
