"""The smallest explicit policy that what was observed needs.

Owns the step from flows and denials to grants. Must never suggest a metadata service, a loopback or a
link-local address, nor any other address without a warning: whatever a workload tried, hostile or not, is
in what was observed, and a person reads this before granting it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy.fields import default_tls
from mvm.policy.model import Grant
from mvm.policy.parse import parse_host
from mvm.policy.validate import default_dns, grant_key, policy_of, spell_grant
from mvm.terms import DnsMode, Preset, Protocol, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mvm.policy.model import Dns, Policy
    from mvm.terms import Host

_USUAL_PORT = 443
_A_GRANT_HELPS = frozenset(
    {
        Reason.HOST_NOT_GRANTED,
        Reason.PORT_NOT_GRANTED,
        Reason.PROTOCOL_NOT_GRANTED,
        Reason.ADDRESS_LITERAL,
        Reason.PRIVATE_ADDRESS,
        Reason.DNS_NOT_ALLOWED,
        Reason.SNI_MISMATCH,
        Reason.EXPIRED,
        Reason.BUDGET_EXCEEDED,
        Reason.REVOKED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """What an observed run needs.

    Attributes:
        policy: the smallest explicit one.
        warnings: what to look at before it is used, and what was left out.
    """

    policy: Policy
    warnings: tuple[Finding, ...]


def suggest(
    flows: Iterable[Mapping[str, object]],
    denials: Iterable[Mapping[str, object]],
    *,
    standing: Sequence[Grant] = (),
    dns: Dns | None = None,
) -> Suggestion:
    """Propose the grants that what was observed needs, each host by itself.

    Args:
        flows: what was reached: objects with `host`, `port` and `protocol`.
        denials: what was not: objects of schema `mvm.denial/1`.
        standing: the grants of the run; one that was used keeps what it says, one that was not is left out.
        dns: who resolved in the run, or None; `system` where names are granted and nobody did.

    Returns:
        A policy without presets or subdomains, and the warnings.
    """
    maker = _Maker(standing)
    for flow in flows:
        maker.add_flow(flow)
    for denial in denials:
        maker.add_denial(denial)
    grants = maker.grants()
    resolves = dns if dns is not None and dns.mode is not DnsMode.NONE else None
    policy, warnings = policy_of(
        grants=grants,
        dns=resolves or default_dns(grants),
        preset=Preset.NONE,
        unrestricted=False,
        forwards=(),
        ttl=None,
    )
    return Suggestion(policy=policy, warnings=tuple(dict.fromkeys([*maker.warnings, *warnings])))


class _Maker:
    """Grants being gathered: one for each host, port and protocol."""

    def __init__(self, standing: Sequence[Grant]) -> None:
        self._standing = {grant_key(grant): grant for grant in standing}
        self._below = [grant for grant in standing if grant.depth is not None]
        self._grants: dict[tuple[str, int, str], Grant] = {}
        self._names: dict[str, Host] = {}  # asked for, on a port that is not known
        self.warnings: list[Finding] = []

    def add_flow(self, flow: Mapping[str, object]) -> None:
        host = self._host(flow.get("host") or flow.get("address"), never="")
        if host is not None:
            self._add(host, _port(flow.get("port")) or _USUAL_PORT, _protocol(flow), private=False)

    def add_denial(self, denial: Mapping[str, object]) -> None:
        asked = denial.get("host") or denial.get("address")
        reason = Reason(str(denial["reason"]))
        layer = str(denial.get("layer"))
        if reason not in _A_GRANT_HELPS or layer == "icmp" or asked is None:
            what = f"{asked or 'something'} [{reason}]"
            self._warn(
                "no-grant-helps", f"{what} was denied, and no grant would allow it", "see `audit show`"
            )
            return
        remedy = denial.get("remedy")
        kind = remedy.get("kind") if isinstance(remedy, dict) else None
        host = self._host(asked, never="is never opened on request" if kind == "never" else "")
        if host is None:
            return
        port = _port(denial.get("port"))
        if port is None or layer == "dns":
            self._names.setdefault(str(host), host)
            return
        self._add(host, port, _protocol(denial), private=reason is Reason.PRIVATE_ADDRESS)

    def grants(self) -> tuple[Grant, ...]:
        """Give what is needed, once all is added: a name that was only asked for gets the usual port."""
        known = {host for host, _, _ in self._grants}
        for text, host in self._names.items():
            if text not in known:
                self._add(host, _USUAL_PORT, Protocol.TCP, private=False)
                message = f"{text} was only asked for by name: that its port is {_USUAL_PORT} is a guess"
                self._warn("port-guessed", message, "run it again with this grant to see")
        return tuple(self._grants.values())

    def _host(self, asked: object, *, never: str) -> Host | None:
        from mvm.policy.addresses import AddressClass, classify

        text = str(asked)
        try:
            host = parse_host(text, path="", source="")
        except PolicyRefused as refusal:
            never = refusal.findings[0].code
            host = None
        if host is not None and not isinstance(host, str):
            kind = classify(host)
            if kind in {AddressClass.LOOPBACK, AddressClass.LINK_LOCAL, AddressClass.METADATA}:
                never = f"is a {kind} address"
        if host is None or never:
            self._warn("not-suggested", f"{text} is left out: {never}", "grant it by hand, if at all")
            return None
        return host

    def _add(self, host: Host, port: int, protocol: Protocol, *, private: bool) -> None:
        key = (str(host), port, protocol)
        if key in self._grants:
            return
        if not isinstance(host, str):
            private = self._warn_of_address(host, port) or private
        elif private:
            message = f"{host} leads to an address that is not public"
            self._warn("needs-private", message, "make sure that a service of your own network is meant")
        grant = self._standing.get((*key, 0)) or self._standing_above(host, port, protocol)
        if grant is None:
            tls = default_tls(port, protocol)
            grant = Grant(host=host, port=port, protocol=protocol, tls=tls)
        self._grants[key] = replace(grant, private=grant.private or private, source="")

    def _standing_above(self, host: Host, port: int, protocol: Protocol) -> Grant | None:
        for grant in self._below:
            if str(host).endswith(f".{grant.host}") and (grant.port, grant.protocol) == (port, protocol):
                return replace(grant, host=host, depth=None)
        return None

    def _warn_of_address(self, host: Host, port: int) -> bool:
        """Warn of a literal address, and tell whether it is not public."""
        from mvm.policy.addresses import AddressClass, classify

        assert not isinstance(host, str), "asked of addresses only"
        kind = classify(host)
        grant = spell_grant(Grant(host=host, port=port))
        hint = "grant the name that it belongs to, if it has one"
        self._warn("literal-address", f"{grant} is an address without a name ({kind})", hint)
        return kind is not AddressClass.PUBLIC

    def _warn(self, code: str, message: str, hint: str) -> None:
        self.warnings.append(
            Finding(code=code, path=".network.allow", message=message, hint=hint, severity="warning")
        )


def _port(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _protocol(observed: Mapping[str, object]) -> Protocol:
    return Protocol.UDP if observed.get("protocol") == "udp" else Protocol.TCP
