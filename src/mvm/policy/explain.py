"""Why something is allowed or denied, and what would have to change.

Owns the remedies: the exact flag that would have allowed a denied act, where there is one. Must never judge
(`policy.decide` does; `explain` asks it), and must never offer a metadata service, a loopback or link-local
address, or a name for one, as a remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from mvm.terms import PORTAL, Layer, Protocol, Reason, RemedyKind, Tls

if TYPE_CHECKING:
    from mvm.policy.decide import Denied
    from mvm.policy.model import Grant, Policy
    from mvm.terms import Address, Host

_USUAL_PORT = 443
_NEVER_OFFERED = frozenset({"loopback", "link-local", "metadata", "multicast", "unspecified"})
_NAMES_OF_METADATA = frozenset(
    {
        "instance-data",  # EC2, from inside
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)
_ASK_FOR_NAMES = (".in-addr.arpa", ".ip6.arpa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What would have allowed a denied act.

    Attributes:
        kind: what to do; `never` where nothing is offered.
        text: the same in a sentence.
        flag: the exact flag of `mvmctl run`, quoted for a shell, or None.
    """

    kind: RemedyKind
    text: str
    flag: str | None = None

    def __post_init__(self) -> None:
        """Refuse a flag that would open what must never be opened."""
        if self.kind is RemedyKind.NEVER and self.flag is not None:
            msg = "what is never allowed has no flag that allows it"
            raise ValueError(msg)

    def to_json(self) -> dict[str, object]:
        """Give the object `remedy` of `mvm.denial/1` (SPEC section 2)."""
        return {"kind": str(self.kind), "text": self.text, "flag": self.flag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The verdict on one host, port and protocol under a policy, before anything is resolved.

    Attributes:
        grant: what allows it, or None where it is denied.
        reason: why it is denied, or None where it is allowed.
        remedy: what would allow it, or None where it is allowed.
    """

    grant: Grant | None
    reason: Reason | None
    remedy: Remedy | None


def explain(policy: Policy, host: Host, port: int, protocol: Protocol = Protocol.TCP) -> Explanation:
    """Say what becomes of an attempt to reach a host.

    An address is classed as it would be when dialled, and so is a name with fixed answers; what any other
    name resolves to is known only then.

    Args:
        policy: what stands.
        host: the name or address.
        port: 1 to 65535.
        protocol: the transport.

    Returns:
        The grant that allows it; or the reason and the remedy.
    """
    from mvm.policy.decide import Authority, Denied, admit, candidates

    name, address = (host, None) if isinstance(host, str) else (None, host)
    verdict = Authority(policy, 0.0).decide(host=name, address=address, port=port, protocol=protocol, now=0.0)
    if not isinstance(verdict, Denied):
        fixed = dict(policy.dns.static).get(name, ()) if name is not None else ()
        admitted = admit(verdict, candidates(fixed if address is None else (address,)))
        if not isinstance(admitted, Denied):
            return Explanation(grant=verdict.grant, reason=None, remedy=None)
        verdict = admitted
    return Explanation(grant=None, reason=verdict.reason, remedy=remedy(policy, verdict))


def remedy(policy: Policy, denied: Denied) -> Remedy:  # noqa: C901, PLR0911, PLR0912  one case a reason
    """Say what would have allowed a denied act.

    Args:
        policy: what stands.
        denied: what is known of the act; its host may be any text that the workload sent.

    Returns:
        The remedy; its flag, where there is one, is accepted by `parse_grant` (or is a `--dns`).
    """
    if denied.layer is Layer.ICMP or denied.protocol not in {None, *Protocol}:
        return _never("only TCP and UDP can be granted")
    match denied.reason:
        case Reason.HOST_NOT_GRANTED | Reason.PORT_NOT_GRANTED | Reason.SNI_MISMATCH:
            return _ask_for(denied, "grant it")
        case Reason.PROTOCOL_NOT_GRANTED if denied.layer is Layer.DNS:
            return _never("only names of the internet (class IN) are answered")
        case Reason.PROTOCOL_NOT_GRANTED if denied.layer is Layer.HTTP:
            return _for_http(policy, denied)
        case Reason.PROTOCOL_NOT_GRANTED:
            return _ask_for(denied, f"grant it for {denied.protocol}")
        case Reason.ADDRESS_LITERAL:
            return _ask_for(denied, "reach it by a granted name, or grant the address")
        case Reason.DNS_NOT_ALLOWED:
            return _for_dns(denied)
        case Reason.PRIVATE_ADDRESS:
            return _for_private(policy, denied)
        case Reason.EXPIRED | Reason.BUDGET_EXCEEDED | Reason.REVOKED:
            return _for_renewal(policy, denied)
        case Reason.SNI_MISSING | Reason.NOT_TLS:
            return _for_tls(policy, denied)
        case Reason.HOST_HEADER_MISMATCH:
            return _ask_for(denied, "grant it, and reach it by its own name")
        case Reason.RESOLUTION_CHANGED:
            return Remedy(kind=RemedyKind.RENEW, text="look the name up again and connect anew")
        case Reason.MALFORMED:
            return _never("what was sent makes no sense, so no grant allows it")
        case _:
            assert_never(denied.reason)


# What is asked for


def _never(text: str) -> Remedy:
    return Remedy(kind=RemedyKind.NEVER, text=text)


def _allow(grant: Grant) -> str:
    """Give the flag for a grant; of subdomains there is none, so their flag names no host below."""
    from shlex import quote

    from mvm.policy.parse import format_grant

    return f"--network-allow {quote(format_grant(grant))}"


def _host_of(denied: Denied) -> Host | None:
    """Read what was asked for as a grant would have it; None where no grant can name it."""
    from mvm.errors import PolicyRefused
    from mvm.policy.parse import parse_host

    text = denied.host if denied.host is not None else denied.address
    if text is None:
        return None
    try:
        return parse_host(text, path="", source="")
    except PolicyRefused:
        return None


def refusal_to_offer(host: Host) -> Remedy | None:
    """Give the remedy for a host that is never offered, None for any other.

    Args:
        host: what a grant would name.
    """
    from mvm.policy.addresses import classify
    from mvm.policy.hosts import NAMES_OF_THIS_MACHINE

    if not isinstance(host, str):
        kind = classify(host)
        if kind in _NEVER_OFFERED:
            return _never(f"a {kind} address is offered by no hint; `private` in a grant opens it")
        return None
    if host in _NAMES_OF_METADATA:
        return _never(
            "a metadata service hands out the machine's own credentials: it is never opened on request"
        )
    if host == PORTAL:
        return _never("that name has the policy's own page, on port 80, and nothing else")
    if host.rpartition(".")[2] in NAMES_OF_THIS_MACHINE:
        return _never("inside the sandbox that name is the sandbox itself")
    if host.endswith(_ASK_FOR_NAMES):
        return _never("it asks for the name of an address (RFC 1035 section 3.5), and is no host")
    return None


def _ask_for(denied: Denied, advice: str) -> Remedy:
    """Offer a grant for exactly the host, port and protocol that were denied."""
    if denied.host is None and denied.address is None:
        text = "what was asked for is not known; `mvmctl audit show` has what was seen"
        return Remedy(kind=RemedyKind.EDIT_POLICY, text=text)
    host = _host_of(denied)
    if host is None:
        return _never("no grant can name such a host")
    refusal = refusal_to_offer(host)
    if refusal is not None:
        return refusal
    grant = _grant_for(host, denied)
    if not isinstance(host, str):
        return _ask_for_address(host, grant, advice)
    unknown = "" if denied.port else f" (its port is not known yet; {_USUAL_PORT} is the usual one)"
    return Remedy(
        kind=RemedyKind.ALLOW_HOST,
        text=f"if the workload needs {host}, {advice}{unknown}",
        flag=_allow(grant),
    )


def _grant_for(host: Host, denied: Denied) -> Grant:
    from mvm.policy.model import Grant
    from mvm.policy.parse import default_tls

    protocol = Protocol(denied.protocol or Protocol.TCP)
    port = denied.port if denied.layer is not Layer.DNS else 0
    port = port or _USUAL_PORT
    return Grant(host=host, port=port, protocol=protocol, tls=default_tls(port, protocol))


def _ask_for_address(host: Address, grant: Grant, advice: str) -> Remedy:
    from dataclasses import replace

    from mvm.policy.addresses import AddressClass, classify

    kind = classify(host)
    if kind is AddressClass.BENCHMARKING:
        # The door's own pools: an address that was given out for a name, in this sandbox or another.
        return Remedy(kind=RemedyKind.EDIT_POLICY, text=f"{host} stands for no name: look the name up again")
    private = kind is not AddressClass.PUBLIC
    also = f", which is {kind}, with `private`" if private else ""
    return Remedy(
        kind=RemedyKind.NAME_EXPLICITLY,
        text=f"if the workload needs {host}, {advice}{also}",
        flag=_allow(replace(grant, private=private)),
    )


# What a grant that stands should say instead


def _standing(policy: Policy, denied: Denied) -> Grant | None:
    """Find the grant of exactly the host that was denied."""
    host = _host_of(denied)
    for grant in policy.grants:
        if (grant.host, grant.port, grant.protocol, grant.depth) == (
            host,
            denied.port,
            denied.protocol,
            None,
        ):
            return grant
    return None


def _for_dns(denied: Denied) -> Remedy:
    if denied.host is not None:
        return _ask_for(denied, "grant it; the policy resolves no names so far")
    text = "the policy resolves no names; state a DNS policy"
    return Remedy(kind=RemedyKind.EDIT_POLICY, text=text, flag="--dns system")


def _for_private(policy: Policy, denied: Denied) -> Remedy:
    from dataclasses import replace

    from mvm.policy.addresses import AddressClass, classify, ip_address

    host = _host_of(denied)
    refusal = refusal_to_offer(host) if host is not None else None
    kind = None
    if denied.address is not None and refusal is None:
        address = ip_address(denied.address)
        refusal, kind = refusal_to_offer(address), classify(address)
    if refusal is not None:
        return refusal
    if kind is AddressClass.PUBLIC:
        return _never(f"{denied.address} is an address of this machine itself")
    if host is None:
        return _never("no grant can name such a host")
    grant = replace(_standing(policy, denied) or _grant_for(host, denied), private=True)
    what = f"{host} leads to {denied.address}" if denied.address not in {None, str(host)} else str(host)
    which = f" ({kind})" if kind is not None else ""
    return Remedy(
        kind=RemedyKind.NAME_EXPLICITLY,
        text=f"{what}, which is not public{which}; if that is meant, say `private` in its grant",
        flag=_allow(grant),
    )


def _for_renewal(policy: Policy, denied: Denied) -> Remedy:
    from dataclasses import replace

    from mvm.policy.quantities import LARGEST_SIZE
    from mvm.terms import Bytes

    grant = _standing(policy, denied)
    if grant is None:
        asked = _ask_for(denied, "grant it again")
        kind = RemedyKind.RENEW if asked.flag is not None else asked.kind
        return Remedy(kind=kind, text=asked.text, flag=asked.flag)
    if denied.reason is Reason.BUDGET_EXCEEDED:
        up, down = (
            None if most is None else Bytes(min(most * 2, LARGEST_SIZE))
            for most in (grant.max_up, grant.max_down)
        )
        text = f"the budget of {grant.host} is used up; grant it anew, or a larger one"
        return Remedy(kind=RemedyKind.RENEW, text=text, flag=_allow(replace(grant, max_up=up, max_down=down)))
    text = f"the grant of {grant.host} has ended; grant it anew"
    return Remedy(kind=RemedyKind.RENEW, text=text, flag=_allow(grant))


def _for_tls(policy: Policy, denied: Denied) -> Remedy:
    from dataclasses import replace

    grant = _standing(policy, denied)
    if grant is None or grant.tls is not Tls.REQUIRE or denied.reason is Reason.SNI_MISSING:
        text = "the client must name the granted host in its TLS hello (SNI); use a client that does"
        return Remedy(kind=RemedyKind.EDIT_POLICY, text=text)
    text = f"port {grant.port} of {grant.host} must speak TLS; use https, or say `tls=auto` in its grant"
    return Remedy(kind=RemedyKind.EDIT_POLICY, text=text, flag=_allow(replace(grant, tls=Tls.AUTO)))


def _for_http(policy: Policy, denied: Denied) -> Remedy:
    from dataclasses import replace

    text = "of HTTP only version 1 can be checked here: use that, or https"
    grant = _standing(policy, denied)
    if grant is None:
        return Remedy(kind=RemedyKind.EDIT_POLICY, text=text)
    text += ", or say `tls=off` in the grant to have nothing checked"
    return Remedy(kind=RemedyKind.EDIT_POLICY, text=text, flag=_allow(replace(grant, tls=Tls.OFF)))
