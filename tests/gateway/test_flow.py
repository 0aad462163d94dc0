"""One connection as a table: what its first bytes must be, and that nothing passes for another name."""

from __future__ import annotations

import json
import ssl
from functools import cache
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.gateway.flow import (
    ALERT_ACCESS_DENIED,
    Cleared,
    Expect,
    FirstFlight,
    check_requests,
    expected,
    refused,
    sniff,
    words_of_denial,
    words_of_failure,
)
from mvm.policy.decide import Allowed, Denied, Usage
from mvm.policy.parse import parse_grant
from mvm.terms import Layer, Reason

if TYPE_CHECKING:
    from mvm.wire.http_stream import RequestStream

API, OTHER = "api.example.test", "other.example.test"


def allowed(text: str = f"{API}:443") -> Allowed:
    """Leave by one grant."""
    grant = parse_grant(text)
    return Allowed(grant=grant, host=grant.host, port=grant.port, usage=Usage(0.0, grant))


@cache
def hello(name: str | None) -> bytes:
    """The hello of a real client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def request(host: str, body: bytes = b"") -> bytes:
    """A plain request."""
    return f"POST /p HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Data as it may come: cut anywhere."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:stop] for start, stop in pairwise(edges)]


def play(leave: Allowed, came: list[bytes]) -> tuple[bytes, Denied | None]:
    """All that may go upstream of what came, and the denial that ended it."""
    flight, passed = FirstFlight(leave), b""
    stream: RequestStream | None = None
    for piece in came:
        if not flight.judged:
            verdict = flight.feed(piece)
            if isinstance(verdict, Denied):
                return passed, verdict
            passed += flight.release() if verdict is None else verdict.data
            stream = None if verdict is None else verdict.stream
        elif stream is None:
            passed += piece
        else:
            step = check_requests(stream.feed, piece, leave)
            if isinstance(step, Denied):
                return passed, step
            passed += step
    return passed, None


@pytest.mark.parametrize(
    ("grant", "expects"),
    [
        (f"{API}:443", Expect.TLS),
        (f"{API}:8443,tls=require", Expect.TLS),
        (f"{API}:80", Expect.HTTP),
        (f"{API}:80,tls=require", Expect.TLS),
        (f"{API}:8080", Expect.ANY),
        (f"{API}:443,tls=auto", Expect.ANY),
        (f"{API}:80,tls=off", Expect.RAW),
        (f"{API}:22,tls=off", Expect.RAW),
    ],
)
def test_what_a_grant_expects(grant: str, expects: Expect) -> None:
    """The first two columns of the table."""
    assert expected(allowed(grant)) is expects


@pytest.mark.parametrize("port", [443, 8443])
@given(st.lists(st.integers(0, 600), max_size=6))
def test_a_hello_for_the_granted_name_passes_whole(port: int, cuts: list[int]) -> None:
    """However it is cut, and nothing of it before it is judged but a first byte that may be anything."""
    data = hello(API)
    assert play(allowed(f"{API}:{port}"), pieces(data + b"more", cuts))[0].startswith(data)


@pytest.mark.parametrize("port", [443, 8443])
@pytest.mark.parametrize(
    ("name", "why"),
    [(OTHER, Reason.SNI_MISMATCH), ("API.example.test.x", Reason.SNI_MISMATCH), (None, Reason.SNI_MISSING)],
)
@given(st.lists(st.integers(0, 600), max_size=6))
def test_a_hello_for_another_name_never_passes(
    port: int, name: str | None, why: Reason, cuts: list[int]
) -> None:
    """However it is cut: the server has at most one byte, which says nothing."""
    passed, denied = play(allowed(f"{API}:{port}"), pieces(hello(name), cuts))
    assert denied is not None
    assert (denied.reason, denied.layer) == (why, Layer.TLS)
    assert passed in ({b""} if port == 443 else {b"", b"\x16"})


def test_a_literal_wants_no_name() -> None:
    """A hello to a granted address names nothing, or that address; any other name is another host."""
    leave = allowed("93.184.215.10:443")
    assert FirstFlight(leave).feed(hello(None)) == Cleared(hello(None), None)
    named = FirstFlight(leave).feed(hello(OTHER))
    assert isinstance(named, Denied)
    assert (named.reason, named.host, named.address) == (Reason.SNI_MISMATCH, OTHER, "93.184.215.10")


_hosts = st.sampled_from(
    [API, OTHER, f"{API}:8080", f"{OTHER}:8080", f"{API}:81", "x." + API, API + ".evil.test"]
)
_bodies = st.binary(max_size=40)


@pytest.mark.parametrize("port", [80, 8080])
@given(
    st.lists(st.tuples(_hosts, _bodies), min_size=1, max_size=5), st.lists(st.integers(0, 2000), max_size=8)
)
def test_no_byte_of_a_request_for_another_host_passes(
    port: int, asked: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    """Of any train of requests, cut anywhere, exactly those before the first wrong one go upstream.

    Where anything may be spoken, the very first bytes may go on before, never as far as a request line.
    """
    right = {API, f"{API}:{port}"}
    good = []
    for host, body in asked:
        if host not in right:
            break
        good.append(request(host, body))
    train = b"".join(request(host, body) for host, body in asked)
    passed, denied = play(allowed(f"{API}:{port}"), pieces(train, cuts))
    whole = b"".join(good)
    if len(good) == len(asked):
        assert (passed, denied) == (train, None)
        return
    assert denied is not None
    assert denied.reason is Reason.HOST_HEADER_MISMATCH
    # What came in one piece with the wrong request is dropped with it.
    assert whole.startswith(passed) or (not good and b"/" not in passed)


@given(
    st.sampled_from([f"{API}:443", f"{API}:80", f"{API}:7", "93.184.215.10:80", "[2001:db8::1]:7"]),
    st.binary(min_size=1, max_size=400) | st.binary(max_size=100).map(lambda end: hello(OTHER)[:200] + end),
    st.lists(st.integers(0, 400), max_size=6),
)
def test_any_bytes_have_a_verdict(grant: str, data: bytes, cuts: list[int]) -> None:
    """Nothing raises; what passes is the beginning of what came; in one piece the same bytes end alike.

    Except that pieces of a head may wait for a line's end where the whole is refused at once: nothing passes.
    """
    leave = allowed(grant)
    passed, denied = play(leave, [piece for piece in pieces(data, cuts) if piece])
    assert data.startswith(passed)
    at_once, other = play(leave, [data])
    assert data.startswith(at_once)
    if (denied is None) != (other is None):
        assert passed == at_once == b""


@pytest.mark.parametrize(
    ("grant", "data", "why"),
    [
        (f"{API}:443", b"SSH-2.0-x\r\n", Reason.NOT_TLS),
        (f"{API}:443", request(API), Reason.NOT_TLS),
        (f"{API}:443", b"\x16\x03\x01\0\0", Reason.MALFORMED),
        (f"{API}:80", b"SSH-2.0-x\r\n", Reason.PROTOCOL_NOT_GRANTED),
        (f"{API}:80", hello(API), Reason.PROTOCOL_NOT_GRANTED),
        (f"{API}:80", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.PROTOCOL_NOT_GRANTED),
        (f"{API}:80", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", Reason.MALFORMED),
        (f"{API}:8080", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.PROTOCOL_NOT_GRANTED),
    ],
)
def test_what_is_spoken_instead(grant: str, data: bytes, why: Reason) -> None:
    """Another protocol than the one that is expected is refused for that."""
    verdict = FirstFlight(allowed(grant)).feed(data)
    assert isinstance(verdict, Denied)
    assert verdict.reason is why


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-x\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"*1\r\n$4\r\nPING\r\n", b"EHLO there\r\n"]
)
def test_any_other_protocol_passes_where_anything_may_be_spoken(data: bytes) -> None:
    """SSH, PostgreSQL, Redis, SMTP: as that host's, with nothing that follows looked at."""
    assert FirstFlight(allowed(f"{API}:7000")).feed(data) == Cleared(data, None)


