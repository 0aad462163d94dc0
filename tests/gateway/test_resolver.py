"""What a sandbox is told about names: its own addresses for granted ones, a reasoned no for the rest."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.gateway.resolver import TTL, Exchange, answer
from mvm.terms import PORTAL, Reason
from mvm.wire.dns_message import AAAA, A, Rcode, build_query, read_answer
from tests.wire.vectors import load, name_of

IDENT = 0x1234
V4, V6 = ip_address("198.18.0.7"), ip_address("fd00:6d76:6d::7")
GRANTED: dict[str, tuple[bytes | None, bytes | None]] = {
    "api.example": (V4.packed, V6.packed),
    "four.example": (V4.packed, None),
    PORTAL: (V4.packed, V6.packed),
}
HTTPS, SVCB, TXT, PTR, ANY = 65, 64, 16, 12, 255


def granted(name: str) -> tuple[bytes | None, bytes | None] | Reason:
    """What the standing policy says of a name."""
    return GRANTED.get(name, Reason.HOST_NOT_GRANTED)


def ask(data: bytes, *, dns_allowed: bool = True, over_tcp: bool = False) -> Exchange:
    """One exchange where two names and the gateway's page are known."""
    return answer(data, granted, dns_allowed=dns_allowed, over_tcp=over_tcp)


def told(name: str, qtype: int = A, **options: bool) -> tuple[int, list[str], Reason | None]:
    """Code, addresses and denial for one name."""
    exchange = ask(build_query(IDENT, name, qtype), **options)
    assert exchange.reply is not None
    reply = read_answer(exchange.reply, IDENT, name, qtype)
    return reply.rcode, [str(address) for address in reply.addresses], exchange.denied


@pytest.mark.parametrize(
    ("name", "qtype", "addresses"),
    [
        ("api.example", A, [str(V4)]),
        ("api.example", AAAA, [str(V6)]),
        ("API.Example", A, [str(V4)]),
        ("four.example", AAAA, []),
        ("localhost", A, ["127.0.0.1"]),
        ("localhost", AAAA, ["::1"]),
        (PORTAL, A, [str(V4)]),
    ],
)
@pytest.mark.parametrize("over_tcp", [True, False])
def test_a_granted_name_has_its_own_address(
    name: str, qtype: int, addresses: list[str], over_tcp: bool
) -> None:
    """Whatever its letters' case, over UDP and TCP; a kind that it lacks is answered empty."""
    assert told(name, qtype, over_tcp=over_tcp) == (Rcode.NOERROR, addresses, None)


@pytest.mark.parametrize(
    "name",
    [
        "other.example",
        "example",
        "x.api.example",
        "evilapi.example",
        "api.example.evil.test",
        "7.0.18.198.in-addr.arpa",
    ],
)
@pytest.mark.parametrize("qtype", [A, AAAA, HTTPS, TXT, PTR])
def test_any_other_name_does_not_exist(name: str, qtype: int) -> None:
    """NXDOMAIN, denied as host-not-granted; parents, children and look-alikes of a granted name too."""
    assert told(name, qtype) == (Rcode.NXDOMAIN, [], Reason.HOST_NOT_GRANTED)


@pytest.mark.parametrize("qtype", [HTTPS, SVCB, TXT, PTR, ANY, 0, 252])
def test_other_types_of_a_granted_name_are_empty(qtype: int) -> None:
    """So neither ECH keys nor address hints reach the workload, and nothing is denied."""
    exchange = ask(build_query(IDENT, "api.example", qtype))
    assert exchange.reply is not None
    assert struct.unpack("!HHHH", exchange.reply[4:12]) == (1, 0, 0, 1)
    assert (exchange.denied, exchange.qtype) == (None, qtype)


def test_a_denial_says_why_and_what_to_do() -> None:
    """Extended error 18 with the flag that would grant the name."""
    exchange = ask(build_query(IDENT, "other.example", A))
    assert exchange.reply is not None
    assert exchange.reply.endswith(
        b"\0\x12not granted by policy; try: mvmctl run --network-allow other.example:443"
    )
    assert exchange.name == "other.example"


@pytest.mark.parametrize("name", ["7.0.18.198.in-addr.arpa", "_service.example"])
def test_a_name_that_cannot_be_granted_gets_no_such_hint(name: str) -> None:
    """The extended error says only that it is not granted."""
    exchange = ask(build_query(IDENT, name, PTR))
    assert exchange.reply is not None
    assert exchange.reply.endswith(b"\0\x12not granted by policy")


