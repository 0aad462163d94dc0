"""Links, addresses and routes, each read back from the kernel or felt by a socket."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, TypeVar

import pytest

from mvm.kernel import rtnetlink
from mvm.kernel.rtnetlink import LOOPBACK_INDEX, ROUTE_LOCAL, ROUTE_UNICAST, RouteSocket, own_addresses
from tests.support import addresses, namespaces
from tests.support.children import in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

T = TypeVar("T")
ENDS = (b"\x02mvm\x01\x01", b"\x02mvm\x01\x02")


def in_namespace(act: Callable[[], T]) -> T:
    """Do something in a fresh network namespace, with every capability over it."""

    def inside() -> T:
        namespaces.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNET)
        return act()

    return in_child(inside)


def test_a_link_comes_up() -> None:
    """Loopback is down in a fresh namespace, and up when told."""

    def act() -> tuple[bool, bool]:
        with RouteSocket() as routes:
            before = routes.links()[0].up
            routes.link_up(LOOPBACK_INDEX)
            routes.commit()
            return before, routes.links()[0].up

    assert in_namespace(act) == (False, True)


@pytest.mark.parametrize("anywhere", ["192.0.2.77", "8.8.8.8", "2001:db8::77", "2606::1"])
def test_every_address_may_be_made_local(anywhere: str) -> None:
    """A server that is bound to all addresses answers at one that nobody gave it."""
    own = ip_address("198.18.0.2" if ":" not in anywhere else "100::2")

    def act() -> tuple[str, str]:
        with RouteSocket() as routes:
            routes.link_up(LOOPBACK_INDEX)
            routes.address(LOOPBACK_INDEX, own)
            everything = ip_network("0.0.0.0/0" if own.version == 4 else "::/0")
            routes.route_local(everything, LOOPBACK_INDEX, own)
            routes.commit()
            kinds = {(route.kind, route.link, route.gateway) for route in routes.routes()}
            assert (ROUTE_LOCAL, LOOPBACK_INDEX, False) in kinds
        family = socket.AF_INET if own.version == 4 else socket.AF_INET6
        server = socket.create_server(("", 99), family=family)
        with server, socket.create_connection((anywhere, 99), timeout=5):
            accepted, peer = server.accept()
            with accepted:
                return accepted.getsockname()[0], peer[0]

    assert in_namespace(act) == (anywhere, str(own))


_WIRES = 40
"""One in eight lost its first packet once: that is seen in so many."""


@pytest.mark.parametrize(("near", "far"), [("10.9.0.1", "10.9.0.2"), ("fd00:9::1", "fd00:9::2")])
def test_a_wire_carries_at_once(near: str, far: str) -> None:
    """Once it runs, it carries the first packet, in both families; its route has no gateway."""

    def end(name: str, own: str, other: str, ethernet: bytes) -> set[tuple[int, bool]]:
        with RouteSocket() as routes:
            index = socket.if_nametoindex(name)
            routes.link_up(index)
            routes.address(index, ip_address(own))
            routes.route_on_link(ip_address(other), index)
            routes.neighbour(index, ip_address(other), ethernet)
            if ":" in own:
                routes.route_local(ip_network(own), index, None)
            routes.commit()
            return {(route.kind, route.gateway) for route in routes.routes() if route.link == index}

    def await_end(name: str) -> None:
        with RouteSocket() as routes:
            routes.await_running(socket.if_nametoindex(name))

    def act() -> bytes:
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        namespaces.unshare(namespaces.CLONE_NEWNET)
        there = os.open("/proc/self/ns/net", os.O_RDONLY)
        from mvm.kernel import syscalls

        syscalls.enter(here)
        with RouteSocket() as routes:
            routes.veth("near", "far", there, ENDS)
            routes.commit()
        assert (ROUTE_UNICAST, False) in end("near", near, far, ENDS[1])
        family = socket.AF_INET6 if ":" in near else socket.AF_INET
        server = socket.create_server((near, 99), family=family)
        syscalls.enter(there)
        end("far", far, near, ENDS[0])
        await_end("far")
        syscalls.enter(here)
        await_end("near")
        syscalls.enter(there)
        with socket.create_connection(
            (near, 99), timeout=0.9
        ) as client:  # a lost first packet costs a second
            accepted, _ = server.accept()
            accepted.sendall(b"through")
            accepted.close()
            server.close()
            return client.recv(10)

    late = 0
    for _ in range(_WIRES):
        try:
            assert in_namespace(act) == b"through"
        except TimeoutError:
            late += 1  # a processor that was away for a second looks like a lost packet, once
    assert late <= 1


def test_a_default_route_is_seen_as_one() -> None:
    """A route by a next hop reads back as such: what `door.verify` looks for."""

    def act() -> bool:
        with RouteSocket() as routes:
            routes.link_up(LOOPBACK_INDEX)
            routes.route_on_link(ip_address("10.0.0.1"), LOOPBACK_INDEX)
            routes.route_via(ip_address("10.0.0.1"), LOOPBACK_INDEX)
            routes.commit()
            return any(route.gateway for route in routes.routes())

    assert in_namespace(act)


def test_a_refusal_says_what_was_refused() -> None:
    """The text names the request; what stood after it in the batch was done or refused on its own."""

    def act() -> str:
        with RouteSocket() as routes:
            routes.address(LOOPBACK_INDEX, ip_address("10.0.0.1"))
            routes.address(LOOPBACK_INDEX, ip_address("10.0.0.1"))
            routes.link_up(LOOPBACK_INDEX)
            try:
                routes.commit()
            except OSError as error:
                assert routes.links()[0].up
                return str(error)
        return ""

    assert "add address 10.0.0.1: File exists" in in_namespace(act)


def test_a_machines_own_addresses_are_told_from_others(internet: Internet) -> None:
    """By the kernel's routing: the link's addresses and loopback are own, hosts behind the wire are not."""
    own = [ip_address(text) for text in (addresses.HOST_V4, addresses.HOST_V6, "127.0.0.9", "::1")]
    others = [ip_address(text) for text in (*internet.host("api").addresses, "8.8.8.8", "fd00::5")]
    assert own_addresses([*own, *others]) == frozenset(own)


def test_where_no_route_leads_nothing_is_own() -> None:
    """Without any route the kernel knows no such address, and that is no error."""
    assert in_namespace(lambda: own_addresses([ip_address("8.8.8.8"), ip_address("2606::1")])) == frozenset()
    assert rtnetlink.LOOPBACK_INDEX == 1
