"""Run ids: ULIDs, 26 characters whose text order is the order of the runs' beginnings.

Owns their spelling (Crockford's base 32, upper case). Pure: time and randomness are handed in.
Source: the ULID specification, 48 bits of milliseconds and 80 random bits.
"""

from __future__ import annotations

from typing import NewType

RunId = NewType("RunId", str)
"""26 characters of Crockford's base 32, the first at most `7`."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 26
_RANDOM_BYTES = 10
_MILLISECONDS_END = 2**48

_SPELLED = frozenset(_ALPHABET)  # a pattern for the same takes a millisecond to compile, in every run


def make_run_id(milliseconds: int, randomness: bytes) -> RunId:
    """Name a new run.

    Args:
        milliseconds: since 1970-01-01 UTC, 0 to 2^48 - 1.
        randomness: exactly 10 bytes nobody can guess (`os.urandom(10)`).

    Returns:
        The id.

    Raises:
        ValueError: an argument out of its range.
    """
    if not 0 <= milliseconds < _MILLISECONDS_END or len(randomness) != _RANDOM_BYTES:
        msg = "a run id is made of 48 bits of milliseconds and 10 random bytes"
        raise ValueError(msg)
    number = milliseconds << 8 * _RANDOM_BYTES | int.from_bytes(randomness, "big")
    return RunId("".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH))))


def is_run_id(text: str) -> bool:
    """Tell whether a text is a run id as `make_run_id` spells them; such a text is a safe file name."""
    return len(text) == _LENGTH and text[0] <= "7" and _SPELLED.issuperset(text)
