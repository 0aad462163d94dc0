"""DNS messages (RFC 1035, EDNS RFC 6891, extended errors RFC 8914): reading and building single ones.

Owns the bytes of two conversations: the sandbox's questions to our resolver (`read_query`, `build_reply`)
and our own questions to a real one (`build_query`, `read_answer`). Must never decide what a name may
resolve to, and must never read what it does not need: authority and additional records of an answer, the
data of types that nobody asked for. Names are text as `dns_name` makes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from mvm.wire.dns_name import MAX_LABEL, MAX_NAME, read_name, read_plain_name
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.terms import Address

A = 1
CNAME = 5
AAAA = 28
OPT = 41
CLASS_IN = 1

MAX_QUERY = 4096
"""Bytes of a query from the sandbox; real ones take less than 320."""

MAX_RECORDS = 4096
"""Answer records that are looked at in one message."""

MAX_CHAIN = 16
"""CNAME steps that are followed inside one message."""

UDP_SIZE = 1232
"""The UDP payload that we offer: the DNS flag day 2020 figure, never fragmented."""

PROHIBITED = 18
"""Extended DNS Error: not provided to this client by policy (RFC 8914 section 4.19)."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_QUESTION = struct.Struct("!HH")
_ADDRESS_SIZE = {A: 4, AAAA: 16}
_PLAIN_UDP = 512
_MAX_ADDITIONAL = 4
_EDE_OPTION = 15

_QR, _TC, _RD, _RA, _CD = 0x8000, 0x0200, 0x0100, 0x0080, 0x0010
_OPCODE = 0x7800


class Rcode(IntEnum):
    """The response codes that matter here (RFC 1035 section 4.1.1, RFC 6891 section 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class NotAQuestion(Malformed):
    """A well-formed header of another kind of message: its opcode is not QUERY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question of a client.

    Attributes:
        ident: the client's 16-bit number, to be echoed.
        flags: the RD and CD bits as they came, to be echoed.
        name: the name asked for, as text (`dns_name`); the root is an empty string.
        qtype, qclass: type and class asked for.
        question: the question section as it came: capital letters are echoed (draft-vixie-dnsext-dns0x20).
        edns: UDP payload in bytes that the client takes, at least 512, or None without EDNS.
        edns_version: 0, or what the client speaks; above 0 wants `BADVERS`.
    """

    ident: int
    flags: int
    name: str
    qtype: int
    qclass: int
    question: bytes
    edns: int | None
    edns_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a server says about one name.

    Attributes:
        rcode: 0 to 15; 0 with no addresses means that the name has none of this type.
        addresses: of the asked type, at the end of the CNAME chain, in the message's order.
        ttl: the smallest of the chain, in seconds; 0 without addresses.
        truncated: the message was cut, ask again over TCP; nothing else of it was read.
    """

    rcode: int
    addresses: tuple[Address, ...]
    ttl: int
    truncated: bool


def read_query(data: bytes) -> Query:
    """Read one question as a client sends it.

    Args:
        data: a whole message, without the length that goes before it on TCP.

    Returns:
        The question. A datagram is never "incomplete": what is short is malformed.

    Raises:
        NotAQuestion: the opcode is not QUERY (answer NOTIMP).
        Malformed: a response, more or fewer than one question, a compressed or overlong name, records that a
            query does not carry, two OPT records, bytes behind the message, more than `MAX_QUERY` bytes.
    """
    if not _HEADER.size <= len(data) <= MAX_QUERY:
        raise Malformed("DNS query: shorter than a header or longer than 4096 bytes")
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _QR:
        raise Malformed("DNS query: it is a response")
    if flags & _OPCODE:
        raise NotAQuestion("DNS query: opcode is not QUERY")
    if questions != 1 or answers or authorities or additional > _MAX_ADDITIONAL:
        raise Malformed("DNS query: not exactly one question and nothing else")
    name, at = read_plain_name(data, _HEADER.size)
    if len(data) < at + 4:
        raise Malformed("DNS query: the question is cut")
    qtype, qclass = _QUESTION.unpack_from(data, at)
    end = at + 4
    edns, version = _read_additional(data, end, additional)
    return Query(
        ident=ident,
        flags=flags & (_RD | _CD),
        name=name,
        qtype=qtype,
        qclass=qclass,
        question=data[_HEADER.size : end],
        edns=edns,
        edns_version=version,
    )


