"""One nf_tables table over netlink: chains, sets, a named counter, and rules from expressions.

Owns the encoding of what the door's rule set needs (linux/netfilter/nf_tables.h). Must never
know what the rules are for: `gateway.door` says that. Works without root where the caller
owns the network namespace; a socket made inside the namespace goes on working when it is held
outside of it by the owner of its user namespace.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from mvm.kernel import netlink

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

ACCEPT, GOTO = 1, -4
EQUAL, NOT_EQUAL = 0, 1
IPV4, IPV6 = b"\x02", b"\x0a"
PORT_UNREACHABLE = 1

_SUBSYSTEM = 10 << 8
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE, _NEW_SET, _NEW_ELEMENT, _DELETE_ELEMENT = 0, 3, 6, 9, 12, 14
_NEW_OBJECT, _GET_OBJECT = 18, 19
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_FAMILY_INET = 1
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_META = {"mark": 3, "nfproto": 15, "l4proto": 16}
_OBJECT_COUNTER = 1
_ELEMENTS_A_MESSAGE = 1000

ADDRESS4, ADDRESS6, PROTOCOL, PORT = 7, 8, 12, 13
"""What a part of a set's key is, for those who list it (the datatypes of nft(8))."""
_TYPE_BITS = 6


def _expression(name: str, *attributes: bytes) -> bytes:
    return netlink.nested(1, netlink.text(1, name), netlink.nested(2, *attributes))


def meta(key: str, register: int = 1) -> bytes:
    """Load a packet's `mark`, `nfproto` or `l4proto` into a register."""
    return _expression("meta", netlink.be32(1, register), netlink.be32(2, _META[key]))


def compare(value: bytes, operation: int = EQUAL, register: int = 1) -> bytes:
    """Go on only if a register holds (or does not hold) this value."""
    return _expression(
        "cmp",
        netlink.be32(1, register),
        netlink.be32(2, operation),
        netlink.nested(3, netlink.attribute(1, value)),
    )


def network_header(offset: int, size: int, register: int = 1) -> bytes:
    """Load bytes of the network header."""
    return _payload(1, offset, size, register)


def transport_header(offset: int, size: int, register: int = 1) -> bytes:
    """Load bytes of the transport header."""
    return _payload(2, offset, size, register)


def _payload(base: int, offset: int, size: int, register: int) -> bytes:
    return _expression(
        "payload",
        netlink.be32(1, register),
        netlink.be32(2, base),
        netlink.be32(3, offset),
        netlink.be32(4, size),
    )


def mask(bits: bytes, register: int = 1) -> bytes:
    """Keep only these bits of a register."""
    return _expression(
        "bitwise",
        netlink.be32(1, register),
        netlink.be32(2, register),
        netlink.be32(3, len(bits)),
        netlink.nested(4, netlink.attribute(1, bits)),
        netlink.nested(5, netlink.attribute(1, bytes(len(bits)))),
    )


def in_set(name: str, register: int) -> bytes:
    """Go on only if the key that starts at a register is in the set."""
    return _expression("lookup", netlink.text(1, name), netlink.be32(2, register), netlink.be32(4, 1))


def protocol(number: int) -> bytes:
    """Go on only for this transport protocol."""
    return meta("l4proto") + compare(bytes([number]))


def family(nfproto: bytes) -> bytes:
    """Go on only for IPv4 or IPv6."""
    return meta("nfproto") + compare(nfproto)


def destination(network: IPv4Network | IPv6Network) -> bytes:
    """Go on only for packets to this network."""
    if network.version == 4:
        loaded = family(IPV4) + network_header(16, 4)
    else:
        loaded = family(IPV6) + network_header(24, 16)
    if network.prefixlen < network.max_prefixlen:
        loaded += mask(network.netmask.packed)
    return loaded + compare(network.network_address.packed)


def destination_port(port: int) -> bytes:
    """Go on only for packets to this port."""
    return transport_header(2, 2) + compare(struct.pack("!H", port))


def marked(number: int) -> bytes:
    """Go on only for packets of sockets that carry this mark (SO_MARK)."""
    return meta("mark") + compare(struct.pack("=I", number))


def accept() -> bytes:
    """Let the packet pass."""
    return _verdict(netlink.be32(1, ACCEPT))


def goto(chain: str) -> bytes:
    """Have another chain of the table decide, for good."""
    return _verdict(netlink.be32(1, GOTO), netlink.text(2, chain))


def _verdict(*attributes: bytes) -> bytes:
    return _expression("immediate", netlink.be32(1, 0), netlink.nested(2, netlink.nested(2, *attributes)))


def tproxy(port: int) -> bytes:
    """Hand the packet to the transparent socket that listens on this port."""
    load = _expression(
        "immediate", netlink.be32(1, 1), netlink.nested(2, netlink.attribute(1, struct.pack("!H", port)))
    )
    return load + _expression("tproxy", netlink.be32(1, 0), netlink.be32(3, 1))


def log(group: int, snap_bytes: int) -> bytes:
    """Report the packet, cut to so many bytes, to a log group (`kernel.nflog`)."""
    return _expression("log", netlink.be16(1, group), netlink.be32(3, snap_bytes))


def limit(per_second: int, burst: int) -> bytes:
    """Go on only so many times a second."""
    return _expression(
        "limit",
        netlink.be64(1, per_second),
        netlink.be64(2, 1),
        netlink.be32(3, burst),
        netlink.be32(4, 0),
        netlink.be32(5, 0),
    )


