"""A hello beyond what is read of one, by its bytes, records or time (ATTACKS 28), and its twins within."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.hellos import ACCESS_DENIED, hello, in_records
from tests.escape.inside import Told

if TYPE_CHECKING:
    from tests.escape.inside import Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.escape

API = "api.example.test"
_MOST_BYTES, _MOST_RECORDS = 16384, 64
_TIME_S, _TIME_AT_MOST_S = 10.0, 40.0
_HEADER = 5
"""Of a TLS record."""
_GREASE = 0x5A5A
"""An extension that no server knows, and every one must pass over (RFC 8701)."""


def _of_bytes(size: int) -> str:
    """A whole hello for the granted host that takes so many bytes."""
    shortest = len(hello(API.encode(), extra=[(_GREASE, b"")]))
    return hello(API.encode(), extra=[(_GREASE, bytes(size - shortest))])


def _of_records(count: int) -> str:
    """A whole hello for the granted host in so many records of the same size."""
    each = 20
    return in_records(_of_bytes(_HEADER + each * count), each)


def test_a_hello_beyond_the_bound_ends_there(sandbox: Start, internet: Internet) -> None:
    """28: a byte or a record more than are ever read is refused; at the bound and in pieces it passes."""
    api = internet.host("api")
    beyond = (_of_bytes(_MOST_BYTES + 1), _of_records(_MOST_RECORDS + 1), _of_bytes(60_000))
    with sandbox(f"{API}:443") as inside:
        for flight in beyond:
            said = inside.denied("talk", host=API, port=443, turns=[(flight, None)])
            assert said.raw == ACCESS_DENIED
        for flight in (_of_bytes(_MOST_BYTES), _of_records(_MOST_RECORDS)):
            said = inside.allowed("talk", at=api, host=API, port=443, turns=[(flight, _HEADER)])
            assert said.raw[:1] == b"\x16"
        assert inside.allowed("tls", at=api, host=API, name=API, piece=1).outcome == "answered"
    inside.expect(Told("tls", "malformed", API, None, 443, "tcp", times=len(beyond)))


def test_a_hello_that_never_ends_has_ten_seconds(sandbox: Start, internet: Internet) -> None:
    """28: one that stops in the middle and one that goes on byte by byte are both refused when it is time."""
    whole = _of_bytes(8000)
    with sandbox(f"{API}:443") as inside:
        words: dict[str, Any] = {
            "host": API,
            "port": 443,
            "opening": whole[:4000],
            "drops": ["", whole[4000:]],
        }
        said = inside.denied("trickle", within_s=_TIME_AT_MOST_S, **words)
        assert [each.encode("latin-1") for each in said.heard] == [ACCESS_DENIED] * 2
        assert said.duration_s > _TIME_S - 1
        said = inside.allowed("tls", at=internet.host("api"), host=API, name=API, piece=1)
        assert said.outcome == "answered"
    inside.expect(Told("tls", "malformed", API, None, 443, "tcp", times=2))
