"""From grants and what goes with them to one `Policy`, or to everything that is wrong with them.

Owns the judgement of grants against each other and against the DNS policy. Must never make a policy that
allows what no grant named, prefer one of two grants that disagree, or stop at the first finding.

    grants that are equal, or where one only says more about why      one grant
    a preset's grant and one that was written                         the written one (warning if they differ)
    any other two for the same host, port and protocol                refused
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy.hosts import NAMES_OF_THIS_MACHINE
from mvm.policy.model import Dns, Grant, Policy
from mvm.terms import DnsMode, Preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mvm.policy.model import Forward
    from mvm.terms import Address, HostName, Seconds

_ALLOW = ".network.allow"
_DNS = ".network.dns"
_PORTS = ".network.ports"
_DNS_HINT = 'add `dns = "system"` (flag: `--dns system`, Python: `dns=mvm.dns_system()`)'
_SAID = ("private", "tls", "expires", "max_up", "max_down")
_SAID_OR_NOT = ("reason", "sends", "downloads")
_MOST_NAMED = 3
_MARKS_PRESET = "preset "

Key = tuple[str, int, str, int]


def default_dns(grants: Iterable[Grant], *, unrestricted: bool = False) -> Dns:
    """Choose the DNS policy of a command line that states none.

    Args:
        grants: all grants, those of presets too.
        unrestricted: whether every name is granted.

    Returns:
        `system` as soon as a host name is granted, else `none`.
    """
    names = unrestricted or any(isinstance(grant.host, str) for grant in grants)
    return Dns(mode=DnsMode.SYSTEM if names else DnsMode.NONE)


def with_static(dns: Dns, answers: Iterable[tuple[HostName, Address]]) -> Dns:
    """Add fixed answers to a DNS policy.

    Args:
        dns: what they stand in front of.
        answers: names and addresses, as `parse_dns_static` gives them; several a name are kept in order.

    Returns:
        The DNS policy with the answers sorted by name, each once.
    """
    static: dict[HostName, dict[Address, None]] = {name: dict.fromkeys(found) for name, found in dns.static}
    for name, address in answers:
        static.setdefault(name, {})[address] = None
    ordered = tuple((name, tuple(static[name])) for name in sorted(static))
    return Dns(mode=dns.mode, resolver=dns.resolver, static=ordered)


def with_more_static(dns: Dns, other: Dns) -> Dns:
    """Add another DNS policy's fixed answers, for names that have none so far."""
    answered = {name for name, _ in dns.static}
    more = [(name, address) for name, found in other.static if name not in answered for address in found]
    return with_static(dns, more)


def policy_of(
    *,
    grants: Iterable[Grant],
    dns: Dns | None,
    preset: Preset,
    unrestricted: bool,
    forwards: Iterable[Forward],
    ttl: Seconds | None,
) -> tuple[Policy, tuple[Finding, ...]]:
    """Make the policy of one sandbox.

    Args:
        grants: all of them, in any order, those of presets too.
        dns: who resolves, or None where nobody said (refused as soon as a host name is granted).
        preset: the base it started from.
        unrestricted: whether every name and port is granted.
        forwards: inbound ports.
        ttl: seconds after which the sandbox ends, or None.

    Returns:
        The policy, its grants and forwards sorted and each once; and the warnings.

    Raises:
        PolicyRefused: with every error and every warning, errors first.
    """
    findings: list[Finding] = []
    kept = merge_grants(grants, findings)
    findings += _about_dns(kept, dns, unrestricted=unrestricted)
    findings += _about_hosts(kept, dns)
    ports = _merge_forwards(forwards, findings)
    findings += _about_preset(preset, unrestricted=unrestricted)
    errors = [finding for finding in findings if finding.severity == "error"]
    warnings = [finding for finding in findings if finding.severity != "error"]
    if errors:
        raise PolicyRefused([*errors, *warnings])
    policy = Policy(
        grants=kept,
        dns=with_static(dns, ()) if dns is not None else Dns(mode=DnsMode.NONE),
        preset=preset,
        unrestricted=unrestricted,
        forwards=ports,
        ttl=ttl,
    )
    return policy, tuple(warnings)


