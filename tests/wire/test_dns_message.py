"""DNS questions and answers of real programs are read, everything that is not one is refused."""

from __future__ import annotations

import struct
import timeit
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.wire.dns_message import (
    AAAA,
    MAX_QUERY,
    MAX_RECORDS,
    PROHIBITED,
    UDP_SIZE,
    A,
    Answer,
    NotAQuestion,
    Query,
    Rcode,
    build_fault,
    build_query,
    build_reply,
    read_answer,
    read_query,
)
from mvm.wire.dns_name import read_name, read_plain_name
from mvm.wire.outcome import Malformed
from tests.wire.vectors import load, name_of

QUERIES = load("dns_queries.json")
QUERIES_REFUSED = load("dns_queries_refused.json")
ANSWERS = load("dns_answers.json")
ANSWERS_REFUSED = load("dns_answers_refused.json")
IDENT = 0x1234
GLIBC = next(vector["data"] for vector in QUERIES if vector["id"] == "glibc-a")
PLAIN = next(vector["data"] for vector in QUERIES if vector["id"] == "c-ares-a")


@pytest.mark.parametrize("vector", QUERIES, ids=name_of)
def test_a_question_is_read(vector: dict[str, Any]) -> None:
    """Name, type, class and UDP size are those that the program asked with."""
    query = read_query(vector["data"])
    assert {key: getattr(query, key) for key in ("name", "qtype", "qclass", "edns")} == {
        key: vector[key] for key in ("name", "qtype", "qclass", "edns")
    }
    assert vector["data"].startswith(struct.pack("!H", query.ident))
    assert query.question in vector["data"]


@pytest.mark.parametrize("vector", QUERIES, ids=name_of)
def test_a_cut_or_continued_question_is_refused(vector: dict[str, Any]) -> None:
    """A datagram is whole: every prefix of it, and every byte more, is malformed."""
    for size in range(len(vector["data"])):
        with pytest.raises(Malformed):
            read_query(vector["data"][:size])
    with pytest.raises(Malformed):
        read_query(vector["data"] + b"\0")


@pytest.mark.parametrize("vector", QUERIES_REFUSED, ids=name_of)
def test_a_broken_question_is_refused_and_answered_as_such(vector: dict[str, Any]) -> None:
    """With the error that the vector names; the fault's reply is a header with the code, or none."""
    error = NotAQuestion if vector["error"] == "NotAQuestion" else Malformed
    with pytest.raises(error) as raised:
        read_query(vector["data"])
    assert raised.type is error
    rcode = vector["reply_rcode"]
    fault = build_fault(vector["data"], Rcode(rcode or Rcode.FORMERR))
    if rcode is None:
        assert fault is None
    else:
        assert fault is not None
        ident, flags, *counts = struct.unpack("!HHHHHH", fault)
        assert (ident, flags & 0x800F, counts) == (IDENT, 0x8000 | rcode, [0, 0, 0, 0])


def test_a_question_of_more_than_4096_bytes_is_refused() -> None:
    """Padding (RFC 7830) is accepted up to the bound."""

    def padded(size: int) -> bytes:
        head = struct.pack("!HHHHHH", IDENT, 0x0100, 1, 0, 0, 1) + b"\x01a\0" + struct.pack("!HH", A, 1)
        rest = size - len(head) - 15
        return head + b"\0" + struct.pack("!HHIHHH", 41, 1232, 0, rest + 4, 12, rest) + bytes(rest)

    assert read_query(padded(MAX_QUERY)).edns == UDP_SIZE
    with pytest.raises(Malformed):
        read_query(padded(MAX_QUERY + 1))


@pytest.mark.parametrize("qtype", [A, AAAA])
@pytest.mark.parametrize("over_tcp", [True, False])
def test_a_reply_with_an_address_reads_back(qtype: int, over_tcp: bool) -> None:
    """Our own reader of answers sees the address, the TTL and no more."""
    address = ip_address("198.18.0.7") if qtype == A else ip_address("2001:db8::7")
    query = read_query(build_query(IDENT, "api.example", qtype))
    reply = build_reply(query, over_tcp=over_tcp, addresses=(address.packed,), ttl=60)
    answer = Answer(rcode=0, addresses=(address,), ttl=60, truncated=False)
    assert read_answer(reply, IDENT, "api.example", qtype) == answer


