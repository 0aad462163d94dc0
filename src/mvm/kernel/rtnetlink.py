"""Links, addresses and routes of the current network namespace (rtnetlink(7)).

One function per request; decides nothing. IPv4 and IPv6 by the type of the address.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple, Self

from mvm.kernel import netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Network, IPv6Network

    from mvm.terms import Address

LOOPBACK_INDEX = 1
ROUTE_UNICAST = 1
ROUTE_LOCAL = 2

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR = 20
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWNEIGH = 28
_IFF_UP = 0x1
_RTMGRP_LINK = 1
_NEWS_BYTES = 1 << 16
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200  # linux/if_addr.h
_AF_INET, _AF_INET6 = 2, 10
_TABLE_MAIN = 254
_PROTO_BOOT = 3
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 18, 28
_CHOSEN_INDEX = 1 << 20  # far above what the kernel counts up to by itself
_IFLA_OPERSTATE, _IF_OPER_UP, _IFINFOMSG_BYTES = 16, b"\x06", 16
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7


class Route(NamedTuple):
    """One route as the kernel lists it.

    Attributes:
        kind: RTN_* number (`ROUTE_LOCAL`: delivered here; `ROUTE_UNICAST`: leads somewhere).
        link: index of the outgoing link, 0 for none.
        gateway: whether it goes through a next hop.
    """

    kind: int
    link: int
    gateway: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link as the kernel lists it.

    Attributes:
        up: it was brought up.
        running: the other end is up too, and the kernel has taken note of that (RFC 2863; its own flag
            IFF_RUNNING says so of a link that it has not looked at yet, too).
    """

    index: int
    up: bool
    running: bool


def _family(address: Address | IPv4Network | IPv6Network) -> int:
    return _AF_INET if address.version == 4 else _AF_INET6


