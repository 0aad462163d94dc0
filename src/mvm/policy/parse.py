"""From the words of a command line or a document to values of `policy.model`, once, at the door.

Owns the list of readers that the rest of the program uses, and the reading of DNS choices; hosts, grants,
ports and quantities have modules of their own. Must never choose what is right for the sum of grants
(`policy.validate` does), nor accept a word it does not know. Every reader raises `PolicyRefused` and
nothing else, whatever the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.policy.fields import default_tls
from mvm.policy.grants import format_grant, grant_from_json, grant_to_json, parse_grant
from mvm.policy.hosts import Place, parse_host, refuse_urls, shown
from mvm.policy.model import Dns
from mvm.policy.ports import format_forward, parse_forward, port_of_text
from mvm.policy.quantities import format_duration, format_size, parse_duration, parse_size
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from mvm.terms import Address, HostName

__all__ = [
    "default_tls",
    "format_dns",
    "format_duration",
    "format_forward",
    "format_grant",
    "format_resolver",
    "format_size",
    "grant_from_json",
    "grant_to_json",
    "parse_dns",
    "parse_dns_static",
    "parse_duration",
    "parse_forward",
    "parse_grant",
    "parse_host",
    "parse_resolver",
    "parse_size",
    "static_answer",
]

_DNS_PORT = 53
_DNS_HINT = "write none, system or resolver=IP[:PORT], like resolver=192.0.2.53"
_STATIC_HINT = "write NAME=IP, like db.example.com=192.0.2.7"


def parse_dns(text: str, *, path: str = "--dns", source: str = "") -> Dns:
    """Read who resolves granted names.

    Args:
        text: `none`, `system` or `resolver=IP[:PORT]` (IPv6 with a port in brackets; port 53 by default).
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        The DNS policy, without fixed answers.

    Raises:
        PolicyRefused: it is anything else.
    """
    if text in {DnsMode.NONE, DnsMode.SYSTEM}:
        return Dns(mode=DnsMode(text))
    word, equals, server = text.partition("=")
    if word == DnsMode.RESOLVER and equals:
        return Dns(mode=DnsMode.RESOLVER, resolver=parse_resolver(server, path=path, source=source))
    raise Place(path, source).refused("bad-dns", f"{shown(text)} is no DNS policy", _DNS_HINT)


def parse_resolver(text: str, *, path: str, source: str = "") -> tuple[Address, int]:
    """Read the address and port of a name server.

    Args:
        text: `IP[:PORT]`; IPv6 in brackets where a port follows.
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Raises:
        PolicyRefused: it is none; a name server can't be named, for nothing would resolve its name.
    """
    place = Place(path, source)
    refuse_urls(text, place)
    literal, port = text, ""
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in literal or rest[:1] not in {"", ":"}:
            raise place.refused("bad-dns", f"{shown(text)} is no address of a name server", _DNS_HINT)
        port = rest
    elif text.count(":") == 1:
        literal, colon, number = text.partition(":")
        port = colon + number
    host = parse_host(literal, path=path, source=source)
    if isinstance(host, str):
        message = f"{shown(literal)} is a name: nothing would resolve it"
        raise place.refused("resolver-name", message, "write the name server's address")
    return host, port_of_text(port[1:], place) if port else _DNS_PORT


def format_dns(dns: Dns) -> str:
    """Write who resolves so that `parse_dns` gives it back; fixed answers are not part of it."""
    if dns.resolver is None:
        return str(dns.mode)
    return f"resolver={format_resolver(dns.resolver)}"


def format_resolver(resolver: tuple[Address, int]) -> str:
    """Write a name server so that `parse_resolver` gives it back: `192.0.2.53:53`."""
    address, port = resolver
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def parse_dns_static(text: str, *, path: str = "--dns-static", source: str = "") -> tuple[HostName, Address]:
    """Read one fixed answer.

    Args:
        text: `NAME=IP`, IPv6 without brackets.
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        The name and the address it has.

    Raises:
        PolicyRefused: it is anything else.
    """
    name, equals, address = text.partition("=")
    if not equals:
        raise Place(path, source).refused("bad-dns-static", f"{shown(text)} is no fixed answer", _STATIC_HINT)
    return static_answer(name, address, path=path, source=source)


def static_answer(name: str, address: str, *, path: str, source: str = "") -> tuple[HostName, Address]:
    """Read the two halves of a fixed answer.

    Raises:
        PolicyRefused: the first is no host name, or the second no address.
    """
    place = Place(path, source)
    host, to = (parse_host(part, path=path, source=source) for part in (name, address))
    if not isinstance(host, str):
        raise place.refused("bad-dns-static", f"{shown(name)} is an address already", _STATIC_HINT)
    if isinstance(to, str):
        raise place.refused("bad-dns-static", f"{shown(address)} is no address", _STATIC_HINT)
    return host, to
