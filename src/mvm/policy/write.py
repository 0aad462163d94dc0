"""A policy written out as flags, as `mvm.toml`, and as Python.

Owns the three spellings; each reads back as the same policy. Must never leave out what a policy allows: what
a spelling has no words for is refused, with the spelling that has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import UsageError
from mvm.policy.grants import format_grant, grant_to_json
from mvm.policy.parse import default_tls, format_dns, format_duration, format_forward, format_resolver
from mvm.terms import DnsMode, Preset, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mvm.policy.model import Dns, Grant, Policy

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def to_flags(policy: Policy) -> tuple[str, ...]:
    """Write a policy as words of a command line, unquoted.

    Returns:
        Each flag and each value as a word of its own.

    Raises:
        UsageError: it grants subdomains, which no flag does.
    """
    if any(grant.depth is not None for grant in policy.grants):
        msg = "no flag grants subdomains"
        raise UsageError(msg, hint="write it as TOML, where it can be reviewed")
    words = ["--network-preset", str(_base(policy))]
    for grant in policy.grants:
        words += ["--network-allow", format_grant(grant)]
    words += ["--dns", format_dns(policy.dns)]
    for name, found in policy.dns.static:
        for address in found:
            words += ["--dns-static", f"{name}={address}"]
    for forward in policy.forwards:
        words += ["--port", format_forward(forward)]
    if policy.ttl is not None:
        words += ["--ttl", format_duration(policy.ttl)]
    return tuple(words)


def to_toml(policy: Policy) -> str:
    """Write a policy as `mvm.toml`, presets spelled out; `# source` stands behind each grant that has one."""
    closed = not (policy.grants or policy.forwards or policy.unrestricted)
    lines = ["[network]", f'mode = "{"none" if closed else "bridge"}"', f"dns = {_toml_dns(policy.dns)}"]
    if policy.unrestricted:
        lines.append('preset = "unrestricted"')
    if policy.grants:
        lines.append("allow = [")
        for grant in policy.grants:
            source = f"  # {_printable(grant.source)}" if grant.source else ""
            lines.append(f"    {_toml(_stated(grant))},{source}")
        lines.append("]")
    if policy.forwards:
        lines.append(f"ports = {_toml([format_forward(forward) for forward in policy.forwards])}")
    if policy.ttl is not None:
        lines.append(f"ttl = {_toml(format_duration(policy.ttl))}")
    return "\n".join(lines) + "\n"


def to_python(policy: Policy) -> str:
    """Write a policy as the value of `mvm.network(...)`.

    A life time belongs to the sandbox, and is not part of it.

    Raises:
        UsageError: it says something for which Python has no word.
    """
    lost = next(iter(_without_words(policy)), None)
    if lost is not None:
        raise UsageError(f"mvm.network has no word for {lost}", hint="write it as TOML")
    closed = not (policy.grants or policy.forwards or policy.unrestricted)
    lines = ["mvm.network(", f'    mode="{"none" if closed else "bridge"}",']
    if policy.unrestricted:
        lines.append('    egress=mvm.egress_preset("unrestricted"),')
    if policy.grants:
        lines.append("    egress=mvm.egress([")
        lines += [f"        {_python_grant(grant)}," for grant in policy.grants]
        lines.append("    ]),")
    if policy.forwards:
        ports = ", ".join(_quoted(format_forward(forward)) for forward in policy.forwards)
        lines.append(f"    ports=[{ports}],")
    lines += [f"    dns={_python_dns(policy.dns)},", ")"]
    return "\n".join(lines) + "\n"


def _without_words(policy: Policy) -> Iterable[str]:
    if policy.unrestricted and policy.grants:
        yield "grants beside `unrestricted`"
    if policy.dns.static and policy.dns.mode is not DnsMode.NONE:
        yield "fixed answers in front of another DNS policy"
    for grant in policy.grants:
        stated = _stated(grant)
        if stated.get("tls") == Tls.AUTO:
            yield f"`tls=auto` on port {grant.port}"
        if grant.depth is not None and not stated.keys() <= {"host", "port", "subdomains", "reason"}:
            yield "subdomains that say more than why"


def _base(policy: Policy) -> Preset:
    return Preset.UNRESTRICTED if policy.unrestricted else Preset.NONE


def _stated(grant: Grant) -> dict[str, object]:
    """Give a grant's object without what its port and protocol say anyway."""
    made = grant_to_json(grant)
    if grant.protocol == "tcp":
        del made["protocol"]
    if grant.tls is default_tls(grant.port, grant.protocol):
        del made["tls"]
    if not grant.private:
        del made["private"]
    return made


# ---- TOML


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        members = ", ".join(f"{_toml_key(key)} = {_toml(member)}" for key, member in value.items())
        return f"{{{members}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def _toml_key(key: str) -> str:
    return key if set(key) <= _BARE else _quoted(key)


def _toml_dns(dns: Dns) -> str:
    if not dns.static:
        return _quoted(format_dns(dns))
    made: dict[str, object] = {"mode": str(dns.mode)}
    if dns.resolver is not None:
        made["resolver"] = format_resolver(dns.resolver)
    return _toml(made | {"static": {name: list(map(str, found)) for name, found in dns.static}})


def _quoted(text: str) -> str:
    """Quote text so that TOML, JSON and Python read the same from it (all characters are printable)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


# ---- Python


def _python_grant(grant: Grant) -> str:
    stated = _stated(grant)
    host, port, depth = stated.pop("host"), stated.pop("port"), stated.pop("subdomains", None)
    words = [_quoted(str(host)), str(port)]
    if depth is not None:
        words.append(f"depth={depth}")
    words += _python_words(stated.items())
    return f"mvm.{'host_port' if depth is None else 'subdomains'}({', '.join(words)})"


def _python_words(members: Iterable[tuple[str, object]]) -> Iterable[str]:
    for key, value in members:
        yield f"{key}={_quoted(value) if isinstance(value, str) else value}"


def _python_dns(dns: Dns) -> str:
    plain = "mvm.dns_none()" if dns.mode is DnsMode.NONE else "mvm.dns_system()"
    if dns.resolver is not None:
        address, port = dns.resolver
        plain = f"mvm.dns_resolver({_quoted(str(address))}, port={port})"
    if not dns.static:
        return plain
    answers = ", ".join(
        f"{_quoted(name)}: [{', '.join(_quoted(str(address)) for address in found)}]"
        for name, found in dns.static
    )
    return f"mvm.dns_static({{{answers}}})"
