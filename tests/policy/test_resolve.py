"""Flags, a policy file, presets and a capability's grants made one policy, each part knowing its source."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import pytest

from mvm.errors import PolicyRefused
from mvm.policy.document import policy_to_json
from mvm.policy.model import Dns
from mvm.policy.parse import format_grant, parse_grant
from mvm.policy.presets import MODEL_APIS, SOURCE_HOSTS, Discovery, RegistryHost
from mvm.policy.resolve import Asked, Document, Resolved, find_document, resolve
from mvm.terms import DnsMode, HostName, Preset, Seconds

INDEX = RegistryHost(
    host=HostName("index.test"), port=443, scheme="https", source="pip.conf", configured=False
)
PIP = Discovery(tool="pip", present=True, hosts=(INDEX,))


def never() -> tuple[Discovery, ...]:
    """Stand for the package tools where they must not be asked."""
    raise AssertionError


def toml(text: str, path: str = "mvm.toml") -> Document:
    """Give a policy file in which `[network]` and `mode = "bridge"` stand already."""
    return Document(path, f'[network]\nmode = "bridge"\n{text}')


def made(asked: Asked) -> Resolved:
    """Resolve where one package tool is configured."""
    return resolve(asked, lambda: (PIP,))


def hosts(asked: Asked) -> set[str]:
    """Give the hosts that a command line grants."""
    return {str(grant.host) for grant in made(asked).policy.grants}


def refusals(asked: Asked) -> list[str]:
    """Give the codes of everything that is wrong with a command line, warnings included."""
    with pytest.raises(PolicyRefused) as caught:
        made(asked)
    return [finding.code for finding in caught.value.findings]


def warnings(asked: Asked) -> list[str]:
    """Give the codes of what a command line is warned of."""
    return [finding.code for finding in made(asked).warnings]


# ---- flags alone


def test_nothing_said_opens_nothing() -> None:
    """Without a word there is no grant, no DNS, no port, and no package tool is asked."""
    policy = resolve(Asked(), never).policy
    assert (policy.grants, policy.forwards, policy.unrestricted) == ((), (), False)
    assert policy.dns == Dns(mode=DnsMode.NONE)


def test_none_and_two_allows_are_exactly_those_two_hosts() -> None:
    """The page's explicit allowlist grants its two hosts, on its two ports, and nothing else."""
    asked = Asked(preset="none", allow=("api.openai.com:443", "github.com:443"))
    resolved = resolve(asked, never)
    assert [format_grant(grant) for grant in resolved.policy.grants] == [
        "api.openai.com:443",
        "github.com:443",
    ]
    assert not resolved.policy.unrestricted
    assert resolved.warnings == ()


def test_dns_is_system_as_soon_as_a_name_is_granted_else_none() -> None:
    """A granted name needs somebody who resolves, a granted address does not."""
    assert made(Asked(allow=("api.example:443",))).policy.dns.mode is DnsMode.SYSTEM
    assert made(Asked(allow=("192.88.0.1:443",))).policy.dns.mode is DnsMode.NONE
    assert made(Asked(preset="agent")).policy.dns.mode is DnsMode.SYSTEM
    assert made(Asked(preset="unrestricted")).policy.dns.mode is DnsMode.SYSTEM


def test_dns_none_on_the_command_line_refuses_a_name() -> None:
    """`--dns none` with a granted name is refused, and a fixed answer for the name makes it right."""
    asked = Asked(allow=("api.example:443",), dns="none")
    assert refusals(asked) == ["dns-none"]
    fixed = made(asked._replace(dns_static=("api.example=1.2.3.4",))).policy.dns
    assert fixed == Dns(mode=DnsMode.NONE, static=((HostName("api.example"), (IPv4Address("1.2.3.4"),)),))


def test_a_preset_is_a_base_and_flags_add() -> None:
    """A preset's hosts and the flag's are granted together; without the preset only the flag's."""
    agent = {str(host) for host in (*SOURCE_HOSTS, *MODEL_APIS)}
    assert hosts(Asked(preset="agent", allow=("api.example:443",))) == {*agent, "api.example"}
    assert hosts(Asked(allow=("api.example:443",))) == {"api.example"}


def test_package_tools_are_asked_only_for_presets_that_need_them() -> None:
    """`registries` and `dev` grant what the tools are configured with; `agent` never asks them."""
    assert hosts(Asked(preset="registries")) == {"index.test"}
    assert "index.test" in hosts(Asked(preset="dev"))
    assert resolve(Asked(preset="agent"), never).policy.preset is Preset.AGENT


