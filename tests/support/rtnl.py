"""Links, addresses and routes over rtnetlink(7), for building the world that tests run in.

Owns the handful of requests the fake internet needs. Must never import the product's netlink: a world built
by the code under test would prove nothing. It decides nothing.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

_NLM_F_REQUEST_ACK = 0x1 | 0x4
_NLM_F_NEW = 0x400 | 0x200
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_NEWNEIGH = 16, 20, 24, 28
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_PID = 1, 3, 18, 19
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RTPROT_STATIC = 4
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_SCOPE_UNIVERSE, _SCOPE_HOST = 0, 254
_IFF_UP = 0x1

UNICAST, LOCAL, BLACKHOLE, UNREACHABLE = 1, 2, 6, 7
"""Kinds of route (rtnetlink(7), rtm_type)."""


def _attribute(kind: int, value: bytes) -> bytes:
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size & 3)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _family(address: IPv4Address | IPv6Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


class Rtnl:
    """A conversation with the kernel about the network namespace of the calling thread."""

    def __init__(self) -> None:
        """Open the socket; it stays with the namespace it was opened in. Raises OSError."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def link_up(self, name: str) -> None:
        """Set the link `name` up. Raises OSError."""
        body = struct.pack("=BxHiII", 0, 0, socket.if_nametoindex(name), _IFF_UP, _IFF_UP)
        self._ask(_RTM_NEWLINK, 0, body, f"link {name} up")

    def add_veth(self, name: str, *, peer_pid: int, ethernet: tuple[bytes, bytes]) -> None:
        """Make a veth(4) pair, both called `name`: one end here, the other where the process `peer_pid` is.

        `ethernet` holds their hardware addresses, six bytes each. Raises OSError.
        """
        header = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
        near, far = (header + _text(_IFLA_IFNAME, name) + _attribute(_IFLA_ADDRESS, own) for own in ethernet)
        far += _attribute(_IFLA_NET_NS_PID, struct.pack("=I", peer_pid))
        info = _text(_IFLA_INFO_KIND, "veth") + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, far))
        self._ask(_RTM_NEWLINK, _NLM_F_NEW, near + _attribute(_IFLA_LINKINFO, info), f"veth {name}")

    def add_address(self, link: str, address: str, prefix: int) -> None:
        """Give `link` an address and prefix length in bits, without duplicate detection. Raises OSError."""
        parsed = ip_address(address)
        index = socket.if_nametoindex(link)
        body = struct.pack("=BBBBI", _family(parsed), prefix, _IFA_F_NODAD, _SCOPE_UNIVERSE, index)
        body += _attribute(_IFA_LOCAL, parsed.packed) + _attribute(_IFA_ADDRESS, parsed.packed)
        self._ask(_RTM_NEWADDR, _NLM_F_NEW, body, f"address {address}/{prefix} on {link}")

    def add_neighbour(self, link: str, address: str, ethernet: bytes) -> None:
        """Let `link` know for good which hardware address (six bytes) has `address`. Raises OSError."""
        parsed = ip_address(address)
        index = socket.if_nametoindex(link)
        body = struct.pack("=BxxxiHBB", _family(parsed), index, _NUD_PERMANENT, 0, 0)
        body += _attribute(_NDA_DST, parsed.packed) + _attribute(_NDA_LLADDR, ethernet)
        self._ask(_RTM_NEWNEIGH, _NLM_F_NEW, body, f"neighbour {address} on {link}")

    def add_route(
        self, prefix: str, *, kind: int = UNICAST, via: str | None = None, link: str | None = None
    ) -> None:
        """Add a route for `prefix`; all kinds but UNICAST go to the local table. Raises OSError."""
        net = ip_network(prefix)
        table = _RT_TABLE_MAIN if kind == UNICAST else _RT_TABLE_LOCAL
        scope = _SCOPE_HOST if kind == LOCAL else _SCOPE_UNIVERSE
        family = _family(net.network_address)
        body = struct.pack("=BBBBBBBBI", family, net.prefixlen, 0, 0, table, _RTPROT_STATIC, scope, kind, 0)
        body += _attribute(_RTA_DST, net.network_address.packed)
        if via is not None:
            body += _attribute(_RTA_GATEWAY, ip_address(via).packed)
        if link is not None:
            body += _attribute(_RTA_OIF, struct.pack("=I", socket.if_nametoindex(link)))
        self._ask(_RTM_NEWROUTE, _NLM_F_NEW, body, f"route {prefix}")

    def _ask(self, kind: int, flags: int, body: bytes, tried: str) -> None:
        self._sequence += 1
        flags |= _NLM_F_REQUEST_ACK
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)
        answer = self._socket.recv(1 << 16)
        _, answered, _, sequence, _ = struct.unpack_from("=IHHII", answer)
        if answered != _NLMSG_ERROR or sequence != self._sequence:
            raise OSError(f"{tried}: the kernel sent an answer to something else")
        (errno,) = struct.unpack_from("=i", answer, 16)
        if errno:
            raise OSError(-errno, f"{tried}: {os.strerror(-errno)}")
