"""The inside of one door: what is set up in a sandbox's network namespace, and the sockets that come of it.

Runs in the fresh namespace, by the one who owns it. There is no link out and no route to anywhere:
every address is local. The rules below steer granted destinations to the gateway's sockets and
answer everything else at once; they are not the boundary (with all of them flushed, still nothing
leaves).

    steer   (prerouting)  the sandbox's own traffic passes · port 53 and what is granted → tproxy
    refuse  (local: output, wire: input)
            the same passes · ICMP errors pass · all else → no
    no      report · count · RST or ICMP

What is granted are keys in sets: destination address, protocol, port; and, where every host is,
the protocols in a set of their own. Live edits change keys, never rules.

Known holes, in the local layout: a server of the workload's that does without SO_REUSEADDR can't take the
port of a flow that is open, nor any server the one port that the gateway's sockets are bound to.
"""

from __future__ import annotations

import socket
import struct
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from mvm.kernel import nflog, nftables, rtnetlink, sockets
from mvm.terms import Layer, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mvm.gateway.names import Pair, Pools
    from mvm.terms import Address

    Network = IPv4Network | IPv6Network
    _Change = Callable[[nftables.Batch, str, Iterable[bytes]], None]

PORT = 3
"""The one port that the gateway's sockets are bound to (unassigned to anything that is used)."""

TABLE = "mvm"
COUNTERS = {Layer.TCP: "refused-tcp", Layer.UDP: "refused-udp", Layer.ICMP: "refused-other"}
"""What the rules refused, by layer; ICMP stands for every other protocol."""

_GROUP = 7
_MARK = 0x6D766D
_REPORTS_PER_SECOND, _REPORTS_BURST = 500, 200
_NUMBERS = {Protocol.TCP: 6, Protocol.UDP: 17}
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_DNS = 53
_LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_EVERYWHERE: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_KEYS_A_BATCH = 1000
_NEAR_END, _FAR_END = b"\x02mvm\x00\x01", b"\x02mvm\x00\x02"
"""The ethernet addresses of a wire's ends: locally administered, the same for every wire."""

# Refused by the kernel at once even where every host is granted; what else is not public
# (`policy.addresses` knows all of it) is refused by the gateway.
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3 "
        "::/3 2001::/32 2002::/16 4000::/2 8000::/1"
    ).split()
)

# Errors, and what a kernel itself says on a new link (neighbours, multicast listeners).
_ICMP_PASSING = {_ICMP: (3,), _ICMP6: (1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143)}


class _Set(NamedTuple):
    name: str
    identity: int
    parts: tuple[int, ...]
    size: int


_KEYS4 = _Set("granted4", 1, (nftables.ADDRESS4, nftables.PROTOCOL, nftables.PORT), 12)
_KEYS6 = _Set("granted6", 2, (nftables.ADDRESS6, nftables.PROTOCOL, nftables.PORT), 24)
_ANYWHERE = _Set("anywhere", 3, (nftables.PROTOCOL,), 1)
_SETS = (_KEYS4, _KEYS6, _ANYWHERE)

EVERY_HOST = tuple(bytes([number]) for number in _NUMBERS.values())
"""The keys that grant every public host."""


class Layout(StrEnum):
    """Where the workload is: in the door's own namespace, or behind a wire that ends in it."""

    LOCAL = "local"
    WIRE = "wire"


class DoorSockets(NamedTuple):
    """The gateway's sockets: made inside, held outside."""

    tcp: socket.socket
    udp: socket.socket
    datagrams4: socket.socket
    datagrams6: socket.socket
    errors4: socket.socket
    errors6: socket.socket
    reports: socket.socket
    rules: socket.socket


def key(address: Address, protocol: Protocol, port: int) -> bytes:
    """The set key of one granted destination."""
    return address.packed + struct.pack("=B3x", _NUMBERS[protocol]) + struct.pack("!H2x", port)


def edit(rules: socket.socket, add: Iterable[bytes], delete: Iterable[bytes]) -> None:
    """Put keys into the sets and take keys out of them, those that go first.

    Raises:
        OSError: the kernel refused.
    """
    _edit(rules, delete, nftables.Batch.delete_elements)
    _edit(rules, add, nftables.Batch.add_elements)


def _edit(rules: socket.socket, keys: Iterable[bytes], change: _Change) -> None:
    keys = list(keys)
    for start in range(0, len(keys), _KEYS_A_BATCH):
        batch = nftables.Batch(TABLE)
        for kind in _SETS:
            change(batch, kind.name, [k for k in keys[start : start + _KEYS_A_BATCH] if len(k) == kind.size])
        batch.send(rules)