def test_unrestricted_names_no_hosts_and_warns() -> None:
    """`unrestricted` is a flag of the policy, with a warning; other presets don't set it."""
    resolved = resolve(Asked(preset="unrestricted"), never)
    assert (resolved.policy.grants, resolved.policy.unrestricted) == ((), True)
    assert [finding.code for finding in resolved.warnings] == ["broad-preset"]
    assert not made(Asked(preset="dev")).policy.unrestricted


def test_an_open_port_is_no_way_out() -> None:
    """`-p` opens a port of this machine; the policy still grants nothing, so names nobody resolves."""
    policy = resolve(Asked(preset="none", ports=("127.0.0.1:8080:8080",)), never).policy
    assert (len(policy.forwards), policy.grants, policy.dns.mode) == (1, (), DnsMode.NONE)


def test_every_finding_is_told_at_once() -> None:
    """Each bad word of a command line and of its file is told together, errors before warnings."""
    asked = Asked(
        preset="everything",
        allow=("*.example:443", "api.example", "api.example:443,expires=10m", "api.example:443"),
        document=toml('allow = [{host = "10.0.0.0/8", port = 443}]'),
        dns="maybe",
        dns_static=("x",),
        ports=("0:1",),
        ttl="soon",
    )
    expected = {
        "unknown-preset",
        "wildcard-host",
        "missing-port",
        "conflicting-grants",
        "cidr",
        "bad-dns",
        "bad-dns-static",
        "port-out-of-range",
        "bad-duration",
    }
    assert set(refusals(asked)) == expected


def test_what_could_be_read_is_judged_even_where_something_could_not() -> None:
    """Two ports that collide are told beside a host that can't be read; nothing is made up about DNS."""
    asked = Asked(allow=("*:443", "api.example:443"), ports=("80:1", "80:2"), dns="maybe")
    assert refusals(asked) == ["wildcard-host", "bad-dns", "conflicting-forwards"]


def test_unreadable_file_is_not_blamed_for_dns() -> None:
    """A file that can't be read is told once, without a guess at what it says about DNS."""
    assert refusals(Asked(allow=("api.example:443",), document=Document("mvm.toml", "["))) == ["not-toml"]


# ---- a file, and flags beside it


GRANTED = 'dns = "system"\nallow = [{host = "api.example", port = 443, max_up = "10MB", reason = "why"}]'


def test_a_file_must_say_who_resolves_its_names() -> None:
    """A file that grants a name and says nothing of DNS is refused, with the line to add."""
    asked = Asked(document=toml('allow = [{host = "api.example", port = 443}]'))
    with pytest.raises(PolicyRefused) as caught:
        made(asked)
    assert [finding.code for finding in caught.value.findings] == ["dns-not-stated"]
    assert 'dns = "system"' in caught.value.hint
    assert made(asked._replace(dns="system")).policy.dns.mode is DnsMode.SYSTEM
    assert refusals(Asked(document=toml('preset = "agent"')))[0] == "dns-not-stated"


def test_a_flags_name_needs_no_word_from_a_file_that_grants_none() -> None:
    """A file without names leaves DNS to the command line's own rule; one that says `none` does not."""
    assert made(Asked(allow=("a.example:443",), document=toml(""))).policy.dns.mode is DnsMode.SYSTEM
    assert refusals(Asked(allow=("a.example:443",), document=toml('dns = "none"'))) == ["dns-none"]


def test_flags_add_to_a_file() -> None:
    """The file's grants and the flags' stand together, each with its source."""
    asked = Asked(document=toml(GRANTED), allow=("b.example:8443",))
    grants = made(asked).policy.grants
    assert [(grant.host, grant.source) for grant in grants] == [
        ("api.example", "mvm.toml:4"),
        ("b.example", "--network-allow"),
    ]


def test_a_flag_narrows_the_files_grant() -> None:
    """A flag for a host of the file restricts that grant, keeps what it does not mention, and is named."""
    asked = Asked(document=toml(GRANTED), allow=("api.example:443,expires=10m,max-up=1MB",))
    (grant,) = made(asked).policy.grants
    assert format_grant(grant) == "api.example:443,expires=10m,max-up=1MB,reason=why"
    assert grant.source == "--network-allow narrows mvm.toml:4"


