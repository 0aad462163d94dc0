"""Links, addresses and routes of the current network namespace (rtnetlink(7)).

One function per request; decides nothing. IPv4 and IPv6 by the type of the address.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

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
_IFF_UP = 1
_IFA_F_NODAD = 0x02
_AF_INET, _AF_INET6 = 2, 10
_TABLE_MAIN = 254
_PROTO_BOOT = 3
_SCOPE_HOST = 254
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
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
    """One link as the kernel lists it."""

    index: int
    up: bool


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

    def address(self, index: int, address: Address, peer: Address | None = None) -> None:
        """Give a link an address, usable at once (no duplicate address detection).

        No network comes with it, only a route to `peer`, the address at the link's other end.
        """
        flags = _IFA_F_NODAD if address.version == 6 else 0
        body = struct.pack("=BBBBi", _family(address), address.max_prefixlen, flags, 0, index)
        body += netlink.attribute(_IFA_LOCAL, address.packed)
        body += netlink.attribute(_IFA_ADDRESS, (peer or address).packed)
        self._add(_RTM_NEWADDR, body, f"add address {address}")

    def route_local(self, network: IPv4Network | IPv6Network, index: int, source: Address | None) -> None:
        """Make every address of `network` local (AnyIP), with a preferred source or none.

        In table main: in table local, IPv6 would swallow the replies to a workload behind a wire.
        """
        scope = _SCOPE_HOST if network.version == 4 else 0
        body = struct.pack(
            "=BBBBBBBBI",
            _family(network),
            network.prefixlen,
            0,
            0,
            _TABLE_MAIN,
            _PROTO_BOOT,
            scope,
            ROUTE_LOCAL,
            0,
        )
        if network.prefixlen:
            body += netlink.attribute(_RTA_DST, network.network_address.packed)
        body += netlink.attribute(_RTA_OIF, struct.pack("=i", index))
        if source is not None:
            body += netlink.attribute(_RTA_PREFSRC, source.packed)
        self._add(_RTM_NEWROUTE, body, f"make {network} local")

    def route_via(self, gateway: Address, index: int) -> None:
        """A default route by a next hop: only ever inside the workload's namespace of the wire layout."""
        body = struct.pack(
            "=BBBBBBBBI", _family(gateway), 0, 0, 0, _TABLE_MAIN, _PROTO_BOOT, 0, ROUTE_UNICAST, 0
        )
        body += netlink.attribute(_RTA_GATEWAY, gateway.packed)
        body += netlink.attribute(_RTA_OIF, struct.pack("=i", index))
        self._add(_RTM_NEWROUTE, body, f"route by {gateway}")

    def veth(self, name: str, peer: str, peer_namespace: int) -> None:
        """A pair of joined links: `name` here, `peer` in the namespace of that descriptor."""
        far = _link(0) + netlink.text(_IFLA_IFNAME, peer)
        far += netlink.attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_namespace))
        body = _link(0) + netlink.text(_IFLA_IFNAME, name)
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
        found = (struct.unpack_from("=BxHiI", entry) for entry in self._list(_RTM_GETLINK, _link(0)))
        return tuple(Link(index=index, up=bool(flags & _IFF_UP)) for _family, _kind, index, flags in found)

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
