"""The first message of a TLS connection: which name it asks for (RFC 8446 section 4.1.2, RFC 6066 section 3).

Owns the reading of records and of one ClientHello as far as the name, ALPN and the presence of Encrypted
ClientHello. Must never decide whether a name is granted, and must never read a name where a server could
read another one: what is ambiguous (two names, an extension twice, bytes that are no host name, a second
message in the hello's last record) is refused, whatever some server would make of it.

Two bounds keep a hostile first flight cheap: 16 KiB in all, and 64 records, so that calling again after
every byte stays affordable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mvm.wire.outcome import Malformed

MAX_HELLO = 16384
"""Bytes that a hello may take, record headers included."""

MAX_RECORDS = 64
"""Records that a hello may span; clients use one, or two or three where post-quantum keys are split."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_HEADER = 4  # of a handshake message: type and 24-bit length
_MAX_FRAGMENT = 16384
_SERVER_NAME = 0
_ALPN = 16
_ENCRYPTED_HELLO = frozenset({0xFE0D, 0xFFCE})  # RFC 9849, and the ESNI drafts before it

_MAX_NAME = 253
_HOST_NAME = re.compile(rb"(?:[a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}")


class NotTls(Malformed):
    """The first bytes are no TLS handshake record: another protocol is spoken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """What a client says in the clear before anything is encrypted.

    Attributes:
        server_name: the one host name of the SNI extension, lower case, letters, digits, hyphens and dots,
            at most 253 bytes; None where the extension is absent.
        ech: whether an Encrypted ClientHello (or its older draft) is offered, real or as grease.
        alpn: protocols offered, in the client's order.
        size: bytes of the input that the hello's records take.
    """

    server_name: bytes | None
    ech: bool
    alpn: tuple[bytes, ...]
    size: int


def read_client_hello(data: bytes) -> ClientHello | None:
    """Read the ClientHello that a TLS client opens with; it may span records and segments.

    Args:
        data: everything received so far, from the first byte; bytes after the hello's last record are left
            alone.

    Returns:
        The hello, or None where more bytes are needed.

    Raises:
        NotTls: the first bytes cannot be a TLS handshake record.
        Malformed: a broken or ambiguous hello, or one above `MAX_HELLO` bytes or `MAX_RECORDS` records.
    """
    message = _read_message(data)
    if message is None:
        return None
    hello, size = message
    try:
        return _read_hello(hello, size)
    except IndexError:
        raise Malformed("ClientHello: a length points past the end") from None


def _read_message(data: bytes) -> tuple[bytes, int] | None:
    """Join the fragments of the first handshake message; also how many input bytes they took."""
    have = len(data)
    if have and data[0] != _HANDSHAKE:
        raise NotTls("no TLS handshake record")
    if have > 1 and data[1] != 3:  # the major version of SSL 3.0 and of every TLS
        raise NotTls("no TLS handshake record")
    message, start = b"", 0
    for count in range(1, MAX_RECORDS + 1):
        end = _find_record_end(data, start)
        if end is None:
            return None
        message += data[start + 5 : end]
        if message and message[0] != _CLIENT_HELLO:
            raise Malformed("TLS handshake: the first message is no ClientHello")
        need = _HEADER if len(message) < _HEADER else _HEADER + int.from_bytes(message[1:_HEADER], "big")
        if need + 5 * count > MAX_HELLO or end > MAX_HELLO:
            raise Malformed("ClientHello: longer than 16 KiB")
        if have < end:
            return None
        if len(message) > need:
            raise Malformed("ClientHello: its last record carries another message")
        if len(message) == need:
            return message, end
        start = end
    raise Malformed("ClientHello: split over too many records")


def _find_record_end(data: bytes, start: int) -> int | None:
    """Where the handshake record at `start` ends by its own word, or None for want of its header."""
    if data[start : start + 2] not in (b"\x16\x03", b"\x16", b""):
        raise Malformed("ClientHello: interrupted by another record")
    if len(data) < start + 5:
        return None
    size = data[start + 3] << 8 | data[start + 4]
    if not 0 < size <= _MAX_FRAGMENT:
        raise Malformed("TLS record: length outside 1 to 16384")
    return start + 5 + size


def _read_hello(hello: bytes, size: int) -> ClientHello:
    """The fixed part, then the extensions. IndexError stands for a length that points past the end."""
    whole = len(hello)
    if whole < 38 or hello[4] != 3:  # header, version and random; major version
        raise Malformed("ClientHello: too short, or of an unknown version")
    if hello[38] > 32:  # RFC 8446: legacy_session_id<0..32>
        raise Malformed("ClientHello: session id longer than 32")
    at = 39 + hello[38]
    ciphers = hello[at] << 8 | hello[at + 1]
    if ciphers < 2 or ciphers & 1:  # cipher_suites<2..2^16-2>
        raise Malformed("ClientHello: cipher suites of an odd length")
    at += 2 + ciphers
    if not hello[at]:
        raise Malformed("ClientHello: no compression method")
    at += 1 + hello[at]
    if at == whole:
        return ClientHello(server_name=None, ech=False, alpn=(), size=size)
    end = at + 2 + (hello[at] << 8 | hello[at + 1])
    if end != whole:
        raise Malformed("ClientHello: extensions do not end where the message does")
    return _read_extensions(hello, at + 2, end, size)


def _read_extensions(hello: bytes, at: int, end: int, size: int) -> ClientHello:
    """Walk the extensions once; each kind may come once (RFC 8446 section 4.2)."""
    seen: set[int] = set()
    server_name: bytes | None = None
    alpn: tuple[bytes, ...] = ()
    while at < end:
        kind = hello[at] << 8 | hello[at + 1]
        stop = at + 4 + (hello[at + 2] << 8 | hello[at + 3])
        if stop > end:
            raise Malformed("ClientHello: an extension runs past the end")
        if kind in seen:
            raise Malformed("ClientHello: an extension comes twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            server_name = _read_server_name(hello[at + 4 : stop])
        elif kind == _ALPN:
            alpn = _read_alpn(hello[at + 4 : stop])
        at = stop
    return ClientHello(
        server_name=server_name, ech=not seen.isdisjoint(_ENCRYPTED_HELLO), alpn=alpn, size=size
    )


def _read_server_name(body: bytes) -> bytes:
    """Exactly one entry, of type host_name, that is nothing but a host name (RFC 6066 section 3)."""
    have = len(body)
    if have < 6 or (body[0] << 8 | body[1]) != have - 2 or body[2]:  # lengths, type, one byte
        raise Malformed("SNI: not a list of one host name")
    if (body[3] << 8 | body[4]) != have - 5:
        raise Malformed("SNI: not exactly one name")
    name = body[5:].lower()
    if len(name) > _MAX_NAME or not _HOST_NAME.fullmatch(name):
        raise Malformed("SNI: not a host name of letters, digits, hyphens and inner dots")
    return name


def _read_alpn(body: bytes) -> tuple[bytes, ...]:
    """The protocol names of RFC 7301, none of them empty."""
    have = len(body)
    if have < 4 or (body[0] << 8 | body[1]) != have - 2:  # two lengths and one byte
        raise Malformed("ALPN: lengths disagree")
    names: list[bytes] = []
    at = 2
    while at < have:
        stop = at + 1 + body[at]
        if stop > have or not body[at]:
            raise Malformed("ALPN: an empty name, or one that runs past the end")
        names.append(body[at + 1 : stop])
        at = stop
    return tuple(names)
