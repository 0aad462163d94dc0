"""What would have to change: an exact flag that works, or a plain never."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.policy.addresses import AddressClass, classify
from mvm.policy.decide import Allowed, Authority, Denied, admit, candidates
from mvm.policy.explain import explain, remedy
from mvm.policy.parse import parse_dns, parse_grant
from mvm.terms import HostName, Layer, Protocol, Reason, RemedyKind
from tests.policy.strategies import grants, hosts
from tests.policy.test_decide import API, LITERAL, OTHER, ask, policy

if TYPE_CHECKING:
    from mvm.policy.explain import Remedy
    from mvm.policy.model import Grant, Policy
    from mvm.terms import Host


def denied(
    reason: Reason,
    layer: Layer = Layer.TCP,
    host: str | None = API,
    address: str | None = None,
    port: int = 443,
) -> Denied:
    """A denial as the gateway sees it."""
    protocol = None if layer is Layer.DNS else "udp" if layer is Layer.UDP else "tcp"
    return Denied(reason=reason, layer=layer, host=host, address=address, port=port, protocol=protocol)


def granted_by(offered: Remedy) -> Grant:
    """Read the grant of a remedy's flag as a shell and the command line would."""
    assert offered.flag is not None
    option, grant = shlex.split(offered.flag)
    assert option == "--network-allow"
    return parse_grant(grant)


def with_grant(standing: Policy, grant: Grant) -> Policy:
    """The policy with one more grant, in the place of another for the same."""
    place = (grant.host, grant.port, grant.protocol)
    others = tuple(g for g in standing.grants if (g.host, g.port, g.protocol) != place)
    return replace(standing, grants=(*others, grant))


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("layer", Layer)
@pytest.mark.parametrize("standing", [policy(f"{API}:443"), policy(), policy(unrestricted=True)])
def test_every_denial_has_a_remedy(reason: Reason, layer: Layer, standing: Policy) -> None:
    """In a sentence always; a flag, where there is one, is one that the command line takes."""
    for host, address in ((API, None), (None, "93.184.215.10"), (None, None), (API, "10.1.2.3")):
        offered = remedy(standing, denied(reason, layer, host, address))
        assert offered.text
        if offered.flag is not None and offered.flag.startswith("--dns"):
            parse_dns(offered.flag.split()[1])
        elif offered.flag is not None:
            granted_by(offered)


@given(
    st.lists(grants(depths=st.none()), max_size=4), hosts, st.integers(1, 65535), st.sampled_from(Protocol)
)
def test_the_offered_flag_allows_what_was_denied(
    found: list[Grant], host: Host, port: int, protocol: Protocol
) -> None:
    """Whatever is denied and offered: with the grant of the flag added, the same attempt is allowed."""
    standing = policy(*{(g.host, g.port, g.protocol): g for g in found}.values())
    verdict = ask(Authority(standing, 0.0), host, port, protocol)
    if isinstance(verdict, Allowed):
        admitted = admit(verdict, candidates(() if isinstance(host, str) else (host,)))
        if not isinstance(admitted, Denied):
            return
        verdict = admitted
    offered = remedy(standing, verdict)
    if offered.flag is None:
        return
    grant = granted_by(offered)
    now = ask(Authority(with_grant(standing, grant), 0.0), host, port, protocol)
    assert isinstance(now, Allowed)
    assert (grant.host, grant.port, grant.protocol) == (host, port, protocol)
    if not isinstance(host, str):
        assert not isinstance(admit(now, candidates((host,))), Denied)
        assert grant.private is (classify(host) is not AddressClass.PUBLIC)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (None, "169.254.169.254"),
        (None, "::ffff:169.254.169.254"),
        (None, "127.0.0.1"),
        (None, "::1"),
        (None, "fe80::1"),
        (None, "224.0.0.1"),
        (None, "0.0.0.0"),  # noqa: S104  nothing is bound
        ("metadata.google.internal", None),
        ("localhost", None),
        ("db.localhost", None),
        ("policy.mvm.internal", None),
    ],
)
@pytest.mark.parametrize(
    "reason", [Reason.HOST_NOT_GRANTED, Reason.ADDRESS_LITERAL, Reason.PRIVATE_ADDRESS, Reason.REVOKED]
)
def test_what_is_never_offered(host: str | None, address: str | None, reason: Reason) -> None:
    """Metadata services, loopback and the like are no remedy, by no name and in no spelling."""
    offered = remedy(policy(), denied(reason, host=host, address=address, port=80))
    assert (offered.kind, offered.flag) == (RemedyKind.NEVER, None)


