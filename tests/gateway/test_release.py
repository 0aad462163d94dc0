"""What goes on before it is judged, where anything may be spoken: a word for the server, never a request."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.gateway.flow import Cleared, Expect, FirstFlight
from mvm.policy.decide import Allowed, Denied, Usage
from mvm.policy.model import Grant
from mvm.terms import HostName, Reason

HOST = HostName("api.example.test")
GRANT = Grant(host=HOST, port=7777)


def _flight() -> FirstFlight:
    return FirstFlight(Allowed(grant=GRANT, host=HOST, port=7777, usage=Usage(0.0, GRANT)))


def _play(pieces: list[bytes]) -> tuple[bytes, Denied | None]:
    """What the server gets of these pieces, each read alone, and how it ends."""
    flight, passed = _flight(), b""
    for piece in pieces:
        verdict = flight.feed(piece)
        if isinstance(verdict, Denied):
            return passed, verdict
        if isinstance(verdict, Cleared):
            return passed + verdict.data, None
        passed += flight.release()
    return passed, None


@pytest.mark.parametrize("opening", [b"D", b"PING", b"HELO", b"\x16", b"GET", b"user name"])
def test_a_word_without_an_end_goes_on_at_once(opening: bytes) -> None:
    """A protocol whose client says a word and waits is served; nothing of it is lost or doubled."""
    flight = _flight()
    assert flight.feed(opening) is None
    assert flight.expect is Expect.ANY
    assert flight.release() == opening
    assert flight.release() == b""
    assert flight.settle() == Cleared(b"", None)


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_request_for_another_host_is_refused_however_it_is_cut_and_its_host_never_arrives(cut: int) -> None:
    """The server has at most the method; the granted twin arrives whole."""
    for host, refused in ((b"evil.example.test", True), (b"api.example.test:7777", False)):
        request = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
        passed, denied = _play([request[:cut], request[cut:]])
        if refused:
            assert denied is not None
            assert denied.reason is Reason.HOST_HEADER_MISMATCH
            assert request.startswith(passed)
            assert b"/" not in passed
        else:
            assert (passed, denied) == (request, None)


@given(
    head=st.sampled_from([b"GET / HTTP/1.1", b"FOO bar HTTP/1.0", b"get\t/ HTTP/1.1", b"OPTIONS * HTTP/1.1"]),
    cuts=st.lists(st.integers(1, 60), max_size=8),
)
def test_no_line_of_a_refused_request_is_ever_whole_upstream(head: bytes, cuts: list[int]) -> None:
    """Whatever the cuts, no line end goes on before the Host is judged."""
    request = head + b"\r\nHost: evil.example.test\r\n\r\n"
    edges = sorted({0, *(cut for cut in cuts if cut < len(request)), len(request)})
    pieces = [request[start:stop] for start, stop in pairwise(edges)]
    passed, denied = _play(pieces)
    assert denied is not None
    assert b"\n" not in passed
    assert b"evil" not in passed


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(1, 199), max_size=6))
def test_what_is_cleared_is_what_came(data: bytes, cuts: list[int]) -> None:
    """Released and cleared bytes together are the client's own, in order, however they are cut."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    passed, denied = _play([data[start:stop] for start, stop in pairwise(edges)])
    assert data.startswith(passed)
    assert denied is not None or passed or data[0] == 0x16
