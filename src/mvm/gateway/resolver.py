"""One DNS exchange of a sandbox: a question's bytes in, the reply's bytes and the verdict out.

Owns what the sandbox is told about names. Never asks anybody: a granted name's addresses come from
`lookup`, are the gateway's own, and no answer ever carries anything else. In particular HTTPS and SVCB
questions are answered empty, so that neither address hints nor ECH keys reach the workload.

    question                          reply                           denied
    --------------------------------  ------------------------------  -----------------
    localhost A, AAAA                 127.0.0.1, ::1                  -
    known to `lookup` A, AAAA         its own address, TTL 60         -
    either of them, another type      NOERROR, empty                  -
    any other name                    NXDOMAIN + EDE 18               what `lookup` says
    any name while DNS is not allowed NXDOMAIN + EDE 18               dns-not-allowed
    class other than IN               REFUSED + EDE 18                protocol-not-granted
                                                                      where the name is known
    EDNS version above 0              BADVERS                         malformed
    opcode other than QUERY           NOTIMP, header only             malformed
    broken                            FORMERR, header only            malformed
    no whole header, or a response    none                            malformed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.terms import PORTAL, Reason
from mvm.wire.dns_message import (
    AAAA,
    CLASS_IN,
    PROHIBITED,
    A,
    NotAQuestion,
    Query,
    Rcode,
    build_fault,
    build_reply,
    read_query,
)
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    Known = tuple[bytes | None, bytes | None]
    """The gateway's own addresses of a name: 4 bytes, 16 bytes; None where it has none of that kind."""

TTL = 60
"""Seconds that an answer may be kept; a name's address stays its own for the whole run anyway."""

_LOCALHOST: Known = (b"\x7f\0\0\1", bytes(15) + b"\1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What came of one message.

    Attributes:
        reply: bytes to send back, without a length in front; None where nothing may be answered.
        name: the name asked for, as `wire.dns_name` writes it, or None where the message was malformed.
        qtype: the type asked for, 0 to 65535; 0 where the message was malformed.
        denied: why the question was denied, or None where it was answered.
    """

    reply: bytes | None
    name: str | None
    qtype: int
    denied: Reason | None


def answer(
    query: bytes, lookup: Callable[[str], Known | Reason], *, dns_allowed: bool, over_tcp: bool
) -> Exchange:
    """Answer one message from the sandbox.

    Args:
        query: the message, without a length in front.
        lookup: gives the gateway's own addresses of a granted name (lower case, no trailing dot), or says
            why there are none.
        dns_allowed: whether the policy has any DNS; where not, only `localhost` and `PORTAL` are told.
        over_tcp: whether the reply may be longer than the client's UDP size.

    Returns:
        The exchange; every input has one.
    """
    try:
        question = read_query(query)
    except NotAQuestion:
        return Exchange(reply=build_fault(query, Rcode.NOTIMP), name=None, qtype=0, denied=Reason.MALFORMED)
    except Malformed:
        return Exchange(reply=build_fault(query, Rcode.FORMERR), name=None, qtype=0, denied=Reason.MALFORMED)
    reply, denied = _judge(question, lookup, dns_allowed=dns_allowed, over_tcp=over_tcp)
    return Exchange(reply=reply, name=question.name, qtype=question.qtype, denied=denied)


def _judge(
    question: Query, lookup: Callable[[str], Known | Reason], *, dns_allowed: bool, over_tcp: bool
) -> tuple[bytes, Reason | None]:
    """The table in the module's head, from `localhost` to `BADVERS`; what is left over is denied."""
    if question.edns_version:
        return build_reply(question, over_tcp=over_tcp, rcode=Rcode.BADVERS), Reason.MALFORMED
    name = question.name
    known: Known | Reason = Reason.HOST_NOT_GRANTED
    if name == "localhost":
        known = _LOCALHOST
    elif not dns_allowed and name != PORTAL:
        known = Reason.DNS_NOT_ALLOWED
    elif name and "\\" not in name:
        known = lookup(name)  # never asked about odd bytes, not even where every name is allowed
    if question.qclass != CLASS_IN and not isinstance(known, Reason):
        known = Reason.PROTOCOL_NOT_GRANTED
    if isinstance(known, Reason):
        rcode, text = Rcode.NXDOMAIN if question.qclass == CLASS_IN else Rcode.REFUSED, _text(known, name)
        return build_reply(question, over_tcp=over_tcp, rcode=rcode, ede=PROHIBITED, text=text), known
    address = known[0] if question.qtype == A else known[1] if question.qtype == AAAA else None
    addresses = () if address is None else (address,)
    return build_reply(question, over_tcp=over_tcp, addresses=addresses, ttl=TTL), None


def _text(denied: Reason, name: str) -> str:
    """What a person may read beside the extended error."""
    match denied:
        case Reason.DNS_NOT_ALLOWED:
            return "the policy allows no DNS"
        case Reason.PROTOCOL_NOT_GRANTED:
            return "only class IN is answered"
        case Reason.HOST_NOT_GRANTED:
            return f"not granted by policy{_hint(name)}"
        case _:
            return f"not granted by policy any more ({denied})"


def _hint(name: str) -> str:
    """The words that would grant the name; none for names that cannot be granted or stand for addresses."""
    if not name or "\\" in name or "_" in name or name.endswith(".arpa"):
        return ""
    return f"; try: mvmctl run --network-allow {name}:443"