# Grants against each other


def grant_key(grant: Grant) -> Key:
    """Give what makes two grants the same one, said twice; sorts as policies are sorted."""
    return (str(grant.host), grant.port, grant.protocol, grant.depth or 0)


def merge_grants(grants: Iterable[Grant], findings: list[Finding]) -> tuple[Grant, ...]:
    """Make one grant of those that are the same, and sort them.

    Args:
        grants: in any order.
        findings: takes a finding for any two that disagree.
    """
    kept: dict[Key, Grant] = {}
    for grant in grants:
        key = grant_key(grant)
        other = kept.get(key)
        kept[key] = grant if other is None else _merge_two(other, grant, findings)
    return tuple(kept[key] for key in sorted(kept))


def _merge_two(first: Grant, second: Grant, findings: list[Finding]) -> Grant:
    differing = [name for name in _SAID if getattr(first, name) != getattr(second, name)]
    of_preset = [grant.source.startswith(_MARKS_PRESET) for grant in (first, second)]
    if of_preset[0] != of_preset[1]:
        written, preset = (second, first) if of_preset[0] else (first, second)
        if differing:
            findings.append(_overrides(written, preset, differing))
        return written
    for name in _SAID_OR_NOT:
        ours, theirs = getattr(first, name), getattr(second, name)
        if None not in (ours, theirs) and ours != theirs:
            differing.append(name)
    if differing:
        findings.append(_conflict(first, second, differing))
        return first
    return _with_more_said(first, second)


def _with_more_said(first: Grant, second: Grant) -> Grant:
    from dataclasses import replace

    more = {name: getattr(second, name) for name in _SAID_OR_NOT if getattr(first, name) is None}
    return replace(first, **more)


def _conflict(first: Grant, second: Grant, differing: Sequence[str]) -> Finding:
    sources = " and ".join(dict.fromkeys(source for source in (first.source, second.source) if source))
    return Finding(
        code="conflicting-grants",
        path=_ALLOW,
        message=f"{spell_grant(first)} is granted twice, with different {', '.join(differing)}",
        hint=f"keep one of them{f' ({sources})' if sources else ''}",
        source=second.source,
    )


def _overrides(written: Grant, preset: Grant, differing: Sequence[str]) -> Finding:
    why = ", ".join(differing)
    return Finding(
        code="overrides-preset-grant",
        path=_ALLOW,
        message=f"{spell_grant(written)} stands as written, not as in {preset.source} ({why})",
        hint="leave the written grant out to have the preset's",
        severity="warning",
        source=written.source,
    )


def spell_grant(grant: Grant) -> str:
    """Name a grant in a message: `api.example.com:443/tcp`."""
    host = str(grant.host)
    return f"{f'[{host}]' if ':' in host else host}:{grant.port}/{grant.protocol}"


# Grants against the DNS policy


def _about_dns(grants: Sequence[Grant], dns: Dns | None, *, unrestricted: bool) -> Iterable[Finding]:
    if dns is not None and dns.mode is not DnsMode.NONE:
        return
    fixed = {name for name, _ in dns.static} if dns is not None else set()
    lost = [grant for grant in grants if isinstance(grant.host, str) and not _is_fixed(grant, fixed)]
    if lost:
        names = list(dict.fromkeys(str(grant.host) for grant in lost))
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        who = "nobody is named to resolve" if dns is None else "the DNS policy `none` does not resolve"
        yield Finding(
            code="dns-not-stated" if dns is None else "dns-none",
            path=_DNS,
            message=f"{who} {', '.join(names[:_MOST_NAMED])}{more}",
            hint=_DNS_HINT,
            source=lost[0].source,
        )
    elif unrestricted:
        yield Finding(
            code="dns-not-stated" if dns is None else "dns-none",
            path=_DNS,
            message="every name is granted, and nothing resolves them",
            hint=_DNS_HINT,
            severity="error" if dns is None else "warning",
        )


