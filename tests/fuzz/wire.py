"""The readers of what goes over the wire, each run whole and in pieces.

Owns what must hold of each; `readers` has the table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mvm.gateway.flow import Cleared, FirstFlight, check_requests
from mvm.policy.decide import Allowed, Denied, Usage
from mvm.policy.parse import (
    parse_grant,
)
from mvm.wire.dns_message import (
    A,
    Rcode,
    build_fault,
    build_reply,
    read_answer,
    read_query,
)
from mvm.wire.dns_name import MAX_NAME, read_name, read_plain_name
from mvm.wire.dns_stream import MessageStream, frame
from mvm.wire.http_head import MAX_HEAD
from mvm.wire.http_stream import HostMismatch, RequestStream
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WHOLE_BELOW = 400
"""Bytes up to which an input is also fed one byte at a time; above, in a few pieces."""

_HOST, _NUMBER = "api.example", 0x1234
_PORTS = (443, 80, 22)


def cuts(data: bytes) -> Iterator[bytes]:
    """The pieces in which an input is fed: single bytes, or some twenty for a long one."""
    size = 1 if len(data) <= _WHOLE_BELOW else len(data) // 20
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _outcome(read: Callable[[bytes], object], data: bytes) -> object:
    """A value, None, or Malformed itself for any refusal."""
    try:
        return read(data)
    except Malformed:
        return Malformed


def _grown(read: Callable[[bytes], object], data: bytes) -> object:
    """The first outcome that is not None, of ever longer beginnings."""
    so_far = b""
    outcome = _outcome(read, so_far)
    for piece in cuts(data):
        if outcome is not None:
            return outcome
        so_far += piece
        outcome = _outcome(read, so_far)
    return outcome


def steady(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """A reader of a beginning: what it says of one, it says whatever follows."""

    def run(data: bytes) -> object:
        outcome = _outcome(read, data)
        grown = _grown(read, data)
        assert outcome == grown, f"whole {outcome}, grown {grown}"
        return outcome

    return run


# ------------------------------------------------------------------------------------------------------ wire


def request_stream(data: bytes) -> object:
    """One HTTP connection: what passes is what came, and does not hang on how it was cut."""
    whole, pieces = (RequestStream(host=_HOST.encode(), port=80) for _ in range(2))
    passed, fault = _feed(whole, [data])
    passed_in_pieces, fault_in_pieces = _feed(pieces, cuts(data))
    assert data.startswith(passed), "a byte was changed"
    assert passed == passed_in_pieces, "what passes depends on how it was cut"
    if (fault is None) != (fault_in_pieces is None):
        # Which of two faults is met first may hang on how it was cut; whether there is one must not. A line
        # that has no end yet is looked at again only when it ends; until then it is held, all of it.
        assert fault_in_pieces is None, f"whole {fault}, in pieces {fault_in_pieces}"
        assert not pieces.idle, "what is refused whole was let go in pieces"
        assert _feed(pieces, [b"\n\n"])[1] is not None, "what is refused whole is never refused in pieces"
    elif fault is None:
        assert (whole.blind, whole.idle, whole.awaiting_upgrade) == (
            pieces.blind,
            pieces.idle,
            pieces.awaiting_upgrade,
        )
        assert len(data) - len(passed) <= 2 * MAX_HEAD, "more is held than a head"
    return fault


def _feed(stream: RequestStream, came: Iterator[bytes] | list[bytes]) -> tuple[bytes, object]:
    passed = b""
    for piece in came:
        try:
            passed += stream.feed(piece)
        except (Malformed, HostMismatch) as fault:
            return passed + stream.cleared_before_fault, type(fault)
    return passed, None


@cache
def leave(port: int) -> Allowed:
    """Leave to reach one host at one port."""
    grant = parse_grant(f"{_HOST}:{port}")
    return Allowed(grant=grant, host=grant.host, port=port, usage=Usage(0.0, grant))


def first_flight(data: bytes) -> object:
    """The first bytes of a flow on a port of TLS, of HTTP and of anything."""
    return tuple(_flown(port, data) for port in _PORTS)


def _flown(port: int, data: bytes) -> object:
    came = [data] if data else []  # no bytes are the end of a flow, and never fed
    whole, denied = play(leave(port), came)
    pieces, denied_too = play(leave(port), cuts(data))
    assert data.startswith(whole)
    assert data.startswith(pieces)
    if denied is None:
        assert denied_too is None, f"in pieces {denied_too}"
        assert whole == pieces
    elif denied_too is None:
        # As for `http_stream`: held until its line ends, and refused then.
        assert play(leave(port), [*cuts(data), b"\n\n"])[1] is not None
    return denied and denied.reason


def play(allowed: Allowed, came: Iterator[bytes] | list[bytes]) -> tuple[bytes, Denied | None]:
    """All that may go upstream of what came, and the denial that ended it."""
    flight, passed = FirstFlight(allowed), b""
    stream: RequestStream | None = None
    for piece in came:
        verdict: Cleared | Denied | bytes | None
        if not flight.judged:
            verdict = flight.feed(piece)
            if isinstance(verdict, Cleared):
                stream, verdict = verdict.stream, verdict.data
        else:
            verdict = piece if stream is None else check_requests(stream.feed, piece, allowed)
        if isinstance(verdict, Denied):
            return passed, verdict
        passed += verdict or b""
    return passed, None


def dns_query(data: bytes) -> object:
    """A question: refused, or one that can be answered within the size that UDP has."""
    try:
        query = read_query(data)
    except Malformed:
        fault = build_fault(data, Rcode.FORMERR)
        assert fault is None or len(fault) == 12
        return Malformed
    for over_tcp in (False, True):
        reply = build_reply(query, over_tcp=over_tcp, rcode=Rcode.NXDOMAIN, ede=18, text="not granted")
        assert len(reply) <= (0xFFFF if over_tcp else 1232)
        assert reply[:2] == data[:2]
    return query.qtype


def dns_answer(data: bytes) -> object:
    """An answer to our own question: refused, or addresses of the asked type."""
    try:
        answer = read_answer(data, _NUMBER, _HOST, A)
    except Malformed:
        return Malformed
    assert len(answer.addresses) <= 4096
    assert all(address.version == 4 for address in answer.addresses)
    return answer.rcode, len(answer.addresses), answer.truncated


def dns_name(data: bytes) -> object:
    """A name, compressed or not: refused, or text of a known alphabet, with its end inside."""
    said: list[object] = []
    for read in (read_name, read_plain_name):
        try:
            text, end = read(data, data[0] & 31 if data else 0)
        except Malformed:
            said.append(Malformed)
            continue
        assert end <= len(data)
        assert len(text) <= 4 * MAX_NAME
        assert text.isascii()
        assert text == text.lower()
        said.append(end)
    return tuple(said)


def dns_stream(data: bytes) -> object:
    """DNS over TCP: refused, or messages, however it is cut."""
    outcomes = []
    for came in ([data], cuts(data)):
        stream, messages, fault = MessageStream(limit=512), [], False
        try:
            for piece in came:
                messages += stream.feed(piece)
        except Malformed:
            fault = True
        outcomes.append((fault, messages, stream.waiting))
    whole, pieces = outcomes
    assert whole[0] == pieces[0]
    if not whole[0]:
        assert whole == pieces
        assert data.startswith(b"".join(map(frame, whole[1])))
    return whole[0], len(whole[1])
