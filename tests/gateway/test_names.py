"""One address a name, for ever: the address of a connection tells its grant, and nothing else does."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from mvm.gateway.names import POOLS, Names, Pools
from mvm.terms import PORTAL, HostName
from tests.policy.strategies import names as host_names


@given(st.lists(host_names, max_size=40))
def test_an_address_leads_back_to_its_name(asked: list[HostName]) -> None:
    """In every spelling that a dual-stack socket uses; a name that is asked for again keeps its own."""
    names = Names()
    pairs = {host: names.pair(host) for host in asked}
    assert len(set(pairs.values())) == len(pairs)
    for host, pair in pairs.items():
        assert pair is not None
        assert names.pair(host) == pair
        v4, v6 = pair
        assert v4 in POOLS.v4
        assert v6 in POOLS.v6
        for text in (str(v4), f"::ffff:{v4}", str(v6)):
            assert names.host(text) == host
    assert names.given == tuple(dict.fromkeys(asked))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1))
def test_other_addresses_lead_to_no_name(v4: int, v6: int) -> None:
    """Neither addresses of the pools that were not given out, nor any other."""
    from ipaddress import IPv4Address, IPv6Address

    names = Names()
    pair = names.pair(HostName("api.example.test"))
    for address in (IPv4Address(v4), IPv6Address(v6)):
        if pair is not None and address not in {*pair, *POOLS.pair(3)}:
            assert names.host(str(address)) is None
    for text in ("198.18.0.0", "198.18.0.1", "198.18.0.2", "::", "::1", "100::1", "::ffff:127.0.0.1"):
        assert names.host(text) is None


def test_the_portal_has_its_place() -> None:
    """Its address is fixed, and never given to another name."""
    names = Names()
    assert names.pair(PORTAL) == POOLS.pair(3)
    assert names.host("::ffff:198.18.0.3") == PORTAL
    assert PORTAL not in names.given


def test_a_pool_that_is_used_up_gives_no_more() -> None:
    """The names that have an address keep it, the next gets none; no address ever passes to another."""
    names = Names(Pools(IPv4Network("10.99.0.0/23"), IPv6Network("fd00:9::/64")))
    given_out = [names.pair(HostName(f"h{at}.example.test")) for at in range(300)]
    room = 512 - 256 - 1
    assert given_out.count(None) == 300 - room
    assert None not in given_out[:room]
    assert names.pair(HostName("h0.example.test")) == given_out[0]
    assert names.host("10.99.1.255") is None