def open_door(layout: Layout, pools: Pools, *, unrestricted: bool) -> DoorSockets:
    """Set up the current network namespace and make the gateway's sockets in it.

    Args:
        layout: where the workload is.
        pools: the addresses that stand for names.
        unrestricted: steer every public destination from the start, not only granted keys.

    Raises:
        OSError: the kernel refused something; the text says what. The namespace must be given up.
    """
    _make_all_local(layout, pools)
    rules = nftables.open_socket()
    _rules(layout, pools).send(rules)
    edit(rules, EVERY_HOST if unrestricted else (), ())
    _let_workload_serve_any_port()
    return DoorSockets(
        tcp=sockets.tcp_listener(PORT, _MARK),
        udp=sockets.udp_receiver(PORT, _MARK),
        datagrams4=sockets.datagram_sender(socket.AF_INET, _MARK),
        datagrams6=sockets.datagram_sender(socket.AF_INET6, _MARK),
        errors4=sockets.error_sender(socket.AF_INET, _MARK),
        errors6=sockets.error_sender(socket.AF_INET6, _MARK),
        reports=nflog.subscribe(_GROUP),
        rules=rules,
    )


def lay_wire(pools: Pools, name: str, workload: int, peer: str) -> None:
    """In an open door of the wire layout: make the wire to the workload's namespace.

    Args:
        pools: as `open_door` had them.
        name: of the door's end.
        workload: a descriptor of the workload's network namespace.
        peer: name of the end there; `join_wire` sets it up.

    Raises:
        OSError: the kernel refused; the text says what.
    """
    with rtnetlink.RouteSocket() as routes:
        routes.veth(name, peer, workload, (_NEAR_END, _FAR_END))
        routes.commit()
        _set_up_end(routes, name, pools.resolver, pools.workload, _FAR_END)


def join_wire(pools: Pools, peer: str) -> None:
    """In the workload's namespace: give the wire's end its addresses, and lead everything through it.

    Raises:
        OSError: the kernel refused; the text says what.
    """
    with rtnetlink.RouteSocket() as routes:
        routes.link_up(rtnetlink.LOOPBACK_INDEX)
        index = _set_up_end(routes, peer, pools.workload, pools.resolver, _NEAR_END)
        routes.route_local(ip_network(pools.workload[1]), index, None)
        for gateway in pools.resolver:
            routes.route_via(gateway, index)
        routes.commit()
        routes.await_running(index)
    _let_workload_serve_any_port()


def await_wire(name: str) -> None:
    """In an open door, once the other end was joined: wait until the wire's end here carries packets."""
    with rtnetlink.RouteSocket() as routes:
        routes.await_running(socket.if_nametoindex(name))


def _set_up_end(routes: rtnetlink.RouteSocket, name: str, own: Pair, other: Pair, ethernet: bytes) -> int:
    """One end of a wire, and the way to the other.

    Nothing is left for IPv6 to find out by itself, which it does some time after it was acknowledged: until
    then what is sent would be lost, and cost its sender seconds.
    """
    index = socket.if_nametoindex(name)
    routes.link_up(index)
    for address in own:
        routes.address(index, address)
    for address in other:
        routes.route_on_link(address, index)
        routes.neighbour(index, address, ethernet)
    routes.commit()
    return index


def verify(layout: Layout) -> str | None:
    """Read the kernel back: what is wrong with the current namespace as a door, or None.

    In the local layout no link but loopback is up, in the other at most the wire; nothing is forwarded;
    no route leads through a gateway, nor, in the local layout, to another link.
    """
    local = layout is Layout.LOCAL
    with rtnetlink.RouteSocket() as routes:
        up = [link.index for link in routes.links() if link.up and link.index != rtnetlink.LOOPBACK_INDEX]
        if len(up) > (0 if local else 1):
            return f"the door has {len(up)} links beside loopback"
        for route in routes.routes():
            if route.gateway or (local and route.link not in {0, rtnetlink.LOOPBACK_INDEX}):
                return "the door has a route that leads somewhere"
    if any(_read(name) != "0" for name in _FORWARDING):
        return "the door forwards packets"
    return None


_FORWARDING = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def _make_all_local(layout: Layout, pools: Pools) -> None:
    local = layout is Layout.LOCAL
    workload: tuple[Address, ...] = pools.workload
    for name in _FORWARDING:
        if _read(name) != "0":
            _set(name, "0")
    with rtnetlink.RouteSocket() as routes:
        routes.link_up(rtnetlink.LOOPBACK_INDEX)
        for own, everywhere in zip(workload, _EVERYWHERE, strict=True):
            if local:
                # getaddrinfo's AI_ADDRCONFIG looks for an address that is not loopback.
                routes.address(rtnetlink.LOOPBACK_INDEX, own)
            routes.route_local(everywhere, rtnetlink.LOOPBACK_INDEX, own if local else None)
        routes.commit()


