"""One connection as a table: what its first bytes must be, and what each answer leads to. Pure.

    grant                        expects   the first bytes          leads to
    tls=require (443)            TLS       ClientHello, name right  Cleared, and only then the dial
                                           anything else            Denied
    port 80                      HTTP      every Host right         Cleared with a checking stream
                                           anything else            Denied
    tls=auto (any other port)    ANY       none needed              the dial at once (a server may speak)
                                           TLS or HTTP              as above; anything else is Cleared
                                           after the server's own   Cleared: no TLS or HTTP server begins
    tls=off                      RAW       not looked at            the dial at once

No byte of the workload's goes upstream before `Cleared`, but for the beginning of what may still be
anything: a word without a line end, which a server may be waiting for (`FirstFlight.release`).

A denial is told in what the workload speaks:

    spoken      denied by                      failed upstream
    TLS         alert access_denied            RST
    HTTP        403 with X-Mvm-Denied          502
    else        RST                            RST
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mvm.policy.decide import Denied
from mvm.terms import PORTAL, Layer, Reason, Tls
from mvm.wire.client_hello import NotTls, read_client_hello
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.policy.decide import Allowed
    from mvm.wire.http_stream import RequestStream

W = TypeVar("W")

_HTTP_PORT = 80
_TLS_HANDSHAKE = 0x16

ALERT_ACCESS_DENIED = b"\x15\x03\x01\x00\x02\x02\x31"
"""A fatal TLS alert 49 (RFC 8446 section 6.2)."""


class Expect(Enum):
    """What a flow's first bytes must be."""

    TLS = auto()
    HTTP = auto()
    ANY = auto()
    RAW = auto()


class Cleared(NamedTuple):
    """Bytes that may go upstream, and the stream that must check those that follow, if any."""

    data: bytes
    stream: RequestStream | None


def expected(allowed: Allowed) -> Expect:
    """What the first bytes of an allowed flow must be."""
    match allowed.grant.tls:
        case Tls.REQUIRE:
            return Expect.TLS
        case Tls.OFF:
            return Expect.RAW
        case Tls.AUTO:
            return Expect.HTTP if allowed.port == _HTTP_PORT else Expect.ANY


class FirstFlight:
    """The first bytes of one flow until they are judged; nothing more may be fed then.

    Args:
        allowed: what the flow may be.

    Attributes:
        expect: what is expected now; ANY becomes TLS, HTTP or RAW once the first bytes tell.
        spoken: once judged, what the workload speaks, whatever was expected.
        released: how many bytes went on before they were judged.
        judged: whether they were cleared or refused.
    """

    __slots__ = ("_allowed", "_data", "_stream", "expect", "judged", "released", "spoken")

    def __init__(self, allowed: Allowed) -> None:
        self.judged = False
        self.expect = expected(allowed)
        self.spoken = Expect.ANY
        self.released = 0
        self._allowed = allowed
        self._data = b""
        self._stream: RequestStream | None = None

    @property
    def begun(self) -> bool:
        """Whether bytes have come that are not judged yet."""
        return bool(self._data)

    def feed(self, data: bytes) -> Cleared | Denied | None:
        """Take more bytes of the workload's.

        Returns:
            What may go upstream, a denial, or None while more bytes are needed.
        """
        verdict = self._judge(data)
        if verdict is not None:
            self._close(None if isinstance(verdict, Denied) else self.expect)
        return verdict

    def release(self) -> bytes:
        """Let go of bytes of which nothing is certain yet, so that a server that waits for them can answer.

        They are at most the beginning of a request line. If they become a request, what follows is held until
        its Host is judged, so that no server ever gets the rest of one that is refused.
        """
        if self.expect is not Expect.ANY:
            return b""
        data = self._data[self.released :]
        self.released += len(data)
        return data

    def settle(self) -> Cleared:
        """Judge a flow that can be no request any more: its server spoke first, or its client has ended."""
        held = self._data[self.released :]
        self._close(Expect.RAW)
        return Cleared(held, None)

    def _close(self, spoken: Expect | None) -> None:
        self.judged = True
        self.spoken = spoken or (sniff(self._data) if self._data else Expect.ANY)
        self._data = b""

    def _judge(self, data: bytes) -> Cleared | Denied | None:
        if self._stream is not None:
            return self._judge_request(self._stream, data)
        self._data = self._data + data if self._data else data
        if self.expect is Expect.ANY:
            self.expect = sniff(self._data)
        match self.expect:
            case Expect.TLS:
                return self._judge_hello()
            case Expect.HTTP:
                self._stream = self._new_stream()
                return self._judge_request(self._stream, self._data)
            case Expect.RAW:
                return Cleared(self._data[self.released :], None)
            case Expect.ANY:
                return None

    def _judge_hello(self) -> Cleared | Denied | None:
        try:
            hello = read_client_hello(self._data)
        except NotTls:
            return self._denied(Reason.NOT_TLS, Layer.TLS)
        except Malformed:
            return self._denied(Reason.MALFORMED, Layer.TLS)
        if hello is None:
            return None
        host = self._allowed.host
        if hello.server_name is None and isinstance(host, str):
            return self._denied(Reason.SNI_MISSING, Layer.TLS)
        # RFC 6066 has no SNI for an address literal, and some clients send its text all the same.
        if hello.server_name is not None and hello.server_name != str(host).encode("ascii"):
            asked_for = hello.server_name.decode("ascii")
            return self._denied(Reason.SNI_MISMATCH, Layer.TLS, asked_for)
        return Cleared(self._data[self.released :], None)

    def _new_stream(self) -> RequestStream:
        from mvm.wire.http_stream import RequestStream

        host, port = str(self._allowed.host), self._allowed.port
        name = f"[{host}]" if ":" in host else host
        # A Host without a port means the one that the connection goes to: it can go nowhere else.
        return RequestStream(host=name.encode("ascii"), port=port, ports_default=port)

    def _judge_request(self, stream: RequestStream, data: bytes) -> Cleared | Denied | None:
        verdict = check_requests(stream.feed, data, self._allowed)
        if isinstance(verdict, Denied):
            return verdict
        return Cleared(verdict[self.released :], stream) if verdict else None

    def _denied(self, reason: Reason, layer: Layer, host: str | None = None) -> Denied:
        return refused(self._allowed, reason, layer, host)

    def cut_short(self) -> Denied:
        """Judge a first flight that ended, or whose time is over, before it was whole."""
        layer = {Expect.HTTP: Layer.HTTP, Expect.TLS: Layer.TLS}.get(self.expect, Layer.TCP)
        self._close(None)
        return self._denied(Reason.MALFORMED, layer)


