"""The map of the fake internet: which addresses and names mean what.

Owns constants only. The addresses look public, because mvm refuses private and documentation ranges;
nothing is ever sent to their real owners, since the namespace has no way out.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

LINK_NAME = "uplink"
"""The name of the wire at both ends."""

HOST_V4 = "93.184.214.2"
HOST_V6 = "2606:2800:214::2"
GATEWAY_V4 = "93.184.214.1"
GATEWAY_V6 = "2606:2800:214::1"
HOST_ETHERNET, GATEWAY_ETHERNET = b"\x02mvm\x00\x02", b"\x02mvm\x00\x01"
LINK_V4 = IPv4Network("93.184.214.0/24")
LINK_V6 = IPv6Network("2606:2800:214::/64")

NAME_SERVERS = ("93.184.215.53", "2606:2800:220:1::53")
"""Where the name server answers, over UDP and TCP; the first stands in /etc/resolv.conf."""
OTHER_NAME_SERVERS = ("93.184.215.54", "2606:2800:220:1::54")
"""The same zones at another address, for tests in which a particular resolver must be the one asked."""
NAME_SERVER_PORTS = (53, 5353)

HOSTS_V4 = IPv4Network("93.184.215.0/24")
"""Hosts with an address of their own: .1 to .99 by the cast, .100 and up by tests."""
HOSTS_V6 = IPv6Network("2606:2800:220:1::/64")
CDN = ("151.101.1.1", "2a04:4e42::1")
"""One address that several names share."""

SILENT = (IPv4Network("93.184.216.0/24"), IPv6Network("2606:2800:216::/64"))
"""Whatever is sent there vanishes: connections time out."""
UNREACHABLE = (IPv4Network("93.184.217.0/24"), IPv6Network("2606:2800:217::/64"))
"""Whatever is sent there is answered by ICMP: host (IPv4) or network (IPv6) unreachable."""

MARK_ADDRESSES = (GATEWAY_V4, GATEWAY_V6)
MARK_PORT = 9
"""Where tests send a datagram to make sure that the sink has seen all that was sent before."""


def everywhere_but_the_link() -> list[IPv4Network | IPv6Network]:
    """The prefixes that together hold every address except those of the wire itself."""
    v4 = IPv4Network("0.0.0.0/0").address_exclude(LINK_V4)
    v6 = IPv6Network("::/0").address_exclude(LINK_V6)
    return [*v4, *v6]