def _read_additional(data: bytes, at: int, count: int) -> tuple[int | None, int]:
    """Find the one OPT record (RFC 6891 section 6.1.1); check that the message ends with its last record."""
    edns: int | None = None
    version = 0
    for _ in range(count):
        owner, at = read_plain_name(data, at)
        if len(data) < at + _RECORD.size:
            raise Malformed("DNS query: an additional record is cut")
        kind, klass, ttl, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size + size
        if kind == OPT:
            if edns is not None or owner:
                raise Malformed("DNS query: two OPT records, or one with a name")
            edns, version = max(klass, _PLAIN_UDP), ttl >> 16 & 0xFF
    if at != len(data):
        raise Malformed("DNS query: the message does not end with its last record")
    return edns, version


def build_reply(  # a message has this many independent parts
    query: Query,
    *,
    over_tcp: bool,
    rcode: Rcode = Rcode.NOERROR,
    addresses: Sequence[bytes] = (),
    ttl: int = 0,
    ede: int | None = None,
    text: str = "",
) -> bytes:
    """Answer a question, as a recursive resolver would.

    Args:
        query: what was asked; its question section is echoed byte for byte.
        over_tcp: whether the reply may take 65535 bytes; else the client's UDP size holds.
        rcode: the outcome; `BADVERS` needs a query with EDNS.
        addresses: 4-byte (A) or 16-byte (AAAA) addresses, each as the question's type.
        ttl: of each address, in seconds.
        ede: extended error code, sent only to clients that speak EDNS.
        text: for people, with `ede`; left out where the reply would become too long for UDP.

    Returns:
        The message. Addresses that do not fit are left out and TC is set.
    """
    limit = 0xFFFF if over_tcp else min(query.edns or _PLAIN_UDP, UDP_SIZE)
    body = b"".join(
        b"\xc0\x0c" + _RECORD.pack(query.qtype, CLASS_IN, ttl, len(address)) + address
        for address in addresses
    )
    count, flags = len(addresses), _QR | _RA | query.flags | rcode & 0xF
    extra = b"" if query.edns is None else _build_opt(rcode, ede, text)
    room = limit - _HEADER.size - len(query.question)
    if len(body) + len(extra) > room and query.edns is not None:
        extra = _build_opt(rcode, ede, "")
    if len(body) + len(extra) > room:
        body, count, flags = b"", 0, flags | _TC
    return _HEADER.pack(query.ident, flags, 1, count, 0, bool(extra)) + query.question + body + extra


def _build_opt(rcode: int, ede: int | None, text: str) -> bytes:
    """An OPT record: our UDP size, the upper bits of the code, and the extended error if there is one."""
    option = b""
    if ede is not None:
        body = struct.pack("!H", ede) + text.encode()
        option = _QUESTION.pack(_EDE_OPTION, len(body)) + body
    return b"\0" + _RECORD.pack(OPT, UDP_SIZE, rcode >> 4 << 24, len(option)) + option


def build_fault(data: bytes, rcode: Rcode) -> bytes | None:
    """Answer bytes that `read_query` refused: the header alone, with the sender's number.

    Args:
        data: the refused message.
        rcode: `FORMERR` or `NOTIMP`.

    Returns:
        Twelve bytes, or None where nothing may be answered: no whole header, or itself a response.
    """
    if len(data) < _HEADER.size:
        return None
    ident, flags = _QUESTION.unpack_from(data)
    if flags & _QR:
        return None
    return _HEADER.pack(ident, _QR | _RA | flags & (_OPCODE | _RD | _CD) | rcode, 0, 0, 0, 0)


def build_query(ident: int, name: str, qtype: int, *, udp_size: int | None = UDP_SIZE) -> bytes:
    """Build a recursive question for a real resolver.

    Args:
        ident: 16-bit number, unpredictable (RFC 5452 section 9.2).
        name: a validated host name (`terms.HostName`), no trailing dot.
        qtype: `A` or `AAAA`.
        udp_size: payload offered by EDNS, in bytes; None leaves EDNS out, for servers that refuse it.

    Returns:
        The message, without a length in front.

    Raises:
        Malformed: `name` has an empty label, or a label or whole that is too long.
    """
    labels = name.encode("ascii").split(b".")
    if not all(0 < len(label) <= MAX_LABEL for label in labels) or len(name) + 2 > MAX_NAME:
        raise Malformed("DNS name: an empty or overlong label, or longer than 253")
    wire = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    opt = b"" if udp_size is None else b"\0" + _RECORD.pack(OPT, udp_size, 0, 0)
    return _HEADER.pack(ident, _RD, 1, 0, 0, bool(opt)) + wire + _QUESTION.pack(qtype, CLASS_IN) + opt


