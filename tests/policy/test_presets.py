"""What a preset opens, given what was discovered."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from mvm.policy.presets import MODEL_APIS, PRESET_WARNINGS, SOURCE_HOSTS, Discovery, RegistryHost, expand
from mvm.terms import HostName, Preset, Protocol, Tls

if TYPE_CHECKING:
    from mvm.terms import Host


def found(
    host: Host | str, port: int = 443, scheme: str = "https", source: str = "file", *, configured: bool = True
) -> RegistryHost:
    """Give one discovered host."""
    name = HostName(host) if isinstance(host, str) else host
    return RegistryHost(host=name, port=port, scheme=scheme, source=source, configured=configured)


PIP = Discovery(
    tool="pip",
    present=True,
    hosts=(
        found("index.test", source="default", configured=False),
        found("mirror.example", 8443, source="pip.conf"),
    ),
    withheld=(found("project.example"),),
)
NPM = Discovery(tool="npm", present=True, hosts=(found("mirror.example", 8443, source=".npmrc"),))
APT = Discovery(tool="apt", present=True, hosts=(found("archive.example", 80, "http"),))
ABSENT = Discovery(tool="go", present=False, note="go: not on PATH")
ALL = (PIP, NPM, APT, ABSENT)


@pytest.mark.parametrize("preset", [Preset.NONE, Preset.UNRESTRICTED])
def test_presets_that_name_no_hosts(preset: Preset) -> None:
    """`none` opens nothing; `unrestricted` is a flag elsewhere and names nothing."""
    assert expand(preset, ALL) == ()


def test_registries_are_the_discovered_hosts() -> None:
    """Each discovered host and port is one grant; withheld ones and the lists of this module are none."""
    grants = expand(Preset.REGISTRIES, ALL)
    assert [(grant.host, grant.port) for grant in grants] == [
        ("archive.example", 80),
        ("index.test", 443),
        ("mirror.example", 8443),
    ]
    assert all(grant.protocol is Protocol.TCP and grant.reason for grant in grants)


def test_grants_say_why_and_from_where() -> None:
    """A host that two tools use names both, and where each has it from."""
    mirror = expand(Preset.REGISTRIES, ALL)[2]
    assert mirror.reason == "packages for pip, npm"
    assert mirror.source == "preset registries: pip: pip.conf; npm: .npmrc"


def test_tls_is_required_wherever_the_url_is_https() -> None:
    """Over https any port admits nothing but TLS; http doesn't demand it."""
    archive, index, mirror = expand(Preset.REGISTRIES, ALL)
    assert (archive.tls, index.tls, mirror.tls) == (Tls.AUTO, Tls.REQUIRE, Tls.REQUIRE)
    both = Discovery(tool="x", present=True, hosts=(found("a.test", 80, "http"), found("a.test", 80)))
    assert expand(Preset.REGISTRIES, (both,))[0].tls is Tls.AUTO


def test_a_registry_may_be_at_a_private_address() -> None:
    """A mirror is, and so is a public name that a company answers for; other hosts may not be."""
    assert all(grant.private for grant in expand(Preset.REGISTRIES, ALL))
    assert not any(grant.private for grant in expand(Preset.AGENT, ALL))


def test_agent_is_sources_and_models_whatever_was_discovered() -> None:
    """`agent` opens the two lists, on 443 with TLS, and no registry."""
    grants = expand(Preset.AGENT, ALL)
    assert {grant.host for grant in grants} == {*SOURCE_HOSTS, *MODEL_APIS}
    assert all((grant.port, grant.tls, grant.private) == (443, Tls.REQUIRE, False) for grant in grants)
    assert {grant.reason for grant in grants} == {"source host", "model API"}


def test_dev_is_registries_and_agent() -> None:
    """`dev` opens what both open; without discoveries it is `agent`."""
    union = {
        (grant.host, grant.port) for each in (Preset.REGISTRIES, Preset.AGENT) for grant in expand(each, ALL)
    }
    assert {(grant.host, grant.port) for grant in expand(Preset.DEV, ALL)} == union
    agent = {grant.host for grant in expand(Preset.AGENT, ())}
    assert {grant.host for grant in expand(Preset.DEV, ())} == agent


def test_host_in_list_and_discovery_is_one_grant() -> None:
    """A registry that is also a source host is granted once, with the registry's reason."""
    cargo = Discovery(
        tool="cargo", present=True, hosts=(found(SOURCE_HOSTS[0]), found(IPv4Address("10.0.0.1")))
    )
    grants = [grant for grant in expand(Preset.DEV, (cargo,)) if grant.host == SOURCE_HOSTS[0]]
    assert [grant.reason for grant in grants] == ["packages for cargo"]


def test_every_preset_but_none_warns() -> None:
    """Each preset that opens something says that it is no production policy; `none` says nothing."""
    assert set(PRESET_WARNINGS) == set(Preset) - {Preset.NONE}
    assert all("not production policy" in text for text in PRESET_WARNINGS.values())


def test_lists_are_sorted_and_disjoint() -> None:
    """The lists in the source are sorted, without a duplicate, and share no host."""
    assert list(SOURCE_HOSTS) == sorted(set(SOURCE_HOSTS))
    assert list(MODEL_APIS) == sorted(set(MODEL_APIS))
    assert not set(SOURCE_HOSTS) & set(MODEL_APIS)
