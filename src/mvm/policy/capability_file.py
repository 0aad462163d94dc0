"""The capability file: tools, each with its fixed grants.

    {"tool": "web_fetch", "network": {"mode": "bridge", "allow": [{"host": "api.example.com", "port": 443}]}}
    {"tools": [{"tool": ..., "network": ..., "ports": [443], "reason": "why", "ttl": "10m"}, ...]}

`ports` are the only ones that the tool's grants may have; `reason` is that of every grant that states none;
`ttl` is the longest that any of them lasts. A document that grants names and states no `dns` means `system`,
as on a command line, with a warning.

Owns the form, read and written. Must never decide: that is `policy.capability`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from mvm.errors import PolicyRefused
from mvm.policy.capability import LONGEST_NAME, PLAIN, Capability, Tools
from mvm.policy.document import lines_of_hosts, read_dns, read_json
from mvm.policy.fields import kind_of, read_port, read_reason, string, unknown_keys
from mvm.policy.grants import grant_from_json
from mvm.policy.hosts import Place, shown
from mvm.policy.quantities import parse_duration
from mvm.policy.validate import default_dns, policy_of
from mvm.terms import Preset, Seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mvm.errors import Finding
    from mvm.policy.model import Dns, Grant, Policy

T = TypeVar("T")

SCHEMA = "mvm.capabilities/1"
DOCUMENT_KEYS = ("tools", "schema", "$schema")
TOOL_KEYS = ("tool", "network", "ports", "reason", "ttl", "$schema")
NETWORK_KEYS = ("mode", "dns", "allow")
MODES = ("none", "bridge")

_TOOL_HINT = "write a name of up to 64 letters, digits, `.`, `_` and `-`"


def is_capability_text(text: str, path: str) -> bool:
    """Tell a capability document from a policy file: it is JSON and names a tool."""
    import re

    is_json = path.endswith(".json") or (not path.endswith(".toml") and text.lstrip()[:1] == "{")
    return is_json and re.search(r'(?<!\\)"tools?"\s*:', text) is not None


def read_capabilities(text: str, *, path: str) -> Tools:
    """Read a capability document.

    Args:
        text: JSON, one tool or `{"tools": [...]}`.
        path: the file, for findings and sources.

    Returns:
        Its tools, each judged as a policy of its own.

    Raises:
        PolicyRefused: with every finding about the document.
    """
    return _Reader(text, path).tools(read_json(text, path=path))


def tools_to_json(tools: Tools) -> dict[str, object]:
    """Give a capability document as `read_capabilities` reads it back, each grant spelled out."""
    return {"schema": SCHEMA, "tools": [_tool_to_json(capability) for capability in tools.capabilities]}


def _tool_to_json(capability: Capability) -> dict[str, object]:
    from mvm.policy.document import policy_to_json

    network = policy_to_json(capability.policy)["network"]
    assert isinstance(network, dict), "policy_to_json makes it"
    made: dict[str, object] = {
        "tool": capability.tool,
        "network": {key: network[key] for key in NETWORK_KEYS},
    }
    return made | ({"ports": list(capability.ports)} if capability.ports else {})


class _Reader:
    """One document being read: what is wrong with it is collected, and raised at the end."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path
        self._findings: list[Finding] = []
        self._lines: dict[int, int] = {}

    def tools(self, value: object) -> Tools:
        place = Place(".", self._path)
        members = self._object(value, place, "a capability document", None)
        if "tools" in members:
            self._findings += unknown_keys(members, DOCUMENT_KEYS, place)
            if members.get("schema", SCHEMA) != SCHEMA:
                hint = f'write "{SCHEMA}"'
                self._findings.append(
                    place.at("schema").finding("unknown-schema", "the schema is unknown", hint)
                )
            at = place.at("tools")
            listed = self._list(members["tools"], at, "`tools`")
            if not listed and isinstance(members["tools"], list):
                self._findings.append(at.finding("no-tools", "there is no tool", "name one, or no file"))
            items = [(item, at.at(number)) for number, item in enumerate(listed)]
        else:
            items = [(value, place)] if isinstance(value, dict) else []
        self._find_lines([item for item, _ in items])
        capabilities = self._each(items)
        if any(finding.severity == "error" for finding in self._findings):
            raise PolicyRefused(sorted(self._findings, key=lambda found: found.severity != "error"))
        return Tools(path=self._path, capabilities=tuple(capabilities), warnings=tuple(self._findings))

    def _find_lines(self, items: Sequence[object]) -> None:
        """Give every grant of the document its line, by its identity."""
        allowed: list[object] = []
        for item in items:
            network = item.get("network") if isinstance(item, dict) else None
            listed = network.get("allow") if isinstance(network, dict) else None
            allowed += listed if isinstance(listed, list) else []
        lines = lines_of_hosts(self._text, allowed)
        self._lines = {id(allowed[number]): line for number, line in lines.items()}

    def _each(self, items: Sequence[tuple[object, Place]]) -> list[Capability]:
        capabilities: dict[str, Capability] = {}
        for item, place in items:
            before = len(self._findings)
            capability = self._tool(item, place)
            if capability is None:
                assert len(self._findings) > before, "what is left out is told"
            elif capability.tool in capabilities:
                message = f"the tool {shown(capability.tool)} stands twice"
                self._findings.append(place.at("tool").finding("duplicate-tool", message, "keep one of them"))
            else:
                capabilities[capability.tool] = capability
        return list(capabilities.values())

    def _tool(self, value: object, place: Place) -> Capability | None:
        start = len(self._findings)
        members = self._object(value, place, "a tool", TOOL_KEYS)
        for key in ("tool", "network"):
            if key not in members and isinstance(value, dict):
                at = place.at(key)
                self._findings.append(at.finding(f"missing-{key}", f"there is no `{key}`", f"add `{key}`"))
        tool = self._read(members, "tool", place, _read_name)
        reason = self._read(members, "reason", place, read_reason)
        ttl = self._read(members, "ttl", place, _read_duration)
        ports = self._ports(members.get("ports", []), place.at("ports"))
        grants, dns = self._network(members.get("network", {}), place.at("network"))
        self._refuse_ports(grants, ports, place.at("network"))
        if any(finding.severity == "error" for finding in self._findings[start:]) or tool is None:
            return None
        fixed = [_completed(grant, tool, reason, ttl) for grant in grants]
        policy = self._judge(fixed, dns, place.at("network"))
        if policy is None:
            return None
        return Capability(tool=tool, policy=policy, ports=ports, path="" if place.path == "." else place.path)

    def _judge(self, grants: Sequence[Grant], dns: Dns | None, place: Place) -> Policy | None:
        if dns is None:
            dns = default_dns(grants)
            if any(isinstance(grant.host, str) for grant in grants):
                message = "a name is granted, and the document does not say who resolves it: `system` does"
                hint = 'write `"dns": "system"` to have it reviewed'
                self._findings.append(
                    place.at("dns").finding("dns-not-stated", message, hint, severity="warning")
                )
        try:
            policy, warnings = policy_of(
                grants=grants, dns=dns, preset=Preset.NONE, unrestricted=False, forwards=(), ttl=None
            )
        except PolicyRefused as refusal:
            self._findings += [_moved(finding, place) for finding in refusal.findings]
            return None
        self._findings += [_moved(finding, place) for finding in warnings]
        return policy

    def _network(self, value: object, place: Place) -> tuple[list[Grant], Dns | None]:
        members = self._object(value, place, "`network`", None)
        if "preset" in members:
            hint = "name each host: a tool is a fixed grant"
            self._findings.append(
                place.at("preset").finding("preset-in-capability", "a tool has no preset", hint)
            )
        known = {key: members[key] for key in members if key != "preset"}
        self._findings += unknown_keys(known, NETWORK_KEYS, place)
        mode = self._read(members, "mode", place, _read_mode) or "none"
        dns = self._read(members, "dns", place, lambda value, at: read_dns(value, at, self._findings))
        grants = []
        for number, item in enumerate(self._list(members.get("allow", []), place.at("allow"), "`allow`")):
            at = place.at("allow").at(number)
            line = self._lines.get(id(item))
            source = f"{self._path}:{line}" if line else self._path
            try:
                grants.append(grant_from_json(item, path=at.path, source=source))
            except PolicyRefused as refusal:
                self._findings += refusal.findings
        if mode == "none" and grants:
            message = "the mode is `none` (as it is where none is stated), yet something is opened"
            self._findings.append(
                place.at("mode").finding("mode-none-with-egress", message, 'write "mode": "bridge"')
            )
        return grants, dns

    def _ports(self, value: object, place: Place) -> tuple[int, ...]:
        ports = []
        for number, item in enumerate(self._list(value, place, "`ports`")):
            try:
                ports.append(read_port(item, place.at(number)))
            except PolicyRefused as refusal:
                self._findings += refusal.findings
        return tuple(ports)

    def _refuse_ports(self, grants: Sequence[Grant], ports: tuple[int, ...], place: Place) -> None:
        for grant in grants:
            if ports and grant.port not in ports:
                message = f"{grant.host}:{grant.port} is outside the tool's ports {list(ports)}"
                hint = "leave the grant out, or add its port to `ports`"
                at = Place(place.at("allow").path, grant.source)
                self._findings.append(at.finding("port-not-expected", message, hint))

    def _object(
        self, value: object, place: Place, what: str, known: tuple[str, ...] | None
    ) -> dict[str, object]:
        if not isinstance(value, dict):
            message = f"{what} is an object, not {kind_of(value)}"
            self._findings.append(place.finding("wrong-type", message, "write keys and values"))
            return {}
        if known is not None:
            self._findings += unknown_keys(value, known, place)
        return value

    def _list(self, value: object, place: Place, what: str) -> Sequence[object]:
        if isinstance(value, list):
            return value
        message = f"{what} is a list, not {kind_of(value)}"
        self._findings.append(place.finding("wrong-type", message, "put it in [ ]"))
        return ()

    def _read(
        self, members: Mapping[str, object], key: str, place: Place, reader: Callable[[object, Place], T]
    ) -> T | None:
        if key not in members:
            return None
        try:
            return reader(members[key], place.at(key))
        except PolicyRefused as refusal:
            self._findings += refusal.findings
            return None


