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
_MIDWAY_BYTES = 1 << 20


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


async def _reset_midway(stream: Stream) -> None:
    received = 0
    while received < _MIDWAY_BYTES and (data := await stream.receive()):
        received += len(data)
    await _reset_at_once(stream)


async def _end_first(stream: Stream) -> None:
    assert isinstance(stream, Flow), "only a plain connection can be ended one way"
    stream.finish()
    await _discard(stream)


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


LIES: dict[str, bytes] = {
    "body-too-short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nten bytes.",
    "body-too-long": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + b"more than three" * 40,
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\n" + b"x" * 30,
    "broken-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n-5\r\n\r\n",
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X-Head: more\r\n" * 20000,
    "no-http": b"\x16\x03\x01\xff\xff\0\r\n\r\n" * 9,
}
"""What servers that lie about lengths answer to a request, and then end the connection."""


def _lie(answer: bytes) -> Callable[[Stream], Awaitable[None]]:
    async def serve(stream: Stream) -> None:
        await stream.receive()
        await stream.send(answer)

    return serve


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
    "reset-midway": _reset_midway,
    "end-first": _end_first,
    "half-close": _answer_at_end,
    **{name: _lie(answer) for name, answer in LIES.items()},
}
"""Over TCP or TLS. `mute` reads and never speaks, `stuck` does not read, `half-close` speaks at the end.

`end-first` says that it has nothing to say, and reads; `reset-midway` resets once it has read a megabyte.
"""


def _echo_datagram(sock: DatagramSocket, data: bytes, peer: Peer) -> None:
    sock.send(data, peer)


def _discard_datagram(_: DatagramSocket, __: bytes, ___: Peer) -> None:
    """It has been counted; that is all."""


DATAGRAM_SERVICES: dict[str, Callable[[DatagramSocket, bytes, Peer], None]] = {
    "echo": _echo_datagram,
    "discard": _discard_datagram,
}
"""Over UDP."""