def test_a_flag_that_only_repeats_the_file_changes_nothing() -> None:
    """The file's grant stands as it is, with the file as its source."""
    plain = made(Asked(document=toml(GRANTED)))
    repeated = made(Asked(document=toml(GRANTED), allow=("api.example:443",)))
    assert repeated.policy == plain.policy


@pytest.mark.parametrize(
    "flag",
    [
        "api.example:443,max-up=11MB",
        "api.example:443,private",
        "api.example:443,tls=auto",
        "api.example:443,tls=off",
        "api.example:443,reason=other",
    ],
)
def test_a_flag_never_widens_the_files_grant(flag: str) -> None:
    """What a flag would loosen in a file's grant is refused, and the grant beside it is not."""
    assert refusals(Asked(document=toml(GRANTED), allow=(flag,))) == ["widens-file"]
    assert hosts(Asked(document=toml(GRANTED), allow=("c.example:443",))) == {"api.example", "c.example"}


def test_a_longer_life_is_refused_and_a_shorter_one_taken() -> None:
    """`expires` of a flag may come before the file's, not after it."""
    text = 'dns = "system"\nallow = [{host = "a.example", port = 80, expires = "10m", private = true}]'
    assert refusals(Asked(document=toml(text), allow=("a.example:80,expires=11m",))) == ["widens-file"]
    (grant,) = made(Asked(document=toml(text), allow=("a.example:80,expires=9m,tls=require",))).policy.grants
    assert format_grant(grant) == "a.example:80,private,tls=require,expires=9m"


def test_two_flags_that_disagree_are_refused_with_and_without_a_file() -> None:
    """A file never makes one of two flags win over the other."""
    allow = ("api.example:443,expires=5m", "api.example:443,expires=10m")
    assert refusals(Asked(allow=allow)) == ["conflicting-grants"]
    assert refusals(Asked(allow=allow, document=toml(GRANTED))) == ["conflicting-grants"]


def test_dns_flag_overrides_the_file() -> None:
    """`--dns` stands in place of the file's word; the file's fixed answers stay."""
    text = 'dns = {mode = "system", static = {"db.example" = ["1.2.3.4"]}}'
    resolved = made(Asked(document=toml(text), dns="resolver=9.9.9.9"))
    assert resolved.policy.dns == Dns(
        mode=DnsMode.RESOLVER,
        resolver=(IPv4Address("9.9.9.9"), 53),
        static=((HostName("db.example"), (IPv4Address("1.2.3.4"),)),),
    )
    assert resolved.sources[".network.dns"] == "--dns"
    assert made(Asked(document=toml(text))).sources[".network.dns"] == "mvm.toml"


def test_fixed_answers_add_and_replace_by_name() -> None:
    """A flag answers a name alone, with all its addresses, and leaves the file's other names."""
    text = 'dns = {mode = "none", static = {"a.example" = ["1.1.1.1"], "b.example" = ["2.2.2.2"]}}'
    flags = ("b.example=3.3.3.3", "b.example=4.4.4.4")
    resolved = made(Asked(document=toml(text), dns_static=flags))
    answers = {name: [str(address) for address in found] for name, found in resolved.policy.dns.static}
    assert answers == {"a.example": ["1.1.1.1"], "b.example": ["3.3.3.3", "4.4.4.4"]}
    assert resolved.sources['.network.dns.static["a.example"]'] == "mvm.toml"
    assert resolved.sources['.network.dns.static["b.example"]'] == "--dns-static"


def test_preset_none_beside_a_file_keeps_the_files_grants() -> None:
    """`--network-preset none` takes the file's preset away, with a warning, and none of its grants."""
    document = toml(GRANTED + '\npreset = "agent"')
    asked = Asked(document=document, preset="none")
    assert hosts(asked) == {"api.example"}
    assert warnings(asked) == ["overrides-preset"]
    assert "github.com" in hosts(Asked(document=document))
    assert warnings(Asked(document=toml(GRANTED), preset="none")) == []


def test_another_preset_than_the_files_stands_with_a_warning() -> None:
    """The flag's preset is the base, and both warnings say so."""
    document = toml('dns = "system"\npreset = "agent"')
    assert hosts(Asked(document=document, preset="registries")) == {"index.test"}
    assert warnings(Asked(document=document, preset="registries")) == ["overrides-preset", "broad-preset"]
    assert warnings(Asked(document=document, preset="agent")) == ["broad-preset"]


