"""The raw services: echo, discard, source, and the peers that behave badly.

Owns the table of services by name. A service gets a stream and returns when it is done with it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.upstream import doh, index, web
from tests.support.upstream.flow import Flow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.upstream.flow import Stream
    from tests.support.upstream.sockets import DatagramSocket, Peer

_CHUNK = bytes(1 << 16)
_GREETING = b"SSH-2.0-test\r\n"


async def _echo(stream: Stream) -> None:
    while data := await stream.receive():
        await stream.send(data)


async def _discard(stream: Stream) -> None:
    while await stream.receive():
        pass


async def _source(stream: Stream) -> None:
    while True:
        await stream.send(_CHUNK)


async def _drip(stream: Stream) -> None:
    while True:
        await stream.send(b".")
        # A byte a second is what this service is, not a wait for something.
        await asyncio.sleep(1)


async def _stuck(_: Stream) -> None:
    await asyncio.get_running_loop().create_future()


async def _greet(stream: Stream) -> None:
    await stream.send(_GREETING)
    await _echo(stream)


async def _reset_at_once(stream: Stream) -> None:
    assert isinstance(stream, Flow), "only a plain connection can be reset"
    stream.reset()


async def _reset(stream: Stream) -> None:
    await stream.receive()
    await _reset_at_once(stream)


async def _answer_at_end(stream: Stream) -> None:
    received = 0
    while data := await stream.receive():
        received += len(data)
    await stream.send(f"received {received}\n".encode())


async def _http(stream: Stream) -> None:
    await web.serve_http(stream, web.respond)


async def _index(stream: Stream) -> None:
    await web.serve_http(stream, index.respond)


async def _doh(stream: Stream) -> None:
    await web.serve_http(stream, doh.respond)


SERVICES: dict[str, Callable[[Stream], Awaitable[None]]] = {
    "http": _http,
    "http2": web.serve_http2,
    "index": _index,
    "doh": _doh,
    "echo": _echo,
    "discard": _discard,
    "source": _source,
    "drip": _drip,
    "mute": _discard,
    "stuck": _stuck,
    "greeting": _greet,
    "reset": _reset,
    "reset-at-once": _reset_at_once,
    "half-close": _answer_at_end,
}
"""Over TCP or TLS. `mute` reads and never speaks, `stuck` does not read, `half-close` speaks at the end."""


def _echo_datagram(sock: DatagramSocket, data: bytes, peer: Peer) -> None:
    sock.send(data, peer)


def _discard_datagram(_: DatagramSocket, __: bytes, ___: Peer) -> None:
    """It has been counted; that is all."""


DATAGRAM_SERVICES: dict[str, Callable[[DatagramSocket, bytes, Peer], None]] = {
    "echo": _echo_datagram,
    "discard": _discard_datagram,
}
"""Over UDP."""
