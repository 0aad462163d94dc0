"""Grants as text (`HOST:PORT[/udp][,key[=value]]...`) and as JSON objects, read and written back.

Owns the keys of a grant: both spellings are read by the same code, so what a flag refuses a file refuses.
Must never judge grants against each other (`policy.validate` does). A grant read from text is one host, one
port and one protocol whatever is added to the text.

    GRANT = HOST ":" PORT [ "/tcp" | "/udp" ] *( "," KEY [ "=" VALUE ] )
    HOST  = name | dotted quad | "[" IPv6 "]"
    VALUE = characters without "," and quotes | quoted characters, a backslash before quotes and backslashes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import PolicyRefused
from mvm.policy.fields import GRANT_KEYS, default_tls, did_you_mean, kind_of, read_fields, unknown_keys
from mvm.policy.hosts import Place, parse_host, refuse_urls, shown
from mvm.policy.ports import port_of_text
from mvm.policy.quantities import format_duration, format_size
from mvm.terms import Protocol, Tls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.errors import Finding
    from mvm.policy.model import Grant

_RECORDED_LETTERS = 500
_FLAG_KEYS = ("reason", "private", "tls", "expires", "max-up", "max-down", "sends", "downloads")


def parse_grant(text: str, *, source: str = "--network-allow") -> Grant:
    """Read a grant from a command line.

    Args:
        text: `HOST:PORT[/tcp|/udp]` and keys, as at the head of this file.
        source: the flag, for findings and for the grant.

    Returns:
        One host, port and protocol; never subdomains.

    Raises:
        PolicyRefused: with every finding about the text.
    """
    place = Place(source)
    findings: list[Finding] = []
    of_syntax: list[Finding] = []
    fields: dict[str, object] = {}
    head, comma, rest = text.partition(",")
    try:
        _read_head(head, place, fields)
    except PolicyRefused as refusal:
        of_syntax += refusal.findings
    if comma:
        try:
            _read_items(rest, place, fields)
        except PolicyRefused as refusal:
            of_syntax += refusal.findings
    grant = read_fields(fields, lambda _: place, source, findings)
    if grant is None or of_syntax:
        raise PolicyRefused([*findings, *of_syntax])  # a host that is none says more than a missing port
    return grant


def grant_from_json(obj: object, *, path: str, source: str = "") -> Grant:
    """Read a grant from a document.

    Args:
        obj: an object with `host`, `port`, and any of `protocol reason private tls expires max_up max_down
            sends downloads subdomains`; expires as `10m`, budgets as bytes or `10MB`.
        path: its jq path, for findings.
        source: `file:line`, for findings and for the grant.

    Returns:
        The grant; `subdomains` is its `depth`.

    Raises:
        PolicyRefused: with every finding about the object.
    """
    place = Place(path, source)
    if not isinstance(obj, dict):
        hint = 'write {"host": "api.example.com", "port": 443}'
        raise place.refused("wrong-type", f"a grant is an object, not {kind_of(obj)}", hint)
    findings = unknown_keys(obj, GRANT_KEYS, place)
    fields = {key: value for key, value in obj.items() if key in GRANT_KEYS}
    for key in ("host", "port"):
        if key not in fields:
            message = f"the grant has no {key}"
            findings.append(
                place.finding(f"missing-{key}", message, f"add `{key}`: a grant is one host and port")
            )
    grant = read_fields(fields, place.at, source, findings)
    if grant is None:
        raise PolicyRefused(findings)
    return grant


def format_grant(grant: Grant) -> str:
    """Write a grant as a command line has it: `parse_grant` gives it back, but for `source`.

    A grant of subdomains gets a key that `parse_grant` refuses: only files and declarations grant those.
    """
    host = f"[{grant.host}]" if ":" in str(grant.host) else str(grant.host)
    words = [f"{host}:{grant.port}{'/udp' if grant.protocol is Protocol.UDP else ''}"]
    if grant.depth is not None:
        words.append(f"subdomains={grant.depth}")
    if grant.private:
        words.append("private")
    if grant.tls is not default_tls(grant.port, grant.protocol):
        words.append(f"tls={grant.tls}")
    if grant.expires is not None:
        words.append(f"expires={format_duration(grant.expires)}")
    if grant.max_up is not None:
        words.append(f"max-up={format_size(grant.max_up)}")
    if grant.max_down is not None:
        words.append(f"max-down={format_size(grant.max_down)}")
    if grant.sends is not None:
        words.append(f"sends={grant.sends}")
    if grant.downloads is not None:
        words.append(f"downloads={grant.downloads}")
    if grant.reason is not None:
        words.append(f"reason={_quote(grant.reason)}")
    return ",".join(words)


def grant_to_json(grant: Grant) -> dict[str, object]:
    """Give the canonical object of a grant: `grant_from_json` gives it back, but for `source`.

    Budgets are bytes, `expires` is text, and what is not stated is left out.
    """
    stated: dict[str, object] = {
        "host": str(grant.host),
        "port": grant.port,
        "protocol": str(grant.protocol),
        "tls": str(grant.tls),
        "private": grant.private,
    }
    optional = {
        "subdomains": grant.depth,
        "reason": grant.reason,
        "expires": None if grant.expires is None else format_duration(grant.expires),
        "max_up": grant.max_up,
        "max_down": grant.max_down,
        "sends": None if grant.sends is None else str(grant.sends),
        "downloads": grant.downloads,
    }
    return stated | {key: value for key, value in optional.items() if value is not None}


def grant_to_record(grant: Grant) -> dict[str, object]:
    """Give the fields by which a `grant.decided` tells of a grant; None for what it does not state."""
    return {
        "host": str(grant.host),
        "port": grant.port,
        "protocol": grant.protocol,
        "decision": "allowed",
        "source": recorded(grant.source) or None,
        "reason": None if grant.reason is None else recorded(grant.reason),
        "tls": grant.tls if grant.tls is not Tls.AUTO else None,
        "private": grant.private or None,
        "depth": grant.depth,
        "expires": grant.expires,
        "max_up": grant.max_up,
        "max_down": grant.max_down,
        "sends": grant.sends,
        "downloads": grant.downloads,
    }


def recorded(text: str) -> str:
    """Give a text as a record takes it: cut, and with `?` for what can't be printed, as a file's name may."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_RECORDED_LETTERS])


