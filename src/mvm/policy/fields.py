"""What each key of a grant may hold, whichever way it was written.

Owns the reading of a grant's fields, so that what a flag refuses a file refuses, and the words for what a
document holds instead. Must never convert between types: a port in quotes is a mistake, and is said to be.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from mvm.errors import PolicyRefused
from mvm.policy.hosts import parse_host, shown
from mvm.policy.model import Grant
from mvm.policy.ports import port_of_number
from mvm.policy.quantities import bytes_of, format_duration, parse_duration, parse_size
from mvm.terms import Protocol, Sends, Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mvm.errors import Finding
    from mvm.policy.hosts import Place
    from mvm.terms import Bytes, Host, Seconds

W = TypeVar("W", bound=StrEnum)

DEEPEST = 8
_TLS_PORT = 443


def default_tls(port: int, protocol: Protocol) -> Tls:
    """Say what a port may speak where its grant doesn't: `require` on tcp/443, `auto` elsewhere."""
    return Tls.REQUIRE if port == _TLS_PORT and protocol is Protocol.TCP else Tls.AUTO


def unknown_keys(obj: Mapping[str, object], known: tuple[str, ...], place: Place) -> list[Finding]:
    """Give a finding for every key of an object that is not among the known ones."""
    return [
        place.at(key).finding("unknown-key", f"{shown(key)} is no key here", did_you_mean(key, known))
        for key in obj
        if key not in known
    ]


def did_you_mean(key: str, known: tuple[str, ...]) -> str:
    """Give a hint for a key that is not known: the nearest known one, or all of them."""
    from difflib import get_close_matches

    close = get_close_matches(key[:40], known, n=1)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"the keys are {', '.join(known)}"


def read_fields(
    fields: Mapping[str, object], at: Callable[[str], Place], source: str, findings: list[Finding]
) -> Grant | None:
    """Make a grant of its fields.

    Args:
        fields: the values by key of a document; `host` and `port` may be missing, which is said elsewhere.
        at: gives the place of a key, for findings.
        source: kept with the grant.
        findings: takes every finding.

    Returns:
        The grant, or None where there are findings, those that were there before included.
    """
    read: dict[str, Any] = {}
    for key, value in fields.items():
        try:
            read["depth" if key == "subdomains" else key] = _READERS[key](value, at(key))
        except PolicyRefused as refusal:
            findings.extend(refusal.findings)
    host, depth, protocol = read.get("host"), read.get("depth"), read.setdefault("protocol", Protocol.TCP)
    tls = read.setdefault("tls", default_tls(read.get("port", 0), protocol))
    if protocol is Protocol.UDP and tls is not Tls.AUTO:
        hint = "leave `tls` out: what a UDP port speaks is not looked at"
        findings.append(at("tls").finding("tls-on-udp", f"`tls` is {tls} for a UDP port", hint))
    if depth is not None and host is not None:
        findings += _findings_of_depth(host, at("subdomains"))
    if findings or not {"host", "port"} <= read.keys():
        return None
    return Grant(**read, source=source)


def _findings_of_depth(host: Host, place: Place) -> list[Finding]:
    from mvm.policy.suffixes import is_public_suffix

    if not isinstance(host, str):
        return [place.finding("subdomains-of-address", f"{host} has no subdomains", "leave `subdomains` out")]
    if is_public_suffix(host):
        message = f"names below {host} belong to different people"
        return [place.finding("public-suffix", message, "name the domain that you mean below it")]
    return []


