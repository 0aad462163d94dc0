"""TLS hellos as a workload may forge them: OpenSSL's own, with its extensions changed.

Owns the forging. What comes out is what the name says and otherwise well-formed, so that a refusal can have
no other reason. Hellos are latin-1 text, as `attempts` carries them.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVER_NAME, PADDING, ENCRYPTED_HELLO = 0, 21, 0xFE0D
ACCESS_DENIED = b"\x15\x03\x01\x00\x02\x02\x31"
"""The alert by which a name is refused."""

_FIXED = 34  # version and random
Extensions = list[tuple[int, bytes]]


def hello(*names: bytes, extra: Iterable[tuple[int, bytes]] = (), kind: int = 0) -> str:
    """A ClientHello with these names in its SNI, none where there are none, and `extra` extensions behind."""
    body, extensions = _taken_apart(_ordinary())
    kept = [(number, data) for number, data in extensions if number != SERVER_NAME]
    if names:
        entries = b"".join(bytes([kind]) + _sized(name) for name in names)
        kept.insert(0, (SERVER_NAME, _sized(entries)))
    return _put_together(body, [*kept, *extra])


def in_records(flight: str, size: int) -> str:
    """The same hello in records of `size` bytes."""
    data = flight.encode("latin-1")
    message = data[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + _sized(part) for part in parts).decode("latin-1")


def encrypted(inner: bytes) -> tuple[int, bytes]:
    """An encrypted hello of the outer kind (RFC 9849 section 5), the inner name as it would be sealed."""
    return ENCRYPTED_HELLO, b"\0" + b"\0\x01\0\x01" + b"\x07" + _sized(bytes(32)) + _sized(
        inner.ljust(128, b"\xa5")
    )


def _ordinary() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tunnel = context.wrap_bio(incoming, outgoing, server_hostname="placeholder.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        tunnel.do_handshake()
    return outgoing.read()


def _taken_apart(record: bytes) -> tuple[bytes, Extensions]:
    """What stands before the extensions, and these."""
    message = record[9:]
    at = _FIXED
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    body, rest = message[:at], message[at + 2 :]
    extensions = []
    while rest:
        number, size = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        extensions.append((number, rest[4 : 4 + size]))
        rest = rest[4 + size :]
    return body, extensions


def _put_together(body: bytes, extensions: Extensions) -> str:
    packed = b"".join(number.to_bytes(2, "big") + _sized(data) for number, data in extensions)
    message = body + _sized(packed)
    handshake = b"\x01" + len(message).to_bytes(3, "big") + message
    return (b"\x16\x03\x01" + _sized(handshake)).decode("latin-1")


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