@pytest.mark.parametrize("address", ["169.254.169.254", "127.0.0.1", "::1", "fd00:ec2::254"])
def test_a_name_that_leads_there_is_not_offered_either(address: str) -> None:
    """A granted name that resolves to loopback or a metadata service is not offered with `private`."""
    offered = remedy(policy(f"{API}:443"), denied(Reason.PRIVATE_ADDRESS, address=address))
    assert (offered.kind, offered.flag) == (RemedyKind.NEVER, None)


@pytest.mark.parametrize(
    ("found", "flag"),
    [
        (denied(Reason.HOST_NOT_GRANTED, Layer.DNS, OTHER, port=0), f"--network-allow {OTHER}:443"),
        (denied(Reason.HOST_NOT_GRANTED, host=OTHER, port=8080), f"--network-allow {OTHER}:8080"),
        (denied(Reason.PORT_NOT_GRANTED, port=80), f"--network-allow {API}:80"),
        (denied(Reason.PROTOCOL_NOT_GRANTED, Layer.UDP), f"--network-allow {API}:443/udp"),
        (
            denied(Reason.ADDRESS_LITERAL, host=None, address=str(LITERAL)),
            f"--network-allow {LITERAL}:443",
        ),
        (
            denied(Reason.ADDRESS_LITERAL, host=None, address="fd00::1"),
            "--network-allow '[fd00::1]:443,private'",
        ),
        (denied(Reason.SNI_MISMATCH, Layer.TLS, OTHER), f"--network-allow {OTHER}:443"),
        (denied(Reason.HOST_HEADER_MISMATCH, Layer.HTTP, OTHER, port=80), f"--network-allow {OTHER}:80"),
        (denied(Reason.NOT_TLS, Layer.TLS), f"--network-allow {API}:443,tls=auto"),
        (denied(Reason.SNI_MISSING, Layer.TLS), None),
        (denied(Reason.PRIVATE_ADDRESS, address="10.0.0.1"), f"--network-allow {API}:443,private"),
        (denied(Reason.EXPIRED, Layer.QUOTA), f"--network-allow {API}:443"),
        (denied(Reason.DNS_NOT_ALLOWED, Layer.DNS, None, port=0), "--dns system"),
        (denied(Reason.MALFORMED, Layer.HTTP), None),
        (denied(Reason.HOST_NOT_GRANTED, host=None), None),
        (denied(Reason.HOST_NOT_GRANTED, Layer.DNS, r"a\000b.example.com"), None),
        (denied(Reason.PROTOCOL_NOT_GRANTED, Layer.ICMP), None),
    ],
)
def test_the_exact_flag(found: Denied, flag: str | None) -> None:
    """What is offered for each kind of denial."""
    assert remedy(policy(f"{API}:443"), found).flag == flag


def test_a_used_up_budget_is_offered_larger() -> None:
    """Twice what it was."""
    grant = f"{API}:443,max-up=1MB"
    found = denied(Reason.BUDGET_EXCEEDED, Layer.QUOTA)
    assert remedy(policy(grant), found).flag == f"--network-allow {API}:443,max-up=2MB"


def test_an_explanation_names_the_grant_or_the_remedy() -> None:
    """Before anything is resolved; names with fixed answers are judged by these."""
    standing = policy(f"{API}:443", "10.0.0.1:80")
    allowed = explain(standing, API, 443)
    assert allowed.grant == parse_grant(f"{API}:443")
    assert (allowed.reason, allowed.remedy) == (None, None)
    other = explain(standing, OTHER, 443)
    assert (other.grant, other.reason) == (None, Reason.HOST_NOT_GRANTED)
    assert other.remedy is not None
    assert explain(standing, parse_grant("10.0.0.1:80").host, 80).reason is Reason.PRIVATE_ADDRESS
    fixed = replace(standing.dns, static=((HostName(API), (parse_grant("10.0.0.9:1").host,)),))  # type: ignore[arg-type]
    assert explain(replace(standing, dns=fixed), API, 443).reason is Reason.PRIVATE_ADDRESS
