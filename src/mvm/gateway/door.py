"""The inside of one door: what is set up in a sandbox's network namespace, and the sockets that come of it.

Runs in the fresh namespace, by the one who owns it. There is no link out and no route to anywhere:
every address is local. The rules below steer granted destinations to the gateway's sockets and
answer everything else at once; they are not the boundary (with all of them flushed, still nothing
leaves).

    steer   (prerouting)  loopback and own addresses pass · port 53 and granted keys → tproxy
    refuse  (local: output, wire: input)
            the same pass · granted keys pass · ICMP errors pass · the rest: count, report, RST or ICMP

A key is destination address, protocol, port. Live edits change keys, never rules.
"""

from __future__ import annotations

import socket
import struct
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from mvm.kernel import nflog, nftables, rtnetlink, sockets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mvm.gateway.names import Pools
    from mvm.terms import Address, Protocol

PORT = 3
"""The one port the gateway's sockets are bound to; it is the only one a workload can't serve on."""

TABLE = "mvm"
REFUSED = "refused"
_GROUP = 7
_REPORTS_PER_SECOND, _REPORTS_BURST = 500, 200
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_DNS = 53
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3 "
        "::/96 ::ffff:0:0/96 64:ff9b::/32 2001::/32 2002::/16 fc00::/7 fe80::/9 ff00::/8"
    ).split()
)
_KEY4, _KEY6 = ("granted4", 1, 12), ("granted6", 2, 24)


class Layout(StrEnum):
    """Where the workload is: in the door's own namespace, or behind a wire that ends in it."""

    LOCAL = "local"
    WIRE = "wire"


class DoorSockets(NamedTuple):
    """The gateway's sockets: made inside, held outside."""

    tcp: socket.socket
    udp: socket.socket
    reply4: socket.socket
    reply6: socket.socket
    reports: socket.socket
    rules: socket.socket


def key(address: Address, protocol: Protocol, port: int) -> bytes:
    """The set key of one granted destination."""
    number = _TCP if protocol == "tcp" else _UDP
    return address.packed + struct.pack("=B3x", number) + struct.pack("!H2x", port)


def edit(batch: nftables.Batch, add: Iterable[bytes], delete: Iterable[bytes]) -> None:
    """Put keys into the sets and take keys out of them."""
    for name, _identity, size in (_KEY4, _KEY6):
        batch.add_elements(name, [k for k in add if len(k) == size])
        batch.delete_elements(name, [k for k in delete if len(k) == size])


def open_door(layout: Layout, pools: Pools, *, unrestricted: bool) -> DoorSockets:
    """Set up the current network namespace and make the gateway's sockets in it.

    Args:
        layout: where the workload is.
        pools: the addresses that stand for names.
        unrestricted: steer every public destination, not only granted keys.

    Raises:
        OSError: the kernel refused something; the text says what. The namespace must be given up.
    """
    _make_all_local(layout, pools)
    with_rules = nftables_socket()
    _rules(layout, pools, unrestricted=unrestricted).send(with_rules)
    _let_workload_serve_any_port()
    return DoorSockets(
        tcp=sockets.tcp_listener(PORT),
        udp=sockets.udp_receiver(PORT),
        reply4=sockets.udp_replier(socket.AF_INET),
        reply6=sockets.udp_replier(socket.AF_INET6),
        reports=nflog.subscribe(_GROUP),
        rules=with_rules,
    )


def nftables_socket() -> socket.socket:
    """A socket to this namespace's nf_tables."""
    from mvm.kernel import netlink

    return netlink.open_socket(netlink.NETLINK_NETFILTER)


def verify(layout: Layout) -> str | None:
    """Read the kernel back: what is wrong with the current namespace as a door, or None.

    In the local layout there is one link, loopback; in either, no route leads anywhere.
    """
    with rtnetlink.RouteSocket() as routes:
        links = routes.link_indexes()
        if layout is Layout.LOCAL and links != (rtnetlink.LOOPBACK_INDEX,):
            return f"the door has {len(links)} links, and must have only loopback"
        for route in routes.routes():
            if route.gateway or (layout is Layout.LOCAL and route.link not in {0, rtnetlink.LOOPBACK_INDEX}):
                return "the door has a route that leads somewhere"
    return None


