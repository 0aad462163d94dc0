"""The name server of the fake internet: tells the truth, or whatever lie a test asks for.

Owns the zones and the sockets on port 53. Its DNS codec (RFC 1035) is its own and knows only what it needs,
so that the product's codec is never tested against itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from tests.support.answers import Answer

if TYPE_CHECKING:
    from tests.support.upstream.flow import Flow

A, NS, CNAME, SOA, TXT, AAAA, OPT = 1, 2, 5, 6, 16, 28, 41
_CODES = {"NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5}
_IN = 1
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_WANTED, _RECURSION = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_MINIMUM_UDP = 512
_MAXIMUM = 65535
_CHAIN = 8
_SOA = b"\x02ns\x04test\x00\x04root\x04test\x00" + struct.pack("!IIIII", 1, 3600, 600, 86400, 30)
_FOREIGN = ("victim.test", "6.6.6.6")


class Question(NamedTuple):
    """One question as it came."""

    id: int
    name: str
    kind: int
    as_asked: bytes
    flags: int
    udp_size: int | None
    """What EDNS offered; None without EDNS."""


class Names:
    """The zones: for each name the answers to its first, second, … question of a type; the last one stays."""

    def __init__(self) -> None:
        """Start with no names: everything is NXDOMAIN."""
        self._turns: dict[str, tuple[Answer, ...]] = {}
        self._asked: Counter[tuple[str, int]] = Counter()
        self.log: list[dict[str, Any]] = []

    def set(self, name: str, turns: tuple[Answer, ...]) -> None:
        """From now on `name` answers with `turns`; none make it NXDOMAIN."""
        name = name.lower().rstrip(".")
        self._turns.pop(name, None)
        if turns:
            self._turns[name] = turns
        for key in [key for key in self._asked if key[0] == name]:
            del self._asked[key]

    async def answer(self, query: bytes, *, server: str, transport: str) -> list[bytes] | None:
        """The messages to send for one query, in order; None asks for a reset (TCP)."""
        question = read_question(query)
        if question is None:
            return [query[:2] + struct.pack("!HHHHH", _RESPONSE | _CODES["FORMERR"], 0, 0, 0, 0)]
        answer = self._next(question)
        self.log.append(
            {
                "name": question.name,
                "type": question.kind,
                "transport": transport,
                "server": server,
                "udp_size": question.udp_size,
            }
        )
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        limit = _MAXIMUM
        if transport == "udp":
            limit = max(_MINIMUM_UDP, question.udp_size or 0)
        return self._in_manner(question, answer, limit=limit, is_udp=transport == "udp")

    def _next(self, question: Question) -> Answer:
        turns = self._turns.get(question.name)
        if turns is None:
            return Answer(code="NXDOMAIN")
        turn = self._asked[question.name, question.kind]
        self._asked[question.name, question.kind] += 1
        return turns[min(turn, len(turns) - 1)]

    def _in_manner(
        self, question: Question, answer: Answer, *, limit: int, is_udp: bool
    ) -> list[bytes] | None:
        records = self._records(question, answer)
        true = _message(question, records, answer=answer, limit=limit)
        empty = _message(question, [], answer=answer, limit=limit, extra_flags=_TRUNCATED)
        match answer.manner:
            case "truncated":
                return [empty] if is_udp else [true]
            case "no-tcp":
                return [empty] if is_udp else None
            case "silent":
                told = []
            case "wrong-id":
                told = [_forged(question, records, answer, limit)]
            case "wrong-then-right":
                told = [_forged(question, records, answer, limit), true]
            case "wrong-question":
                other = question._replace(as_asked=wire_name("other.test"))
                told = [_message(other, records, answer=answer, limit=limit)]
            case "foreign":
                name, address = _FOREIGN
                more = _record(wire_name(name), A, answer.ttl, ip_address(address).packed)
                told = [_message(question, [*records, more], answer=answer, limit=limit)]
            case "garbage":
                told = [b"\xff" * 40]
            case "cut":
                told = [true[: len(true) // 2]]
            case "loop":
                told = [_pointing_at_itself(question)]
            case "plain":
                told = [true]
            case _:
                assert_never(answer.manner)
        return told

    def _records(self, question: Question, answer: Answer) -> list[bytes]:
        """The answer section, following aliases inside our own zones as a resolver does."""
        records = []
        owner = b"\xc0\x0c"
        for _ in range(_CHAIN):
            if answer.cname is None or question.kind == CNAME:
                break
            target = wire_name(answer.cname)
            records.append(_record(owner, CNAME, answer.ttl, target))
            owner = target
            turns = self._turns.get(answer.cname.lower())
            if turns is None:
                return records
            answer = turns[0]
        data = {
            A: [ip_address(each).packed for each in answer.a],
            AAAA: [ip_address(each).packed for each in answer.aaaa],
            TXT: [bytes([len(each)]) + each.encode() for each in answer.txt],
            CNAME: [wire_name(answer.cname)] if answer.cname else [],
        }.get(question.kind, [])
        data += [bytes.fromhex(words) for kind, words in answer.raw if kind == question.kind]
        return records + [_record(owner, question.kind, answer.ttl, each) for each in data]


def read_question(query: bytes) -> Question | None:
    """The question of a query, or None where it is not one that this server understands."""
    try:
        ident, flags, questions, _, _, additional = struct.unpack_from("!HHHHHH", query)
        labels, at = [], 12
        while size := query[at]:
            if size > 63 or at + 1 + size > len(query):
                return None
            labels.append(query[at + 1 : at + 1 + size])
            at += 1 + size
        kind, _ = struct.unpack_from("!HH", query, at + 1)
    except (struct.error, IndexError):
        return None
    if questions != 1 or flags & _RESPONSE:
        return None
    name = b".".join(labels).decode("ascii", "backslashreplace").lower()
    udp_size = None
    rest = query[at + 5 :]
    if additional and rest[:3] == struct.pack("!BH", 0, OPT) and len(rest) >= 11:
        (udp_size,) = struct.unpack_from("!H", rest, 3)
    return Question(ident, name, kind, query[12 : at + 1], flags, udp_size)


def wire_name(name: str) -> bytes:
    """A name as labels, uncompressed."""
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, _IN, ttl, len(data)) + data


def _forged(question: Question, records: list[bytes], answer: Answer, limit: int) -> bytes:
    return _message(question._replace(id=question.id ^ 0x5555), records, answer=answer, limit=limit)


def _pointing_at_itself(question: Question) -> bytes:
    header = struct.pack("!HHHHHH", question.id, _RESPONSE | _AUTHORITATIVE, 1, 1, 0, 0)
    start = header + question.as_asked + struct.pack("!HH", question.kind, _IN)
    return start + _record(struct.pack("!H", 0xC000 | len(start)), A, 60, b"\x01\x02\x03\x04")


def _message(
    question: Question, records: list[bytes], *, answer: Answer, limit: int, extra_flags: int = 0
) -> bytes:
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION | question.flags & _RECURSION_WANTED | extra_flags
    flags |= _CODES[answer.code]
    if answer.code != "NOERROR":
        records = []
    authority = [] if records else [_record(wire_name("test"), SOA, 30, _SOA)]
    additional = []
    if question.udp_size is not None:
        additional = [b"\0" + struct.pack("!HHIH", OPT, 1232, 0, 0)]
    body = question.as_asked + struct.pack("!HH", question.kind, _IN)
    full = body + b"".join([*records, *authority, *additional])
    counts = (1, len(records), len(authority), len(additional))
    if len(full) + 12 > limit:
        full = body + b"".join(additional)
        flags |= _TRUNCATED
        counts = (1, 0, 0, len(additional))
    return struct.pack("!HHHHHH", question.id, flags, *counts) + full


async def serve_names(flow: Flow, names: Names, *, server: str) -> None:
    """The name server over one TCP connection (RFC 7766)."""
    kept = b""
    with contextlib.suppress(ConnectionError):
        while data := await flow.receive():
            kept += data
            while len(kept) >= 2 and len(kept) >= 2 + (size := int.from_bytes(kept[:2], "big")):
                query, kept = kept[2 : 2 + size], kept[2 + size :]
                messages = await names.answer(query, server=server, transport="tcp")
                if messages is None:
                    flow.reset()
                    return
                for message in messages:
                    await flow.send(len(message).to_bytes(2, "big") + message)
