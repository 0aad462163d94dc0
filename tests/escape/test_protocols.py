"""Bytes that two programs could read differently, and protocols that were not granted (ATTACKS 32-34)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.escape.inside import Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"
_HEAD = f"POST / HTTP/1.1\r\nHost: {API}\r\n"
_HIDDEN = f"GET /hidden HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"

SMUGGLED = {
    "two lengths": f"{_HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello{_HIDDEN}",
    "length and chunked": f"{_HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_HIDDEN}",
    "odd coding": f"{_HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{_HIDDEN}",
    "coding twice": (
        f"{_HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{_HIDDEN}"
    ),
    "folded": f"{_HEAD}X: a\r\n Host: {OTHER}\r\n\r\n",
    "space before colon": f"{_HEAD}Content-Length : 5\r\n\r\nhello",
    "bare line feed": f"GET / HTTP/1.1\nHost: {API}\n\n",
    "two hosts": f"GET / HTTP/1.1\r\nHost: {API}\r\nHost: {OTHER}\r\n\r\n",
    "no host": "GET / HTTP/1.1\r\n\r\n",
    "absolute target": f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {API}\r\n\r\n",
    "signed length": f"{_HEAD}Content-Length: +5\r\n\r\nhello",
    "NUL in a field": f"GET / HTTP/1.1\r\nHost: {API}\0.evil\r\n\r\n",
}
OTHER_PROTOCOLS = {
    "connect": f"CONNECT {OTHER}:443 HTTP/1.1\r\nHost: {OTHER}:443\r\n\r\n",
    "http/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "h2c upgrade": f"GET / HTTP/1.1\r\nHost: {API}\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "ssh": "SSH-2.0-x\r\n",
    "tls": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "binary": "\x00\x01\x02\x03\r\n\r\n",
}


@pytest.mark.parametrize("trick", [*SMUGGLED, *OTHER_PROTOCOLS])
def test_what_could_be_read_in_two_ways_never_reaches_the_host(
    sandbox: Start, internet: Internet, trick: str
) -> None:
    """33, 32: refused where it stops being plain HTTP/1 for the granted host; a plain request passes."""
    flight = {**SMUGGLED, **OTHER_PROTOCOLS}[trick]
    api = internet.host("api")
    with sandbox(f"{API}:80") as inside:
        said = inside.denied("talk", host=API, port=80, turns=[(flight, None)])
        assert said.outcome in {"end", "reset"}
        assert "200 OK" not in said.data
        request = f"GET / HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n"
        assert "200 OK" in inside.allowed("talk", at=api, host=API, port=80, turns=[(request, None)]).data
    reasons = {denial["reason"] for denial in inside.result["denials"]}
    assert reasons <= {"malformed", "host-header-mismatch", "protocol-not-granted"}
    assert len(reasons) == 1


@pytest.mark.parametrize(
    "spoken", ["GET / HTTP/1.1\r\nHost: api.example.test\r\n\r\n", "SSH-2.0-x\r\n", "\x00"]
)
def test_where_tls_is_expected_nothing_else_is_spoken(
    sandbox: Start, internet: Internet, spoken: str
) -> None:
    """34: on port 443 the first byte that is no TLS ends it, before the host is dialled."""
    with sandbox(f"{API}:443") as inside:
        said = inside.denied("talk", host=API, port=443, turns=[(spoken, None)])
        assert said.outcome in {"end", "reset"}
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    (denial,) = inside.result["denials"]
    assert (denial["layer"], denial["reason"], denial["count"]) == ("tls", "not-tls", 1)
