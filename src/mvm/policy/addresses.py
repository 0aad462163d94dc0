"""What an IP address really is: unwrapped from every known envelope, then classed.

Owns the table of addresses that are not the public internet (IANA special-purpose registries, RFC 6890,
and the metadata services of clouds). Must never resolve a name, and must never call an address public
because it does not know it: in IPv6 only 2000::/3 can be public (RFC 4291 section 2.4).

Known hole: a network may translate IPv4 under a prefix of its own (RFC 6052 section 2.2); such a prefix
can't be told from any other public one. The host's own addresses are facts of the machine, and are
handed to `policy.decide.admit` beside this.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.terms import Address


class AddressClass(StrEnum):
    """Where an address leads. All but `public` are refused unless a grant says `private`."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"  # whoever reaches it can ask for the machine's own credentials
    CGNAT = "cgnat"
    PRIVATE = "private"
    ULA = "ula"
    MULTICAST = "multicast"  # the limited broadcast address too: nothing of it can be dialled
    UNSPECIFIED = "unspecified"  # all of 0.0.0.0/8: Linux connects 0.0.0.0 to itself
    BENCHMARKING = "benchmarking"
    DOCUMENTATION = "documentation"
    RESERVED = "reserved"


def ip_address(text: str) -> Address:
    """Read one address as the kernel and the C library write it.

    Args:
        text: a strict dotted quad, or an IPv6 address without brackets and without a scope id.

    Returns:
        The address, still in its envelope if it has one.

    Raises:
        ValueError: it is neither (RFC 6943 section 3.1.1 says why shorthands are refused).
    """
    if ":" not in text:
        return IPv4Address(text)
    if "%" in text:
        raise AddressValueError("an address with a scope id names no host outside this machine")
    return IPv6Address(text)


_Table = tuple[tuple[int, int, AddressClass], ...]


def _table(rows: tuple[tuple[str, AddressClass], ...]) -> _Table:
    """Turn `prefix/length` into (shift, value): an address is inside where address >> shift == value."""
    made = []
    for prefix, kind in rows:
        base, _, length = prefix.partition("/")
        address = ip_address(base)
        shift = address.max_prefixlen - int(length or address.max_prefixlen)
        made.append((shift, int(address) >> shift, kind))
    return tuple(made)


# The first row that holds an address decides, so exceptions stand before what they are taken from.
_V4 = _table(
    (
        ("169.254.169.0/24", AddressClass.METADATA),  # EC2, GCE, Azure, OpenStack, ...: .254; kin: .253 .123
        ("169.254.170.0/24", AddressClass.METADATA),  # credentials of ECS tasks .2 and EKS pods .23
        ("169.254.42.42", AddressClass.METADATA),  # Scaleway
        ("169.254.0.23", AddressClass.METADATA),  # Tencent Cloud
        ("100.100.100.200", AddressClass.METADATA),  # Alibaba Cloud
        ("168.63.129.16", AddressClass.METADATA),  # Azure's wire server, in otherwise public space
        ("192.0.0.192", AddressClass.METADATA),  # Oracle Cloud, classic
        ("0.0.0.0/8", AddressClass.UNSPECIFIED),  # RFC 1122 section 3.2.1.3
        ("10.0.0.0/8", AddressClass.PRIVATE),  # RFC 1918
        ("100.64.0.0/10", AddressClass.CGNAT),  # RFC 6598
        ("127.0.0.0/8", AddressClass.LOOPBACK),  # RFC 1122 section 3.2.1.3
        ("169.254.0.0/16", AddressClass.LINK_LOCAL),  # RFC 3927
        ("172.16.0.0/12", AddressClass.PRIVATE),  # RFC 1918
        ("192.0.0.0/24", AddressClass.RESERVED),  # RFC 6890
        ("192.0.2.0/24", AddressClass.DOCUMENTATION),  # RFC 5737
        ("192.88.99.0/24", AddressClass.RESERVED),  # RFC 7526, once the anycast of 6to4 relays
        ("192.168.0.0/16", AddressClass.PRIVATE),  # RFC 1918
        ("198.18.0.0/15", AddressClass.BENCHMARKING),  # RFC 2544; the door gives its names addresses here
        ("198.51.100.0/24", AddressClass.DOCUMENTATION),  # RFC 5737
        ("203.0.113.0/24", AddressClass.DOCUMENTATION),  # RFC 5737
        ("224.0.0.0/4", AddressClass.MULTICAST),  # RFC 5771
        ("255.255.255.255", AddressClass.MULTICAST),  # RFC 919: to all on the link
        ("240.0.0.0/4", AddressClass.RESERVED),  # RFC 1112 section 4
        ("0.0.0.0/0", AddressClass.PUBLIC),
    ),
)
_V6 = _table(
    (
        ("fd00:ec2::/32", AddressClass.METADATA),  # EC2: ::254, and its kin ::253 ::123 ::23
        ("fd20:ce::254", AddressClass.METADATA),  # GCE
        ("fd00:42::42", AddressClass.METADATA),  # Scaleway
        ("fd00:c1::a9fe:a9fe", AddressClass.METADATA),  # Oracle Cloud
        ("fe80::a9fe:a9fe", AddressClass.METADATA),  # OpenStack
        ("::", AddressClass.UNSPECIFIED),
        ("::1", AddressClass.LOOPBACK),
        ("fe80::/10", AddressClass.LINK_LOCAL),  # RFC 4291 section 2.5.6
        ("fec0::/10", AddressClass.PRIVATE),  # RFC 3879: site-local, deprecated and still routed by some
        ("fc00::/7", AddressClass.ULA),  # RFC 4193
        ("ff00::/8", AddressClass.MULTICAST),  # RFC 4291 section 2.7
        ("2001:2::/48", AddressClass.BENCHMARKING),  # RFC 5180
        ("2001:db8::/32", AddressClass.DOCUMENTATION),  # RFC 3849
        ("2001::/23", AddressClass.RESERVED),  # RFC 2928: protocol assignments (ORCHID and others)
        ("3fff::/20", AddressClass.DOCUMENTATION),  # RFC 9637
        ("2000::/3", AddressClass.PUBLIC),  # RFC 4291 section 2.4
        ("::/0", AddressClass.RESERVED),
    ),
)


