"""Netlink messages and attributes (netlink(7)): building them, sending them, reading the answers.

Owns the framing that `rtnetlink` and `nftables` share. Must never know what a message means.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_EXCL = 0x200
NLM_F_APPEND = 0x800

NLMSG_ERROR = 2
NLMSG_DONE = 3

_FAMILIES = {NETLINK_ROUTE: "routes", NETLINK_NETFILTER: "nf_tables"}
_HEADER = struct.Struct("=IHHII")
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_RECEIVE_BYTES = 1 << 16


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute: length, kind, value, padded to four bytes."""
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + b"\0" * (-size & 3)


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute whose value is attributes."""
    return attribute(kind | _NESTED, b"".join(children))


def be16(kind: int, value: int) -> bytes:
    """An attribute holding a 16-bit number in network byte order."""
    return attribute(kind, struct.pack("!H", value))


def be32(kind: int, value: int) -> bytes:
    """An attribute holding a 32-bit number in network byte order; negative numbers wrap."""
    return attribute(kind, struct.pack("!I", value & 0xFFFFFFFF))


def be64(kind: int, value: int) -> bytes:
    """An attribute holding a 64-bit number in network byte order."""
    return attribute(kind, struct.pack("!Q", value))


def text(kind: int, value: str) -> bytes:
    """An attribute holding a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message with its header; the kernel fills in the port."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def open_socket(family: int) -> socket.socket:
    """A netlink socket of the current network namespace, which it keeps wherever it is held.

    Raises:
        OSError: EPROTONOSUPPORT where this kernel has no such family.
    """
    try:
        return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    except OSError as refusal:
        what = _FAMILIES.get(family, f"family {family}")
        raise OSError(refusal.errno, f"netlink of {what}: {refusal.strerror}") from None


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Split received bytes into (kind, sequence, body)."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, _flags, sequence, _port = _HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + _HEADER.size : offset + size]
        offset += (size + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a body or a nested value into (kind, value)."""
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _raise_error(body: bytes, what: str) -> None:
    code = -struct.unpack_from("=i", body)[0]
    if code:
        raise OSError(code, f"{what}: {os.strerror(code)}")


def transact(sock: socket.socket, requests: Sequence[bytes], names: Sequence[str]) -> None:
    """Send requests as one datagram and wait until each that asked for it is acknowledged.

    Args:
        sock: a blocking netlink socket.
        requests: whole messages; those named must carry NLM_F_ACK and the sequence 1, 2, ….
        names: what each acknowledged request does, in order, for the error message.

    Raises:
        OSError: the kernel refused one; the text says which.
    """
    sock.send(b"".join(requests))
    wanted, refused = len(names), b""
    what = "netlink batch"
    while wanted:
        for kind, sequence, body in messages(sock.recv(_RECEIVE_BYTES)):
            if kind != NLMSG_ERROR:
                continue
            wanted = wanted - 1 if 0 < sequence <= len(names) else 0  # else: refused as a whole
            if not refused and struct.unpack_from("=i", body)[0]:
                refused, what = body, names[sequence - 1] if 0 < sequence <= len(names) else what
    if refused:
        # Only now: an answer left unread would be taken for that to the next request.
        _raise_error(refused, what)


def dump(sock: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """Ask for a listing and yield the body of each entry.

    Raises:
        OSError: the kernel refused to list.
    """
    sock.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
    while True:
        for answer, _sequence, entry in messages(sock.recv(_RECEIVE_BYTES)):
            if answer == NLMSG_DONE:
                return
            if answer == NLMSG_ERROR:
                _raise_error(entry, "netlink dump")
            yield entry


def ask(sock: socket.socket, kind: int, body: bytes) -> bytes:
    """Ask for one thing and return the body of the answer.

    Raises:
        OSError: there is no such thing, or it may not be seen.
    """
    sock.send(message(kind, NLM_F_REQUEST, 1, body))
    for answer, _sequence, entry in messages(sock.recv(_RECEIVE_BYTES)):
        if answer == NLMSG_ERROR:
            _raise_error(entry, "netlink request")
        return entry
    raise OSError(0, "netlink request: empty answer")