def sniff(data: bytes) -> Expect:
    """Tell what a client opens with, from its first byte on; ANY while nothing is certain."""
    from mvm.wire.http_head import looks_like_http

    if data[0] == _TLS_HANDSHAKE and data[1:2] in {b"", b"\x03"}:
        return Expect.TLS if len(data) > 1 else Expect.ANY
    match looks_like_http(data):
        case None:
            return Expect.ANY
        case True:
            return Expect.HTTP
        case False:
            return Expect.RAW


def check_requests(step: Callable[[W], bytes], word: W, allowed: Allowed) -> bytes | Denied:
    """Take one step of the check of every HTTP request.

    Args:
        step: `RequestStream.feed` or `RequestStream.upgraded`.
        word: what it is given.
        allowed: what the flow may be.

    Returns:
        What may go upstream now, or the denial.
    """
    from mvm.wire.http_head import NotHttp1
    from mvm.wire.http_stream import HostMismatch

    try:
        return step(word)
    except HostMismatch as mismatch:
        return refused(
            allowed, Reason.HOST_HEADER_MISMATCH, Layer.HTTP, mismatch.host.decode("ascii").strip("[]")
        )
    except NotHttp1:
        return refused(allowed, Reason.PROTOCOL_NOT_GRANTED, Layer.HTTP)
    except Malformed:
        return refused(allowed, Reason.MALFORMED, Layer.HTTP)


def refused(allowed: Allowed, reason: Reason, layer: Layer, host: str | None = None) -> Denied:
    """The denial of a flow whose address and port were granted; `host` is the name it asked for instead."""
    literal = None if isinstance(allowed.host, str) else str(allowed.host)
    name = host if host is not None else (allowed.host if isinstance(allowed.host, str) else None)
    return Denied(
        reason=reason,
        layer=layer,
        host=name,
        address=literal,
        port=allowed.port,
        protocol=allowed.grant.protocol,
    )


def words_of_denial(denied: Denied, spoken: Expect) -> bytes:
    """The last words to a refused flow on which nothing was answered yet; none where RST says it."""
    if spoken is Expect.TLS:
        return ALERT_ACCESS_DENIED
    if spoken is not Expect.HTTP:
        return b""
    page: dict[str, object] = {
        "denied": denied.reason,
        "host": denied.host,
        "port": denied.port,
        "see": f"http://{PORTAL}/",
    }
    return response(b"403 Forbidden", page, b"X-Mvm-Denied: " + denied.reason.encode() + b"\r\n")


def words_of_failure(text: str, spoken: Expect) -> bytes:
    """The last words where the granted host failed: never to be taken for a denial."""
    return response(b"502 Bad Gateway", {"transport": text}) if spoken is Expect.HTTP else b""


def response(status: bytes, page: dict[str, object], headers: bytes = b"") -> bytes:
    """A whole HTTP/1.1 answer with a JSON body, after which the connection closes."""
    import json

    body = json.dumps(page, indent=2).encode() + b"\n"
    usual = b"Content-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\n"
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (status, headers, usual, len(body), body)