def _is_fixed(grant: Grant, fixed: set[HostName]) -> bool:
    if grant.depth is None:
        return grant.host in fixed
    return any(name.endswith(f".{grant.host}") for name in fixed)


def _about_hosts(grants: Sequence[Grant], dns: Dns | None) -> Iterable[Finding]:
    static = dict(dns.static) if dns is not None else {}
    for grant in grants:
        if isinstance(grant.host, str):
            if "xn--" in grant.host:
                yield from _about_name(grant, grant.host)
            if grant.host.rpartition(".")[2] in NAMES_OF_THIS_MACHINE:
                yield _about_this_machine(grant)
            elif not grant.private and grant.host in static:
                yield from _about_addresses(grant, static[grant.host])
        elif not grant.private:
            yield from _about_addresses(grant, (grant.host,))


def _about_this_machine(grant: Grant) -> Finding:
    message = f"{spell_grant(grant)} opens nothing: inside the sandbox {grant.host} is the sandbox itself"
    named = f"--dns-static db.test=127.0.0.1 --network-allow db.test:{grant.port},private"
    hint = f"name the service of this machine: {named}"
    return _warning("names-itself", grant, message, hint)


def _about_name(grant: Grant, name: HostName) -> Iterable[Finding]:
    from mvm.policy.lookalikes import resembles

    phrase = resembles(name)
    if phrase is not None:
        hint = f"make sure that {name} is meant"
        yield _warning("look-alike-host", grant, f"{phrase}: it may pass for another name", hint)


def _about_addresses(grant: Grant, addresses: Iterable[Address]) -> Iterable[Finding]:
    from mvm.policy.addresses import AddressClass, classify
    from mvm.policy.parse import format_grant

    for address in addresses:
        kind = classify(address)
        if kind is not AddressClass.PUBLIC:
            why = f"{address} is not public ({kind}), and the grant does not say `private`"
            message = f"{spell_grant(grant)} opens nothing: {why}"
            hint = f"leave it out; a service of your own network needs {format_grant(grant)},private"
            yield _warning("needs-private", grant, message, hint)
            return


def _warning(code: str, grant: Grant, message: str, hint: str) -> Finding:
    return Finding(
        code=code, path=_ALLOW, message=message, hint=hint, severity="warning", source=grant.source
    )


# Inbound ports and presets


def _merge_forwards(forwards: Iterable[Forward], findings: list[Finding]) -> tuple[Forward, ...]:
    kept: dict[tuple[str, int], Forward] = {}
    for forward in forwards:
        key = (str(forward.address), forward.host_port)
        other = kept.setdefault(key, forward)
        where = f"{key[0]}:{forward.host_port}"
        if other.guest_port != forward.guest_port:
            message = f"{where} leads to two ports, {other.guest_port} and {forward.guest_port}"
            findings.append(
                Finding(code="conflicting-forwards", path=_PORTS, message=message, hint="keep one of them")
            )
        elif other is forward and not forward.address.is_loopback:
            findings.append(_beyond_loopback(where))
    return tuple(kept[key] for key in sorted(kept))


def _beyond_loopback(where: str) -> Finding:
    return Finding(
        code="forward-beyond-loopback",
        path=_PORTS,
        message=f"{where} can be reached from other machines",
        hint="leave the address out to listen on 127.0.0.1",
        severity="warning",
    )


def _about_preset(preset: Preset, *, unrestricted: bool) -> Iterable[Finding]:
    broad = Preset.UNRESTRICTED if unrestricted else preset
    if broad is Preset.NONE:
        return
    from mvm.policy.presets import PRESET_WARNINGS

    if broad in PRESET_WARNINGS:
        yield Finding(
            code="broad-preset",
            path=".network.preset",
            message=PRESET_WARNINGS[broad],
            hint="name each host that the workload needs",
            severity="warning",
        )
