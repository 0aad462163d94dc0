"""Every request of a connection is checked, and nothing of a wrong one is ever cleared."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.wire.http_head import MAX_HEAD, NotHttp1
from mvm.wire.http_stream import MAX_TRAILERS, HostMismatch, RequestStream
from mvm.wire.outcome import Malformed
from tests.wire.vectors import load, name_of

STREAMS = load("http_streams.json")
ERRORS: dict[str | None, type[ValueError] | None] = {
    None: None,
    "HostMismatch": HostMismatch,
    "NotHttp1": NotHttp1,
    "Malformed": Malformed,
}
GET = b"GET / HTTP/1.1\r\nHost: api.example\r\n\r\n"
EVIL = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: api.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: api.example\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\n\r\n"


def stream() -> RequestStream:
    """The stream of a connection to the granted host."""
    return RequestStream(host=b"api.example", port=80)


def passed(data: bytes, cuts: list[int]) -> tuple[bytes, type[ValueError] | None]:
    """Everything that a stream clears of `data` cut at these places, and what it raised."""
    reader, cleared = stream(), b""
    bounds = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(bounds):
        try:
            cleared += reader.feed(data[start:end])
        except (HostMismatch, Malformed) as fault:
            return cleared + reader.cleared_before_fault, type(fault)
    return cleared, None


@pytest.mark.parametrize("vector", STREAMS, ids=name_of)
def test_what_is_cleared_of_a_whole_stream(vector: dict[str, Any]) -> None:
    """Good requests before a wrong one, and not a byte of the wrong one."""
    assert passed(vector["data"], []) == (vector["cleared"].encode("latin-1"), ERRORS[vector["error"]])


@pytest.mark.parametrize("vector", STREAMS, ids=name_of)
def test_byte_by_byte_clears_the_same_requests(vector: dict[str, Any]) -> None:
    """However the stream is cut: the same error kind, and nothing beyond what the whole clears."""
    cleared, error = passed(vector["data"], list(range(1, len(vector["data"]))))
    whole = vector["cleared"].encode("latin-1")
    assert (error is None) is (vector["error"] is None)
    assert cleared == whole


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 400), max_size=5))
def test_cuts_change_nothing(vector: dict[str, Any], cuts: list[int]) -> None:
    """Five cuts anywhere: what is cleared stays the same."""
    cleared, _ = passed(vector["data"], [cut % (len(vector["data"]) + 1) for cut in cuts])
    assert cleared == vector["cleared"].encode("latin-1")


@pytest.mark.parametrize(("port", "host", "fits"), [
    (80, b"api.example", True), (80, b"api.example:80", True), (80, b"api.example:8080", False),
    (8080, b"api.example:8080", True), (8080, b"api.example", False), (8080, b"api.example:80", False),
])  # fmt: skip
def test_the_port_of_host_must_be_the_granted_one(port: int, host: bytes, fits: bool) -> None:
    """A Host without a port means port 80."""
    reader = RequestStream(host=b"api.example", port=port)
    request = GET.replace(b"api.example", host)
    if fits:
        assert reader.feed(request) == request
    else:
        with pytest.raises(HostMismatch):
            reader.feed(request)


def test_a_mismatch_names_what_was_asked_for() -> None:
    """So that the record can say which host and port."""
    with pytest.raises(HostMismatch) as raised:
        stream().feed(EVIL.replace(b"other.example", b"Other.Example:81"))
    assert (raised.value.host, raised.value.port) == (b"other.example", 81)


def test_a_fault_stays() -> None:
    """After a refused request a good one is refused too, and nothing is cleared any more."""
    reader = stream()
    with pytest.raises(HostMismatch):
        reader.feed(GET + EVIL)
    assert reader.cleared_before_fault == GET
    with pytest.raises(HostMismatch):
        reader.feed(GET)
    assert (reader.cleared_before_fault, reader.blind) == (b"", 0)


def test_the_rest_of_a_body_may_go_by_unseen_and_the_next_request_not() -> None:
    """`blind` counts down by `feed` and `skip` alike, and at its end heads are read again."""
    reader = stream()
    assert reader.feed(POST + b"x" * 10) == POST + b"x" * 10
    assert reader.blind == 99990
    reader.skip(99000)
    assert reader.feed(b"x" * 90) == b"x" * 90
    assert not reader.idle
    reader.skip(900)
    assert (reader.blind, reader.idle) == (0, True)
    with pytest.raises(HostMismatch):
        reader.feed(EVIL)


def test_the_rest_of_a_chunk_may_go_by_unseen() -> None:
    """Behind the chunk its CR LF and the next size line are read again."""
    reader = stream()
    reader.feed(CHUNKED + b"ff\r\n")
    assert reader.blind == 255
    reader.skip(255)
    assert reader.feed(b"\r\n0\r\n\r\n") == b"\r\n0\r\n\r\n"
    assert reader.idle


def test_more_than_blind_cannot_be_skipped() -> None:
    """Relaying bytes unseen that needed a look is an error of the caller, and said so."""
    reader = stream()
    reader.feed(POST)
    with pytest.raises(ValueError, match="unseen"):
        reader.skip(100001)
    with pytest.raises(ValueError, match="unseen"):
        reader.skip(-1)


def test_an_upgrade_that_is_accepted_makes_the_stream_opaque() -> None:
    """What was held goes on, then everything passes unread."""
    reader = stream()
    assert reader.feed(UPGRADE + b"\x81") == UPGRADE
    assert (reader.awaiting_upgrade, reader.opaque) == (True, False)
    assert reader.feed(b"\x05") == b""
    assert reader.upgraded(True) == b"\x81\x05"
    assert (reader.awaiting_upgrade, reader.opaque) == (False, True)
    assert reader.feed(EVIL) == EVIL
    reader.skip(1 << 40)


def test_an_upgrade_that_is_declined_leaves_the_stream_http() -> None:
    """What was held is read as requests: good ones go on, wrong ones are refused."""
    reader = stream()
    assert reader.feed(UPGRADE + GET) == UPGRADE
    assert reader.upgraded(False) == GET
    assert reader.idle
    reader = stream()
    reader.feed(UPGRADE + GET + EVIL)
    with pytest.raises(HostMismatch):
        reader.upgraded(False)
    assert reader.cleared_before_fault == GET


def test_what_is_sent_before_the_answer_to_an_upgrade_is_bounded() -> None:
    """16 KiB are held, one more is refused; and there is nothing to answer without an Upgrade."""
    reader = stream()
    reader.feed(UPGRADE + b"x" * MAX_HEAD)
    with pytest.raises(Malformed):
        reader.feed(b"x")
    with pytest.raises(ValueError, match="awaited"):
        stream().upgraded(True)


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"x" * MAX_HEAD,
        GET[:-2] + b"X: y\r\n" * 3000,
        CHUNKED + b"0\r\n" + b"X: y\r\n" * (MAX_TRAILERS // 5),
    ],
)
def test_what_never_ends_is_refused(endless: bytes) -> None:
    """Target, fields and trailers, in pieces of 100 bytes: refused at their bounds."""
    assert passed(endless, list(range(100, len(endless), 100)))[1] is Malformed


parts = st.lists(
    st.one_of(
        st.sampled_from(
            [
                GET,
                EVIL,
                UPGRADE,
                CHUNKED,
                POST[:-2].replace(b"100000", b"3"),
                b"\r\n",
                b"5\r\nhello\r\n",
                b"0\r\n",
            ]
        ),
        st.binary(max_size=8),
    ),
    max_size=8,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(parts, st.lists(st.integers(0, 600), max_size=4))
def test_any_stream_clears_a_prefix_of_itself(data: bytes, cuts: list[int]) -> None:
    """What is cleared is the beginning of what came, errors are the three documented, cuts change nothing."""
    whole, error = passed(data, [])
    assert data.startswith(whole)
    assert error in ERRORS.values()
    assert passed(data, [cut % (len(data) + 1) for cut in cuts])[0] == whole
