"""Values of the policy model, any that its readers could give."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from mvm.errors import PolicyRefused
from mvm.policy.fields import default_tls
from mvm.policy.model import Dns, Forward, Grant, Policy
from mvm.policy.parse import parse_host
from mvm.policy.suffixes import is_public_suffix
from mvm.policy.validate import policy_of
from mvm.terms import Bytes, DnsMode, HostName, Preset, Protocol, Seconds, Sends, Tls


def _is_host(text: str) -> bool:
    try:
        parse_host(text, path="")
    except PolicyRefused:
        return False
    return True


names: st.SearchStrategy[HostName] = (
    st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?(\.[a-z][a-z0-9]{0,4}){1,2}\Z")
    .filter(_is_host)
    .map(HostName)
)
addresses = st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address)
literals = st.integers(1 << 24, (224 << 24) - 1).map(IPv4Address) | st.integers(
    1 << 125, (0xFE << 120) - 1
).map(IPv6Address)
hosts = names | literals
durations = st.integers(1, 36_500 * 86_400_000).map(lambda ms: Seconds(ms / 1000))
byte_counts = st.integers(1, 2**53 - 1).map(Bytes)
reasons = st.text(
    st.characters(categories=("L", "N", "P", "S"), include_characters=' ,"\\='), min_size=1
).filter(lambda text: bool(text.strip()))
_downloads = st.sampled_from(["none", "discard", "retain:7d", "retain:1h30m"])
_depths = st.none() | st.integers(1, 8)


@st.composite
def grants(
    draw: st.DrawFn,
    depths: st.SearchStrategy[int | None] = _depths,
    of: st.SearchStrategy[HostName | IPv4Address | IPv6Address] = hosts,
) -> Grant:
    """Make a grant, its source any text."""
    protocol = draw(st.sampled_from(Protocol))
    port = draw(st.integers(1, 65535) | st.sampled_from([80, 443]))
    depth = draw(depths)
    below = names.filter(lambda name: not is_public_suffix(name))
    tls = Tls.AUTO if protocol is Protocol.UDP else draw(st.sampled_from([*Tls, default_tls(port, protocol)]))
    return Grant(
        host=draw(of if depth is None else below),
        port=port,
        protocol=protocol,
        tls=tls,
        private=draw(st.booleans()),
        depth=depth,
        reason=draw(st.none() | reasons),
        expires=draw(st.none() | durations),
        max_up=draw(st.none() | byte_counts),
        max_down=draw(st.none() | byte_counts),
        sends=draw(st.none() | st.sampled_from(Sends)),
        downloads=draw(st.none() | _downloads),
        source=draw(st.sampled_from(["", "--network-allow", "mvm.toml:3"])),
    )


forwards = st.builds(
    Forward, address=addresses, host_port=st.integers(1, 65535), guest_port=st.integers(1, 65535)
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Make a policy, as `policy_of` gives them."""
    resolver = draw(st.none() | st.tuples(literals, st.integers(1, 65535)))
    mode = DnsMode.RESOLVER if resolver is not None else DnsMode.SYSTEM
    static = draw(st.dictionaries(names, st.lists(literals, min_size=1, max_size=2, unique=True), max_size=2))
    listed = draw(
        st.lists(
            grants(), max_size=4, unique_by=lambda one: (str(one.host), one.port, one.protocol, one.depth)
        )
    )
    policy, _ = policy_of(
        grants=listed,
        dns=Dns(
            mode=mode,
            resolver=resolver,
            static=tuple((name, tuple(static[name])) for name in sorted(static)),
        ),
        preset=Preset.NONE,
        unrestricted=draw(st.booleans()),
        forwards=draw(st.lists(forwards, max_size=3, unique_by=lambda one: (one.address, one.host_port))),
        ttl=draw(st.none() | durations),
    )
    return policy
