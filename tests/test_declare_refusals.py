"""What `mvm.network` and the words inside of it refuse: at once, by a stable code, with a way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import mvm
from mvm.declare.network import policy_of_network
from mvm.errors import PolicyRefused
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.errors import Finding

_GRANT = mvm.host_port("api.example.com", 443)


# ---- each word, where it is written


def _refusals(act: Callable[[], object]) -> tuple[Finding, ...]:
    with pytest.raises(PolicyRefused) as caught:
        act()
    for finding in caught.value.findings:
        assert finding.path.startswith(".network")
        assert finding.message
        assert finding.hint
    return caught.value.findings


def _any(value: object) -> Any:  # noqa: ANN401  what no type checker lets through
    return value


_NET, _HOST = mvm.network, mvm.host_port
_WRONG: list[tuple[Callable[[], object], str, str, str]] = [
    (lambda: _NET(mode="host"), "unknown-mode", ".network.mode", '"none" or "bridge"'),
    (lambda: _NET(mode=""), "unknown-mode", ".network.mode", '"none" or "bridge"'),
    (
        lambda: _NET(mode="none", egress=mvm.egress([_GRANT])),
        "mode-none-with-egress",
        ".network.mode",
        'mode="bridge"',
    ),
    (
        lambda: _NET(mode="none", egress=mvm.egress([])),
        "mode-none-with-egress",
        ".network.mode",
        'mode="bridge"',
    ),
    (
        lambda: _NET(mode="none", egress=mvm.egress_preset("agent")),
        "mode-none-with-egress",
        ".network.mode",
        'mode="bridge"',
    ),
    (lambda: _NET(mode="none", ports=["80"]), "mode-none-with-egress", ".network.mode", 'mode="bridge"'),
    (lambda: _NET(mode="bridge", ports=["0:1"]), "port-out-of-range", ".network.ports", ""),
    (lambda: _NET(mode="bridge", ports=["a:b:c:d"]), "bad-forward", ".network.ports", ""),
    (lambda: mvm.egress(["api.example.com:443"]), "wrong-type", ".network.egress", "mvm.host_port("),
    (lambda: mvm.egress([("api.example.com", 443)]), "wrong-type", ".network.egress", "mvm.host_port("),
    (lambda: mvm.egress("api.example.com"), "wrong-type", ".network.egress", "mvm.host_port("),
    (lambda: mvm.egress(_any(_GRANT)), "wrong-type", ".network.egress", "mvm.host_port("),
    (lambda: _HOST(_any(None), 443), "wrong-type", ".network.egress[].host", ""),
    (lambda: _HOST("a.example", _any("443")), "wrong-type", ".network.egress[].port", ""),
    (lambda: mvm.dns_resolver(_any(None)), "wrong-type", ".network.dns", ""),
    (lambda: mvm.dns_static(_any(["a.example"])), "wrong-type", ".network.dns.static", ""),
    (lambda: mvm.egress_preset("all"), "unknown-preset", ".network.egress", "registries"),
    (lambda: _HOST("*.example.com", 443), "wildcard-host", ".network.egress[].host", "subdomains"),
    (lambda: _HOST("10.0.0.0/8", 443), "cidr", ".network.egress[].host", ""),
    (lambda: _HOST("https://example.com", 443), "url-host", ".network.egress[].host", ""),
    (lambda: _HOST("socks5://example.com", 443), "proxy-url", ".network.egress[].host", ""),
    (lambda: _HOST("", 443), "empty-host", ".network.egress[].host", ""),
    (lambda: _HOST("2130706433", 443), "numeric-host", ".network.egress[].host", ""),
    (lambda: _HOST("0.0.0.0", 443), "unspecified-address", ".network.egress[].host", ""),  # noqa: S104
    (lambda: _HOST("a.example", 0), "port-out-of-range", ".network.egress[].port", ""),
    (lambda: _HOST("a.example", 65536), "port-out-of-range", ".network.egress[].port", ""),
    (lambda: _HOST("a.example", True), "wrong-type", ".network.egress[].port", ""),
    (lambda: _HOST("a.example", 1, protocol="icmp"), "unknown-protocol", ".network.egress[].protocol", "tcp"),
    (lambda: _HOST("a.example", 1, tls="maybe"), "unknown-tls", ".network.egress[].tls", "require"),
    (lambda: _HOST("a.example", 1, reason=" "), "empty-reason", ".network.egress[].reason", ""),
    (lambda: _HOST("a.example", 1, expires="soon"), "bad-duration", ".network.egress[].expires", "10m"),
    (lambda: _HOST("a.example", 1, max_up="much"), "bad-size", ".network.egress[].max_up", "MB"),
    (lambda: _HOST("a.example", 1, max_down=0), "size-out-of-range", ".network.egress[].max_down", ""),
    (lambda: _HOST("a.example", 1, sends="all"), "unknown-sends", ".network.egress[].sends", "secrets"),
    (
        lambda: _HOST("a.example", 1, downloads="keep"),
        "bad-downloads",
        ".network.egress[].downloads",
        "retain:7d",
    ),
    (lambda: _HOST("a.example", 1, protocol="udp", tls="require"), "tls-on-udp", ".network.egress[].tls", ""),
    (lambda: mvm.subdomains("com", 443), "public-suffix", ".network.egress[].subdomains", ""),
    (lambda: mvm.subdomains("co.uk", 443), "public-suffix", ".network.egress[].subdomains", ""),
    (lambda: mvm.subdomains("1.2.3.4", 443), "subdomains-of-address", ".network.egress[].subdomains", ""),
    (
        lambda: mvm.subdomains("example.com", 443, depth=0),
        "subdomains-out-of-range",
        ".network.egress[].subdomains",
        "1",
    ),
    (lambda: mvm.dns_resolver("ns.example.com"), "resolver-name", ".network.dns", "address"),
    (lambda: mvm.dns_resolver("192.88.0.53", 0), "port-out-of-range", ".network.dns", ""),
    (lambda: mvm.dns_static({"1.2.3.4": "1.2.3.4"}), "bad-dns-static", ".network.dns.static.1.2.3.4", ""),
    (
        lambda: mvm.dns_static({"a.example": ["1.2.3.4", "b.example"]}),
        "bad-dns-static",
        ".network.dns.static.a.example",
        "",
    ),
]


@pytest.mark.parametrize(
    ("act", "code", "path", "hint"),
    _WRONG,
    ids=[f"{code}-{number}" for number, (_, code, *_) in enumerate(_WRONG)],
)
def test_a_word_refuses_what_it_cannot_mean(
    act: Callable[[], object], code: str, path: str, hint: str
) -> None:
    """At once, by a stable code, at its path, with what to write instead."""
    (finding,) = _refusals(act)
    assert (finding.code, finding.path, finding.severity) == (code, path, "error")
    assert hint in finding.hint


def test_a_grant_tells_all_that_is_wrong_with_it() -> None:
    """Each wrong argument is a finding of its own, in one refusal."""
    found = _refusals(lambda: mvm.host_port("*", 0, tls="maybe", expires="soon", sends="all"))
    assert {finding.code for finding in found} == {
        "wildcard-host",
        "port-out-of-range",
        "unknown-tls",
        "bad-duration",
        "unknown-sends",
    }


# ---- what is refused of the whole


def _sum(*grants: Any, dns: Any = None) -> list[str]:  # noqa: ANN401  grants and DNS, by their words
    network = mvm.network(mode="bridge", egress=mvm.egress(grants), dns=dns)
    with pytest.raises(PolicyRefused) as caught:
        policy_of_network(network, tuple)
    return [finding.code for finding in caught.value.findings]


def test_a_name_needs_somebody_who_resolves_it() -> None:
    """Refused with the line to add; with it, accepted; and an address needs nobody."""
    network = mvm.network(mode="bridge", egress=mvm.egress([_GRANT]))
    with pytest.raises(PolicyRefused) as caught:
        policy_of_network(network, tuple)
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("dns-not-stated", ".network.dns")
    assert "dns=mvm.dns_system()" in finding.hint
    assert _sum(_GRANT, dns=mvm.dns_none()) == ["dns-none"]
    assert _sum(_GRANT, dns=mvm.dns_static({"other.example.com": "1.2.3.4"})) == ["dns-none"]
    address = mvm.egress([mvm.host_port("192.88.0.1", 443)])
    assert policy_of_network(mvm.network(mode="bridge", egress=address), tuple).dns.mode is DnsMode.NONE


def test_two_grants_that_disagree_are_refused() -> None:
    """The same host and port with other conditions; said twice alike it is one grant."""
    assert _sum(_GRANT, mvm.host_port("api.example.com", 443, max_up="1MB"), dns=mvm.dns_system()) == [
        "conflicting-grants"
    ]
    twice = mvm.network(mode="bridge", egress=mvm.egress([_GRANT, _GRANT]), dns=mvm.dns_system())
    assert len(policy_of_network(twice, tuple).grants) == 1


def test_one_port_that_leads_to_two_is_refused() -> None:
    """Two forwards of one port of this machine disagree."""
    with pytest.raises(PolicyRefused) as caught:
        policy_of_network(mvm.network(mode="bridge", ports=["8080:80", "8080:81"]), tuple)
    assert caught.value.findings[0].code == "conflicting-forwards"


@pytest.mark.parametrize("stated", [None, "none", {"mode": "none"}, _GRANT, mvm.egress([_GRANT])])
def test_nothing_else_is_a_network(stated: object) -> None:
    """What is no value of `mvm.network` is refused, whatever it looks like."""
    with pytest.raises(PolicyRefused) as caught:
        policy_of_network(stated, tuple)
    (finding,) = caught.value.findings
    assert (finding.code, finding.path) == ("wrong-type", ".network")
    assert 'mvm.network(mode="none")' in finding.hint