def read_answer(data: bytes, ident: int, name: str, qtype: int) -> Answer:
    """Read the reply to `build_query(ident, name, qtype)`.

    Args:
        data: a whole message, without the length that goes before it on TCP.
        ident: the number asked with; a reply to anything else is refused (RFC 5452 section 9.1).
        name: the name asked for.
        qtype: the type asked for; addresses are given for `A` and `AAAA`.

    Returns:
        The answer; only the answer section is read, and only records on the CNAME chain from `name` count.

    Raises:
        Malformed: not the reply to this question, a broken record, a loop or a fork of CNAMEs, or more than
            `MAX_RECORDS` records or `MAX_CHAIN` CNAME steps.
    """
    if len(data) < _HEADER.size:
        raise Malformed("DNS answer: shorter than a header")
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    if number != ident or not flags & _QR or flags & _OPCODE:
        raise Malformed("DNS answer: not a reply to this question")
    rcode = flags & 0xF
    if not questions and not answers and rcode in (Rcode.FORMERR, Rcode.NOTIMP):
        return Answer(rcode=rcode, addresses=(), ttl=0, truncated=False)
    if questions != 1 or answers > MAX_RECORDS:
        raise Malformed("DNS answer: not one question, or too many records")
    asked, at = read_name(data, _HEADER.size)
    if len(data) < at + 4 or asked != name.lower() or _QUESTION.unpack_from(data, at) != (qtype, CLASS_IN):
        raise Malformed("DNS answer: the question is another one")
    if flags & _TC or rcode:
        return Answer(rcode=rcode, addresses=(), ttl=0, truncated=bool(flags & _TC))
    aliases, found = _read_records(data, at + 4, answers, qtype)
    return _follow(asked, aliases, found)


def _read_records(
    data: bytes, at: int, count: int, qtype: int
) -> tuple[dict[str, tuple[str, int]], dict[str, list[tuple[bytes, int]]]]:
    """By owner: where its CNAME leads, and its addresses of the asked type, each with its TTL."""
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[tuple[bytes, int]]] = {}
    for _ in range(count):
        owner, at = read_name(data, at)
        if len(data) < at + _RECORD.size:
            raise Malformed("DNS answer: a record is cut")
        kind, klass, ttl, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        end = at + size
        if end > len(data):
            raise Malformed("DNS answer: a record is cut")
        ttl = 0 if ttl >> 31 else ttl  # RFC 2181 section 8
        if klass != CLASS_IN:
            pass
        elif kind == CNAME:
            target, stop = read_name(data, at)
            if stop != end or aliases.setdefault(owner, (target, ttl))[0] != target:
                raise Malformed("DNS answer: a broken CNAME, or two of one name")
        elif kind == qtype and kind in _ADDRESS_SIZE:
            if size != _ADDRESS_SIZE[kind]:
                raise Malformed("DNS answer: an address of the wrong length")
            found.setdefault(owner, []).append((data[at:end], ttl))
        at = end
    return aliases, found


def _follow(
    name: str, aliases: dict[str, tuple[str, int]], found: dict[str, list[tuple[bytes, int]]]
) -> Answer:
    """Walk the CNAMEs from the name that was asked to the addresses, if the message has them."""
    ttls: list[int] = []
    for _ in range(MAX_CHAIN + 1):
        if name not in aliases:
            break
        name, ttl = aliases[name]
        ttls.append(ttl)
    else:
        raise Malformed("DNS answer: CNAMEs that loop or are too many")
    records = found.get(name, [])
    if not records:
        return Answer(rcode=Rcode.NOERROR, addresses=(), ttl=0, truncated=False)
    ttls += [ttl for _, ttl in records]
    addresses = tuple(
        IPv4Address(raw) if len(raw) == _ADDRESS_SIZE[A] else IPv6Address(raw) for raw, _ in records
    )
    return Answer(rcode=Rcode.NOERROR, addresses=addresses, ttl=min(ttls), truncated=False)
