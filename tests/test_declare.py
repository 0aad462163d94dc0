"""`mvm.network` and the words inside of it: what they refuse, where, and that they mean what files mean."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import mvm
from mvm.declare.network import Network, policy_of_network
from mvm.policy.document import policy_digest
from mvm.policy.parse import format_dns, format_grant
from mvm.policy.presets import Discovery, RegistryHost
from mvm.policy.resolve import Asked, Document, resolve
from mvm.terms import DnsMode, HostName, Preset, Tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.policy.model import Policy

_FOUND = (
    Discovery(
        tool="pip",
        present=True,
        hosts=(
            RegistryHost(
                host=HostName("mirror.example.test"),
                port=8443,
                scheme="https",
                source="pip.conf",
                configured=True,
            ),
        ),
    ),
)

_GRANT = mvm.host_port("api.example.com", 443)


def _never() -> tuple[Discovery, ...]:
    raise AssertionError("a package tool was asked, and nothing needs it")


def _discovered() -> tuple[Discovery, ...]:
    return _FOUND


def _policy(network: Network) -> Policy:
    return policy_of_network(network, _discovered)


# ---- the page


def test_the_pages_closed_declaration_runs_as_written() -> None:
    """Verbatim: nothing is granted, nothing resolves, nothing comes in, and no package tool is asked."""
    stated = dict(  # noqa: C408  the page's own spelling is a keyword's
        network=mvm.network(mode="none"),
    )
    policy = policy_of_network(stated["network"], _never)
    assert (policy.grants, policy.forwards, policy.unrestricted) == ((), (), False)
    assert policy.dns.mode is DnsMode.NONE


def test_the_pages_reviewed_grant_runs_as_written() -> None:
    """Verbatim: one host, one port, by TLS, resolved by the system; and no more than that."""
    # fmt: off
    stated = dict(  # noqa: C408  as above
network=mvm.network(
mode="bridge",
egress=mvm.egress([
mvm.host_port("api.openai.com", 443),
]),
dns=mvm.dns_system(),
)
    )
    # fmt: on
    policy = policy_of_network(stated["network"], _never)
    (grant,) = policy.grants
    assert (grant.host, grant.port, grant.protocol, grant.tls) == ("api.openai.com", 443, "tcp", Tls.REQUIRE)
    assert (grant.private, grant.depth) == (False, None)
    assert (policy.dns.mode, policy.unrestricted, policy.forwards) == (DnsMode.SYSTEM, False, ())
    flags = Asked(preset="none", allow=("api.openai.com:443",))
    assert policy_digest(policy) == policy_digest(resolve(flags, _never).policy)


# ---- the same policy, said in four ways


_EVERY_KEY = (
    "db.example.com:5432/tcp,private,tls=off,expires=10m,max-up=10MB,max-down=1GB,"
    'sends=user-data,downloads=retain:7d,reason="rows, and more rows"'
)


class Said(NamedTuple):
    """One policy as a declaration, as flags, and as the body of `[network]` in TOML."""

    declared: Callable[[], Network]
    flags: Asked
    toml: str


_SAME = {
    "closed": Said(lambda: mvm.network(mode="none"), Asked(), 'mode = "none"'),
    "bridge to nothing": Said(lambda: mvm.network(mode="bridge"), Asked(preset="none"), 'mode = "bridge"'),
    "a host": Said(
        lambda: mvm.network(
            mode="bridge", egress=mvm.egress([mvm.host_port("api.example.com", 443)]), dns=mvm.dns_system()
        ),
        Asked(allow=("api.example.com:443",)),
        'mode = "bridge"\ndns = "system"\nallow = [{host = "api.example.com", port = 443}]',
    ),
    "hosts in another order and spelling": Said(
        lambda: mvm.network(
            mode="bridge",
            egress=mvm.egress([mvm.host_port("B.example.com.", 443), mvm.host_port("a.example.com", 22)]),
            dns=mvm.dns_system(),
        ),
        Asked(allow=("a.example.com:22", "b.example.com:443", "b.EXAMPLE.com:443")),
        'mode = "bridge"\ndns = "system"\n'
        'allow = [{host = "a.example.com", port = 22}, {host = "b.example.com", port = 443}]',
    ),
    "every key of a grant": Said(
        lambda: mvm.network(
            mode="bridge",
            egress=mvm.egress(
                [
                    mvm.host_port(
                        "db.example.com",
                        5432,
                        protocol="tcp",
                        reason="rows, and more rows",
                        private=True,
                        tls="off",
                        expires="10m",
                        max_up="10MB",
                        max_down=1_000_000_000,
                        sends="user-data",
                        downloads="retain:7d",
                    )
                ]
            ),
            dns=mvm.dns_system(),
        ),
        Asked(allow=(_EVERY_KEY,)),
        'mode = "bridge"\ndns = "system"\nallow = [{host = "db.example.com", port = 5432, protocol = "tcp", '
        'private = true, tls = "off", expires = "10m", max_up = "10MB", max_down = 1000000000, '
        'sends = "user-data", downloads = "retain:7d", reason = "rows, and more rows"}]',
    ),
    "addresses, which nobody resolves": Said(
        lambda: mvm.network(
            mode="bridge",
            egress=mvm.egress(
                [mvm.host_port("192.88.0.1", 53, protocol="udp"), mvm.host_port("2606:2800::7", 443)]
            ),
            dns=mvm.dns_none(),
        ),
        Asked(allow=("192.88.0.1:53/udp", "[2606:2800::7]:443")),
        'mode = "bridge"\ndns = "none"\n'
        'allow = [{host = "192.88.0.1", port = 53, protocol = "udp"}, {host = "2606:2800::7", port = 443}]',
    ),
    "a name server": Said(
        lambda: mvm.network(
            mode="bridge", egress=mvm.egress([_GRANT]), dns=mvm.dns_resolver("192.88.0.53", 5353)
        ),
        Asked(allow=("api.example.com:443",), dns="resolver=192.88.0.53:5353"),
        'mode = "bridge"\ndns = {mode = "resolver", resolver = "192.88.0.53:5353"}\n'
        'allow = [{host = "api.example.com", port = 443}]',
    ),
    "a name server by IPv6": Said(
        lambda: mvm.network(
            mode="bridge", egress=mvm.egress([_GRANT]), dns=mvm.dns_resolver("2606:2800::53")
        ),
        Asked(allow=("api.example.com:443",), dns="resolver=[2606:2800::53]:53"),
        'mode = "bridge"\ndns = "resolver=2606:2800::53"\nallow = [{host = "api.example.com", port = 443}]',
    ),
    "fixed answers": Said(
        lambda: mvm.network(
            mode="bridge",
            egress=mvm.egress([_GRANT]),
            dns=mvm.dns_static({"api.example.com": ["1.2.3.4", "2606:2800::1"], "b.example.com": "1.2.3.5"}),
        ),
        Asked(
            allow=("api.example.com:443",),
            dns="none",
            dns_static=("b.example.com=1.2.3.5", "api.example.com=1.2.3.4", "api.example.com=2606:2800::1"),
        ),
        'mode = "bridge"\ndns = {mode = "none", static = {"api.example.com" = ["1.2.3.4", "2606:2800::1"], '
        '"b.example.com" = "1.2.3.5"}}\nallow = [{host = "api.example.com", port = 443}]',
    ),
    "inbound ports alone": Said(
        lambda: mvm.network(mode="bridge", ports=["127.0.0.1:8080:80", "9000"]),
        Asked(ports=("9000", "8080:80")),
        'mode = "bridge"\nports = ["127.0.0.1:8080:80", "9000:9000"]',
    ),
    "a preset": Said(
        lambda: mvm.network(mode="bridge", egress=mvm.egress_preset("agent"), dns=mvm.dns_system()),
        Asked(preset="agent"),
        'mode = "bridge"\ndns = "system"\npreset = "agent"',
    ),
    "a preset that is discovered": Said(
        lambda: mvm.network(mode="bridge", egress=mvm.egress_preset("registries"), dns=mvm.dns_system()),
        Asked(preset="registries"),
        'mode = "bridge"\ndns = "system"\npreset = "registries"',
    ),
    "everything": Said(
        lambda: mvm.network(mode="bridge", egress=mvm.egress_preset("unrestricted"), dns=mvm.dns_system()),
        Asked(preset="unrestricted"),
        'mode = "bridge"\ndns = "system"\npreset = "unrestricted"',
    ),
}


@pytest.mark.parametrize("said", _SAME.values(), ids=_SAME)
def test_a_declaration_means_what_flags_and_files_mean(said: Said) -> None:
    """The same policy by a declaration, flags, `mvm.toml` and JSON has one digest."""
    text = f"[network]\n{said.toml}\n"
    files = (Document("mvm.toml", text), Document("policy.json", json.dumps(tomllib.loads(text))))
    digests = [policy_digest(resolve(Asked(document=file), _discovered).policy) for file in files]
    digests.append(policy_digest(resolve(said.flags, _discovered).policy))
    assert digests == [policy_digest(_policy(said.declared()))] * 3


def test_different_policies_have_different_digests() -> None:
    """No two of those above are the same, but for a bridge to nothing, which is closed."""
    digests = {name: policy_digest(_policy(said.declared())) for name, said in _SAME.items()}
    assert digests.pop("bridge to nothing") == digests["closed"]
    assert len(set(digests.values())) == len(digests)


def test_subdomains_mean_what_a_file_means() -> None:
    """They stand in files and declarations only; depth is 1 where it is not said, and not the name itself."""
    declared = mvm.network(
        mode="bridge",
        egress=mvm.egress(
            [mvm.subdomains("example.com", 443), mvm.subdomains("example.org", 443, depth=2, reason="why")]
        ),
        dns=mvm.dns_system(),
    )
    text = (
        '[network]\nmode = "bridge"\ndns = "system"\n'
        'allow = [{host = "example.com", port = 443, subdomains = 1}, '
        '{host = "example.org", port = 443, subdomains = 2, reason = "why"}]\n'
    )
    resolved = resolve(Asked(document=Document("mvm.toml", text)), _never).policy
    assert policy_digest(_policy(declared)) == policy_digest(resolved)
    assert [(grant.host, grant.depth) for grant in resolved.grants] == [
        ("example.com", 1),
        ("example.org", 2),
    ]
    itself = mvm.network(
        mode="bridge", egress=mvm.egress([mvm.host_port("example.com", 443)]), dns=mvm.dns_system()
    )
    assert policy_digest(_policy(itself)) != policy_digest(_policy(declared))


# ---- shapes


def test_a_grant_keeps_what_was_said() -> None:
    """What is not said stays unsaid; port 443 takes nothing but TLS; the source names the word."""
    assert format_grant(_GRANT) == "api.example.com:443"
    assert (_GRANT.reason, _GRANT.private, _GRANT.expires, _GRANT.max_up) == (None, False, None, None)
    assert _GRANT.source == "mvm.network: api.example.com:443"
    assert (_GRANT.tls, mvm.host_port("api.example.com", 8443).tls) == (Tls.REQUIRE, Tls.AUTO)


@pytest.mark.parametrize(
    ("dns", "spelling"),
    [
        (mvm.dns_none(), "none"),
        (mvm.dns_system(), "system"),
        (mvm.dns_resolver("192.88.0.53"), "resolver=192.88.0.53:53"),
        (mvm.dns_resolver("2606:2800::53", 853), "resolver=[2606:2800::53]:853"),
        (mvm.dns_static({"a.example.com": "1.2.3.4"}), "none"),
    ],
)
def test_each_dns_word_has_one_meaning(dns: Any, spelling: str) -> None:  # noqa: ANN401  typed by the words
    """Each is the DNS policy that a command line spells so; fixed answers resolve nothing else."""
    assert format_dns(dns) == spelling


def test_values_can_not_be_changed() -> None:
    """A network that was reviewed is what is run: no word's value takes an assignment."""
    network = mvm.network(mode="bridge", egress=mvm.egress([_GRANT]), dns=mvm.dns_system())
    for value, name in (
        (network, "dns"),
        (network.egress, "grants"),
        (_GRANT, "host"),
        (network.dns, "mode"),
    ):
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_package_tools_are_asked_only_where_a_preset_needs_them() -> None:
    """`registries` grants what was discovered; `agent`, `none` and plain grants ask nobody."""
    network = mvm.network(mode="bridge", egress=mvm.egress_preset("registries"), dns=mvm.dns_system())
    policy = _policy(network)
    assert ([str(grant.host) for grant in policy.grants], policy.preset) == (
        ["mirror.example.test"],
        Preset.REGISTRIES,
    )
    for name in ("agent", "none", "unrestricted"):
        stated = mvm.network(mode="bridge", egress=mvm.egress_preset(name), dns=mvm.dns_system())
        assert policy_of_network(stated, _never).preset == name
