"""The words in which a program states its network: `mvm.network(mode="bridge", egress=…, dns=…)`.

Owns their shapes and their reading into a `Policy`. Each word refuses what it can't mean where it is
written; the sum is judged by `policy.validate`, like a policy file's. Pure: a preset's hosts are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.declare.taken import listed, refused, text_of, texts
from mvm.policy.document import PolicyDocument
from mvm.policy.grants import grant_from_json
from mvm.policy.model import Dns, Grant
from mvm.policy.parse import parse_dns, parse_forward, parse_resolver, static_answer
from mvm.policy.validate import policy_of, with_static
from mvm.terms import DnsMode, Preset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mvm.policy.model import Forward, Policy
    from mvm.policy.presets import Discovery
    from mvm.terms import Protocol, Seconds, Sends, Tls

_SOURCE = "mvm.network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """What may be reached: named grants, a preset as their base, or both.

    Attributes:
        grants: in the order in which they were written.
        preset: the base.
    """

    grants: tuple[Grant, ...] = ()
    preset: Preset = Preset.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A program's network, as it was stated.

    Attributes:
        bridged: whether its mode is `bridge`.
        egress: what may be reached.
        forwards: inbound ports.
        dns: who resolves, or None where it does not say.
    """

    bridged: bool
    egress: Egress
    forwards: tuple[Forward, ...]
    dns: Dns | None


def network(
    *,
    mode: str,
    egress: Egress | None = None,
    ports: Sequence[str] | None = None,
    dns: Dns | None = None,
) -> Network:
    """State a network.

    Args:
        mode: `none` for no network at all, `bridge` for what the rest says.
        egress: what may be reached (`egress`, `egress_preset`).
        ports: inbound ports, `[IP:]HOSTPORT:GUESTPORT` or `PORT` each.
        dns: who resolves granted names (`dns_none`, `dns_system`, `dns_resolver`, `dns_static`); to be stated
            as soon as a name is granted.

    Raises:
        PolicyRefused: the mode is none of both, or it is `none` and something is opened.
    """
    _refuse_others(egress, dns)
    if mode not in ("none", "bridge"):
        raise refused(
            "unknown-mode", ".network.mode", f"{mode!r} is no mode", 'write "none" or "bridge"', _SOURCE
        )
    if mode == "none" and (egress is not None or ports):
        message = "the mode is `none`, yet something is opened"
        raise refused("mode-none-with-egress", ".network.mode", message, 'write mode="bridge"', _SOURCE)
    stated = () if ports is None else texts(ports, ".network.ports")
    forwards = tuple(parse_forward(text, path=".network.ports", source=_SOURCE) for text in stated)
    return Network(bridged=mode == "bridge", egress=egress or Egress(), forwards=forwards, dns=dns)


def _refuse_others(egress: object, dns: object) -> None:
    """What is no value of these words, a text in the place of one for instance."""
    for key, value, kind, example in (
        ("egress", egress, Egress, 'egress=mvm.egress_preset("dev")'),
        ("dns", dns, Dns, "dns=mvm.dns_system()"),
    ):
        if value is not None and not isinstance(value, kind):
            message = f"`{key}` is a {type(value).__name__}"
            raise refused("wrong-type", f".network.{key}", message, f"write {example}", _SOURCE)


def egress(grants: Sequence[object]) -> Egress:
    """State the destinations: a list of `host_port` and `subdomains`.

    Raises:
        PolicyRefused: it is no list of such.
    """
    example = 'mvm.egress([mvm.host_port("api.example.com", 443)])'
    items = listed(grants, ".network.egress", example)
    stated = tuple(grant for grant in items if isinstance(grant, Grant))
    if len(stated) < len(items):
        message = "`egress` takes a list of grants"
        raise refused("wrong-type", ".network.egress", message, f"write {example}", _SOURCE)
    return Egress(grants=stated)


def egress_preset(name: str) -> Egress:
    """State a preset as the destinations: `none`, `registries`, `dev`, `agent` or `unrestricted`.

    Raises:
        PolicyRefused: there is no such preset.
    """
    if name not in list(Preset):
        hint = f"write one of {', '.join(Preset)}"
        raise refused("unknown-preset", ".network.egress", f"{name!r} is no preset", hint, _SOURCE)
    return Egress(preset=Preset(name))


