"""Whom a connection is for: its address, name and port, however spelled (ATTACKS 17-19, 25-31, 35-38)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.hellos import encrypted, hello
from tests.escape.inside import Told
from tests.support import addresses

if TYPE_CHECKING:
    from tests.escape.conftest import HostService
    from tests.escape.inside import Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.escape

API, OTHER = "api.example.test", "other.example.test"


def _get(host: str, header: str | None = None) -> dict[str, Any]:
    request = f"GET / HTTP/1.1\r\nHost: {header or host}\r\nConnection: close\r\n\r\n"
    return {"host": host, "port": 80, "turns": [(request, None)]}


def test_only_the_granted_name_exists(sandbox: Start, internet: Internet) -> None:
    """17: any other name is denied at once and never asked outside; the granted one in any case is itself."""
    names = [OTHER, f"{API}.evil.test", "xapi.example.test", f"sub.{API}", "example.test", "test"]
    names += [f"{'x' * 60}.{n}.tunnel.test" for n in range(3)]
    with sandbox(f"{API}:443") as inside:
        for name in names:
            said = inside.denied("resolve", host=name)
            assert said.outcome == "no-name"
        for spelled in (API, API.upper(), f"{API}."):
            assert inside.act("resolve", host=spelled).outcome == "answered"
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(*(Told("dns", "host-not-granted", name, times=None) for name in names))


@pytest.mark.parametrize("server", ["8.8.8.8", addresses.NAME_SERVERS[0], "2001:4860:4860::8888"])
def test_a_question_straight_to_a_resolver_is_answered_by_the_gateway(
    sandbox: Start, server: str, internet: Internet
) -> None:
    """18, 19, 21: whatever server is asked, by UDP or TCP: no question leaves, only granted names exist."""
    from tests.escape.questions import framed, question

    with sandbox(f"{API}:443") as inside:
        over_udp = inside.denied("datagram", host=server, port=53, data=question(OTHER))
        assert over_udp.raw[3] & 0xF == 3
        over_tcp = inside.denied(
            "talk", host=server, port=53, turns=[(framed(question(OTHER)), 12)], finish=True
        )
        assert over_tcp.raw[5] & 0xF == 3
        granted = inside.denied("datagram", host=server, port=53, data=question(API))
        assert granted.raw[3] & 0xF == 0
        inside.denied("datagram", host=server, port=5353, data=question(OTHER))
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(
        Told("dns", "host-not-granted", OTHER, times=2),
        Told("udp", "address-literal", None, server, 5353, "udp", times=None),
    )


@pytest.mark.parametrize(
    "spelled",
    ["93.184.215.11", "2606:2800:220:1::b", "::ffff:93.184.215.11", "64:ff9b::5db8:d70b", "169.254.169.254"],
)
def test_an_address_instead_of_a_name_is_refused(sandbox: Start, internet: Internet, spelled: str) -> None:
    """25, 37: literals of both families and in every envelope, the granted host's own address too."""
    with sandbox(f"{API}:443") as inside:
        for address in (spelled, internet.host("api").v4):
            assert inside.denied("connect", host=address, port=443).errno == "ECONNREFUSED"
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    denials = inside.result["denials"]
    assert {denial["reason"] for denial in denials} == {"address-literal"}
    assert sum(denial["count"] for denial in denials) == 2


def test_the_name_in_the_hello_must_be_the_granted_one(sandbox: Start, internet: Internet) -> None:
    """26, 28: another name, none, one hidden behind another: an alert; the right one in pieces passes."""
    wrong = {
        "other": (hello(OTHER.encode()), "sni-mismatch", OTHER),
        "none": (hello(), "sni-missing", API),
        "hidden": (hello(OTHER.encode(), extra=(encrypted(API.encode()),)), "sni-mismatch", OTHER),
    }
    api = internet.host("api")
    with sandbox(f"{API}:443") as inside:
        for flight, _, _ in wrong.values():
            said = inside.denied("talk", host=API, port=443, turns=[(flight, None)])
            assert said.raw[:1] == b"\x15"
            assert said.raw[5:7] == b"\x02\x31"
        assert inside.denied("tls", host=API, name=OTHER).alert
        for piece, record in ((1, 0), (7, 0), (0, 50), (3, 40)):
            said = inside.allowed("tls", at=api, host=API, name=API, piece=piece, record=record)
            assert said.outcome == "answered"
    inside.expect(
        Told("tls", "sni-mismatch", OTHER, None, 443, "tcp", times=3),
        Told("tls", "sni-missing", API, None, 443, "tcp"),
    )