def _make_all_local(layout: Layout, pools: Pools) -> None:
    local = layout is Layout.LOCAL
    with rtnetlink.RouteSocket() as routes:
        routes.link_up(rtnetlink.LOOPBACK_INDEX)
        for own, everywhere in zip(pools.workload, _EVERYWHERE, strict=True):
            # getaddrinfo's AI_ADDRCONFIG looks for an address that is not loopback.
            routes.address(rtnetlink.LOOPBACK_INDEX, own, own.max_prefixlen)
            routes.route_local(everywhere, rtnetlink.LOOPBACK_INDEX, own if local else None)
        routes.commit()


def _let_workload_serve_any_port() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w", encoding="ascii") as file:
        file.write("0")


def _load_key(version: int) -> bytes:
    """Load destination address, protocol and port into consecutive 32-bit registers (numbered from 8)."""
    offset, size, words = (16, 4, 1) if version == 4 else (24, 16, 4)
    loaded = nftables.family(nftables.IPV4 if version == 4 else nftables.IPV6)
    loaded += nftables.network_header(offset, size, 8) + nftables.meta("l4proto", 8 + words)
    return loaded + nftables.transport_header(2, 2, 9 + words)


def _rules(layout: Layout, pools: Pools, *, unrestricted: bool) -> nftables.Batch:
    batch = nftables.Batch(TABLE)
    batch.table()
    batch.counter(REFUSED)
    batch.set(*_KEY4)
    batch.set(*_KEY6)
    batch.chain("steer", "prerouting", -150)
    batch.chain("refuse", "output" if layout is Layout.LOCAL else "input", 0)
    for chain in ("steer", "refuse"):
        for network in (*_LOOPBACK, *(ip_network(own) for own in pools.workload)):
            batch.rule(chain, nftables.destination(network), nftables.accept())
    _steer(batch, unrestricted=unrestricted)
    _pass(batch, unrestricted=unrestricted)
    _refuse(batch)
    return batch


def _steer(batch: nftables.Batch, *, unrestricted: bool) -> None:
    steer = (nftables.tproxy(PORT), nftables.accept())
    for protocol in (_TCP, _UDP):
        batch.rule("steer", nftables.protocol(protocol), nftables.destination_port(_DNS), *steer)
    batch.rule("steer", _load_key(4), nftables.in_set(_KEY4[0], 8), *steer)
    batch.rule("steer", _load_key(6), nftables.in_set(_KEY6[0], 8), *steer)
    if unrestricted:
        for network in _NOT_PUBLIC:
            batch.rule("steer", nftables.destination(network), nftables.accept())
        for protocol in (_TCP, _UDP):
            batch.rule("steer", nftables.protocol(protocol), *steer)


def _pass(batch: nftables.Batch, *, unrestricted: bool) -> None:
    for protocol in (_TCP, _UDP):
        batch.rule("refuse", nftables.protocol(protocol), nftables.destination_port(_DNS), nftables.accept())
    batch.rule("refuse", _load_key(4), nftables.in_set(_KEY4[0], 8), nftables.accept())
    batch.rule("refuse", _load_key(6), nftables.in_set(_KEY6[0], 8), nftables.accept())
    icmp_type = nftables.transport_header(0, 1)
    batch.rule("refuse", nftables.protocol(_ICMP), icmp_type, nftables.compare(b"\x03"), nftables.accept())
    for kind in (1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 143):
        # Errors, and what the kernel itself says on a new link (neighbours, multicast listeners).
        number = nftables.compare(bytes([kind]))
        batch.rule("refuse", nftables.protocol(_ICMP6), icmp_type, number, nftables.accept())
    if unrestricted:
        for network in _NOT_PUBLIC:
            _refuse(batch, nftables.destination(network))
        for protocol in (_TCP, _UDP):
            batch.rule("refuse", nftables.protocol(protocol), nftables.accept())


def _refuse(batch: nftables.Batch, *match: bytes) -> None:
    """Count and report each attempt, then answer it; later segments of a refused flow are only answered."""
    flags = nftables.transport_header(13, 1) + nftables.mask(b"\x12")
    attempt = flags + nftables.compare(b"\x02")
    counted = nftables.count(REFUSED)
    report = nftables.limit(_REPORTS_PER_SECOND, _REPORTS_BURST) + nftables.log(_GROUP, nflog.SNAP_BYTES)
    not_tcp = nftables.meta("l4proto") + nftables.compare(bytes([_TCP]), nftables.NOT_EQUAL)
    for first in (nftables.protocol(_TCP) + attempt, not_tcp):
        batch.rule("refuse", *match, first, counted)
        batch.rule("refuse", *match, first, report)
    batch.rule("refuse", *match, nftables.protocol(_TCP), nftables.reject_reset())
    batch.rule("refuse", *match, nftables.reject_unreachable())

