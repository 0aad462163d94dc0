"""The far end of the wire: every address of the world but the wire's own is local here.

Owns links, routes and kernel settings of the namespace "up".
"""

from __future__ import annotations

from pathlib import Path

from tests.support import addresses
from tests.support.rtnl import BLACKHOLE, LOCAL, UNREACHABLE, Rtnl

_SETTINGS = {
    # Forwarding is what makes the kernel answer for an unreachable route instead of dropping.
    "ipv4/ip_forward": "1",
    # Refusals must come at once, however many a test asks for.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
}


def wire_up() -> None:
    """Set up the link that arrived, and make every address local, silent or unreachable. Raises OSError."""
    for name, value in _SETTINGS.items():
        Path("/proc/sys/net", name).write_text(value)
    link = addresses.LINK_NAME
    with Rtnl() as rtnl:
        rtnl.link_up("lo")
        rtnl.add_address(link, addresses.GATEWAY_V4, addresses.LINK_V4.prefixlen)
        rtnl.add_address(link, addresses.GATEWAY_V6, addresses.LINK_V6.prefixlen)
        rtnl.link_up(link)
        for host in (addresses.HOST_V4, addresses.HOST_V6):
            rtnl.add_neighbour(link, host, addresses.HOST_ETHERNET)
        for prefix in addresses.everywhere_but_the_link():
            rtnl.add_route(str(prefix), kind=LOCAL, link="lo")
        for prefix in addresses.SILENT:
            rtnl.add_route(str(prefix), kind=BLACKHOLE)
        for prefix in addresses.UNREACHABLE:
            rtnl.add_route(str(prefix), kind=UNREACHABLE)
