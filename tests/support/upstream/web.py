"""HTTP/1.1 hosts, WebSocket echo (RFC 6455) and the least HTTP/2 (RFC 9113) that a client accepts.

Owns these protocols from the server's side. Strictness is not its job: it takes what clients in tests send,
and notes every Host it sees.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.upstream.flow import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.upstream.flow import Stream

_CHUNK = bytes(1 << 16)
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FRAME_CLOSE, _FRAME_PING, _FRAME_PONG = 8, 9, 10
_H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_H2_DATA, _H2_HEADERS, _H2_SETTINGS, _H2_PING, _H2_GOAWAY = 0, 1, 4, 6, 7
_H2_ACK, _H2_END_STREAM, _H2_END_HEADERS = 1, 1, 4
_H2_STATUS_200 = b"\x88"
"""The whole header block `:status: 200`: entry 8 of the static table (RFC 7541, appendix A)."""


_VISITS = b"""<!doctype html><title>visits</title><p id="said"></p><script>
const before = Number(localStorage.getItem("visits"));
const cookie = Number((document.cookie.match(/visits=(\\d+)/) || [0, 0])[1]);
localStorage.setItem("visits", before + 1);
document.cookie = `visits=${cookie + 1}; max-age=86400; secure`;
document.getElementById("said").textContent = `storage ${before}, cookie ${cookie}`;
</script>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; its body has been read and measured."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body_size: int

    def header(self, name: str) -> str:
        """The first value of the header `name`, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What is answered; a body given as a number is that many zero bytes."""

    status: str = "200 OK"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | int = b""


def respond(request: Request) -> Response:
    """An ordinary host: `/bytes/N`, `/redirect?to=URL`, `/request` (what arrived, as JSON), else a greeting.

    `/visits` is a page that counts its visits, in the browser's storage and in a cookie.

    A POST or PUT is answered with the number of bytes received.
    """
    path, _, query = request.target.partition("?")
    if request.method in {"POST", "PUT"}:
        return Response(body=f"received {request.body_size}\n".encode())
    if path.startswith("/bytes/"):
        return Response(body=int(path.removeprefix("/bytes/")))
    if path == "/redirect":
        return Response(status="302 Found", headers=(("Location", query.removeprefix("to=")),))
    if path == "/visits":
        return Response(headers=(("Content-Type", "text/html"),), body=_VISITS)
    if path == "/request":
        seen = {"method": request.method, "target": request.target, "headers": request.headers}
        return Response(body=json.dumps(seen).encode())
    return Response(body=f"hello from {request.header('host')}\n".encode())


async def serve_http(stream: Stream, answer: Callable[[Request], Response]) -> None:
    """HTTP/1.1 with keep-alive until either side ends. Raises ConnectionError, ssl.SSLError."""
    inbox = Inbox(stream)
    while head := await inbox.until(b"\r\n\r\n"):
        method, target, headers = _read_head(head)
        for key, value in headers:
            if key.lower() == "host":
                stream.saw_name(value.rpartition(":")[0] if value[-1:].isdigit() and ":" in value else value)
        words = {key.lower(): value for key, value in headers}
        if words.get("upgrade", "").lower() == "websocket":
            await _serve_websocket(stream, inbox, key=words.get("sec-websocket-key", ""))
            return
        if words.get("expect", "").lower() == "100-continue":
            await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = await _measure_body(inbox, words)
        if size is None:
            return
        request = Request(method=method, target=target, headers=headers, body_size=size)
        closing = words.get("connection", "").lower() == "close"
        await _send_response(stream, request, answer(request), closing=closing)
        if closing:
            return


def _read_head(head: bytes) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, rest = first.partition(" ")
    pairs = (line.partition(":") for line in lines)
    return method, rest.rpartition(" ")[0], tuple((key, value.strip()) for key, _, value in pairs)


async def _measure_body(inbox: Inbox, words: dict[str, str]) -> int | None:
    if words.get("transfer-encoding", "").lower() != "chunked":
        size = int(words.get("content-length", "0"))
        return size if await inbox.skip(size) else None
    total = 0
    while line := await inbox.until(b"\r\n"):
        size = int(line.split(b";")[0], 16)
        if not await inbox.skip(size + 2):
            return None
        total += size
        if size == 0:
            return total
    return None


async def _send_response(stream: Stream, request: Request, response: Response, *, closing: bool) -> None:
    size = response.body if isinstance(response.body, int) else len(response.body)
    lines = [f"HTTP/1.1 {response.status}", f"Content-Length: {size}"]
    lines += [f"{key}: {value}" for key, value in response.headers]
    if closing:
        lines.append("Connection: close")
    await stream.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if request.method == "HEAD":
        return
    if isinstance(response.body, bytes):
        await stream.send(response.body)
        return
    while size > 0:
        await stream.send(_CHUNK[:size])
        size -= len(_CHUNK)


async def _serve_websocket(stream: Stream, inbox: Inbox, *, key: str) -> None:
    # SHA-1 is what RFC 6455 section 4.2.2 asks for; it protects nothing here.
    digest = hashlib.sha1(key.encode() + _WEBSOCKET_GUID, usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    await stream.send("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
    while head := await inbox.exactly(2):
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(await inbox.exactly(2 if size == 126 else 8) or b"", "big")
        mask = await inbox.exactly(4) or b"\0\0\0\0"
        masked = await inbox.exactly(size) or b""
        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(masked))
        kind = head[0] & 0x0F
        first = head[0] & 0xF0 | (_FRAME_PONG if kind == _FRAME_PING else kind)
        await stream.send(bytes([first]) + _frame_size(len(payload)) + payload)
        if kind == _FRAME_CLOSE:
            return


def _frame_size(size: int) -> bytes:
    if size < 126:
        return bytes([size])
    if size < 1 << 16:
        return b"\x7e" + size.to_bytes(2, "big")
    return b"\x7f" + size.to_bytes(8, "big")


async def serve_http2(stream: Stream) -> None:
    """HTTP/2: every request gets status 200 and a line of text. Raises ConnectionError, ssl.SSLError."""
    inbox = Inbox(stream)
    if await inbox.exactly(len(_H2_PREFACE)) != _H2_PREFACE:
        return
    await stream.send(_h2_frame(_H2_SETTINGS, 0, 0, b""))
    while head := await inbox.exactly(9):
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        number = int.from_bytes(head[5:], "big")
        payload = await inbox.exactly(size) if size else b""
        if kind == _H2_SETTINGS and not flags & _H2_ACK:
            await stream.send(_h2_frame(_H2_SETTINGS, _H2_ACK, 0, b""))
        elif kind == _H2_PING and not flags & _H2_ACK:
            await stream.send(_h2_frame(_H2_PING, _H2_ACK, 0, payload or b""))
        elif kind in {_H2_HEADERS, _H2_DATA} and flags & _H2_END_STREAM:
            answer = _h2_frame(_H2_HEADERS, _H2_END_HEADERS, number, _H2_STATUS_200)
            await stream.send(answer + _h2_frame(_H2_DATA, _H2_END_STREAM, number, b"hello over HTTP/2\n"))
        elif kind == _H2_GOAWAY:
            return


def _h2_frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + payload
