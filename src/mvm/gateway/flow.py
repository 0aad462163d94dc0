"""One connection as a table: what its first bytes must be, and what each answer leads to. Pure.

    grant                        expects   the first bytes          leads to
    tls=require (443)            TLS       ClientHello, name right  Cleared, and only then the dial
                                           anything else            Denied
    port 80                      HTTP      every Host right         Cleared with a checking stream
                                           anything else            Denied
    tls=auto (any other port)    ANY       none needed              the dial at once (a server may speak first)
                                           TLS or HTTP              as above; anything else is Cleared
    tls=off                      RAW       not looked at            the dial at once

No byte of the workload's goes upstream before `Cleared`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from mvm.policy.decide import Denied
from mvm.terms import Layer, Reason, Tls
from mvm.wire.client_hello import NotTls, read_client_hello
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from mvm.policy.decide import Allowed
    from mvm.wire.http_stream import RequestStream

FIRST_FLIGHT_BYTES = 16384
FIRST_FLIGHT_SECONDS = 10.0
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
    """The first bytes of one flow until they are judged.

    Args:
        allowed: what the flow may be.

    Attributes:
        judged: whether they were cleared or refused; nothing more may be fed then.
    """

    __slots__ = ("_allowed", "_data", "_expect", "_stream", "judged")

    def __init__(self, allowed: Allowed) -> None:
        self.judged = False
        self._allowed = allowed
        self._expect = expected(allowed)
        self._data = b""
        self._stream: RequestStream | None = None

    @property
    def expect(self) -> Expect:
        """What is expected now; ANY becomes TLS or HTTP once the first bytes tell."""
        return self._expect

    @property
    def begun(self) -> bool:
        """Whether bytes have come that are not judged yet."""
        return bool(self._data) or self._stream is not None

    def feed(self, data: bytes) -> Cleared | Denied | None:
        """Take more bytes of the workload's.

        Returns:
            What may go upstream, a denial, or None while more bytes are needed.
        """
        verdict = self._judge(data)
        self.judged = verdict is not None
        return verdict

    def _judge(self, data: bytes) -> Cleared | Denied | None:
        if self._stream is None:
            self._data = data = self._data + data if self._data else data
        if self._expect is Expect.ANY:
            self._expect = self._sniff(data)
        match self._expect:
            case Expect.TLS:
                return self._judge_hello()
            case Expect.HTTP:
                return self._judge_request(data)
            case Expect.RAW:
                return Cleared(data, None)
            case Expect.ANY:
                return None

    def _sniff(self, data: bytes) -> Expect:
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
        if not isinstance(host, str):
            return Cleared(self._data, None) if hello.server_name is None else self._mismatch(hello.server_name)
        if hello.server_name is None:
            return self._denied(Reason.SNI_MISSING, Layer.TLS)
        if hello.server_name != host.encode("ascii"):
            return self._mismatch(hello.server_name)
        return Cleared(self._data, None)

    def _judge_request(self, data: bytes) -> Cleared | Denied | None:
        from mvm.wire.http_stream import RequestStream

        if self._stream is None:
            host = str(self._allowed.host)
            if ":" in host:
                host = f"[{host}]"
            self._stream = RequestStream(host=host.encode("ascii"), port=self._allowed.port)
        verdict = check_requests(self._stream, data, self._allowed)
        if isinstance(verdict, Denied):
            return verdict
        return Cleared(verdict, self._stream) if verdict else None

    def _mismatch(self, name: bytes) -> Denied:
        return self._denied(Reason.SNI_MISMATCH, Layer.TLS, name.decode("ascii", "replace"))

    def _denied(self, reason: Reason, layer: Layer, host: str | None = None) -> Denied:
        return refused(self._allowed, reason, layer, host)

    def too_late(self) -> Denied:
        """The denial of a first flight that did not end in time."""
        return self._denied(Reason.MALFORMED, Layer.HTTP if self._expect is Expect.HTTP else Layer.TLS)


def check_requests(stream: RequestStream, data: bytes, allowed: Allowed) -> bytes | Denied:
    """Pass bytes through the check of every HTTP request: what of them may go upstream now."""
    from mvm.wire.http_stream import HostMismatch, NotHttp1

    try:
        return stream.feed(data)
    except HostMismatch:
        return refused(allowed, Reason.HOST_HEADER_MISMATCH, Layer.HTTP)
    except NotHttp1:
        return refused(allowed, Reason.PROTOCOL_NOT_GRANTED, Layer.HTTP)
    except Malformed:
        return refused(allowed, Reason.MALFORMED, Layer.HTTP)


def refused(allowed: Allowed, reason: Reason, layer: Layer, host: str | None = None) -> Denied:
    """The denial of a flow whose address and port were granted; `host` is the name it asked for instead."""
    literal = None if isinstance(allowed.host, str) else str(allowed.host)
    name = host if host is not None else (allowed.host if isinstance(allowed.host, str) else None)
    return Denied(
        reason=reason, layer=layer, host=name, address=literal, port=allowed.port, protocol=allowed.grant.protocol
    )


def denial_page(denied: Denied) -> bytes:
    """The plain HTTP answer to a refused request: 403, the reason as a header, a JSON body."""
    import json

    page = {"denied": denied.reason, "host": denied.host, "port": denied.port, "see": "http://policy.mvm.internal/"}
    body = json.dumps(page).encode() + b"\n"
    return response(b"403 Forbidden", body, b"X-Mvm-Denied: " + denied.reason.encode() + b"\r\n")


def failure_page(text: str) -> bytes:
    """The plain HTTP answer where the upstream host failed: 502, never to be taken for a denial."""
    import json

    return response(b"502 Bad Gateway", json.dumps({"transport": text}).encode() + b"\n", b"")


def response(status: bytes, body: bytes, headers: bytes) -> bytes:
    """A whole HTTP/1.1 answer with a JSON body, after which the connection closes."""
    return (
        b"HTTP/1.1 "
        + status
        + b"\r\n"
        + headers
        + b"Content-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )
