"""The smallest explicit policy that what was observed needs.

Owns the step from flows and denials to grants. Must never suggest a metadata service, a loopback or a
link-local address, nor any other address without a warning: whatever a workload tried, hostile or not, is
in what was observed, and a person reads this before granting it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.policy.decide import Denied
from mvm.policy.explain import refusal_to_offer
from mvm.policy.explain import remedy as remedy_of
from mvm.policy.fields import default_tls
from mvm.policy.model import Dns, Grant, Policy
from mvm.policy.parse import parse_host
from mvm.policy.validate import default_dns, grant_key, policy_of, spell_grant
from mvm.terms import DnsMode, Layer, Preset, Protocol, Reason, RemedyKind, Tls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mvm.policy.explain import Remedy
    from mvm.terms import Address, Host

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
_ENDED = frozenset({Reason.EXPIRED, Reason.BUDGET_EXCEEDED, Reason.REVOKED})


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
        flows: what was reached: objects with `host`, `port` and `protocol`, and `speaks` where that is known.
        denials: what was not: objects of schema `mvm.denial/1`; their remedies are not looked at.
        standing: the grants of the run; one that was used keeps what it says, one that was not is left out.
        dns: who resolved in the run, or None; `system` where names are granted and nobody did.

    Returns:
        A policy without presets or subdomains, and the warnings; a grant's `source` says why it is there.
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
        self._policy = Policy(
            grants=tuple(standing),
            dns=Dns(mode=DnsMode.SYSTEM),
            preset=Preset.NONE,
            unrestricted=False,
            forwards=(),
            ttl=None,
        )
        self._grants: dict[tuple[str, int, str], Grant] = {}
        self._names: dict[str, tuple[Host, Reason]] = {}  # asked for, on a port that is not known
        self.warnings: list[Finding] = []

    def add_flow(self, flow: Mapping[str, object]) -> None:
        asked = str(flow.get("host") or flow.get("address"))
        host = _host(asked)
        refusal = refusal_to_offer(host) if host is not None else None
        if host is None or refusal is not None:
            self._warn_of_left_out(f"{asked} was reached", refusal)
            return
        port, protocol = _port(flow.get("port")) or _USUAL_PORT, _protocol(flow)
        # An unrestricted run lets an address speak anything on 443, where a grant would demand TLS.
        is_plain = not isinstance(host, str) and flow.get("speaks", "tls") != "tls"
        tls = Tls.AUTO if is_plain else default_tls(port, protocol)
        self._add(Grant(host=host, port=port, protocol=protocol, tls=tls, source="reached"))

    def add_denial(self, denial: Mapping[str, object]) -> None:
        denied = _denied(denial)
        if denied is None:
            self._warn_of_nothing("something was denied", "see `mvmctl audit show`")
            return
        asked = denied.host or denied.address
        what = f"{asked or 'something'} was denied [{denied.reason}]"
        remedy = remedy_of(self._policy, denied)
        if denied.reason in _A_GRANT_HELPS and asked and remedy.kind is RemedyKind.NEVER:
            self._warn_of_left_out(what, remedy)
            return
        is_flagged = remedy.flag is not None and denied.layer is not Layer.HTTP
        host = _host(asked) if asked else None
        if denied.reason not in _A_GRANT_HELPS or host is None or not is_flagged:
            self._warn_of_nothing(what, remedy.text)
            return
        if not denied.port or denied.layer is Layer.DNS:
            self._names.setdefault(str(host), (host, denied.reason))
            return
        if denied.reason in _ENDED:
            hint = "grant it for longer, or more of it, if that is meant"
            self._warn("grant-ended", f"{what}: its grant had ended, and is suggested as it stood", hint)
        protocol = Protocol(denied.protocol or Protocol.TCP)
        grant = Grant(
            host=host,
            port=denied.port,
            protocol=protocol,
            tls=default_tls(denied.port, protocol),
            private=denied.reason is Reason.PRIVATE_ADDRESS,
            source=f"denied: {denied.reason}",
        )
        self._add(grant)

    def grants(self) -> tuple[Grant, ...]:
        """Give what is needed, once all is added: a name that was only asked for gets the usual port."""
        known = {host for host, _, _ in self._grants}
        for text, (host, reason) in self._names.items():
            if text not in known:
                tls = default_tls(_USUAL_PORT, Protocol.TCP)
                self._add(Grant(host=host, port=_USUAL_PORT, tls=tls, source=f"denied: {reason}"))
                message = f"{text} was only asked for by name: that its port is {_USUAL_PORT} is a guess"
                self._warn("port-guessed", message, "run it again with this grant to see")
        return tuple(self._grants.values())

    def _add(self, seen: Grant) -> None:
        """Add the grant for what was seen, or in its place the standing one that was used."""
        host, port, protocol, private = seen.host, seen.port, seen.protocol, seen.private
        key = (str(host), port, protocol)
        before = self._grants.get(key)
        if before is not None:
            is_loose = not isinstance(host, str) and (*key, 0) not in self._standing and seen.tls is Tls.AUTO
            tls = Tls.AUTO if is_loose else before.tls
            self._grants[key] = replace(before, private=before.private or private, tls=tls)
            return
        if not isinstance(host, str):
            private = self._warn_of_address(host, port, protocol) or private
        elif private:
            message = f"{host} leads to an address that is not public"
            self._warn("needs-private", message, "make sure that a service of your own network is meant")
        grant = self._standing.get((*key, 0)) or self._standing_above(host, port, protocol) or seen
        self._grants[key] = replace(grant, private=grant.private or private, source=seen.source)

    def _standing_above(self, host: Host, port: int, protocol: Protocol) -> Grant | None:
        for grant in self._below:
            if str(host).endswith(f".{grant.host}") and (grant.port, grant.protocol) == (port, protocol):
                return replace(grant, host=host, depth=None)
        return None

    def _warn_of_address(self, host: Address, port: int, protocol: Protocol) -> bool:
        """Warn of a literal address, and tell whether it is not public."""
        from mvm.policy.addresses import AddressClass, classify

        kind = classify(host)
        grant = spell_grant(Grant(host=host, port=port, protocol=protocol))
        hint = "grant the name that it belongs to, if it has one"
        self._warn("literal-address", f"{grant} is an address without a name ({kind})", hint)
        return kind is not AddressClass.PUBLIC

    def _warn_of_left_out(self, what: str, refusal: Remedy | None) -> None:
        why = "no grant can name it" if refusal is None else refusal.text
        self._warn("not-suggested", f"{what}, and is left out: {why}", "grant it by hand, if at all")

    def _warn_of_nothing(self, what: str, hint: str) -> None:
        self._warn("no-grant-helps", f"{what}, and nothing is suggested for it", hint)

    def _warn(self, code: str, message: str, hint: str) -> None:
        self.warnings.append(
            Finding(code=code, path=".network.allow", message=message, hint=hint, severity="warning")
        )


def _denied(denial: Mapping[str, object]) -> Denied | None:
    """Read a denial as a run tells it; None where it speaks of what this version does not know."""
    host, address, protocol = (denial.get(key) for key in ("host", "address", "protocol"))
    try:
        return Denied(
            reason=Reason(str(denial.get("reason"))),
            layer=Layer(str(denial.get("layer"))),
            host=None if host is None else str(host),
            address=None if address is None else str(address),
            port=_port(denial.get("port")) or 0,
            protocol=None if protocol is None else str(protocol),
        )
    except ValueError:
        return None


def _host(text: str) -> Host | None:
    try:
        return parse_host(text, path="", source="")
    except PolicyRefused:
        return None


def _port(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _protocol(observed: Mapping[str, object]) -> Protocol:
    return Protocol.UDP if observed.get("protocol") == "udp" else Protocol.TCP
