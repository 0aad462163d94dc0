"""What the fake name server is told to say.

Owns the words that tests and the name server share. Decides nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Manner = Literal[
    "plain",  # the records, cut off with TC where they do not fit a datagram
    "silent",  # no answer at all
    "truncated",  # TC and nothing else over UDP, the records over TCP
    "no-tcp",  # TC over UDP, the connection reset over TCP
    "wrong-id",  # the records, under another transaction id
    "wrong-question",  # the records, with another question
    "wrong-then-right",  # a forged answer (wrong id), then the true one
    "foreign",  # the records, and others of a name that wasn't asked
    "garbage",  # bytes that are no message
    "cut",  # the first half of the message
    "loop",  # a name that points at itself by compression
]
"""The ways in which an answer may be given."""

Code = Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one name answers to one question: records by type, and the manner of answering."""

    a: tuple[str, ...] = ()
    aaaa: tuple[str, ...] = ()
    cname: str | None = None
    txt: tuple[str, ...] = ()
    raw: tuple[tuple[int, str], ...] = ()
    """Records of other types: (type number, data in hexadecimal)."""
    ttl: int = 60
    code: Code = "NOERROR"
    manner: Manner = "plain"
    delay_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """As the control socket carries it."""
        return asdict(self)

    @classmethod
    def from_json(cls, words: dict[str, Any]) -> Answer:
        """The inverse of `as_json`."""
        lists = {key: tuple(words[key]) for key in ("a", "aaaa", "txt")}
        raw = tuple((int(kind), str(data)) for kind, data in words["raw"])
        return cls(**{**words, **lists, "raw": raw})
