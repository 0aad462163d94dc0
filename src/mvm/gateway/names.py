"""Which address stands for which granted name inside one sandbox.

Owns the two pools. A name keeps its address for the life of the sandbox and an address never
passes to another name, so a connection names its grant whatever it speaks. Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from mvm.terms import PORTAL

if TYPE_CHECKING:
    from mvm.terms import HostName

    Pair = tuple[IPv4Address, IPv6Address]

_RESOLVER, _WORKLOAD, _PORTAL, _FIRST = 1, 2, 3, 256
_MOST_NAMES = 1 << 16
_MAPPED = "::ffff:"


class Pools(NamedTuple):
    """The networks that addresses are given out from; both are local inside the door and lead nowhere."""

    v4: IPv4Network
    v6: IPv6Network

    def pair(self, offset: int) -> Pair:
        """The addresses at an offset."""
        return self.v4.network_address + offset, self.v6.network_address + offset

    @property
    def resolver(self) -> Pair:
        """The name server's addresses inside."""
        return self.pair(_RESOLVER)

    @property
    def workload(self) -> Pair:
        """The workload's own addresses inside."""
        return self.pair(_WORKLOAD)


POOLS = Pools(IPv4Network("198.18.0.0/15"), IPv6Network("100::/64"))
"""The benchmarking network (RFC 2544) and the discard prefix (RFC 6666): routed nowhere."""


class Names:
    """The addresses given out in one sandbox.

    Args:
        pools: where they come from.
    """

    def __init__(self, pools: Pools = POOLS) -> None:
        self.pools = pools
        self._base4, self._base6 = int(pools.v4.network_address), int(pools.v6.network_address)
        self._most = min(_MOST_NAMES, pools.v4.num_addresses - _FIRST - 1)
        self._hosts: list[HostName] = []
        self._offsets: dict[HostName, int] = {PORTAL: _PORTAL}

    def pair(self, host: HostName) -> Pair | None:
        """The addresses that stand for a name, given out now if need be; None when the pool is used up."""
        offset = self._offsets.get(host)
        if offset is None:
            if len(self._hosts) >= self._most:
                return None
            offset = self._offsets[host] = _FIRST + len(self._hosts)
            self._hosts.append(host)
        return self.pools.pair(offset)

    @property
    def given(self) -> tuple[HostName, ...]:
        """The names that addresses were given out for, besides the portal."""
        return tuple(self._hosts)

    def host(self, address: str) -> HostName | None:
        """The name that an address stands for; IPv4 may be written mapped, as dual-stack sockets do."""
        text = address.removeprefix(_MAPPED)
        try:
            offset = int(IPv6Address(text)) - self._base6 if ":" in text else _number(text) - self._base4
        except ValueError:
            return None
        if offset == _PORTAL:
            return PORTAL
        return self._hosts[offset - _FIRST] if 0 <= offset - _FIRST < len(self._hosts) else None


def _number(quad: str) -> int:
    """An IPv4 address as the kernel writes it, as a number; `ipaddress` takes five times as long."""
    a, b, c, d = quad.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)