def test_every_request_must_name_the_granted_host(sandbox: Start, internet: Internet) -> None:
    """27, 32: the first request of a connection and the second; nothing of a refused one arrives."""
    first = f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n"
    second = f"GET / HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"
    api = internet.host("api")
    seen = len(internet.arrivals(API).names)
    with sandbox(f"{API}:80") as inside:
        said = inside.denied("talk", **_get(API, OTHER))
        assert "403" in said.data
        assert "X-Mvm-Denied: host-header-mismatch" in said.data
        both = {"host": API, "port": 80, "turns": [(first, "hello"), (second, None)]}
        said = inside.allowed("talk", at=api, **both)
        assert "X-Mvm-Denied: host-header-mismatch" in said.data
        assert "200 OK" in inside.allowed("talk", at=api, **_get(API)).data
    assert OTHER not in internet.arrivals(API).names[seen:]
    inside.expect(Told("http", "host-header-mismatch", OTHER, None, 80, "tcp", times=2))


def test_an_address_that_names_share_grants_nothing(sandbox: Start, internet: Internet) -> None:
    """29: at the address of a granted name, its neighbours stay closed, by SNI, by Host and by name."""
    granted, neighbour = "cdn-a.example.test", "cdn-b.example.test"
    host = internet.host("cdn-a")
    with sandbox(f"{granted}:443", f"{granted}:80") as inside:
        assert inside.denied("resolve", host=neighbour).outcome == "no-name"
        assert inside.denied("tls", host=granted, name=neighbour).alert
        assert "403" in inside.denied("talk", **_get(granted, neighbour)).data
        assert inside.allowed("tls", at=host, host=granted, name=granted).outcome == "answered"
    inside.expect(
        Told("dns", "host-not-granted", neighbour, times=None),
        Told("tls", "sni-mismatch", neighbour, None, 443, "tcp"),
        Told("http", "host-header-mismatch", neighbour, None, 80, "tcp"),
    )


def test_a_granted_name_is_no_leave_for_another_port(sandbox: Start, internet: Internet) -> None:
    """30, 35: another port, and the same port by another protocol, are refused as it is said."""
    with sandbox(f"{API}:443", "echo.example.test:7/udp") as inside:
        assert inside.denied("connect", host=API, port=80).errno == "ECONNREFUSED"
        assert inside.denied("connect", host=API, port=8443).errno == "ECONNREFUSED"
        assert inside.denied("datagram", host=API, port=443).outcome == "error"
        assert inside.denied("connect", host="echo.example.test", port=7).errno == "ECONNREFUSED"
        echoed = inside.allowed("datagram", at=internet.host("echo"), host="echo.example.test", port=7)
        assert echoed.data == "hello"
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    inside.expect(
        Told("tcp", "port-not-granted", API, None, 80, "tcp", times=None),
        Told("tcp", "port-not-granted", API, None, 8443, "tcp", times=None),
        Told("udp", "protocol-not-granted", API, None, 443, "udp", times=None),
        Told("tcp", "protocol-not-granted", "echo.example.test", None, 7, "tcp", times=None),
    )


def test_the_host_itself_is_out_of_reach(
    sandbox: Start, internet: Internet, host_service: HostService
) -> None:
    """31, 46: its services at its own addresses and at loopback, by every spelling."""
    port = host_service.port
    own = [addresses.HOST_V4, addresses.HOST_V6, f"::ffff:{addresses.HOST_V4}"]
    loopback = ["127.0.0.1", "127.8.9.10", "::1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"]  # noqa: S104
    with sandbox(f"{API}:443") as inside:
        for address in [*own, *loopback]:
            assert inside.denied("connect", host=address, port=port).errno == "ECONNREFUSED", address
        assert host_service.arrived() == 0
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    assert {denial["reason"] for denial in inside.result["denials"]} == {"address-literal"}


def test_other_protocols_lead_nowhere(sandbox: Start, internet: Internet) -> None:
    """36, 38: datagrams to anywhere, from connected sockets and others, get their refusal at once."""
    with sandbox(f"{API}:443") as inside:
        for host in ("8.8.8.8", "2001:4860:4860::8888", internet.host("other").v4):
            assert inside.denied("datagram", host=host, port=9999).outcome == "error"
            assert inside.denied("datagram", host=host, port=123, bound=False).outcome == "error"
        assert inside.allowed("tls", at=internet.host("api"), host=API, name=API).outcome == "answered"
    denials = inside.result["denials"]
    assert {denial["layer"] for denial in denials} == {"udp"}
    assert len(denials) == 6
