"""Names are resolved outside when a connection is dialled, and judged then (ATTACKS 14-16, 23, 24)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.inside import AT_ONCE_S, Told
from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from tests.escape.conftest import HostService
    from tests.escape.inside import Inside, Start
    from tests.support.internet import Internet

pytestmark = pytest.mark.escape

_ASKS = {"system": (), "resolver": ("--dns", f"resolver={addresses.NAME_SERVERS[0]}")}
"""Both ways in which the host asks: the C library's, and the gateway's own."""

_NOT_PUBLIC = {
    "loopback": "127.0.0.1",
    "loopback-other": "127.77.0.1",
    "loopback6": "::1",
    "metadata": "169.254.169.254",
    "metadata6": "fd00:ec2::254",
    "link-local": "169.254.7.7",
    "link-local6": "fe80::1",
    "private10": "10.1.2.3",
    "private172": "172.16.0.9",
    "private192": "192.168.0.9",
    "cgnat": "100.64.0.7",
    "unique-local": "fd12:3456::1",
    "unspecified": "0.0.0.0",  # noqa: S104  what a name may answer, not what anything binds to
    "unspecified6": "::",
    "broadcast": "255.255.255.255",
    "multicast": "224.0.0.251",
    "door": "198.18.1.0",
    "host": addresses.HOST_V4,
    "host6": addresses.HOST_V6,
    "mapped": "::ffff:10.1.2.3",
    "mapped-metadata": "::ffff:169.254.169.254",
    "nat64": "64:ff9b::a9fe:a9fe",
    "nat64-local": "64:ff9b:1::a01:203",
    "6to4": "2002:a9fe:a9fe::1",
    "teredo": "2001:0:a01:203::1",
    "compatible": "::10.1.2.3",
}


def _at(address: str) -> Answer:
    return Answer(aaaa=(address,)) if ":" in address else Answer(a=(address,))


def _get(host: str, port: int = 80) -> dict[str, Any]:
    """The words of an act that asks for a page of `host` by plain HTTP."""
    named = host if port == 80 else f"{host}:{port}"
    request = f"GET / HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n"
    return {"host": host, "port": port, "turns": [(request, None)]}


def _reset(inside: Inside, host: str, port: int) -> None:
    """Where anything may be spoken the host is dialled at once: the workload is told before it speaks."""
    assert inside.denied("talk", asks=True, **_get(host, port)).outcome in {"reset", "error"}, host


@pytest.mark.parametrize("asks", _ASKS)
def test_a_name_is_judged_by_what_it_resolves_to_when_it_is_dialled(
    sandbox: Start, internet: Internet, host_service: HostService, asks: str
) -> None:
    """14: a name that moves to loopback, metadata or a private address, in any envelope, is not dialled."""
    api, port = internet.host("api"), host_service.port
    served = internet.serve("http", port=port)
    names = {f"{kind}.rebind.test": address for kind, address in _NOT_PUBLIC.items()}
    true = Answer(a=(served.v4,))
    for name in (*names, "steady.rebind.test"):
        internet.answer(name, true)
    grants = [f"{name}:{port}" for name in (*names, "steady.rebind.test")]
    with sandbox(*grants, options=_ASKS[asks]) as inside:
        for name in names:
            assert "200 OK" in inside.allowed("talk", at=served, **_get(name, port)).data
        for name, address in names.items():
            internet.answer(name, _at(address))
        *_, last = names  # the one that is kept for the longest (a second)
        changed = inside.act("until_changed", text="200 OK", of="talk", words=_get(last, port))
        assert {packet.address for packet in changed.arrived} <= {served.v4}
        assert changed.outcome in {"reset", "error"}
        assert changed.last_s is not None
        assert changed.last_s < AT_ONCE_S
        for name in names:
            _reset(inside, name, port)
        assert host_service.arrived() == 0
        assert "200 OK" in inside.allowed("talk", at=served, **_get("steady.rebind.test", port)).data
    assert api.name not in str(inside.result)
    inside.expect(*(_refused(name, address, port, times=None) for name, address in names.items()))


def test_a_name_that_rebinds_between_two_questions_is_dialled_where_it_was_judged(
    sandbox: Start, internet: Internet, host_service: HostService
) -> None:
    """14: asked once for a connection: what a second question would say, loopback, is not dialled."""
    port = host_service.port
    served = internet.serve("http", port=port)
    name = "turns.rebind.test"
    internet.answer(name, Answer(a=(served.v4,)), Answer(a=("127.0.0.1",)))
    with sandbox(f"{name}:{port}", options=("--dns", "system")) as inside:
        assert "200 OK" in inside.allowed("talk", at=served, **_get(name, port)).data
        assert host_service.arrived() == 0
    inside.expect()


def _refused(name: str, address: str, port: int = 80, *, times: int | None = 1, over: str = "tcp") -> Told:
    from ipaddress import ip_address

    return Told(over, "private-address", name, str(ip_address(address)), port, over, times)


@pytest.mark.parametrize("asks", _ASKS)
def test_one_private_address_among_public_ones_refuses_the_name(
    sandbox: Start, internet: Internet, asks: str
) -> None:
    """24: not even the public ones are dialled; the same name with public ones alone answers."""
    served = internet.serve("http", port=80)
    internet.answer("mixed.test", Answer(a=(served.v4, "10.1.2.3")))
    internet.answer("clean.test", Answer(a=(served.v4,)))
    with sandbox("mixed.test:80", "clean.test:80", options=_ASKS[asks]) as inside:
        said = inside.denied("talk", asks=True, **_get("mixed.test"))
        assert "X-Mvm-Denied: private-address\r\n" in said.data
        assert "200 OK" in inside.allowed("talk", at=served, **_get("clean.test")).data
    inside.expect(_refused("mixed.test", "10.1.2.3"))


@pytest.mark.parametrize("asks", _ASKS)
def test_a_name_that_fails_to_resolve_is_no_denial_and_reaches_nothing(
    sandbox: Start, internet: Internet, asks: str
) -> None:
    """16: a failed look-up is taken for the network's failure, never for a public host."""
    internet.answer("broken.test", Answer(code="SERVFAIL"))
    with sandbox("broken.test:80", "api.example.test:80", options=_ASKS[asks]) as inside:
        said = inside.denied("talk", within_s=8.0, asks=True, **_get("broken.test"))
        assert said.data.startswith("HTTP/1.1 502 ")
        assert "X-Mvm-Denied" not in said.data
        inside.allowed("talk", at=internet.host("api"), **_get("api.example.test"))
    inside.expect()
    assert inside.result["failures"]


def test_the_workloads_own_hosts_file_resolves_nothing_for_the_gateway(
    sandbox: Start, internet: Internet
) -> None:
    """15: what a program inside believes about names moves nothing; the file itself can't be written."""
    other = internet.host("other")
    with sandbox("api.example.test:80") as inside:
        said = inside.denied("connect", host=other.v4, port=80)
        assert said.errno == "ECONNREFUSED"
        assert (
            inside.act("write", path="/etc/hosts", text=f"{other.v4} api.example.test\n").outcome == "error"
        )
        inside.allowed("talk", at=internet.host("api"), **_get("api.example.test"))
    inside.expect(Told("tcp", "address-literal", None, other.v4, 80, "tcp"))
