"""The inside of a door against the kernel: no way out with or without its rules, and rules as they read."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import time
from functools import partial
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from mvm.gateway import door
from mvm.gateway.door import Layout
from mvm.gateway.names import POOLS
from mvm.kernel import netlink, nftables, rtnetlink
from mvm.terms import Protocol
from tests.gateway import clients
from tests.gateway.conftest import doorway, local_doorway
from tests.gateway.doorway import policy
from tests.support import namespaces
from tests.support.children import in_child
from tests.support.internet import Packet

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.conftest import MakeDoorway
    from tests.support.internet import Internet

__all__ = ["doorway", "local_doorway"]  # the fixtures of the gateway's tests, used here too

pytestmark = pytest.mark.kernel

ECHO, SSH = "echo.example.test", "ssh.example.test"
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="no nft(8) to read the rules with")


def in_namespace(act: Callable[[], object]) -> object:
    """Do something in a fresh network namespace, with every capability over it."""

    def inside() -> object:
        namespaces.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNET)
        return act()

    return in_child(inside)


def take_the_rules() -> None:
    """Delete the whole table, as somebody with every right over the namespace could."""
    body = struct.pack("!BBH", 1, 0, 0) + netlink.text(1, door.TABLE)
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
    begin = netlink.message(0x10, netlink.NLM_F_REQUEST, 0, struct.pack("!BBH", 0, 0, 10))
    end = netlink.message(0x11, netlink.NLM_F_REQUEST, 0, struct.pack("!BBH", 0, 0, 10))
    with nftables.open_socket() as sock:
        netlink.transact(
            sock, [begin, netlink.message(10 << 8 | 2, flags, 1, body), end], ["delete the table"]
        )


@pytest.mark.parametrize("layout", Layout)
def test_an_open_door_verifies(layout: Layout) -> None:
    """What was set up reads back as a door."""

    def act() -> str | None:
        for sock in door.open_door(layout, POOLS, unrestricted=False):
            sock.close()
        return door.verify(layout)

    assert in_namespace(act) is None


def _add_dummy() -> None:
    """Another link, up: half of a wire that leads nowhere."""
    other = os.open("/proc/self/ns/net", os.O_RDONLY)
    with rtnetlink.RouteSocket() as routes:
        routes.veth("out", "in", other, (b"\x02mvm\x01\x01", b"\x02mvm\x01\x02"))
        routes.commit()
        for name in ("out", "in"):
            routes.link_up(socket.if_nametoindex(name))
        routes.commit()


def _add_route() -> None:
    """A route through a gateway, by loopback."""
    through = netlink.attribute(5, ip_address("10.0.0.1").packed)
    with rtnetlink.RouteSocket() as routes:
        routes.route_on_link(ip_address("10.0.0.1"), rtnetlink.LOOPBACK_INDEX)
        routes.commit()
        way_out = ip_network("93.0.0.0/8")
        routes._route(way_out, 1, rtnetlink.ROUTE_UNICAST, 0, attributes=through, name="out")  # noqa: SLF001
        routes.commit()


def _forward() -> None:
    """Forwarding between links."""
    with open("/proc/sys/net/ipv4/ip_forward", "w", encoding="ascii") as file:
        file.write("1")


@pytest.mark.parametrize(
    ("spoil", "wrong"), [(_add_dummy, "links"), (_add_route, "route"), (_forward, "forwards")]
)
@pytest.mark.parametrize("layout", Layout)
def test_what_is_no_door_does_not_verify(layout: Layout, spoil: Callable[[], None], wrong: str) -> None:
    """A link too many, a route that leads somewhere, forwarding: each is found and named."""

    def act() -> str | None:
        for sock in door.open_door(layout, POOLS, unrestricted=False):
            sock.close()
        spoil()
        return door.verify(layout)

    assert wrong in str(in_namespace(act))


def test_links_that_are_down_are_no_links() -> None:
    """Modules that a machine has loaded may put idle links into every namespace; a door is one with them."""

    def act() -> str | None:
        other = os.open("/proc/self/ns/net", os.O_RDONLY)
        with rtnetlink.RouteSocket() as routes:
            routes.veth("idle", "idle2", other, (b"\x02mvm\x01\x01", b"\x02mvm\x01\x02"))
            routes.commit()
        for sock in door.open_door(Layout.LOCAL, POOLS, unrestricted=False):
            sock.close()
        return door.verify(Layout.LOCAL)

    assert in_namespace(act) is None


@needs_nft
@pytest.mark.parametrize("layout", Layout)
def test_the_rules_read_as_they_are_meant(layout: Layout) -> None:
    """nft(8) lists the batch that was sent: hooks, order, keys, verdicts."""

    def act() -> str:
        sockets = door.open_door(layout, POOLS, unrestricted=True)
        keys = [
            door.key(ip_address("198.18.1.0"), Protocol.TCP, 443),
            door.key(ip_address("100::100"), Protocol.UDP, 53),
        ]
        door.edit(sockets.rules, keys, ())
        with namespaces.inherited_capabilities():
            words = ["nft", "list", "ruleset"]
            listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for sock in sockets:
            sock.close()
        return listed

    listed = str(in_namespace(act))
    hook = "output" if layout is Layout.LOCAL else "input"
    own = [
        "meta mark 0x006d766d accept",
        "ip daddr 127.0.0.0/8 accept",
        "ip6 daddr ::1 accept",
        "ip daddr 198.18.0.2 accept",
        "ip6 daddr 100::2 accept",
    ]
    keys4 = "ip daddr . meta l4proto . th dport @granted4"
    keys6 = "ip6 daddr . meta l4proto . th dport @granted6"
    steer = _chain(listed, "steer")
    refuse = _chain(listed, "refuse")
    local = layout is Layout.LOCAL
    assert steer[:1] == ["type filter hook prerouting priority mangle; policy accept;"]
    assert refuse[:1] == [f"type filter hook {hook} priority filter; policy accept;"]
    assert [rule for rule in steer if rule in own] == (own if local else [])
    assert [rule for rule in refuse if rule in own] == (own if local else [])
    to_gateway = "tproxy to :3 accept"
    for match in (keys4, keys6, "tcp dport 53", "udp dport 53", "meta l4proto @anywhere"):
        assert f"{match} {to_gateway}" in steer
        assert f"{match} accept" in refuse
    assert refuse[-2:] == ["meta l4proto @anywhere accept", "goto no"]
    assert refuse.index("ip daddr 10.0.0.0/8 goto no") < refuse.index("meta l4proto @anywhere accept")
    assert refuse.index(f"{keys4} accept") < refuse.index("ip daddr 10.0.0.0/8 goto no")
    report = "limit rate 500/second burst 200 packets log group 7 snaplen 80"
    assert _chain(listed, "no") == [
        f"tcp flags syn / syn,ack {report}",
        'tcp flags syn / syn,ack counter name "refused-tcp"',
        f"meta l4proto udp {report}",
        'meta l4proto udp counter name "refused-udp"',
        f"meta l4proto != tcp meta l4proto != udp {report}",
        'meta l4proto != tcp meta l4proto != udp counter name "refused-other"',
        "meta l4proto tcp reject with tcp reset",
        "reject",
    ]
    assert "elements = { 198.18.1.0 . tcp . 443 }" in listed
    assert "elements = { 100::100 . udp . 53 }" in listed
    assert "elements = { tcp, udp }" in " ".join(listed.split())


def _chain(listed: str, name: str) -> list[str]:
    _, _, rest = listed.partition(f"chain {name} {{\n")
    return [line.strip() for line in rest.partition("\t}")[0].splitlines()]


def _every_way_out(internet: Internet) -> None:
    """Everything that the holder of all capabilities over the namespace may try, by plain sockets."""
    host = internet.host("echo")
    for address in (*host.addresses, "198.18.1.0", "100::100", "8.8.8.8", "169.254.169.254"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in (7, 53, 80, 443, door.PORT):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as sock, contextlib.suppress(OSError):
                    sock.settimeout(0.1)
                    sock.connect((address, port))
                    sock.send(b"GET / HTTP/1.1\r\nHost: evil.example.test\r\n\r\n")
                    sock.recv(100)
        for number in (1, 58, 132, 253):
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_RAW, number) as sock:
                sock.sendto(bytes(16), (address, 0))
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        for _, name in socket.if_nameindex():
            sock.bind((name, 0x0800))
            sock.send(bytes(64))


def test_without_any_rule_still_nothing_leaves(doorway: MakeDoorway, internet: Internet) -> None:
    """The rules are not the boundary: with the table gone, routes and redirects added, nothing arrives."""
    gate = doorway(policy(f"{ECHO}:7"))
    assert gate.inside(lambda: clients.address_of(ECHO))

    def break_out() -> None:
        take_the_rules()
        _add_route()
        _forward()
        _every_way_out(internet)

    with internet.watch() as outside:
        gate.at_door(break_out)
        gate.inside(lambda: _every_way_out(internet), privileged=True)
    assert not outside.packets
    # What stands for the granted host is refused at once, as nothing steers it; the gateway lives on.
    seen = gate.inside(lambda: clients.attempt(lambda: clients.connect("198.18.1.0", 7)))
    assert seen.what == "refused"
    gate.ask("replace", policy(f"{ECHO}:7", f"{SSH}:22"))
    assert gate.ask("ready")


def test_with_its_rules_nothing_leaves_either(doorway: MakeDoorway, internet: Internet) -> None:
    """The same attempts by the holder of every capability over the workload's namespace; the granted twin."""
    gate = doorway(policy(f"{ECHO}:7"))
    with internet.watch() as outside:
        gate.inside(lambda: _every_way_out(internet), privileged=True)
    assert not outside.packets
    with internet.watch() as outside:
        assert gate.inside(lambda: clients.ask_line(ECHO, 7)) == b"hello\n"
    assert set(outside.besides_names) == {Packet("tcp", internet.host("echo").v6, 7)}


def test_the_listener_itself_grants_nothing(doorway: MakeDoorway, internet: Internet) -> None:
    """A connection straight to the port that the gateway's sockets are bound to is refused like any other."""
    gate = doorway(policy(f"{ECHO}:7"))
    for address in ("127.0.0.1", "198.18.0.2", "8.8.8.8", internet.host("echo").v4):
        seen = gate.inside(partial(clients.attempt, partial(clients.hear, address, door.PORT)))
        assert seen.what in {"reset", "refused"}
    assert gate.ask("totals")[0] == 0


@pytest.mark.parametrize("port", [1, 22, 53, 80, 443, 8080])
def test_the_workloads_own_servers_work_on_any_port(doorway: MakeDoorway, port: int) -> None:
    """A server inside is reached over loopback and the workload's own address, by TCP and UDP."""
    gate = doorway(policy(f"{ECHO}:7"))
    own = str(POOLS.workload[0])

    def act() -> list[bytes]:
        heard = []
        for address in ("127.0.0.1", "::1", own):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with (
                socket.create_server(
                    ("", port) if family == socket.AF_INET else ("::", port), family=family
                ) as s,
                clients.connect(address, port) as client,
            ):
                accepted, _ = s.accept()
                accepted.sendall(b"tcp")
                accepted.close()
                heard.append(client.recv(10))
            with socket.socket(family, socket.SOCK_DGRAM) as server:
                server.settimeout(clients.WAIT_S)
                server.bind((address, port))
                with socket.socket(family, socket.SOCK_DGRAM) as client:
                    client.sendto(b"udp", (address, port))
                    heard.append(server.recv(10))
        return heard

    assert gate.inside(act) == [b"tcp", b"udp"] * 3
    assert gate.denials == []