def _link(index: int, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


class RouteSocket:
    """Requests are collected and `commit` sends them in one go; a context manager."""

    def __init__(self) -> None:
        self._socket = netlink.open_socket(netlink.NETLINK_ROUTE)
        self._requests: list[bytes] = []
        self._names: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _add(self, kind: int, body: bytes, name: str, *, create: bool = True) -> None:
        flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
        flags |= netlink.NLM_F_CREATE | netlink.NLM_F_EXCL if create else 0
        self._names.append(name)
        self._requests.append(netlink.message(kind, flags, len(self._names), body))

    def link_up(self, index: int) -> None:
        """Bring a link up."""
        self._add(_RTM_NEWLINK, _link(index, _IFF_UP, _IFF_UP), f"bring up link {index}", create=False)

    def address(self, index: int, address: Address) -> None:
        """Give a link an address, without duplicate address detection, and without a network around it.

        IPv6 would make a network of one address too, by a route that comes before one of `route_local`, and
        is what the link's first packets meet: they would be forwarded, and not taken in.
        """
        body = struct.pack("=BBBBi", _family(address), address.max_prefixlen, 0, 0, index)
        body += netlink.attribute(_IFA_LOCAL, address.packed) + netlink.attribute(
            _IFA_ADDRESS, address.packed
        )
        if address.version == 6:
            body += netlink.attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE))
        self._add(_RTM_NEWADDR, body, f"add address {address}")

    def neighbour(self, index: int, address: Address, ethernet: bytes) -> None:
        """Say once and for all which ethernet address an address at the other end of a link has."""
        body = struct.pack("=BxHiHBB", _family(address), 0, index, _NUD_PERMANENT, 0, 0)
        body += netlink.attribute(_NDA_DST, address.packed) + netlink.attribute(_NDA_LLADDR, ethernet)
        self._add(_RTM_NEWNEIGH, body, f"neighbour {address}")

    def route_local(self, network: IPv4Network | IPv6Network, index: int, source: Address | None) -> None:
        """Make every address of `network` local (AnyIP), with a preferred source or none.

        In table main: in table local, IPv6 would swallow the replies to a workload behind a wire.
        """
        scope = _SCOPE_HOST if network.version == 4 else 0
        attributes = netlink.attribute(_RTA_PREFSRC, source.packed) if source is not None else b""
        self._route(network, index, ROUTE_LOCAL, scope, attributes=attributes, name=f"make {network} local")

    def route_on_link(self, address: Address, index: int) -> None:
        """An address that is at the other end of a link."""
        scope = _SCOPE_LINK if address.version == 4 else 0
        self._route(ip_network(address), index, ROUTE_UNICAST, scope, name=f"reach {address}")

    def route_via(self, gateway: Address, index: int) -> None:
        """A default route by a next hop: only ever inside the workload's namespace of the wire layout."""
        everywhere = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
        attributes = netlink.attribute(_RTA_GATEWAY, gateway.packed)
        name = f"route by {gateway}"
        self._route(everywhere, index, ROUTE_UNICAST, 0, attributes=attributes, name=name)

    def _route(
        self,
        network: IPv4Network | IPv6Network,
        index: int,
        kind: int,
        scope: int,
        *,
        attributes: bytes = b"",
        name: str,
    ) -> None:
        family, size = _family(network), network.prefixlen
        body = struct.pack("=BBBBBBBBI", family, size, 0, 0, _TABLE_MAIN, _PROTO_BOOT, scope, kind, 0)
        if network.prefixlen:
            body += netlink.attribute(_RTA_DST, network.network_address.packed)
        body += netlink.attribute(_RTA_OIF, struct.pack("=i", index)) + attributes
        self._add(_RTM_NEWROUTE, body, name)

    def veth(self, name: str, peer: str, peer_namespace: int, ethernet: tuple[bytes, bytes]) -> None:
        """A pair of joined links: `name` here, `peer` in the namespace of that descriptor.

        `ethernet` are their addresses, in that order. Each gets a number of its own: where both are, say, the
        second of their namespace, the kernel takes a second to note that they run (linkwatch_urgent_event).
        """
        index = _CHOSEN_INDEX + int.from_bytes(os.urandom(2)) * 2
        far = (
            _link(index + 1)
            + netlink.text(_IFLA_IFNAME, peer)
            + netlink.attribute(_IFLA_ADDRESS, ethernet[1])
        )
        far += netlink.attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
        body = _link(index) + netlink.text(_IFLA_IFNAME, name) + netlink.attribute(_IFLA_ADDRESS, ethernet[0])
        body += netlink.nested(
            _IFLA_LINKINFO,
            netlink.text(_IFLA_INFO_KIND, "veth"),
            netlink.nested(_IFLA_INFO_DATA, netlink.attribute(_VETH_INFO_PEER, far)),
        )
        self._add(_RTM_NEWLINK, body, f"make the wire {name} to {peer}")

    def commit(self) -> None:
        """Send what was collected.

        Raises:
            OSError: the kernel refused a request; the text says which.
        """
        requests, names = self._requests, self._names
        self._requests, self._names = [], []
        netlink.transact(self._socket, requests, names)

    def links(self) -> tuple[Link, ...]:
        """All links here; a module that is loaded may have put some that are down into every namespace."""
        return tuple(_read_link(entry) for entry in self._list(_RTM_GETLINK, _link(0)))

    def await_running(self, index: int) -> None:
        """Wait until a link that is up carries packets: the kernel sees to that after it acknowledged it.

        It says so a moment before the link has a queue, and what is sent in between is lost; but it does both
        under one lock (net/core/link_watch.c), so a change that waits for that lock ends the moment.
        """
        with netlink.open_socket(netlink.NETLINK_ROUTE) as news:
            news.bind((0, _RTMGRP_LINK))
            while not any(link.index == index and link.running for link in self.links()):
                news.recv(_NEWS_BYTES)
        self.link_up(index)
        self.commit()

    def _list(self, kind: int, body: bytes) -> Iterator[bytes]:
        return netlink.dump(self._socket, kind, body)

    def routes(self) -> tuple[Route, ...]:
        """All routes here, of both families and all tables."""
        found = []
        for family in (_AF_INET, _AF_INET6):
            header = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
            for entry in self._list(_RTM_GETROUTE, header):
                values = dict(netlink.attributes(entry[12:]))
                link = struct.unpack("=i", values[_RTA_OIF])[0] if _RTA_OIF in values else 0
                found.append(Route(kind=entry[7], link=link, gateway=_RTA_GATEWAY in values))
        return tuple(found)


def _read_link(entry: bytes) -> Link:
    index, flags = struct.unpack_from("=4xiI", entry)
    state = dict(netlink.attributes(entry[_IFINFOMSG_BYTES:])).get(_IFLA_OPERSTATE)
    return Link(index=index, up=bool(flags & _IFF_UP), running=state == _IF_OPER_UP)


def own_addresses(candidates: Iterable[Address]) -> frozenset[Address]:
    """Those addresses that the kernel would deliver to this machine itself, asked of its routing now.

    An address that has no route at all counts as not own: dialling it fails by itself.
    """
    own = set()
    with netlink.open_socket(netlink.NETLINK_ROUTE) as sock:
        for address in candidates:
            body = struct.pack("=BBBBBBBBI", _family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
            body += netlink.attribute(_RTA_DST, address.packed)
            try:
                answer = netlink.ask(sock, _RTM_GETROUTE, body)
            except OSError:
                continue
            if answer[7] == ROUTE_LOCAL:
                own.add(address)
    return frozenset(own)
