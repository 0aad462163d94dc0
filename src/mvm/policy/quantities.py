"""Lengths of time and numbers of bytes, read from text and written back in one spelling.

Owns the units. Must never take a number without a unit for a time, nor a unit that people read in two
ways (`10M`, `10Mb`): a budget that is off by a factor of eight is no budget.
"""

from __future__ import annotations

from mvm.policy.hosts import Place, shown
from mvm.terms import Bytes, Seconds

TIME_UNITS = {"d": (4, 86_400_000), "h": (3, 3_600_000), "m": (2, 60_000), "s": (1, 1000), "ms": (0, 1)}
MOST_DIGITS = 13  # of the longest time in milliseconds
_DURATION_HINT = "write numbers with d, h, m, s or ms, the largest first: 500ms, 90s, 10m, 1h30m, 7d"
_LONGEST = 36_500 * 86_400_000  # a hundred years: more is a mistake

SIZE_UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SIZE_HINT = (
    "write a whole number of bytes, or one with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB"
)

LARGEST_SIZE = 2**53 - 1
"""Bytes; what a JSON number holds exactly (RFC 8785)."""


def parse_duration(text: str, *, path: str, source: str = "") -> Seconds:
    """Read a length of time, to the millisecond.

    Args:
        text: whole numbers with units, the largest unit first, each at most once (`1h30m`).
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        Seconds, more than zero, at most a hundred years.

    Raises:
        PolicyRefused: it is none, is zero, or is too long.
    """
    place = Place(path, source)
    total, rest, smallest = 0, text, len(TIME_UNITS)
    while rest:
        follows = rest.lstrip("0123456789")
        digits = rest[: len(rest) - len(follows)]
        rest = follows.lstrip("dhms")
        rank, worth = TIME_UNITS.get(follows[: len(follows) - len(rest)], (smallest, 0))
        if not 0 < len(digits) <= MOST_DIGITS or rank >= smallest:
            break
        total, smallest = total + int(digits) * worth, rank
    else:
        if 0 < total <= _LONGEST:
            return Seconds(total / 1000)
        if text:
            message = f"{shown(text)} is no length of time between a millisecond and a hundred years"
            raise place.refused("duration-out-of-range", message, _DURATION_HINT)
    raise place.refused("bad-duration", f"{shown(text)} is no length of time", _DURATION_HINT)


def format_duration(seconds: Seconds) -> str:
    """Write a length of time so that `parse_duration` gives it back: `5400` is `1h30m`.

    Args:
        seconds: whole milliseconds, as `parse_duration` gives them.
    """
    rest, text = round(seconds * 1000), ""
    for unit, (_, worth) in TIME_UNITS.items():
        count, rest = divmod(rest, worth)
        if count:
            text += f"{count}{unit}"
    return text


def parse_size(text: str, *, path: str, source: str = "") -> Bytes:
    """Read a number of bytes.

    Args:
        text: `512`, `10MB` (10 million), `10MiB` (10 * 2^20).
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Returns:
        Bytes, at least 1, at most 2^53 - 1.

    Raises:
        PolicyRefused: it is none, or out of range.
    """
    place = Place(path, source)
    unit = text.lstrip("0123456789")
    digits = text[: len(text) - len(unit)]
    if not digits or unit not in SIZE_UNITS:
        raise place.refused("bad-size", f"{shown(text)} is no number of bytes", _SIZE_HINT)
    if len(digits) > len(str(LARGEST_SIZE)):
        raise place.refused("size-out-of-range", f"{shown(text)} is too many bytes", _SIZE_HINT)
    return bytes_of(int(digits) * SIZE_UNITS[unit], path=path, source=source)


def bytes_of(count: int, *, path: str, source: str = "") -> Bytes:
    """Take a number for a number of bytes.

    Args:
        count: 1 to 2^53 - 1.
        path: a jq path, or the flag, for findings.
        source: the file or flag it came from, for findings.

    Raises:
        PolicyRefused: it is out of range.
    """
    if not 0 < count <= LARGEST_SIZE:
        number = count if abs(count) <= LARGEST_SIZE else "that"
        message = f"{number} is no number of bytes from 1 to {LARGEST_SIZE}"
        raise Place(path, source).refused("size-out-of-range", message, _SIZE_HINT)
    return Bytes(count)


def format_size(count: Bytes) -> str:
    """Write a number of bytes in the shortest way that `parse_size` gives back: `10000000` is `10MB`."""
    spellings = [f"{count // worth}{unit}" for unit, worth in SIZE_UNITS.items() if count % worth == 0]
    return min(spellings, key=len)
