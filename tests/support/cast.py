"""The standing cast of the fake internet: hosts that every session has.

Owns the table. A test that needs counts of its own, or another behaviour, asks `Internet.serve` for a new
host.

| name | what it is |
|---|---|
| api.example.test, other.example.test | HTTPS on 443, HTTP and WebSocket on 80 |
| cdn-a, cdn-b, cdn-c.example.test | the same, all at one address |
| v4only, v6only.example.test | the same, in one family only |
| h2.example.test | HTTPS on 443 that prefers HTTP/2 |
| ssh.example.test:22 | speaks first: `SSH-2.0-test`, then echo |
| echo.example.test | echo on 7 (TCP and UDP), TLS on 8443, discard on 9 (TCP and UDP), source on 19 (TCP) |
| bad.example.test | 1001 drip, 1002 mute, 1003 stuck, 1004 reset, 1005 reset-at-once, 1006 half-close |
| index.test, files.index.test | a package index over TLS (`upstream/index.py`) |
| refused, silent, unreachable.example.test | nothing listens; nothing answers; ICMP, heeded within 1 s |
| private, metadata, cgnat, linklocal.example.test | addresses that are not public; HTTP on 80 there |
| loopback, mapped.example.test | 127.0.0.1, ::ffff:169.254.169.254; nothing there |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.support import addresses

Transport = Literal["tcp", "tls", "udp"]

WEB_ALPN = ("http/1.1",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One service at one port; the names of services are those of `upstream/services.py`."""

    service: str
    port: int
    transport: Transport = "tcp"
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One name, its addresses, and what it serves at each of them."""

    name: str
    addresses: tuple[str, ...]
    serves: tuple[Served, ...] = ()

    @property
    def v4(self) -> str:
        """Its first IPv4 address. Raises StopIteration where it has none."""
        return next(address for address in self.addresses if ":" not in address)

    @property
    def v6(self) -> str:
        """Its first IPv6 address. Raises StopIteration where it has none."""
        return next(address for address in self.addresses if ":" in address)

    @property
    def port(self) -> int:
        """The port of its first service."""
        return self.serves[0].port


WEB = (
    Served(service="http", port=443, transport="tls", alpn=WEB_ALPN),
    Served(service="http", port=80),
)
_BAD = ("drip", "mute", "stuck", "reset", "reset-at-once", "half-close", "end-first", "reset-midway")
_PAGES = (Served(service="index", port=443, transport="tls", alpn=WEB_ALPN),)


def own_addresses(number: int) -> tuple[str, str]:
    """The IPv4 and IPv6 address of host `number` (1 to 254)."""
    return str(addresses.HOSTS_V4[number]), str(addresses.HOSTS_V6[number])


def _at(address: str, name: str, *, web: bool = True) -> Host:
    return Host(name=f"{name}.example.test", addresses=(address,), serves=WEB[1:] if web else ())


CAST = (
    Host(name="api.example.test", addresses=own_addresses(10), serves=WEB),
    Host(name="other.example.test", addresses=own_addresses(11), serves=WEB),
    Host(name="cdn-a.example.test", addresses=addresses.CDN, serves=WEB),
    Host(name="cdn-b.example.test", addresses=addresses.CDN, serves=WEB),
    Host(name="cdn-c.example.test", addresses=addresses.CDN, serves=WEB),
    Host(name="v4only.example.test", addresses=own_addresses(12)[:1], serves=WEB),
    Host(name="v6only.example.test", addresses=own_addresses(13)[1:], serves=WEB),
    Host(
        name="h2.example.test",
        addresses=own_addresses(14),
        serves=(Served(service="http", port=443, transport="tls", alpn=("h2", "http/1.1")),),
    ),
    Host(name="ssh.example.test", addresses=own_addresses(15), serves=(Served(service="greeting", port=22),)),
    Host(
        name="echo.example.test",
        addresses=own_addresses(16),
        serves=(
            Served(service="echo", port=7),
            Served(service="echo", port=7, transport="udp"),
            Served(service="echo", port=8443, transport="tls"),
            Served(service="discard", port=9),
            Served(service="discard", port=9, transport="udp"),
            Served(service="source", port=19),
        ),
    ),
    Host(
        name="bad.example.test",
        addresses=own_addresses(17),
        serves=tuple(Served(service=name, port=1001 + at) for at, name in enumerate(_BAD)),
    ),
    Host(name="index.test", addresses=own_addresses(18), serves=_PAGES),
    Host(name="files.index.test", addresses=own_addresses(19), serves=_PAGES),
    Host(name="refused.example.test", addresses=own_addresses(20)),
    Host(name="silent.example.test", addresses=tuple(str(net[1]) for net in addresses.SILENT)),
    Host(name="unreachable.example.test", addresses=tuple(str(net[1]) for net in addresses.UNREACHABLE)),
    _at("10.1.2.3", "private"),
    _at("127.0.0.1", "loopback", web=False),
    _at("169.254.169.254", "metadata"),
    _at("::ffff:169.254.169.254", "mapped", web=False),
    _at("100.64.0.7", "cgnat"),
    _at("169.254.7.7", "linklocal"),
)
