"""Every envelope and every class of address has vectors; none that is not public passes for public."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.policy.addresses import AddressClass, classify, ip_address, is_spelling_of_ipv4, unwrap
from tests.policy.vectors import ADDRESSES

ENVELOPES = {
    "plain",
    "mapped",
    "compatible",
    "translated",
    "nat64",
    "6to4",
    "teredo",
    "nat64-local-96",
    "nat64-local-64",
    "nat64-local-56",
    "nat64-local-48",
}


@pytest.mark.parametrize(("text", "kind", "inside", "envelope"), ADDRESSES)
def test_addresses_are_classed_whatever_they_come_in(
    text: str, kind: str, inside: str | None, envelope: str
) -> None:
    """An address has the class of what its envelope holds."""
    address = ip_address(text)
    assert envelope in ENVELOPES
    if kind == "not-public":
        assert classify(address) is not AddressClass.PUBLIC
        return
    assert classify(address) == kind
    assert inside is not None
    assert unwrap(address) == ip_address(inside)


def test_every_class_and_every_envelope_has_vectors() -> None:
    """No class and no envelope is left without a vector, and every one wraps public and private ones."""
    assert {kind for _, kind, _, _ in ADDRESSES} - {"not-public"} == set(AddressClass)
    assert {envelope for _, _, _, envelope in ADDRESSES} == ENVELOPES
    for envelope in ("mapped", "compatible", "translated", "nat64", "6to4", "teredo"):
        kinds = {kind for _, kind, _, of in ADDRESSES if of == envelope}
        assert {"public", "metadata", "loopback", "private", "cgnat"} <= kinds


@pytest.mark.parametrize(
    "text", ["", "1", "1.2.3", "01.2.3.4", "0x7f.0.0.1", "1.2.3.4.5", "fe80::1%1", "::g", " 1.2.3.4"]
)
def test_what_is_no_address(text: str) -> None:
    """Shorthands, other bases and scope ids are no addresses; the strict spelling is."""
    with pytest.raises(ValueError, match=r"."):
        ip_address(text)
    assert ip_address("1.2.3.4") == IPv4Address("1.2.3.4")


def test_which_ipv6_addresses_sockets_turn_back() -> None:
    """Mapped, compatible and translated addresses are IPv4 in another spelling; :: and ::1 are not."""
    for text in ("::ffff:1.2.3.4", "::1.2.3.4", "::ffff:0:1.2.3.4"):
        assert is_spelling_of_ipv4(ip_address(text))
    for text in ("::", "::1", "2001:db8::7", "1.2.3.4", "64:ff9b::1.2.3.4"):
        assert not is_spelling_of_ipv4(ip_address(text))


@given(st.integers(0, 2**32 - 1))
def test_no_envelope_makes_an_address_public(value: int) -> None:
    """Wrapped or not, an IPv4 address has one class."""
    plain = IPv4Address(value)
    wrapped = [0xFFFF << 32 | value, 0x64FF9B << 96 | value, 0x2002 << 112 | value << 80]
    for number in wrapped:
        assert classify(IPv6Address(number)) is classify(plain)
    for shift in (0, 24):
        local = IPv6Address(0x64FF9B0001 << 80 | value << shift)
        if classify(plain) is not AddressClass.PUBLIC:
            assert classify(local) is not AddressClass.PUBLIC


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_is_public_that_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    """Where the standard library knows that an address is not global, it is not public here either."""
    if classify(address) is AddressClass.PUBLIC:
        plain = unwrap(address)
        # Two blocks that IANA lists as globally reachable, and older libraries do not.
        known = ("192.0.0.9", "192.0.0.10")
        assert plain.is_global or str(plain) in known
        assert not plain.is_multicast


def test_the_edges_of_every_block() -> None:
    """The last address before a block and the first behind it are not of its class."""
    for block in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "198.18.0.0/15",
    ):
        network = ipaddress.ip_network(block)
        assert classify(network[0]) is classify(network[-1]) is not AddressClass.PUBLIC
        assert classify(network[0] - 1) is classify(network[-1] + 1) is AddressClass.PUBLIC
