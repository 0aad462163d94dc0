"""Which address stands for which granted name inside one sandbox.

Owns the two pools. A name keeps its address for the life of the sandbox and an address never
passes to another name, so a connection names its grant whatever it speaks. Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from mvm.terms import HostName

if TYPE_CHECKING:
    from mvm.terms import Address

PORTAL = HostName("policy.mvm.internal")
"""The name at which a workload reads its own grants and denials."""

_FIRST = 256
_MOST_NAMES = 1 << 16


class Pools(NamedTuple):
    """The networks that addresses are given out from; both are local inside the door and lead nowhere."""

    v4: IPv4Network
    v6: IPv6Network

    @property
    def resolver(self) -> tuple[IPv4Address, IPv6Address]:
        """The name server's addresses inside."""
        return self.v4.network_address + 1, self.v6.network_address + 1

    @property
    def workload(self) -> tuple[IPv4Address, IPv6Address]:
        """The workload's own addresses inside."""
        return self.v4.network_address + 2, self.v6.network_address + 2

    @property
    def portal(self) -> tuple[IPv4Address, IPv6Address]:
        """The addresses of `policy.mvm.internal`."""
        return self.v4.network_address + 3, self.v6.network_address + 3


POOLS = Pools(IPv4Network("198.18.0.0/15"), IPv6Network("100::/64"))
"""The benchmarking network (RFC 2544) and the discard prefix (RFC 6666): routed nowhere."""


class Names:
    """The addresses given out in one sandbox.

    Args:
        pools: where they come from.
    """

    def __init__(self, pools: Pools = POOLS) -> None:
        self.pools = pools
        self._pairs: dict[HostName, tuple[IPv4Address, IPv6Address]] = {PORTAL: pools.portal}
        self._hosts: dict[str, HostName] = {}
        self._remember(PORTAL, pools.portal)

    def pair(self, host: HostName) -> tuple[IPv4Address, IPv6Address] | None:
        """The addresses that stand for a name, given out now if need be; None when the pool is used up."""
        pair = self._pairs.get(host)
        if pair is None:
            offset = _FIRST + len(self._pairs)
            if len(self._pairs) >= _MOST_NAMES or offset >= self.pools.v4.num_addresses - 1:
                return None
            pair = (self.pools.v4.network_address + offset, self.pools.v6.network_address + offset)
            self._pairs[host] = pair
            self._remember(host, pair)
        return pair

    def _remember(self, host: HostName, pair: tuple[IPv4Address, IPv6Address]) -> None:
        self._hosts[f"::ffff:{pair[0]}"] = host
        self._hosts[str(pair[0])] = host
        self._hosts[str(pair[1])] = host

    def host(self, address: str) -> HostName | None:
        """The name that an address stands for; IPv4 may be written mapped, as dual-stack sockets do."""
        return self._hosts.get(address)

    def is_pooled(self, address: Address) -> bool:
        """Whether an address is from the pools, given out or not."""
        return address in (self.pools.v4 if isinstance(address, IPv4Address) else self.pools.v6)