def test_an_open_flow_hinders_no_server_on_its_port(local_doorway: MakeDoorway) -> None:
    """With a flow to port 7 open, a server of the workload's may still take port 7."""
    gate = local_doorway(policy(f"{ECHO}:7"))

    def act() -> tuple[bytes, bytes]:
        with clients.connect(ECHO, 7) as flow:
            flow.sendall(b"x\n")
            echoed = flow.recv(10)
            with socket.create_server(("", 7)) as server, clients.connect("127.0.0.1", 7) as client:
                accepted, _ = server.accept()
                accepted.sendall(b"own")
                accepted.close()
                return echoed, client.recv(10)

    assert gate.inside(act) == (b"x\n", b"own")


def test_a_client_may_bind_to_any_source(local_doorway: MakeDoorway) -> None:
    """Every address is local, so any can be a source; what is granted answers there too."""
    gate = local_doorway(policy(f"{ECHO}:7", f"{ECHO}:7/udp"))

    def act() -> tuple[bytes, bytes]:
        address = clients.address_of(ECHO)
        with socket.socket() as sock:
            sock.settimeout(clients.WAIT_S)
            sock.bind(("8.8.8.8", 0))
            sock.connect((address, 7))
            sock.sendall(b"tcp\n")
            by_tcp = sock.recv(10)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(clients.WAIT_S)
            sock.bind(("8.8.8.8", 0))
            sock.sendto(b"udp", (address, 7))
            return by_tcp, sock.recv(10)

    assert gate.inside(act) == (b"tcp\n", b"udp")


def test_keys_come_and_go_by_the_thousand() -> None:
    """Sets take more keys than one message holds, and give each of them back."""

    def act() -> tuple[int, int]:
        sockets = door.open_door(Layout.LOCAL, POOLS, unrestricted=False)
        keys = [door.key(ip_address("198.18.1.0") + at, Protocol.TCP, 443) for at in range(5000)]
        keys += [door.key(ip_address("100::100") + at, Protocol.UDP, 443) for at in range(5000)]
        door.edit(sockets.rules, keys, ())
        full = _count_elements()
        door.edit(sockets.rules, (), keys)
        return full, _count_elements()

    assert in_namespace(act) == (10000, 0)


def _count_elements() -> int:
    total = 0
    for name in ("granted4", "granted6"):
        body = struct.pack("!BBH", 1, 0, 0) + netlink.text(1, door.TABLE) + netlink.text(2, name)
        with nftables.open_socket() as sock:
            for entry in netlink.dump(sock, 10 << 8 | 13, body):
                values = dict(netlink.attributes(entry[4:]))
                total += len(list(netlink.attributes(values[3])))
    return total


def test_opening_takes_milliseconds() -> None:
    """A door stands within a time that no tool would need to be started in (the bench has the figure)."""

    def act() -> float:
        began = time.monotonic()
        door.open_door(Layout.LOCAL, POOLS, unrestricted=False)
        return time.monotonic() - began

    assert float(str(in_namespace(act))) < 0.5
