"""What asking for names can bring: nothing but names that are granted (ATTACKS 20, 22, 23)."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.inside import Told
from tests.escape.questions import FORMERR, NOERROR, NXDOMAIN, framed, message, question, read_reply
from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from tests.escape.inside import Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"
_RESOLVER = addresses.NAME_SERVERS[0]
_DOH = 443
_FLOOD = 5000
_MOST_DISTINCT = 4096


def _doh_path(name: str) -> str:
    asked = question(name, additional=()).encode("latin-1")
    return "/dns-query?dns=" + base64.urlsafe_b64encode(asked).decode().rstrip("=")


def _get(host: str) -> dict[str, Any]:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    return {"host": host, "port": 80, "turns": [(request, None)]}


def test_an_address_that_was_learnt_over_https_is_still_an_address(
    sandbox: Start, internet: Internet
) -> None:
    """20: a granted resolver over HTTPS answers; what it tells opens nothing, by address, SNI or Host."""
    doh = internet.serve("doh", port=_DOH, transport="tls", alpn=("http/1.1",))
    with sandbox(f"{doh.name}:{_DOH}") as inside:
        said = inside.allowed("tls", at=doh, host=doh.name, name=doh.name, path=_doh_path(OTHER))
        (learnt,) = read_reply(said.raw.partition(b"\r\n\r\n")[2]).addresses
        assert learnt == internet.host("other").v4
        assert inside.denied("connect", host=learnt, port=_DOH).errno == "ECONNREFUSED"
        assert inside.denied("tls", host=doh.name, name=OTHER).alert
        assert inside.denied("resolve", host=OTHER).outcome == "no-name"
    inside.expect(
        Told("tcp", "address-literal", None, learnt, _DOH, "tcp"),
        Told("tls", "sni-mismatch", OTHER, None, _DOH, "tcp"),
        Told("dns", "host-not-granted", OTHER, times=None),
    )


def test_a_resolver_over_https_that_is_not_granted_is_not_asked(sandbox: Start, internet: Internet) -> None:
    """20, the twin: neither by its name nor at its address."""
    doh = internet.serve("doh", port=_DOH, transport="tls", alpn=("http/1.1",))
    with sandbox(f"{API}:443") as inside:
        assert inside.denied("tls", host=doh.name, name=doh.name, path=_doh_path(OTHER)).outcome == "no-name"
        assert inside.denied("connect", host=doh.v4, port=_DOH).errno == "ECONNREFUSED"
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(
        Told("dns", "host-not-granted", doh.name, times=None),
        Told("tcp", "address-literal", None, doh.v4, _DOH, "tcp"),
    )


_MALFORMED = {
    "no question": message(),
    "two questions": message(b"\3api\0\0\1\0\1", b"\3api\0\0\1\0\1"),
    "half a question": question(API, additional=())[:-3],
    "a name that points at itself": message(b"\xc0\x0c\0\1\0\1"),
    "a name that points beyond the end": message(b"\xff\xff\0\1\0\1"),
    "a label of reserved kind": message(b"\x80\0\0\1\0\1"),
    "more records than there are": message(b"\3api\0\0\1\0\1", answers=9),
    "bytes after the end": question(API, additional=()) + "GET / HTTP/1.1",
}


@pytest.mark.parametrize("kind", _MALFORMED)
def test_a_malformed_question_is_recorded_and_leads_nowhere(
    sandbox: Start, internet: Internet, kind: str
) -> None:
    """22: by UDP and by TCP it is answered as malformed, counted as that, and never passed on."""
    data = _MALFORMED[kind]
    with sandbox(f"{API}:443") as inside:
        by_udp = inside.denied("datagram", host=_RESOLVER, port=53, data=data)
        by_tcp = inside.denied("talk", host=_RESOLVER, port=53, turns=[(framed(data), 12)], finish=True)
        assert by_udp.raw[3] & 15 == by_tcp.raw[5] & 15 == FORMERR
        good = inside.denied("datagram", host=_RESOLVER, port=53, data=question(API))
        assert read_reply(good.raw).code == NOERROR
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(Told("dns", "malformed", times=2))


def test_what_is_no_message_at_all_is_recorded_too(sandbox: Start, internet: Internet) -> None:
    """22: too short to be answered: nothing comes back, nothing leaves, and it is counted."""
    with sandbox(f"{API}:443") as inside:
        for data in ("x", "\0" * 11):
            said = inside.act("datagram", host=_RESOLVER, port=53, data=data, patience_s=0.3)
            assert said.outcome == "silence"
            assert not said.asked
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(Told("dns", "malformed", times=2))


@pytest.mark.parametrize("flood", ["malformed", "denied"])
def test_a_flood_of_questions_neither_floods_the_record_nor_is_lost_from_it(
    sandbox: Start, internet: Internet, flood: str
) -> None:
    """22: every one is counted, distinct names up to a bound of their own, and a granted host answers on."""
    if flood == "malformed":
        sent = [message(bytes([number & 63])) for number in range(_FLOOD)]
    else:
        sent = [question(f"n{number}.tunnel.test") for number in range(_FLOOD)]
    with sandbox(f"{API}:443") as inside:
        said = inside.denied("datagrams", within_s=20, host=_RESOLVER, port=53, data=sent)
        assert len(said.heard) == _FLOOD
        wanted = FORMERR if flood == "malformed" else NXDOMAIN
        assert {ord(each[3]) & 15 for each in said.heard} == {wanted}
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    records = inside.records("dns.denied")
    assert sum(record["count"] for record in records) == _FLOOD
    assert sum(denial["count"] for denial in inside.result["denials"]) == _FLOOD
    assert {record["reason"] for record in records} == {
        "malformed" if flood == "malformed" else "host-not-granted"
    }
    distinct = 1 if flood == "malformed" else _MOST_DISTINCT + 1
    assert len(inside.result["denials"]) == distinct
    assert len(records) <= distinct + said.duration_s + 3


@pytest.mark.parametrize("ttl", [0, 1, 2**31 - 1], ids=["zero", "second", "years"])
@pytest.mark.parametrize("asks", [(), ("--dns", f"resolver={_RESOLVER}")], ids=["system", "resolver"])
def test_how_long_an_answer_may_be_kept_outside_is_nothing_to_a_grant(
    sandbox: Start, internet: Internet, asks: tuple[str, ...], ttl: int
) -> None:
    """23: the name stays reachable for the whole run under one address inside, and only the name."""
    served = internet.serve("http", port=80)
    internet.answer("brief.test", Answer(a=(served.v4,), ttl=ttl))
    with sandbox("brief.test:80", options=asks) as inside:
        first = inside.denied("datagram", host=_RESOLVER, port=53, data=question("brief.test"))
        for _ in range(3):
            assert "200 OK" in inside.allowed("talk", at=served, **_get("brief.test")).data
            assert inside.denied("connect", host=served.v4, port=80).errno == "ECONNREFUSED"
        again = inside.denied("datagram", host=_RESOLVER, port=53, data=question("brief.test"))
        assert read_reply(first.raw).addresses == read_reply(again.raw).addresses
        assert served.v4 not in read_reply(again.raw).addresses
        (kept,) = struct.unpack_from("!I", again.raw, again.raw.index(b"\xc0\x0c") + 6)
        assert kept == 60
    inside.expect(Told("tcp", "address-literal", None, served.v4, 80, "tcp", times=3))