def host_port(
    host: str,
    port: int,
    *,
    protocol: str | Protocol = "tcp",
    reason: str | None = None,
    private: bool = False,
    tls: str | Tls = "auto",
    expires: str | None = None,
    max_up: str | int | None = None,
    max_down: str | int | None = None,
    sends: str | Sends | None = None,
    downloads: str | None = None,
) -> Grant:
    """State one destination.

    Args:
        host: a host name or an address.
        port: 1 to 65535.
        protocol: `tcp` or `udp`.
        reason: why the workload needs it.
        private: whether it may be at an address that is not public.
        tls: `require`, `auto` (which on port 443 is `require`), or `off`.
        expires: a length of time such as `10m`, counted from the start.
        max_up: bytes that may be sent there, such as `10MB`.
        max_down: bytes that may come from there.
        sends: `none`, `public`, `user-data` or `secrets`.
        downloads: `none`, `discard` or `retain:7d`.

    Raises:
        PolicyRefused: one of these is not acceptable; with a hint for each.
    """
    said = {
        "reason": reason,
        "expires": expires,
        "max_up": max_up,
        "max_down": max_down,
        "sends": None if sends is None else str(sends),
        "downloads": downloads,
        "tls": None if tls == "auto" else str(tls),
    }
    stated = {key: value for key, value in said.items() if value is not None}
    if private:
        stated["private"] = private
    document = {"host": host, "port": port, "protocol": str(protocol), **stated}
    return grant_from_json(document, path=".network.egress[]", source=f"{_SOURCE}: {host}:{port}")


def subdomains(parent: str, port: int, *, depth: int = 1, reason: str | None = None) -> Grant:
    """State all names below one, but not itself; never across a public suffix.

    Args:
        parent: the name above.
        port: 1 to 65535.
        depth: how many labels below it at most.
        reason: why the workload needs them.

    Raises:
        PolicyRefused: one of these is not acceptable.
    """
    document: dict[str, object] = {"host": parent, "port": port, "subdomains": depth}
    if reason is not None:
        document["reason"] = reason
    return grant_from_json(document, path=".network.egress[]", source=f"{_SOURCE}: below {parent}:{port}")


def dns_none() -> Dns:
    """State that nothing is resolved: only addresses, and names with fixed answers, can be granted."""
    return parse_dns("none", source=_SOURCE)


def dns_system() -> Dns:
    """State that the host's own resolver resolves granted names."""
    return parse_dns("system", source=_SOURCE)


def dns_resolver(host: str, port: int = 53) -> Dns:
    """State which name server resolves granted names.

    Args:
        host: its address.
        port: 1 to 65535.

    Raises:
        PolicyRefused: it is no address, or no port.
    """
    named = text_of(host, ".network.dns")
    text = f"[{named}]:{port}" if ":" in named else f"{named}:{port}"
    server = parse_resolver(text, path=".network.dns", source=_SOURCE)
    return Dns(mode=DnsMode.RESOLVER, resolver=server)


def dns_static(answers: Mapping[str, str | Sequence[str]]) -> Dns:
    """State fixed answers; nothing else is resolved.

    Args:
        answers: by name, an address or several.

    Raises:
        PolicyRefused: one is no name, or no address.
    """
    if not isinstance(answers, dict):
        message = f"a {type(answers).__name__} is no dictionary"
        hint = 'write mvm.dns_static({"db.example.com": "192.0.2.7"})'
        raise refused("wrong-type", ".network.dns.static", message, hint, _SOURCE)
    pairs = [
        static_answer(
            text_of(name, ".network.dns.static"), address, path=f".network.dns.static.{name}", source=_SOURCE
        )
        for name, found in answers.items()
        for address in texts([found] if isinstance(found, str) else found, f".network.dns.static.{name}")
    ]
    return with_static(dns_none(), pairs)


def document_of(stated: object, *, path: str, ttl: Seconds | None = None) -> PolicyDocument:
    """Give a stated network as what a policy file says.

    Args:
        stated: what `network` gave.
        path: who states it, for people.
        ttl: the life time of the sandbox that it is for, or None.

    Raises:
        PolicyRefused: it is no such value.
    """
    if not isinstance(stated, Network):
        message = f"`network` is a {type(stated).__name__}, not what mvm.network(...) gives"
        raise refused("wrong-type", ".network", message, 'write network=mvm.network(mode="none")', _SOURCE)
    return PolicyDocument(
        path=path,
        bridged=stated.bridged,
        dns=stated.dns,
        preset=stated.egress.preset,
        grants=stated.egress.grants,
        forwards=stated.forwards,
        ttl=ttl,
    )


def policy_of_network(stated: object, discover: Callable[[], Sequence[Discovery]]) -> Policy:
    """Make the policy of a stated network.

    Args:
        stated: what `network` gave.
        discover: finds what this machine's package tools use; called for a preset that needs it.

    Raises:
        PolicyRefused: it is no such value, or the whole is not acceptable.
    """
    from mvm.policy.presets import expand

    document = document_of(stated, path=_SOURCE)
    preset = document.preset
    found = discover() if preset in {Preset.REGISTRIES, Preset.DEV} else ()
    policy, _ = policy_of(
        grants=(*document.grants, *expand(preset, found)),
        dns=document.dns,
        preset=preset,
        unrestricted=preset is Preset.UNRESTRICTED,
        forwards=document.forwards,
        ttl=None,
    )
    return policy