def _read_head(head: str, place: Place, fields: dict[str, object]) -> None:
    """Split `HOST:PORT/PROTOCOL`; the host is judged with the other fields."""
    if not head:
        raise place.refused("empty-grant", "the grant is empty", "write HOST:PORT, like api.example.com:443")
    refuse_urls(head, place)
    host, rest = _split_host(head, place)
    fields["host"] = host
    if rest is None:
        message = f"{shown(host)} is named without a port"
        raise place.refused("missing-port", message, "write HOST:PORT, like api.example.com:443")
    port, slash, protocol = rest.partition("/")
    if slash:
        fields["protocol"] = protocol
    fields["port"] = port_of_text(port, place)


def _split_host(head: str, place: Place) -> tuple[str, str | None]:
    if head[0] == "[":
        literal, bracket, rest = head[1:].partition("]")
        if not bracket or ":" not in literal:
            hint = "brackets go around IPv6 addresses only: [2001:db8::7]:443"
            raise place.refused("bracketed-name", f"{shown(head)} has brackets in it", hint)
        if rest.startswith("/"):
            raise place.refused("cidr", f"{shown(head)} is a block of addresses", "name each host")
        if rest and rest[0] != ":":
            hint = "write [ADDRESS]:PORT, like [2001:db8::7]:443"
            raise place.refused("bad-port", f"{shown(rest)} is no port", hint)
        return literal, rest[1:] if rest else None
    if head.count(":") > 1 and not head.partition("%")[0].lower().strip("0123456789abcdef:./"):
        parse_host(head, path=place.path, source=place.source)  # says more of a scope id or a block
        hint = "write [ADDRESS]:PORT, like [2001:db8::7]:443"
        raise place.refused("unbracketed-ipv6", f"{shown(head)} may end in a port, or not", hint)
    host, colon, port = head.partition(":")
    return host, port if colon else None


def _read_items(rest: str, place: Place, fields: dict[str, object]) -> None:
    """Take the keys of a grant."""
    for key, value in read_items(rest, place):
        if key not in _FLAG_KEYS:
            raise _unknown_flag_key(key, place)
        name = key.replace("-", "_")
        if name in fields:
            raise place.refused("duplicate-key", f"`{key}` is given twice", "give each key once")
        if key == "private":
            if value is not None:
                raise place.refused(
                    "bad-private", "`private` takes no value", "write `private`, or leave it out"
                )
            fields[name] = True
        elif value is None:
            raise place.refused("missing-value", f"`{key}` has no value", f"write {key}=VALUE")
        else:
            fields[name] = value


def read_items(rest: str, place: Place) -> Iterator[tuple[str, str | None]]:
    """Read `key,key=value,key="a, b"` as pairs; None where a key has no value.

    Raises:
        PolicyRefused: a quote stands where none can.
    """
    while True:
        word, comma, after = rest.partition(",")
        key, equals, value = word.partition("=")
        if equals and value.startswith('"'):
            value, after = _unquote(rest[len(key) + 2 :], place)
            comma, after = after[:1], after[1:]
        elif '"' in value:
            raise place.refused("bad-quoting", f"{shown(word)} has a quote in the middle", 'write key="a, b"')
        yield key, value if equals else None
        if not comma:
            return
        rest = after


def _unquote(text: str, place: Place) -> tuple[str, str]:
    """Read up to the closing quote; give the value and what comes behind it."""
    value, at = "", 0
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\" and text[at + 1 : at + 2] in {'"', "\\"}
        value += text[at]
        at += 1
    rest = text[at + 1 :]
    if at >= len(text) or (rest and rest[0] != ","):
        raise place.refused(
            "bad-quoting", "a quote is not closed before a comma or the end", 'write key="a, b"'
        )
    return value, rest


def _quote(value: str) -> str:
    if "," not in value and '"' not in value:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unknown_flag_key(key: str, place: Place) -> PolicyRefused:
    if not key:
        return place.refused("empty-key", "a comma has no key behind it", "leave the comma out")
    if key == "subdomains":
        hint = "write it in a policy file, where it can be reviewed: `subdomains = 1`"
        return place.refused("subdomains-on-flag", "a flag grants one host, never subdomains", hint)
    return place.refused("unknown-key", f"{shown(key)} is no key of a grant", did_you_mean(key, _FLAG_KEYS))