def _let_workload_serve_any_port() -> None:
    _set("ipv4/ip_unprivileged_port_start", "0")


def _read(name: str) -> str:
    with open(f"/proc/sys/net/{name}", encoding="ascii") as file:
        return file.read().strip()


def _set(name: str, value: str) -> None:
    with open(f"/proc/sys/net/{name}", "w", encoding="ascii") as file:
        file.write(value)


def _rules(layout: Layout, pools: Pools) -> nftables.Batch:
    batch = nftables.Batch(TABLE)
    batch.table()
    for counter in COUNTERS.values():
        batch.counter(counter)
    for kind in _SETS:
        batch.set(*kind)
    batch.chain("no")
    batch.chain_on("prerouting", -150, "steer")
    batch.chain_on("output" if layout is Layout.LOCAL else "input", 0, "refuse")
    _refuse(batch)
    to_gateway = nftables.tproxy(PORT) + nftables.accept()
    passing = [(match, to_gateway) for match in _keys()]
    if layout is Layout.LOCAL:
        # Keys come early: each packet of an open flow meets these rules.
        passing.insert(0, (nftables.marked(_MARK), nftables.accept()))
        passing += [(match, nftables.accept()) for match in _own(pools)]
    passing += [(match, to_gateway) for match in _dns()]
    for match, then in passing:
        batch.rule("steer", match, then)
        batch.rule("refuse", match, nftables.accept())
    for protocol, types in _ICMP_PASSING.items():
        for number in types:
            message = nftables.transport_header(0, 1) + nftables.compare(bytes([number]))
            batch.rule("refuse", nftables.protocol(protocol), message, nftables.accept())
    for match, public in _anywhere(pools):
        batch.rule("steer", match, to_gateway if public else nftables.accept())
        batch.rule("refuse", match, nftables.accept() if public else nftables.goto("no"))
    batch.rule("refuse", nftables.goto("no"))
    return batch


def _own(pools: Pools) -> list[bytes]:
    """What the workload's processes say to each other."""
    networks = (*_LOOPBACK, *(ip_network(own) for own in pools.workload))
    return [nftables.destination(network) for network in networks]


def _dns() -> list[bytes]:
    """Port 53 of any address: whatever name server the workload believes in, the gateway answers."""
    port = nftables.destination_port(_DNS)
    return [nftables.protocol(number) + port for number in _NUMBERS.values()]


_REGISTER = 8  # the first of the 32-bit registers


def _keys() -> list[bytes]:
    return [
        _load_key(nftables.IPV4) + nftables.in_set(_KEYS4.name, _REGISTER),
        _load_key(nftables.IPV6) + nftables.in_set(_KEYS6.name, _REGISTER),
    ]


def _load_key(family: bytes) -> bytes:
    """Load destination address, protocol and port into consecutive registers."""
    offset, size = (16, 4) if family == nftables.IPV4 else (24, 16)
    after = _REGISTER + size // 4
    return (
        nftables.family(family)
        + nftables.network_header(offset, size, _REGISTER)
        + nftables.meta("l4proto", after)
        + nftables.transport_header(2, 2, after + 1)
    )


def _anywhere(pools: Pools) -> list[tuple[bytes, bool]]:
    """Where every host is granted: the addresses of names, then what is not public, then the rest."""
    granted = nftables.meta("l4proto", _REGISTER) + nftables.in_set(_ANYWHERE.name, _REGISTER)
    return [
        *((nftables.destination(pool) + granted, True) for pool in (pools.v4, pools.v6)),
        *((nftables.destination(network), False) for network in _NOT_PUBLIC),
        (granted, True),
    ]


def _refuse(batch: nftables.Batch) -> None:
    """Report and count each attempt, then answer it; later segments of a refused flow are only answered.

    The report comes first, so that whoever reads the counter and then all reports has every packet that
    was counted and reported (`gateway.refusals`).
    """
    flags = nftables.transport_header(13, 1) + nftables.mask(b"\x12")
    attempt = nftables.protocol(_TCP) + flags + nftables.compare(b"\x02")
    datagram = nftables.protocol(_UDP)
    other = b"".join(
        nftables.meta("l4proto") + nftables.compare(bytes([number]), nftables.NOT_EQUAL)
        for number in _NUMBERS.values()
    )
    report = nftables.limit(_REPORTS_PER_SECOND, _REPORTS_BURST) + nftables.log(_GROUP, nflog.SNAP_BYTES)
    for first, layer in ((attempt, Layer.TCP), (datagram, Layer.UDP), (other, Layer.ICMP)):
        batch.rule("no", first, report)
        batch.rule("no", first, nftables.count(COUNTERS[layer]))
    batch.rule("no", nftables.protocol(_TCP), nftables.reject_reset())
    batch.rule("no", nftables.reject_unreachable())
