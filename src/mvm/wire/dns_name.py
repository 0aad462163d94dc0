r"""Domain names in DNS messages (RFC 1035 sections 3.1 and 4.1.4) as text that can be compared.

Owns the one way from wire bytes to a name: lower case, labels joined by dots, every byte that is not a
letter, digit, hyphen or underscore written as `\DDD`. So a NUL, a dot inside a label or a capital letter
can never make one name compare equal to another. Must never drop, fold or repair a byte.
"""

from __future__ import annotations

import re

from mvm.wire.outcome import Malformed

MAX_LABEL = 63
"""Bytes of one label."""

MAX_NAME = 255
"""Bytes of a name on the wire, lengths and the root's zero included."""

MAX_POINTERS = 32
"""Compression pointers that are followed for one name."""

_POINTER = 0xC0
_ODD_BYTE = re.compile(rb"[^a-z0-9_-]")


def read_plain_name(data: bytes, at: int) -> tuple[str, int]:
    """Read a name that must not be compressed, as in a question.

    Args:
        data: the message.
        at: where the name begins.

    Returns:
        The name as text (the root is an empty string), and the position behind it.

    Raises:
        Malformed: it is compressed, too long, of an unknown label type, or cut.
    """
    labels, end, pointer = _read_labels(data, at, MAX_NAME)
    if pointer is not None:
        raise Malformed("DNS name: compressed where it must not be")
    return _text(labels), end


def read_name(data: bytes, at: int) -> tuple[str, int]:
    """Read a name that may be compressed; each pointer must point before the run of labels it ends.

    Args:
        data: the message.
        at: where the name begins.

    Returns:
        The name as text (the root is an empty string), and the position behind it where it stood.

    Raises:
        Malformed: it is too long, cut, of an unknown label type, or its pointers do not go back.
    """
    labels, end, pointer = _read_labels(data, at, MAX_NAME)
    start, jumps = at, 0
    while pointer is not None:
        jumps += 1
        if pointer >= start or jumps > MAX_POINTERS:
            raise Malformed("DNS name: a pointer that does not go back, or too many of them")
        start = pointer
        room = MAX_NAME - sum(map(len, labels)) - len(labels)
        more, _, pointer = _read_labels(data, start, room)
        labels += more
    return _text(labels), end


def _read_labels(data: bytes, at: int, room: int) -> tuple[list[bytes], int, int | None]:
    """Labels up to the root or to a pointer; the position behind; the pointer's target, if one ended them."""
    labels: list[bytes] = []
    have = len(data)
    while at < have:
        size = data[at]
        if size > MAX_LABEL:
            if size < _POINTER or at + 1 >= have:
                raise Malformed("DNS name: an unknown label type, or a cut pointer")
            return labels, at + 2, (size & 0x3F) << 8 | data[at + 1]
        room -= size + 1
        if room < 0:
            raise Malformed("DNS name: longer than 255")
        if not size:
            return labels, at + 1, None
        label = data[at + 1 : at + 1 + size]
        labels.append(label)
        at += 1 + size
    raise Malformed("DNS name: cut")


def _text(labels: list[bytes]) -> str:
    """See the module's head."""
    return ".".join(_ODD_BYTE.sub(_escape, label.lower()).decode("ascii") for label in labels)


def _escape(odd: re.Match[bytes]) -> bytes:
    """One byte as a backslash and three decimal digits (RFC 1035 section 5.1)."""
    return b"\\%03d" % odd[0][0]