def test_the_server_may_speak_first() -> None:
    """Then the flow is neither TLS nor HTTP, and what the client says passes."""
    flight = FirstFlight(allowed(f"{API}:25"))
    assert flight.settle() == Cleared(b"", None)
    assert flight.judged


@pytest.mark.parametrize(
    ("grant", "data", "layer"),
    [
        (f"{API}:443", b"", Layer.TLS),
        (f"{API}:443", hello(API)[:50], Layer.TLS),
        (f"{API}:80", b"GET / HT", Layer.HTTP),
        (f"{API}:8080", hello(API)[:50], Layer.TLS),
    ],
)
def test_a_flight_that_is_cut_short(grant: str, data: bytes, layer: Layer) -> None:
    """Whatever is missing, it is malformed, on the layer where it was expected."""
    flight = FirstFlight(allowed(grant))
    assert not data or flight.feed(data) is None
    denied = flight.cut_short()
    assert (denied.reason, denied.layer, denied.host) == (Reason.MALFORMED, layer, API)
    assert flight.judged


def test_last_words_are_in_what_is_spoken() -> None:
    """An alert to TLS, a page to HTTP, nothing (RST) to anything else; a failure is never a denial's page."""
    denied = refused(allowed(f"{API}:80"), Reason.HOST_HEADER_MISMATCH, Layer.HTTP, OTHER)
    assert words_of_denial(denied, Expect.TLS) == ALERT_ACCESS_DENIED
    assert words_of_denial(denied, Expect.RAW) == words_of_denial(denied, Expect.ANY) == b""
    head, _, body = words_of_denial(denied, Expect.HTTP).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\nX-Mvm-Denied: host-header-mismatch\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {
        "denied": "host-header-mismatch",
        "host": OTHER,
        "port": 80,
        "see": "http://policy.mvm.internal/",
    }
    failed = words_of_failure("no such host", Expect.HTTP)
    assert failed.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"X-Mvm-Denied" not in failed
    assert words_of_failure("no such host", Expect.TLS) == b""


@pytest.mark.parametrize("literal", ["93.184.215.10", "[2606:2800:220:1::a]"])
def test_requests_to_an_address_name_that_address(literal: str) -> None:
    """A Host that is the granted address passes, in the spelling that clients use; a name does not."""
    leave = allowed(f"{literal}:80")
    for header in (literal, f"{literal}:80"):
        assert play(leave, [request(header)]) == (request(header), None)
    _, denied = play(leave, [request(OTHER)])
    assert denied is not None
    assert (denied.host, denied.address) == (OTHER, str(ip_address(literal.strip("[]"))))


@pytest.mark.parametrize("data", [b"\x16", b"G", b"HELO", b"\x16\x03", b"GET /"])
def test_sniffing_says_only_what_is_certain(data: bytes) -> None:
    """A beginning that may become two things is neither yet."""
    known = {b"\x16\x03": Expect.TLS, b"GET /": Expect.HTTP}
    assert sniff(data) is known.get(data, Expect.ANY)
