"""What may be opened: exactly what stands, as long as it stands, and nothing else, whatever came before."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.policy.decide import Allowed, Authority, Denied, admit, candidates
from mvm.policy.model import Dns, Grant, Policy
from mvm.policy.parse import parse_grant
from mvm.terms import DnsMode, HostName, Layer, Preset, Protocol, Reason, Tls
from tests.policy.strategies import grants, hosts

if TYPE_CHECKING:
    from mvm.terms import Address, Host

API, OTHER = HostName("api.example.com"), HostName("other.example.com")
LITERAL = ip_address("93.184.215.10")


def policy(*given_grants: str | Grant, unrestricted: bool = False) -> Policy:
    """A policy of these grants."""
    return Policy(
        grants=tuple(parse_grant(each) if isinstance(each, str) else each for each in given_grants),
        dns=Dns(mode=DnsMode.SYSTEM),
        preset=Preset.NONE,
        unrestricted=unrestricted,
        forwards=(),
        ttl=None,
    )


def ask(
    authority: Authority, host: Host, port: int = 443, protocol: Protocol = Protocol.TCP, now: float = 0.0
) -> Allowed | Denied:
    """Judge an attempt to reach a host."""
    name = host if isinstance(host, str) else None
    address = None if isinstance(host, str) else host
    return authority.decide(host=name, address=address, port=port, protocol=protocol, now=now)


def reason(verdict: Allowed | Denied) -> Reason | None:
    """Why not, or None."""
    return verdict.reason if isinstance(verdict, Denied) else None


@pytest.mark.parametrize(
    ("host", "port", "protocol", "why"),
    [
        (API, 443, Protocol.TCP, None),
        (API, 80, Protocol.TCP, Reason.PORT_NOT_GRANTED),
        (API, 443, Protocol.UDP, Reason.PROTOCOL_NOT_GRANTED),
        (OTHER, 443, Protocol.TCP, Reason.HOST_NOT_GRANTED),
        (HostName("example.com"), 443, Protocol.TCP, Reason.HOST_NOT_GRANTED),
        (HostName("x.api.example.com"), 443, Protocol.TCP, Reason.HOST_NOT_GRANTED),
        (HostName("api.example.com.evil.test"), 443, Protocol.TCP, Reason.HOST_NOT_GRANTED),
        (LITERAL, 22, Protocol.TCP, None),
        (LITERAL, 23, Protocol.TCP, Reason.PORT_NOT_GRANTED),
        (LITERAL, 22, Protocol.UDP, Reason.PROTOCOL_NOT_GRANTED),
        (ip_address("93.184.215.11"), 22, Protocol.TCP, Reason.ADDRESS_LITERAL),
        (ip_address("::ffff:93.184.215.10"), 22, Protocol.TCP, Reason.ADDRESS_LITERAL),
    ],
)
def test_exactly_what_is_granted_is_allowed(
    host: Host, port: int, protocol: Protocol, why: Reason | None
) -> None:
    """A grant is one host, one port, one protocol; all beside it is denied for what is wrong with it."""
    authority = Authority(policy(f"{API}:443", f"{LITERAL}:22"), 0.0)
    verdict = ask(authority, host, port, protocol)
    assert reason(verdict) is why
    if isinstance(verdict, Allowed):
        assert (verdict.host, verdict.port, verdict.grant.protocol) == (host, port, protocol)
    else:
        assert (verdict.port, verdict.protocol, verdict.layer) == (port, protocol, Layer(protocol))
        assert (verdict.host, verdict.address) == (
            (host, None) if isinstance(host, str) else (None, str(host))
        )


def test_nothing_is_allowed_where_nothing_is_known() -> None:
    """Neither a name nor an address: the last word is a denial."""
    for unrestricted in (False, True):
        authority = Authority(policy(unrestricted=unrestricted), 0.0)
        verdict = authority.decide(host=None, address=None, port=443, protocol=Protocol.TCP, now=0.0)
        assert isinstance(verdict, Denied)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a.example.com", True),
        ("b.a.example.com", True),
        ("c.b.a.example.com", False),
        ("example.com", False),
        ("aexample.com", False),
        ("example.com.evil.test", False),
        (".example.com", True),
    ],
)
def test_subdomains_go_as_deep_as_they_say(name: str, allowed: bool) -> None:
    """A grant of depth 2 holds for one and two labels below, never for the name itself."""
    below = Grant(host=HostName("example.com"), port=443, tls=Tls.REQUIRE, depth=2)
    authority = Authority(policy(below), 0.0)
    assert isinstance(ask(authority, HostName(name)), Allowed) is allowed
    assert authority.knows(HostName(name)) is allowed
    assert (not authority.ports(HostName(name))) is not allowed


def test_an_expiry_counts_from_when_the_grant_took_effect() -> None:
    """It ends at its time, not before; the grant that has none does not end."""
    authority = Authority(policy(f"{API}:443,expires=10s", f"{OTHER}:443"), 100.0)
    assert reason(ask(authority, API, now=109.999)) is None
    ended = ask(authority, API, now=110.0)
    assert isinstance(ended, Denied)
    assert (ended.reason, ended.layer, ended.host) == (Reason.EXPIRED, Layer.QUOTA, API)
    assert reason(ask(authority, OTHER, now=1e9)) is None
    (ending,) = authority.ending
    ending[1].over = True
    assert list(authority.ending) == []
    assert authority.ports(API) == frozenset()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_budget_holds_over_all_flows(direction: str) -> None:
    """Flows of one grant share one count; used up, no new one is allowed."""
    authority = Authority(policy(f"{API}:443,max-{direction}=10B"), 0.0)
    first, second = ask(authority, API), ask(authority, API)
    assert isinstance(first, Allowed)
    assert isinstance(second, Allowed)
    tallies = [getattr(each.usage, direction) for each in (first, second)]
    tallies[0].carried += 6
    assert (tallies[1].left, reason(ask(authority, API))) == (4, None)
    tallies[1].carried += 4
    assert reason(ask(authority, API)) is Reason.BUDGET_EXCEEDED


def test_unrestricted_allows_any_name_and_any_public_address() -> None:
    """Any name on any port, port 443 for TLS only; addresses only where they are public."""
    authority = Authority(policy(unrestricted=True), 0.0)
    web, other = ask(authority, OTHER, 443), ask(authority, OTHER, 444)
    assert isinstance(web, Allowed)
    assert isinstance(other, Allowed)
    assert (web.grant.tls, other.grant.tls) == (Tls.REQUIRE, Tls.AUTO)
    assert not web.grant.private
    assert isinstance(ask(authority, LITERAL, 7, Protocol.UDP), Allowed)
    for text in ("10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "2002:a00:1::", "fd00::1"):
        assert reason(ask(authority, ip_address(text))) is Reason.PRIVATE_ADDRESS


# ---- edits


def test_an_edit_is_planned_before_it_is_done() -> None:
    """A plan changes nothing; applied, it is in force at once."""
    authority = Authority(policy(f"{API}:443"), 0.0)
    change = authority.plan(policy(f"{OTHER}:443"), 1.0)
    assert isinstance(ask(authority, API), Allowed)
    assert [grant.host for grant in change.granted] == [OTHER]
    assert [grant.host for grant in change.revoked] == [API]
    authority.apply(change, 1.0)
    assert reason(ask(authority, API)) is Reason.REVOKED
    assert isinstance(ask(authority, OTHER), Allowed)


@pytest.mark.parametrize(
    ("after", "granted", "ended", "renewed"),
    [
        ("", 0, False, False),
        (",reason=other", 1, False, False),
        (",expires=20s", 1, False, True),
        (",max-up=2KB", 1, False, True),
        (",private", 1, True, True),
        (",tls=off", 1, True, True),
    ],
)
def test_what_a_changed_grant_means(after: str, granted: int, ended: bool, renewed: bool) -> None:
    """The table of the module: what goes on, what begins anew, and what is to end."""
    first = f"{API}:443,expires=10s,max-up=1KB"
    text = f"{API}:443{after}" if "expires" in after or "max-up" in after else first + after
    authority = Authority(policy(first), 0.0)
    held = ask(authority, API)
    assert isinstance(held, Allowed)
    held.usage.up.carried = 7
    change = authority.plan(policy(text), 5.0)
    assert (len(change.granted), change.ended == (held.usage,)) == (granted, ended)
    authority.apply(change, 5.0)
    now = ask(authority, API, now=5.0)
    assert isinstance(now, Allowed)
    assert (now.usage is held.usage) is not ended
    assert (now.usage.since, now.usage.up.carried) == ((5.0, 0) if renewed else (0.0, 7))


def test_a_grant_may_be_granted_anew() -> None:
    """Its time and budget begin again, for its open flows too; said again without that word, they do not."""
    grant = f"{API}:443,expires=10s"
    authority = Authority(policy(grant), 0.0)
    authority.apply(authority.plan(policy(grant), 11.0), 11.0)
    assert reason(ask(authority, API, now=11.0)) is Reason.EXPIRED
    change = authority.plan(policy(grant), 12.0, anew=[parse_grant(grant)])
    assert (len(change.granted), change.ended) == (1, ())
    authority.apply(change, 12.0)
    assert reason(ask(authority, API, now=12.0)) is None


def test_what_was_revoked_is_told_from_what_never_was() -> None:
    """The reason of a revoked place is that, until it is granted again; other ports have their own."""
    authority = Authority(policy(f"{API}:443", f"{API}:80", f"{LITERAL}:22"), 0.0)
    authority.apply(authority.plan(policy(f"{API}:80"), 1.0), 1.0)
    assert reason(ask(authority, API, 443)) is Reason.REVOKED
    assert reason(ask(authority, API, 8080)) is Reason.PORT_NOT_GRANTED
    assert reason(ask(authority, LITERAL, 22)) is Reason.REVOKED
    assert reason(ask(authority, OTHER)) is Reason.HOST_NOT_GRANTED
    authority.apply(authority.plan(policy(f"{API}:443"), 2.0), 2.0)
    assert reason(ask(authority, API, 443)) is None
    assert reason(ask(authority, API, 80)) is Reason.REVOKED


def test_memory_of_what_was_revoked_is_bounded() -> None:
    """Edits without end leave no more than the last few thousand hosts behind."""
    authority = Authority(policy(), 0.0)
    for at in range(0, 9000, 1500):
        wave = [Grant(host=HostName(f"h{n}.example.com"), port=443) for n in range(at, at + 1500)]
        authority.apply(authority.plan(policy(*wave), 1.0), 1.0)
    authority.apply(authority.plan(policy(), 2.0), 2.0)
    assert reason(ask(authority, HostName("h8999.example.com"))) is Reason.REVOKED
    assert reason(ask(authority, HostName("h0.example.com"))) is Reason.HOST_NOT_GRANTED


def test_taking_back_every_host_ends_the_flows_that_used_it() -> None:
    """The flows that were allowed because every host was are told from those that a grant allows."""
    authority = Authority(policy(f"{API}:443", unrestricted=True), 0.0)
    named, other = ask(authority, API), ask(authority, OTHER)
    assert isinstance(named, Allowed)
    assert isinstance(other, Allowed)
    change = authority.plan(policy(f"{API}:443"), 1.0)
    assert change.ended == (other.usage,)
    authority.apply(change, 1.0)
    assert isinstance(ask(authority, OTHER), Denied)


def _unique(found: list[Grant]) -> list[Grant]:
    return list({(g.host, g.port, g.protocol, g.depth): g for g in found}.values())


@given(
    st.lists(st.lists(grants(), max_size=5).map(_unique), min_size=1, max_size=4),
    hosts,
    st.integers(1, 65535),
)
def test_only_the_last_policy_counts(policies: list[list[Grant]], stranger: Host, port: int) -> None:
    """Whatever stood before: what the last policy names is allowed, and what it does not name is denied."""
    authority = Authority(policy(*policies[0]), 0.0)
    for later in policies[1:]:
        authority.apply(authority.plan(policy(*later), 0.0), 0.0)
    last = policies[-1]
    for grant in (grant for found in policies for grant in found):
        verdict = ask(authority, grant.host, grant.port, grant.protocol)
        places = {(g.host, g.port, g.protocol) for g in last if g.depth is None}
        if (grant.host, grant.port, grant.protocol) in places:
            assert isinstance(verdict, Allowed)
        elif not _is_below(grant.host, last):
            assert isinstance(verdict, Denied)
    if not _is_below(stranger, last) and all(grant.host != stranger for grant in last):
        assert isinstance(ask(authority, stranger, port), Denied)


def _is_below(host: Host, found: list[Grant]) -> bool:
    return any(g.depth is not None and str(host).endswith(f".{g.host}") for g in found)


# ---- where a name leads


PUBLIC = (ip_address("93.184.215.10"), ip_address("2606:2800:220:1::a"))


def _allowed(text: str) -> Allowed:
    grant = parse_grant(text)
    verdict = ask(Authority(policy(grant), 0.0), grant.host, grant.port, grant.protocol)
    assert isinstance(verdict, Allowed)
    return verdict


@pytest.mark.parametrize(
    ("text", "private", "admitted"),
    [
        ("10.1.2.3", False, False),
        ("10.1.2.3", True, True),
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("::ffff:10.1.2.3", False, False),
        ("64:ff9b::a01:203", False, False),
        ("100.64.0.1", False, False),
        ("fd00::1", True, True),
        ("169.254.169.254", True, False),
        ("::ffff:169.254.169.254", True, False),
        ("fd00:ec2::254", True, False),
        ("224.0.0.1", True, False),
        ("0.0.0.0", True, False),  # noqa: S104  nothing is bound
        ("::", True, False),
        ("255.255.255.255", True, False),
        ("192.0.2.1", False, False),
    ],
)
def test_where_a_name_may_lead(text: str, private: bool, admitted: bool) -> None:
    """Alone or among public addresses: what is not public needs `private`, some is never reached by name."""
    allowed = _allowed(f"{API}:443{',private' if private else ''}")
    address = ip_address(text)
    for found in ((address,), (*PUBLIC, address), (address, *PUBLIC)):
        verdict = admit(allowed, candidates(found))
        if admitted:
            assert verdict == candidates(found)
        else:
            assert isinstance(verdict, Denied)
            assert (verdict.reason, verdict.host, verdict.address) == (
                Reason.PRIVATE_ADDRESS,
                API,
                str(address),
            )
    assert admit(allowed, candidates(PUBLIC)) == candidates(PUBLIC)


def test_this_machines_own_addresses_are_private() -> None:
    """An address that looks public is refused where it is this machine's own, unless the grant says so."""
    own = [PUBLIC[1]]
    assert isinstance(admit(_allowed(f"{API}:443"), candidates(PUBLIC, own)), Denied)
    assert admit(_allowed(f"{API}:443,private"), candidates(PUBLIC, own)) == candidates(PUBLIC, own)


@pytest.mark.parametrize("metadata", ["169.254.169.254", "169.254.170.2"])
def test_a_metadata_service_is_reached_by_its_very_address_or_not_at_all(metadata: str) -> None:
    """Only a grant that writes the address and says `private` admits it."""
    address: Address = ip_address(metadata)
    named = replace(parse_grant("203.0.114.1:80"), host=address, private=True)
    authority = Authority(policy(named), 0.0)
    allowed = ask(authority, address, 80)
    assert isinstance(allowed, Allowed)
    assert admit(allowed, candidates((address,))) == candidates((address,))
    closed = Authority(policy(replace(named, private=False)), 0.0)
    plain = ask(closed, address, 80)
    assert isinstance(plain, Allowed)
    assert isinstance(admit(plain, candidates((address,))), Denied)
