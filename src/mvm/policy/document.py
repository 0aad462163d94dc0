"""Policy files (`mvm.toml` and its JSON twin) and the canonical JSON of a policy.

Owns the keys of a policy document, and which of a policy's parts its digest covers: everything but where a
grant came from (`source`) and the name of the preset, whose grants are in it already. Must never open a
file, fill in a DNS policy that the document does not state, or pass over a key that it does not know.

    [network]
    mode = "bridge"                # or "none", the default, which goes with nothing else
    dns = "system"                 # or "none", "resolver=IP[:PORT]", {mode=, resolver=, static={name=[ip]}}
    preset = "none"
    allow = [{host = "api.example.com", port = 443, reason = "why"}]
    ports = ["127.0.0.1:8080:80"]  # inbound
    ttl = "30m"
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mvm.errors import PolicyRefused
from mvm.policy.fields import kind_of, string, unknown_keys, word
from mvm.policy.hosts import Place, shown
from mvm.policy.model import Dns
from mvm.policy.parse import (
    format_duration,
    format_forward,
    format_resolver,
    grant_from_json,
    grant_to_json,
    parse_dns,
    parse_duration,
    parse_forward,
    parse_resolver,
    static_answer,
)
from mvm.policy.validate import with_static
from mvm.terms import DnsMode, Preset

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Forward, Grant, Policy
    from mvm.terms import Address, HostName, Seconds

T = TypeVar("T")

SCHEMA = "mvm.policy/1"
"""What a document may name as its `schema`."""

DOCUMENT_KEYS = ("network", "schema", "$schema")
NETWORK_KEYS = ("mode", "dns", "preset", "allow", "ports", "ttl")
DNS_KEYS = ("mode", "resolver", "static")


class Mode(StrEnum):
    """Whether anything is opened at all."""

    NONE = "none"
    BRIDGE = "bridge"


class PolicyDocument(NamedTuple):
    """What a policy file says; flags and presets are still to be added to it.

    Attributes:
        path: the file, for people.
        bridged: whether its mode is `bridge`; with `none` there are no grants, preset or ports.
        dns: who resolves, or None where it does not say.
        preset: the base; its grants are not in `grants`.
        grants: in the order of the file; their `source` is `file:line`, or the file.
        forwards: inbound ports.
        ttl: seconds after which the sandbox ends, or None.
    """

    path: str
    bridged: bool
    dns: Dns | None
    preset: Preset
    grants: tuple[Grant, ...]
    forwards: tuple[Forward, ...]
    ttl: Seconds | None


def read_policy(text: str, *, path: str) -> PolicyDocument:
    """Read a policy file.

    Args:
        text: TOML or JSON; JSON where the path ends in `.json`, or begins with a brace and is no `.toml`.
        path: the file, for findings and sources.

    Returns:
        What it says, not yet judged as a whole (`policy.validate.policy_of` does that).

    Raises:
        PolicyRefused: with every finding about the document.
    """
    is_json = path.endswith(".json") or (not path.endswith(".toml") and text.lstrip()[:1] == "{")
    place = Place(".", path)
    try:
        document = _read_json(text, place) if is_json else _read_toml(text)
    except (ValueError, RecursionError) as error:
        raise _no_document(error, "JSON" if is_json else "TOML", path) from None
    return _Reader(text, path).document(document)


def read_json(text: str, *, path: str) -> object:
    """Read a JSON document, in which no key may stand twice and no number may be none.

    Args:
        text: the document.
        path: the file, for findings.

    Raises:
        PolicyRefused: it is no such document.
    """
    try:
        return _read_json(text, Place(".", path))
    except (ValueError, RecursionError) as error:
        raise _no_document(error, "JSON", path) from None


def read_dns(value: object, place: Place, findings: list[Finding]) -> Dns | None:
    """Read what a document says of DNS: a word, or an object with `mode`, `resolver` and `static`.

    Args:
        value: what stands there.
        place: where.
        findings: takes what is wrong inside of an object.

    Raises:
        PolicyRefused: it is neither.
    """
    reader = _Reader("", place.source)
    dns = reader.dns(value, place)
    findings += reader.findings
    return dns


def _no_document(error: Exception, kind: str, path: str) -> PolicyRefused:
    import re

    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    # Both readers of the standard library put the place into their message, and nowhere else alike.
    at = re.search(r"line (\d+),? column (\d+)", reason)
    place = Place(".", f"{path}:{at[1]}:{at[2]}" if at else path)
    hint = f"write the file as {kind}; `mvmctl network check --help` has an example"
    return place.refused(f"not-{kind.lower()}", f"the file is no {kind}: {reason}", hint)


def document_to_json(document: PolicyDocument) -> dict[str, object]:
    """Give what a policy file says, which `read_policy` reads back as the same; presets stay words."""
    network: dict[str, object] = {
        "mode": str(Mode.BRIDGE if document.bridged else Mode.NONE),
        "preset": str(document.preset),
        "allow": [grant_to_json(grant) for grant in document.grants],
        "ports": [format_forward(forward) for forward in document.forwards],
    }
    if document.dns is not None:
        network["dns"] = _dns_to_json(document.dns)
    if document.ttl is not None:
        network["ttl"] = format_duration(document.ttl)
    return {"schema": SCHEMA, "network": network}


def _dns_to_json(stated: Dns) -> dict[str, object]:
    dns: dict[str, object] = {"mode": str(stated.mode)}
    if stated.resolver is not None:
        dns["resolver"] = format_resolver(stated.resolver)
    if stated.static:
        dns["static"] = {name: [str(address) for address in found] for name, found in stated.static}
    return dns


def policy_to_json(policy: Policy) -> dict[str, object]:
    """Give a policy as the canonical document, which `read_policy` reads back as the same policy.

    Returns:
        An object for `canonical.encode`, with presets spelled out; equal policies give equal objects.
    """
    document = PolicyDocument(
        path="",
        bridged=bool(policy.grants or policy.forwards or policy.unrestricted),
        dns=policy.dns,
        preset=Preset.UNRESTRICTED if policy.unrestricted else Preset.NONE,
        grants=policy.grants,
        forwards=policy.forwards,
        ttl=policy.ttl,
    )
    return document_to_json(document)


def policy_digest(policy: Policy) -> str:
    """Name a policy by what it allows: `sha256:` over its canonical JSON (RFC 8785)."""
    from mvm.canonical import digest

    return digest(policy_to_json(policy))


def _read_toml(text: str) -> object:
    import tomllib

    return tomllib.loads(text)


def _read_json(text: str, place: Place) -> object:
    import json

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise place.refused(
                "duplicate-key", f"{shown(twice)} stands twice in one object", "keep one of them"
            )
        return made

    def constant(word: str) -> object:
        msg = f"{word} is no JSON number"
        raise ValueError(msg)

    return json.loads(text, object_pairs_hook=unique, parse_constant=constant)


class _Reader:
    """One document being read: what is wrong with it is collected, and raised at the end."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path
        self.findings: list[Finding] = []

    def document(self, value: object) -> PolicyDocument:
        place = Place(".", self._path)
        members = self._object(value, place, "a policy", DOCUMENT_KEYS)
        if members.get("schema", SCHEMA) != SCHEMA:
            self._found(place.at("schema"), "unknown-schema", "the schema is unknown", f'write "{SCHEMA}"')
        network = place.at("network")
        if "network" not in members and isinstance(value, dict):
            self._found(
                network, "missing-network", "there is no `network`", "add [network], with what is granted"
            )
        document = self._network(members.get("network", {}), network)
        if self.findings:
            raise PolicyRefused(self.findings)
        return document

    def _network(self, value: object, place: Place) -> PolicyDocument:
        members = self._object(value, place, "`network`", NETWORK_KEYS)
        mode = self._read(members, "mode", place, self._mode, Mode.NONE)
        preset = self._read(members, "preset", place, self._preset, Preset.NONE)
        document = PolicyDocument(
            path=self._path,
            bridged=mode is Mode.BRIDGE,
            dns=self._read(members, "dns", place, self.dns, None),
            preset=preset,
            grants=self._read(members, "allow", place, self._grants, ()),
            forwards=self._read(members, "ports", place, self._forwards, ()),
            ttl=self._read(members, "ttl", place, self._ttl, None),
        )
        if mode is Mode.NONE and (document.grants or document.forwards or document.preset is not Preset.NONE):
            message = "the mode is `none` (as it is where none is stated), yet something is opened"
            self._found(place.at("mode"), "mode-none-with-egress", message, 'write `mode = "bridge"`')
        return document

    def _mode(self, value: object, place: Place) -> Mode:
        return word(Mode, value, place, "unknown-mode")

    def _preset(self, value: object, place: Place) -> Preset:
        return word(Preset, value, place, "unknown-preset")

    def _dns_mode(self, value: object, place: Place) -> DnsMode:
        return word(DnsMode, value, place, "unknown-dns-mode")

    def _grants(self, value: object, place: Place) -> tuple[Grant, ...]:
        items = self._list(value, place, "`allow`")
        lines = lines_of_hosts(self._text, items)
        grants = []
        for number, item in enumerate(items):
            source = f"{self._path}:{lines[number]}" if number in lines else self._path
            try:
                grants.append(grant_from_json(item, path=f"{place.path}[{number}]", source=source))
            except PolicyRefused as refusal:
                self.findings += refusal.findings
        return tuple(grants)

    def _forwards(self, value: object, place: Place) -> tuple[Forward, ...]:
        forwards = []
        for number, item in enumerate(self._list(value, place, "`ports`")):
            at = place.at(number)
            try:
                forwards.append(parse_forward(string(item, at, "a port"), path=at.path, source=self._path))
            except PolicyRefused as refusal:
                self.findings += refusal.findings
        return tuple(forwards)

    def _ttl(self, value: object, place: Place) -> Seconds | None:
        return parse_duration(string(value, place, "`ttl`"), path=place.path, source=self._path)

    def dns(self, value: object, place: Place) -> Dns | None:
        if not isinstance(value, dict):
            return parse_dns(string(value, place, "`dns`"), path=place.path, source=self._path)
        members = self._object(value, place, "`dns`", DNS_KEYS)
        mode = self._read(members, "mode", place, self._dns_mode, DnsMode.NONE)
        resolver = self._read(members, "resolver", place, self._resolver, None)
        if (mode is DnsMode.RESOLVER) != ("resolver" in members):
            hint = 'write {mode = "resolver", resolver = "192.0.2.53"}, or neither'
            self._found(place, "bad-dns", "mode `resolver` and `resolver` go together", hint)
        nothing: list[tuple[HostName, Address]] = []
        answers = self._read(members, "static", place, self._static, nothing)
        return with_static(Dns(mode=mode, resolver=resolver), answers)

    def _resolver(self, value: object, place: Place) -> tuple[Address, int] | None:
        return parse_resolver(string(value, place, "`resolver`"), path=place.path, source=self._path)

    def _static(self, value: object, place: Place) -> list[tuple[HostName, Address]]:
        if not isinstance(value, dict):
            message = f"`static` is an object of names and addresses, not {kind_of(value)}"
            raise place.refused("wrong-type", message, 'write {"db.example.com" = ["192.0.2.7"]}')
        answers = []
        for name, found in value.items():
            at = place.at(name)
            for address in found if isinstance(found, list) and found else [found]:
                try:
                    literal = string(address, at, "an address")
                    answers.append(static_answer(name, literal, path=at.path, source=self._path))
                except PolicyRefused as refusal:
                    self.findings += refusal.findings
        return answers

    def _object(self, value: object, place: Place, what: str, known: tuple[str, ...]) -> dict[str, object]:
        if not isinstance(value, dict):
            self._found(
                place, "wrong-type", f"{what} is an object, not {kind_of(value)}", "write keys and values"
            )
            return {}
        self.findings += unknown_keys(value, known, place)
        return value

    def _list(self, value: object, place: Place, what: str) -> Sequence[object]:
        if not isinstance(value, list):
            raise place.refused("wrong-type", f"{what} is a list, not {kind_of(value)}", "put it in [ ]")
        return value

    def _read(
        self,
        members: dict[str, object],
        key: str,
        place: Place,
        reader: Callable[[object, Place], T],
        default: T,
    ) -> T:
        if key not in members:
            return default
        try:
            return reader(members[key], place.at(key))
        except PolicyRefused as refusal:
            self.findings += refusal.findings
            return default

    def _found(self, place: Place, code: str, message: str, hint: str) -> None:
        self.findings.append(place.finding(code, message, hint))


def lines_of_hosts(text: str, items: Sequence[object]) -> dict[int, int]:
    """Find the line of each grant by its `host`; nothing where the text does not match the grants one to one.

    Args:
        text: the document.
        items: its grants as they were read, in the order of the document.

    Returns:
        Lines, from 1, by the number of the grant.

    Neither reader of the standard library tells lines. What this finds is shown, and decides nothing.
    """
    import re

    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    found = list(re.finditer(r"""(?<![\w.-])["']?host["']?\s*[=:]\s*(?:"([^"\n]*)"|'([^'\n]*)')""", text))
    named = [
        (number, item["host"])
        for number, item in enumerate(items)
        if isinstance(item, dict) and isinstance(item.get("host"), str)
    ]
    if [match[1] or match[2] or "" for match in found] != [host for _, host in named]:
        return {}
    lines, line, at = {}, 1, 0
    for (number, _), match in zip(named, found, strict=True):
        line += text.count("\n", at, match.start())
        at = match.start()
        lines[number] = line
    return lines
