"""Which sockets a workload can open: to what else than the door a system call could lead (ATTACKS 38, 40)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.escape.confinement import Confined

pytestmark = pytest.mark.escape

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
FAMILIES = range(46)
KINDS = {"stream": 1, "dgram": 2, "raw": 3, "rdm": 4, "seqpacket": 5, "dccp": 6, "packet": 10}
# UNIX sockets of the raw kind are datagram sockets by another name; routing sockets list links and addresses.
OPENED = {(UNIX, "stream"), (UNIX, "dgram"), (UNIX, "raw"), (UNIX, "seqpacket")}
OPENED |= {(family, kind) for family in (INET, INET6) for kind in ("stream", "dgram")}
OPENED |= {(NETLINK, "dgram"), (NETLINK, "raw")}
CLOEXEC, HIGH = 0o2000000, 1 << 40


@pytest.fixture(scope="module")
def opened(confined: Confined) -> dict[tuple[int, str], str]:
    """What comes of opening a socket of every family and kind."""
    wanted = [(family, kind) for family in FAMILIES for kind in KINDS]
    found = confined.tries(*(("call", "socket", family, KINDS[kind], 0) for family, kind in wanted))
    return dict(zip(wanted, found, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_local_and_internet_sockets_open(
    opened: dict[tuple[int, str], str], family: int, kind: str
) -> None:
    """38, 40: of all families and kinds, packets, vsock and raw IP too, the few that the door knows open."""
    found = opened[family, kind]
    assert (found == "ok") == ((family, kind) in OPENED), found


@pytest.mark.parametrize("family", FAMILIES)
def test_what_opens_is_not_widened_by_flags_and_other_bits(confined: Confined, family: int) -> None:
    """38, 40: flags in the kind, or bits above what the kernel takes for an int, change no answer."""
    acts = [
        ("call", "socket", family | high, 3 | bits, 0) for high in (0, HIGH) for bits in (0, CLOEXEC, HIGH)
    ]
    found = set(confined.tries(*acts))
    assert found == {"ok"} if family in {UNIX, NETLINK} else "ok" not in found


PROTOCOLS = {
    "icmp": (INET, 3, 1), "icmpv6": (INET6, 3, 58), "igmp": (INET, 3, 2), "raw": (INET, 3, 255),
    "raw6": (INET6, 3, 255), "gre": (INET, 3, 47), "ipip": (INET, 3, 4), "esp": (INET, 3, 50),
    "ospf": (INET, 3, 89), "packet as inet": (INET, 10, 0x300), "sctp": (INET, 1, 132),
    "sctp6": (INET6, 1, 132), "sctp messages": (INET, 5, 132), "mptcp": (INET, 1, 262),
    "mptcp6": (INET6, 1, 262), "udplite": (INET, 2, 136), "dccp": (INET, 6, 33), "l2tp": (INET, 2, 115),
    "smc": (43, 1, 0), "vsock stream": (40, 1, 0), "vsock dgram": (40, 2, 0), "packet all": (17, 3, 0x300),
    "packet dgram": (17, 2, 0x300), "xdp": (44, 3, 0), "alg": (38, 5, 0), "can": (29, 3, 1),
    "rds": (21, 5, 0), "tipc": (30, 1, 0), "kcm": (41, 2, 0), "key": (15, 3, 2), "bluetooth": (31, 3, 1),
    "ping": (INET, 2, 1), "ping6": (INET6, 2, 58), "netfilter": (NETLINK, 3, 12), "audit": (NETLINK, 3, 9),
    "generic netlink": (NETLINK, 3, 16), "uevent": (NETLINK, 3, 15), "sock diag": (NETLINK, 3, 4),
    "connector": (NETLINK, 3, 11), "xfrm": (NETLINK, 3, 6), "crypto": (NETLINK, 3, 21),
    "scsi transport": (NETLINK, 3, 18), "selinux": (NETLINK, 3, 7), "iscsi": (NETLINK, 3, 8),
    "rdma": (NETLINK, 3, 20),
}  # fmt: skip
REFUSALS = frozenset({"EPERM", "EACCES", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_other_protocol_opens(confined: Confined, protocol: str) -> None:
    """38, 40: raw IP, ICMP, SCTP, MPTCP and the like, and the kernel's own channels but the routing one."""
    confined.refused("call", "socket", *PROTOCOLS[protocol], by=REFUSALS)


@pytest.mark.parametrize(
    "spoken", [(INET, 1, 6), (INET, 2, 17), (INET6, 1, 6), (INET6, 2, 17), (NETLINK, 3, 0)]
)
def test_ordinary_sockets_open_by_their_protocol_too(confined: Confined, spoken: tuple[int, ...]) -> None:
    """38: TCP and UDP of both families, said in full, and the reading of links and addresses."""
    confined.works("call", "socket", *spoken)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != UNIX])
def test_no_pair_of_sockets_but_a_local_one(confined: Confined, family: int) -> None:
    """40: socketpair(2) makes UNIX pairs only."""
    confined.refused("call", "socketpair", family, 1, 0, " " * 8, by=REFUSALS | {"EOPNOTSUPP"})
    confined.works("call", "socketpair", UNIX, 1, 0, " " * 8)


OPTIONS = {
    "mark": (socket.SOL_SOCKET, 36, "01000000", INET),
    "mark of the gateway": (socket.SOL_SOCKET, 36, "ffffffff", INET),
    "forced buffer": (socket.SOL_SOCKET, 33, "00000010", INET),
    "transparent": (socket.SOL_IP, 19, "01000000", INET),
    "transparent6": (socket.IPPROTO_IPV6, 75, "01000000", INET6),
    "rules": (socket.SOL_IP, 64, "00" * 96, INET),
    "rules6": (socket.IPPROTO_IPV6, 64, "00" * 96, INET6),
    "ipsec policy": (socket.SOL_IP, 16, "00" * 64, INET),
    "hop options": (socket.IPPROTO_IPV6, 54, "0000000000000000", INET6),
}
_NOT_OPTIONS = frozenset({"EPERM", "EACCES", "ENOPROTOOPT", "EOPNOTSUPP"})


@pytest.mark.parametrize("name", OPTIONS)
def test_no_socket_is_steered_otherwise(confined: Confined, name: str) -> None:
    """38: marks, transparent sockets, packet rules: what the gateway steers by, no workload may set."""
    confined.refused("option", *OPTIONS[name], by=_NOT_OPTIONS)
    confined.works("option", socket.SOL_SOCKET, int(socket.SO_REUSEADDR), "01000000", INET)