def kind_of(value: object) -> str:
    """Name the JSON type of a value, for messages."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        (int, "a number"),
        (float, "a number"),
        (str, "a string"),
        (dict, "an object"),
        ((list, tuple), "a list"),
    )
    return next(
        (name for kind, name in kinds if isinstance(value, kind)), "null" if value is None else "a date"
    )


def string(value: object, place: Place, what: str) -> str:
    """Take a value for a string.

    Args:
        value: what a document has there.
        place: where, for findings.
        what: what it should be, for the message.

    Raises:
        PolicyRefused: it is of another type.
    """
    if not isinstance(value, str):
        raise place.refused("wrong-type", f"{what} is a string, not {kind_of(value)}", "put it in quotes")
    return value


def _host(value: object, place: Place) -> Host | None:
    return parse_host(string(value, place, "a host"), path=place.path, source=place.source)


def read_port(value: object, place: Place) -> int:
    """Take a value for a port.

    Raises:
        PolicyRefused: it is no whole number, or not from 1 to 65535.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        hint = "write the number without quotes, like 443; a range needs a grant for each port"
        raise place.refused("wrong-type", f"a port is a whole number, not {kind_of(value)}", hint)
    return port_of_number(value, place)


def word(kind: type[W], value: object, place: Place, code: str) -> W:
    """Take a value for one of an enumeration's words.

    Args:
        kind: the enumeration.
        value: what a document has there.
        place: where, for findings.
        code: of the finding where it is another word.

    Raises:
        PolicyRefused: it is no string, or none of the words.
    """
    text = string(value, place, "it")
    try:
        return kind(text)
    except ValueError:
        words = ", ".join(kind)
        raise place.refused(code, f"{shown(text)} is none of {words}", f"write one of {words}") from None


def _protocol(value: object, place: Place) -> Protocol:
    return word(Protocol, value, place, "unknown-protocol")


def _tls(value: object, place: Place) -> Tls:
    return word(Tls, value, place, "unknown-tls")


def _sends(value: object, place: Place) -> Sends | None:
    return word(Sends, value, place, "unknown-sends")


def _private(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.refused(
            "wrong-type", f"`private` is true or false, not {kind_of(value)}", "write true, or leave it out"
        )
    return value


def read_reason(value: object, place: Place) -> str:
    """Take a value for the reason of a grant: one printable line.

    Raises:
        PolicyRefused: it is anything else.
    """
    text = string(value, place, "a reason")
    if not text.strip():
        raise place.refused("empty-reason", "the reason is empty", "say why the workload needs this host")
    if not text.isprintable():
        # It is shown to whoever reviews the grant: no terminal codes, no characters that turn text around.
        raise place.refused(
            "bad-reason", f"{shown(text)} has characters that can't be shown", "write one plain line"
        )
    return text


def _expires(value: object, place: Place) -> Seconds | None:
    text = string(value, place, "a length of time")
    return parse_duration(text, path=place.path, source=place.source)


def _budget(value: object, place: Place) -> Bytes | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return bytes_of(value, path=place.path, source=place.source)
    return parse_size(string(value, place, "a budget"), path=place.path, source=place.source)


def _downloads(value: object, place: Place) -> str | None:
    text = string(value, place, "`downloads`")
    if text in {"none", "discard"}:
        return text
    word, colon, duration = text.partition(":")
    if word == "retain" and colon:
        return f"retain:{format_duration(parse_duration(duration, path=place.path, source=place.source))}"
    hint = "write none, discard or retain:DURATION (retain:7d)"
    raise place.refused("bad-downloads", f"{shown(text)} says nothing of what becomes of downloads", hint)


def _depth(value: object, place: Place) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        hint = "write how many labels below the name are meant: 1"
        raise place.refused("wrong-type", f"`subdomains` is a whole number, not {kind_of(value)}", hint)
    if not 1 <= value <= DEEPEST:
        message = f"`subdomains` is not from 1 to {DEEPEST}"
        raise place.refused("subdomains-out-of-range", message, "write 1 for names right below")
    return value


_READERS: dict[str, Callable[[object, Place], object]] = {
    "host": _host,
    "port": read_port,
    "protocol": _protocol,
    "reason": read_reason,
    "private": _private,
    "tls": _tls,
    "expires": _expires,
    "max_up": _budget,
    "max_down": _budget,
    "sends": _sends,
    "downloads": _downloads,
    "subdomains": _depth,
}

GRANT_KEYS = tuple(_READERS)
"""The keys of a grant in a document."""