def _moved(finding: Finding, place: Place) -> Finding:
    """Put a finding about a policy where that policy stands in the document."""
    path = place.path + finding.path.removeprefix(".network")
    return finding._replace(path=path, source=finding.source or place.source)


def _completed(grant: Grant, tool: str, reason: str | None, ttl: Seconds | None) -> Grant:
    lasts = [seconds for seconds in (grant.expires, ttl) if seconds is not None]
    return replace(
        grant,
        reason=grant.reason or reason,
        expires=Seconds(min(lasts)) if lasts else None,
        source=f"{grant.source} ({tool})",
    )


def _read_name(value: object, place: Place) -> str:
    text = string(value, place, "a tool's name")
    if not 0 < len(text) <= LONGEST_NAME or not set(text) <= PLAIN:
        raise place.refused("bad-tool", f"{shown(text)} is no name of a tool", _TOOL_HINT)
    return text


def _read_mode(value: object, place: Place) -> str:
    text = string(value, place, "the mode")
    if text not in MODES:
        raise place.refused("unknown-mode", f"{shown(text)} is none of {', '.join(MODES)}", "write bridge")
    return text


def _read_duration(value: object, place: Place) -> Seconds:
    return parse_duration(string(value, place, "`ttl`"), path=place.path, source=place.source)