def count(counter: str) -> bytes:
    """Add one to a named counter."""
    return _expression("objref", netlink.be32(1, _OBJECT_COUNTER), netlink.text(2, counter))


def reject_reset() -> bytes:
    """Answer a TCP segment with RST."""
    return _expression("reject", netlink.be32(1, 1), netlink.attribute(2, b"\0"))


def reject_unreachable() -> bytes:
    """Answer with ICMP or ICMPv6 port unreachable."""
    return _expression("reject", netlink.be32(1, 2), netlink.attribute(2, bytes([PORT_UNREACHABLE])))


def open_socket() -> socket.socket:
    """A socket to the nf_tables of the current network namespace, which it keeps."""
    return netlink.open_socket(netlink.NETLINK_NETFILTER)


class Batch:
    """One atomic transaction on one table of the inet family; nothing is sent before `send`."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._messages: list[bytes] = []
        self._names: list[str] = []

    def _add(self, kind: int, body: bytes, name: str, flags: int = netlink.NLM_F_CREATE) -> None:
        self._names.append(f"nf_tables: {name}")
        flags |= netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
        header = struct.pack("!BBH", _FAMILY_INET, 0, 0)
        self._messages.append(netlink.message(_SUBSYSTEM | kind, flags, len(self._names), header + body))

    def table(self) -> None:
        """Create the table."""
        self._add(_NEW_TABLE, netlink.text(1, self._table) + netlink.be32(2, 0), f"table {self._table}")

    def chain(self, name: str) -> None:
        """Create a chain that is only reached by `goto`."""
        self._add(_NEW_CHAIN, netlink.text(1, self._table) + netlink.text(3, name), f"chain {name}")

    def chain_on(self, hook: str, priority: int, name: str) -> None:
        """Create a filter chain on a hook; what no rule decides passes."""
        body = netlink.text(1, self._table) + netlink.text(3, name)
        body += netlink.nested(4, netlink.be32(1, _HOOKS[hook]), netlink.be32(2, priority))
        body += netlink.be32(5, ACCEPT) + netlink.text(7, "filter")
        self._add(_NEW_CHAIN, body, f"chain {name}")

    def counter(self, name: str) -> None:
        """Create a named counter."""
        body = netlink.text(1, self._table) + netlink.text(2, name) + netlink.be32(3, _OBJECT_COUNTER)
        body += netlink.nested(4, netlink.be64(1, 0), netlink.be64(2, 0))
        self._add(_NEW_OBJECT, body, f"counter {name}")

    def set(self, name: str, identity: int, parts: Sequence[int], key_bytes: int) -> None:
        """Create a hash set, empty; `identity` is its number within this batch."""
        kind = 0
        for part in parts:
            kind = kind << _TYPE_BITS | part
        body = netlink.text(1, self._table) + netlink.text(2, name) + netlink.be32(3, 0)
        body += netlink.be32(4, kind) + netlink.be32(5, key_bytes) + netlink.be32(10, identity)
        self._add(_NEW_SET, body, f"set {name}")

    def add_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Put keys into a set."""
        self._elements(_NEW_ELEMENT, name, keys)

    def delete_elements(self, name: str, keys: Iterable[bytes]) -> None:
        """Take keys out of a set."""
        self._elements(_DELETE_ELEMENT, name, keys)

    def _elements(self, kind: int, name: str, keys: Iterable[bytes]) -> None:
        elements = [netlink.nested(1, netlink.nested(1, netlink.attribute(1, key))) for key in keys]
        for start in range(0, len(elements), _ELEMENTS_A_MESSAGE):
            body = netlink.text(1, self._table) + netlink.text(2, name)
            body += netlink.nested(3, *elements[start : start + _ELEMENTS_A_MESSAGE])
            self._add(kind, body, f"elements of {name}")

    def rule(self, chain: str, *expressions: bytes) -> None:
        """Append a rule."""
        body = netlink.text(1, self._table) + netlink.text(2, chain) + netlink.nested(4, *expressions)
        flags = netlink.NLM_F_CREATE | netlink.NLM_F_APPEND
        self._add(_NEW_RULE, body, f"rule of {chain}", flags)

    def send(self, sock: socket.socket) -> None:
        """Apply all or nothing.

        Raises:
            OSError: the kernel refused; the text says which part.
        """
        if not self._messages:
            return
        generation = struct.pack("!BBH", 0, 0, 10)
        begin = netlink.message(_BATCH_BEGIN, netlink.NLM_F_REQUEST, 0, generation)
        end = netlink.message(_BATCH_END, netlink.NLM_F_REQUEST, 0, generation)
        netlink.transact(sock, [begin, *self._messages, end], self._names)


def read_counter(sock: socket.socket, table: str, name: str) -> int:
    """How often a named counter was hit.

    Raises:
        OSError: the table is gone.
    """
    body = struct.pack("!BBH", _FAMILY_INET, 0, 0) + netlink.text(1, table) + netlink.text(2, name)
    body += netlink.be32(3, _OBJECT_COUNTER)
    answer = dict(netlink.attributes(netlink.ask(sock, _SUBSYSTEM | _GET_OBJECT, body)[4:]))
    values = dict(netlink.attributes(answer[4]))
    return int(struct.unpack("!Q", values[2])[0])
