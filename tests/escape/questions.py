"""DNS messages as a workload may send them, well-formed and not, and what the answers to them say.

Owns a codec of its own, so that the product's is never tested against itself. Messages are latin-1 text, as
`attempts` carries them.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

A, NS, CNAME, NULL, MX, TXT, KEY, AAAA, SRV, OPT, SVCB, HTTPS = 1, 2, 5, 10, 15, 16, 25, 28, 33, 41, 64, 65
AXFR, ANY = 252, 255
IN, CHAOS = 1, 3
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
PROHIBITED = 18
"""The extended error of what a policy withholds."""

_EDE = 15
_RECURSION_WANTED, _TRUNCATED = 0x0100, 0x0200
_POINTER = 0xC0


class Reply(NamedTuple):
    """What an answer says."""

    code: int
    addresses: tuple[str, ...]
    records: int
    """All records of the answer section, whatever their type."""
    errors: tuple[int, ...]
    truncated: bool


def labels(name: str | Sequence[bytes]) -> bytes:
    """A name on the wire, uncompressed; as a sequence its labels may hold any bytes, dots too."""
    parts = [part.encode() for part in name.split(".") if part] if isinstance(name, str) else name
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def option(version: int = 0, size: int = 1232) -> bytes:
    """The record by which a client speaks EDNS."""
    return b"\0" + struct.pack("!HHBBHH", OPT, size, 0, version, 0, 0)


def message(
    *questions: bytes, flags: int = _RECURSION_WANTED, answers: int = 0, additional: Sequence[bytes] = ()
) -> str:
    """A message of whole questions and additional records."""
    header = struct.pack("!HHHHHH", 0x6D76, flags, len(questions), answers, 0, len(additional))
    return (header + b"".join(questions) + b"".join(additional)).decode("latin-1")


def question(
    name: str | Sequence[bytes], kind: int = A, *, of: int = IN, additional: Sequence[bytes] = (option(),)
) -> str:
    """One well-formed question."""
    return message(labels(name) + struct.pack("!HH", kind, of), additional=additional)


def framed(*messages: str) -> str:
    """Messages as they go over TCP (RFC 7766)."""
    return "".join(struct.pack("!H", len(each)).decode("latin-1") + each for each in messages)


def unframed(stream: bytes) -> list[bytes]:
    """The inverse, for whole messages."""
    found = []
    while stream:
        size = int.from_bytes(stream[:2], "big")
        found.append(stream[2 : 2 + size])
        stream = stream[2 + size :]
    return found


def read_reply(data: bytes) -> Reply:
    """Read an answer. Raises ValueError, IndexError, struct.error where it is none."""
    ident, flags, asked, answers, _, additional = struct.unpack_from("!HHHHHH", data)
    if ident != 0x6D76 or not flags & 0x8000:
        raise ValueError("not an answer to what was asked")
    at = 12
    for _ in range(asked):
        at = _past_name(data, at) + 4
    addresses, errors, code = [], [], flags & 15
    for number in range(answers + additional):
        at = _past_name(data, at)
        kind, _, ttl, size = struct.unpack_from("!HHIH", data, at)
        body = data[at + 10 : at + 10 + size]
        at += 10 + size
        if number < answers and kind in {A, AAAA}:
            addresses.append(str(ip_address(body)))
        elif kind == OPT:
            code |= ttl >> 24 << 4
            errors += list(_errors(body))
    return Reply(code, tuple(addresses), answers, tuple(errors), bool(flags & _TRUNCATED))


def _past_name(data: bytes, at: int) -> int:
    while size := data[at]:
        if size >= _POINTER:
            return at + 2
        at += 1 + size
    return at + 1


def _errors(options: bytes) -> list[int]:
    found, at = [], 0
    while at < len(options):
        code, size = struct.unpack_from("!HH", options, at)
        if code == _EDE:
            found.append(int.from_bytes(options[at + 4 : at + 6], "big"))
        at += 4 + size
    return found