def test_flags_that_open_a_closed_file_are_warned_of() -> None:
    """A file with mode `none` does not silence a flag, but it is told; an inbound port is no such thing."""
    closed = Document("mvm.toml", '[network]\nmode = "none"\n')
    assert warnings(Asked(document=closed, allow=("api.example:443",))) == ["opens-closed-file"]
    assert warnings(Asked(document=closed, ports=("8080",))) == []
    assert warnings(Asked(document=toml('dns = "system"'), allow=("api.example:443",))) == []


def test_ports_and_life_time() -> None:
    """Ports add to the file's, one that leads elsewhere is refused, and `--ttl` overrides."""
    document = toml('ports = ["8080:80"]\nttl = "30m"')
    resolved = made(Asked(document=document, ports=("9090:90",), ttl="5m"))
    assert [forward.host_port for forward in resolved.policy.forwards] == [8080, 9090]
    assert resolved.policy.ttl == Seconds(300)
    assert made(Asked(document=document)).policy.ttl == Seconds(1800)
    assert refusals(Asked(document=document, ports=("8080:81",))) == ["conflicting-forwards"]


def test_a_capabilitys_grants_stand_with_their_own_source() -> None:
    """Grants that are parsed already are added, and a flag that disagrees with one is refused."""
    grant = parse_grant("api.example:443,expires=5m", source="tools.json: web_fetch")
    resolved = made(Asked(grants=(grant,)))
    assert resolved.policy.grants == (grant,)
    assert resolved.sources == {
        ".network.allow[0]": "tools.json: web_fetch",
        ".network.dns": "default",
        ".network.preset": "default",
    }
    assert refusals(Asked(grants=(grant,), allow=("api.example:443",))) == ["conflicting-grants"]


def test_every_part_of_the_policy_has_a_source() -> None:
    """Each grant, port, preset, fixed answer and life time of the canonical document is accounted for."""
    asked = Asked(
        preset="registries",
        allow=("z.example:1",),
        document=toml(GRANTED + '\nports = ["8080:80"]\nttl = "1h"'),
        dns_static=("z.example=1.2.3.4",),
        ports=("9090:90",),
    )
    resolved = made(asked)
    assert resolved.sources == {
        ".network.allow[0]": "mvm.toml:4",
        ".network.allow[1]": "preset registries: pip: pip.conf",
        ".network.allow[2]": "--network-allow",
        ".network.ports[0]": "mvm.toml",
        ".network.ports[1]": "--port",
        ".network.dns": "mvm.toml",
        '.network.dns.static["z.example"]': "--dns-static",
        ".network.preset": "--network-preset",
        ".network.ttl": "mvm.toml",
    }
    canonical = policy_to_json(resolved.policy)["network"]
    assert isinstance(canonical, dict)
    assert len(canonical["allow"]) == 3


def test_a_json_file_means_what_the_toml_one_means() -> None:
    """The same document as JSON gives the same policy."""
    network = {"mode": "bridge", "dns": "system", "allow": [{"host": "a.example", "port": 443}]}
    of_json = made(Asked(document=Document("p.json", json.dumps({"network": network})))).policy
    of_toml = made(Asked(document=toml('dns = "system"\nallow = [{host = "a.example", port = 443}]'))).policy
    assert policy_to_json(of_json) == policy_to_json(of_toml)


# ---- where the file is


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ({"/a/b/c/mvm.toml"}, "/a/b/c/mvm.toml"),
        ({"/a/b/c/mvm.toml", "/a/mvm.toml", "/a/.git"}, "/a/b/c/mvm.toml"),
        ({"/a/b/mvm.toml", "/a/.git"}, "/a/b/mvm.toml"),
        ({"/a/mvm.toml", "/a/.git"}, "/a/mvm.toml"),
        ({"/a/mvm.toml", "/a/b/.git"}, None),
        ({"/a/mvm.toml"}, None),
        ({"/mvm.toml"}, None),
        ({"/a/b/c/.git", "/a/b/mvm.toml"}, None),
        (set(), None),
    ],
)
def test_the_file_is_found_upwards_to_the_repositorys_root(there: set[str], found: str | None) -> None:
    """The nearest file up to the directory of `.git` is taken; nothing above it, nothing without it."""
    assert find_document("/a/b/c", there.__contains__) == found