def unwrap(addr: Address) -> Address:
    """Give the IPv4 address that packets to an IPv6 address end up at, where it wraps one.

    Envelopes: IPv4-mapped and IPv4-compatible (RFC 4291 section 2.5.5), IPv4-translated (RFC 2765),
    NAT64 by 64:ff9b::/96 (RFC 6052) and 64:ff9b:1::/48 (RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).

    Args:
        addr: any address.

    Returns:
        The wrapped address; where an envelope can be read in several ways, a metadata service before
        any other that is not public, and that before a public one; `addr` itself where nothing is wrapped.
    """
    if isinstance(addr, IPv4Address):
        return addr
    readings = [IPv4Address(value) for value in _wrapped(int(addr))]
    return min(readings, key=lambda reading: _SUSPICION.get(classify(reading), 1), default=addr)


def is_spelling_of_ipv4(addr: Address) -> bool:
    """Tell IPv4 in IPv6 spelling, which sockets turn back: mapped, compatible, translated; not :: or ::1."""
    return isinstance(addr, IPv6Address) and int(addr) > 1 and int(addr) >> 32 in _SPELLINGS


def classify(addr: Address) -> AddressClass:
    """Say where an address leads, whatever envelope it comes in.

    Args:
        addr: any address, wrapped or not.

    Returns:
        The class of what `unwrap` gives.
    """
    plain = unwrap(addr)
    value = int(plain)
    rows = _V4 if isinstance(plain, IPv4Address) else _V6
    return next(kind for shift, prefix, kind in rows if value >> shift == prefix)


_SUSPICION = {AddressClass.METADATA: 0, AddressClass.PUBLIC: 2}

_LAST_32 = 0xFFFF_FFFF
_SPELLINGS = frozenset(int(IPv6Address(prefix)) >> 32 for prefix in ("::", "::ffff:0:0", "::ffff:0:0:0"))
_NAT64 = int(IPv6Address("64:ff9b::")) >> 32
_TEREDO, _SIX_TO_FOUR, _NAT64_LOCAL = 0x2001_0000, 0x2002, 0x0064_FF9B_0001


def _wrapped(value: int) -> tuple[int, ...]:
    """Give every IPv4 address that an IPv6 address may stand for, the likeliest first."""
    if value <= 1:
        return ()  # :: and ::1 are no envelopes
    if value >> 32 in _SPELLINGS or value >> 32 == _NAT64:
        return (value & _LAST_32,)
    if value >> 112 == _SIX_TO_FOUR:
        return (value >> 80 & _LAST_32,)
    if value >> 96 == _TEREDO:
        return value & _LAST_32 ^ _LAST_32, value >> 64 & _LAST_32  # the client, inverted, and the server
    if value >> 80 == _NAT64_LOCAL:
        return _local_nat64(value)
    return ()


def _local_nat64(value: int) -> tuple[int, ...]:
    """Read under every length that a prefix inside 64:ff9b:1::/48 may have (RFC 6052 section 2.2).

    The bits behind the address must be zero, so a short prefix is a reading only where they are.
    """
    readings = [value & _LAST_32]
    if value & 0xFF_FFFF == 0:
        readings.append(value >> 24 & _LAST_32)
    if value & _LAST_32 == 0:
        readings.append((value >> 64 & 0xFF) << 24 | value >> 32 & 0xFF_FFFF)
    if value & (1 << 40) - 1 == 0:
        readings.append((value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF)
    return tuple(readings)