def test_the_answer_may_be_kept_for_a_minute() -> None:
    """The TTL is 60 seconds."""
    reply = ask(build_query(IDENT, "api.example", A)).reply
    assert reply is not None
    assert read_answer(reply, IDENT, "api.example", A).ttl == TTL == 60


def test_without_dns_only_the_sandbox_itself_has_names() -> None:
    """A name known to `lookup` is denied as dns-not-allowed, localhost and the policy page are told."""
    assert told("api.example", dns_allowed=False) == (Rcode.NXDOMAIN, [], Reason.DNS_NOT_ALLOWED)
    assert told("other.example", dns_allowed=False) == (Rcode.NXDOMAIN, [], Reason.DNS_NOT_ALLOWED)
    assert told("localhost", dns_allowed=False) == (Rcode.NOERROR, ["127.0.0.1"], None)
    assert told(PORTAL, dns_allowed=False) == (Rcode.NOERROR, [str(V4)], None)


def wire(*labels: bytes, qclass: int = 1, edns: bytes = b"") -> bytes:
    """A question for A of any labels."""
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return (
        struct.pack("!HHHHHH", IDENT, 0x0100, 1, 0, 0, bool(edns))
        + name
        + struct.pack("!HH", A, qclass)
        + edns
    )


@pytest.mark.parametrize(
    "labels",
    [
        (b"api.example",),
        (b"api", b"example\0"),
        (b"api", b"example\0", b"evil", b"test"),
        (b"api", b"example."),
        (b"api\\", b"example"),
        (b"\xe1pi", b"example"),
        (b"api ", b"example"),
        (),
    ],
)
def test_odd_bytes_never_reach_the_lookup(labels: tuple[bytes, ...]) -> None:
    """NUL, a dot inside a label, blanks, high bytes, the root: denied even where every name is allowed."""
    exchange = answer(wire(*labels), lambda _: GRANTED["api.example"], dns_allowed=True, over_tcp=False)
    assert exchange.denied is Reason.HOST_NOT_GRANTED
    assert (
        answer(wire(b"any"), lambda _: GRANTED["api.example"], dns_allowed=True, over_tcp=False).denied
        is None
    )


@pytest.mark.parametrize(
    ("labels", "reason"),
    [((b"api", b"example"), Reason.PROTOCOL_NOT_GRANTED), ((b"version", b"bind"), Reason.HOST_NOT_GRANTED)],
)
def test_another_class_is_refused(labels: tuple[bytes, ...], reason: Reason) -> None:
    """CHAOS and the like: REFUSED, and recorded."""
    exchange = ask(wire(*labels, qclass=3))
    assert exchange.reply is not None
    assert (exchange.reply[3] & 0xF, exchange.denied) == (Rcode.REFUSED, reason)


def test_a_later_version_of_edns_is_answered_with_ours() -> None:
    """BADVERS, without data (RFC 6891 section 6.1.3)."""
    exchange = ask(wire(b"api", b"example", edns=b"\0" + struct.pack("!HHIH", 41, 1232, 1 << 16, 0)))
    assert exchange.reply is not None
    assert exchange.reply[-6:-2] == bytes((1, 0, 0, 0))
    assert (exchange.reply[7], exchange.denied) == (0, Reason.MALFORMED)


@pytest.mark.parametrize("vector", load("dns_queries_refused.json"), ids=name_of)
def test_a_broken_question_is_denied_as_malformed(vector: dict[str, Any]) -> None:
    """Each is an event; what cannot be answered gets no reply, a response above all."""
    exchange = ask(vector["data"])
    assert (exchange.name, exchange.qtype, exchange.denied) == (None, 0, Reason.MALFORMED)
    rcode = None if exchange.reply is None else exchange.reply[3] & 0xF
    assert rcode == vector["reply_rcode"]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=120), st.booleans(), st.booleans())
def test_any_bytes_give_an_exchange(data: bytes, dns_allowed: bool, over_tcp: bool) -> None:
    """Nothing is raised, and a reply fits what the client can take."""
    for message in (data, wire(b"api", b"example")[: len(data)] + data):
        exchange = ask(message, dns_allowed=dns_allowed, over_tcp=over_tcp)
        assert exchange.reply is None or 12 <= len(exchange.reply) <= 1232
        assert exchange.denied is None or isinstance(exchange.denied, Reason)