def test_a_reply_echoes_the_question_byte_for_byte() -> None:
    """Capital letters, the number and RD come back as they went."""
    query = read_query(PLAIN)
    reply = build_reply(query, over_tcp=False)
    assert reply == PLAIN[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + PLAIN[12:]


def test_an_extended_error_goes_only_to_clients_that_speak_edns() -> None:
    """RFC 6891 section 7: no OPT in the reply where the query had none."""
    told = build_reply(read_query(GLIBC), over_tcp=False, rcode=Rcode.NXDOMAIN, ede=PROHIBITED, text="why")
    untold = build_reply(read_query(PLAIN), over_tcp=False, rcode=Rcode.NXDOMAIN, ede=PROHIBITED, text="why")
    assert told.endswith(b"\0\x0f\0\x05\0\x12why")
    assert (told[3] & 0xF, untold[3] & 0xF, untold[11]) == (3, 3, 0)
    assert b"why" not in untold


def test_an_extended_code_is_split_over_header_and_opt() -> None:
    """BADVERS is 16: 0 in the header, 1 in the OPT record."""
    reply = build_reply(read_query(GLIBC), over_tcp=False, rcode=Rcode.BADVERS)
    assert reply[3] & 0xF == 0
    assert reply[-11:] == b"\0" + struct.pack("!HHIH", 41, UDP_SIZE, 1 << 24, 0)


def test_a_reply_too_long_for_udp_loses_its_text_first_and_then_its_addresses() -> None:
    """TC is set only where addresses are missing; over TCP nothing is lost."""
    query = read_query(GLIBC)
    long = "x" * 1300
    without = build_reply(query, over_tcp=False, rcode=Rcode.NXDOMAIN, ede=PROHIBITED, text=long)
    assert without == build_reply(query, over_tcp=False, rcode=Rcode.NXDOMAIN, ede=PROHIBITED)
    assert long.encode() in build_reply(query, over_tcp=True, rcode=Rcode.NXDOMAIN, ede=PROHIBITED, text=long)
    addresses = [bytes((192, 0, 2, last)) for last in range(100)]
    cut = build_reply(read_query(PLAIN), over_tcp=False, addresses=addresses, ttl=1)
    assert len(cut) <= 512
    assert read_answer(cut, 0xCC30, "api.example", A).truncated
    whole = build_reply(read_query(PLAIN), over_tcp=True, addresses=addresses, ttl=1)
    assert len(read_answer(whole, 0xCC30, "api.example", A).addresses) == 100


@pytest.mark.parametrize("name", ["", ".", "a..b", ".a", "a.", "a" * 64, ".".join(["a" * 63] * 4)])
def test_a_name_that_has_no_wire_form_is_not_asked(name: str) -> None:
    """Empty labels and what is too long."""
    with pytest.raises(Malformed):
        build_query(IDENT, name, A)


def test_our_question_may_leave_edns_out() -> None:
    """For servers that answer FORMERR to it."""
    assert read_query(build_query(IDENT, "api.example", A)).edns == UDP_SIZE
    assert read_query(build_query(IDENT, "api.example", A, udp_size=None)).edns is None


@pytest.mark.parametrize("vector", ANSWERS, ids=name_of)
def test_an_answer_is_read(vector: dict[str, Any]) -> None:
    """Code, addresses at the end of the chain, smallest TTL, and whether it was cut."""
    answer = Answer(
        rcode=vector["rcode"],
        addresses=tuple(ip_address(text) for text in vector["addresses"]),
        ttl=vector["ttl"],
        truncated=vector["truncated"],
    )
    assert read_answer(vector["data"], IDENT, vector["name"], vector["qtype"]) == answer


@pytest.mark.parametrize("vector", [vector for vector in ANSWERS if vector["addresses"]], ids=name_of)
def test_a_cut_answer_gives_no_addresses(vector: dict[str, Any]) -> None:
    """Every prefix either is refused, or lacks only what nobody reads behind the answers."""
    whole = read_answer(vector["data"], IDENT, vector["name"], vector["qtype"])
    for size in range(len(vector["data"])):
        try:
            assert read_answer(vector["data"][:size], IDENT, vector["name"], vector["qtype"]) == whole
        except Malformed:
            continue
        assert len(vector["data"]) - size <= 11


@pytest.mark.parametrize("vector", ANSWERS_REFUSED, ids=name_of)
def test_an_answer_to_something_else_or_a_broken_one_is_refused(vector: dict[str, Any]) -> None:
    """Another number, name, type or class; cut records; loops and forks."""
    with pytest.raises(Malformed):
        read_answer(vector["data"], IDENT, "api.example", A)


def test_records_are_bounded_in_number_and_cost() -> None:
    """4096 records made to chase pointers take less than half a second; 4097 are refused."""
    labels = b"".join(b"\x01" + bytes((97 + at % 26,)) for at in range(112))
    head = struct.pack("!HHHHHH", IDENT, 0x8180, 1, MAX_RECORDS, 0, 0) + b"\x03api\x07example\0" + b"\0\1\0\1"
    first = labels + b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + bytes(4)
    other = b"\xc0" + bytes((len(head),)) + struct.pack("!HHIH", A, 1, 60, 4) + bytes(4)
    data = head + first + other * (MAX_RECORDS - 1)
    assert read_answer(data, IDENT, "api.example", A).addresses == ()
    assert min(timeit.repeat(lambda: read_answer(data, IDENT, "api.example", A), number=1, repeat=3)) < 0.5
    more = data[:6] + struct.pack("!H", MAX_RECORDS + 1) + data[8:] + other
    with pytest.raises(Malformed):
        read_answer(more, IDENT, "api.example", A)


names = st.lists(st.binary(min_size=1, max_size=8), max_size=5)


@given(names, names)
def test_two_names_are_one_text_only_if_they_differ_in_case_alone(
    one: list[bytes], other: list[bytes]
) -> None:
    """No NUL, dot or backslash in a label makes one name look like another (RFC 4343)."""

    def text(labels: list[bytes]) -> str:
        return read_plain_name(b"".join(bytes((len(label),)) + label for label in labels) + b"\0", 0)[0]

    same = [label.lower() for label in one] == [label.lower() for label in other]
    assert (text(one) == text(other)) is same


def mangled(data: bytes) -> st.SearchStrategy[bytes]:
    """A message with up to three bytes changed and its end cut or continued."""
    change = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))

    def apply(drawn: tuple[list[tuple[int, int]], int, bytes]) -> bytes:
        changed = bytearray(data)
        for at, value in drawn[0]:
            changed[at] = value
        return bytes(changed[: drawn[1]]) + drawn[2]

    return st.tuples(st.lists(change, max_size=3), st.integers(0, len(data)), st.binary(max_size=4)).map(
        apply
    )


messages = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(QUERIES + ANSWERS).flatmap(lambda vector: mangled(vector["data"])),
)


@settings(max_examples=600, deadline=None)
@given(messages)
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    """From each reader; nothing else is ever raised."""
    for read in (
        read_query,
        lambda data: read_answer(data, IDENT, "api.example", A),
        lambda data: read_name(data, 12),
    ):
        with suppress(Malformed):
            assert isinstance(read(data), Query | Answer | tuple)
