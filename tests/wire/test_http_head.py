"""HTTP heads that are plain are read, those that two readers could read differently are refused."""

from __future__ import annotations

import timeit
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.wire.http_head import (
    MAX_HEAD,
    NotHttp1,
    RequestHead,
    ResponseHead,
    looks_like_http,
    read_request_head,
    read_response_head,
)
from mvm.wire.outcome import Malformed
from tests.wire.vectors import grown, load, name_of

REQUESTS = load("http_requests.json")
REFUSED = load("http_requests_refused.json")
FIRST_BYTES = load("http_first_bytes.json")
UNDECIDED = b"X" * (MAX_HEAD - 1)


def facts(vector: dict[str, Any]) -> dict[str, object]:
    """The head that a vector describes, as `asdict` of it."""
    told: dict[str, object] = {key: vector[key] for key in ("port", "content_length", "chunked")}
    texts = {key: vector[key] and vector[key].encode() for key in ("method", "host", "upgrade")}
    return told | texts | {"size": len(vector["data"])}


@pytest.mark.parametrize("vector", REQUESTS, ids=name_of)
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0\n\r", bytes(MAX_HEAD)])
def test_a_whole_request_head_is_read(vector: dict[str, Any], behind: bytes) -> None:
    """The facts are those of the vector, whatever bytes follow the head."""
    head = read_request_head(vector["data"] + behind)
    assert head is not None
    assert asdict(head) == facts(vector)


@pytest.mark.parametrize("vector", REQUESTS, ids=name_of)
def test_a_request_head_byte_by_byte_is_read_at_its_last(vector: dict[str, Any]) -> None:
    """Every prefix asks for more, and the whole gives the value."""
    head = grown(read_request_head, vector["data"])
    assert head is not None
    assert asdict(head) == facts(vector)


@pytest.mark.parametrize("vector", REFUSED, ids=name_of)
def test_a_broken_or_ambiguous_request_is_refused(vector: dict[str, Any]) -> None:
    """Whole with the error that the vector names, and byte by byte never with a value."""
    error = NotHttp1 if vector["error"] == "NotHttp1" else Malformed
    with pytest.raises(error) as raised:
        read_request_head(vector["data"])
    assert raised.type is error
    with pytest.raises(Malformed):
        grown(read_request_head, vector["data"])


def test_a_head_of_16_kib_is_read_and_a_longer_one_refused() -> None:
    """The empty line must end within the bound; without it the bound itself ends the waiting."""
    start = b"GET / HTTP/1.1\r\nHost: api.example\r\nX: "
    longest = start + b"x" * (MAX_HEAD - len(start) - 4) + b"\r\n\r\n"
    head = read_request_head(longest)
    assert head is not None
    assert head.size == MAX_HEAD
    for longer in (longest[:-4] + b"x\r\n\r\n", longest[:-1] + b"x", b"GET /" + b"x" * MAX_HEAD):
        with pytest.raises(Malformed):
            read_request_head(longer)


@pytest.mark.parametrize("vector", FIRST_BYTES, ids=name_of)
def test_first_bytes_tell_http_from_other_protocols(vector: dict[str, Any]) -> None:
    """True, False or undecided, as the vector says."""
    assert looks_like_http(vector["data"]) is vector["is_http"]


@pytest.mark.parametrize("vector", FIRST_BYTES, ids=name_of)
def test_a_verdict_on_first_bytes_never_changes(vector: dict[str, Any]) -> None:
    """Once True or False at some byte, it stays so at each later one."""
    verdicts = [looks_like_http(vector["data"][:size]) for size in range(len(vector["data"]) + 1)]
    decided = [verdict for verdict in verdicts if verdict is not None]
    assert len(set(decided)) <= 1
    assert verdicts == [None] * (len(verdicts) - len(decided)) + decided


@pytest.mark.parametrize("vector", REQUESTS, ids=name_of)
def test_every_request_that_is_read_looks_like_http(vector: dict[str, Any]) -> None:
    """So that none passes by as another protocol on a port of unknown use."""
    assert looks_like_http(vector["data"]) is True


def test_first_bytes_undecided_for_too_long_count_as_http() -> None:
    """Waiting ends at 16 KiB, on the side that is then refused by the strict reader."""
    assert looks_like_http(UNDECIDED) is None
    assert looks_like_http(UNDECIDED + b"XX") is True
    with pytest.raises(Malformed):
        read_request_head(UNDECIDED + b"XX")


@pytest.mark.parametrize(
    ("data", "status", "upgrade"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, None),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n",
            101,
            b"websocket",
        ),
        (b"HTTP/1.0 403 \r\n\r\n", 403, None),
        (b"HTTP/1.1 100\r\n\r\n", 100, None),
    ],
)
def test_a_response_head_is_read(data: bytes, status: int, upgrade: bytes | None) -> None:
    """Whole, byte by byte, and with the body behind it."""
    head = ResponseHead(status=status, upgrade=upgrade, size=len(data))
    assert read_response_head(data) == grown(read_response_head, data) == head
    assert read_response_head(data + b"body\n\0") == head


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 101 OK\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD,
    ],
)
def test_a_broken_response_head_is_refused(data: bytes) -> None:
    """Whole and byte by byte."""
    for read in (read_response_head, lambda data: grown(read_response_head, data)):
        with pytest.raises(Malformed):
            read(data)


pieces = st.lists(
    st.one_of(
        st.sampled_from(
            [b"GET", b"/", b" ", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host", b":", b"api.example", b"5",
             b"\t", b"Content-Length", b"Transfer-Encoding", b"chunked", b"http://", b"@", b"[::1]",
             b"Upgrade", b"HTTP/1.1 101"]
        ),
        st.binary(max_size=3),
    ),
    max_size=30,
).map(b"".join)  # fmt: skip
heads = st.tuples(pieces, st.sampled_from([b"", b"\r\n\r\n"])).map(b"".join)
after_line = heads.map(lambda tail: b"GET / HTTP/1.1\r\nHost: api.example\r\n" + tail)


@settings(max_examples=500, deadline=None)
@given(st.one_of(heads, after_line))
def test_any_bytes_give_one_of_the_three_outcomes(data: bytes) -> None:
    """A value, None, or `Malformed`; nothing else is ever raised."""
    for read, kind in ((read_request_head, RequestHead), (read_response_head, ResponseHead)):
        with suppress(Malformed):
            assert isinstance(read(data), kind | None)
    assert looks_like_http(data) in (True, False, None)


def test_hostile_heads_cost_little() -> None:
    """Heads of 16 KiB made to make a pattern search back and forth are judged in under a millisecond."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n"
    room = MAX_HEAD - len(start) - 8
    for filling in (
        b"X:" + b" \t" * (room // 2),
        b"a:" * (room // 2),
        b"Host: a\r\n" * (room // 9),
        b"x" * room,
    ):
        hostile = start + filling + b"\r\n\r\n"

        def judge(hostile: bytes = hostile) -> None:
            with suppress(Malformed):
                read_request_head(hostile)

        assert min(timeit.repeat(judge, number=10, repeat=5)) / 10 < 5e-3
