"""Files with holes in a tar: the four ways in which GNU tar writes them down (GNU tar "Sparse Formats").

Owns the reading of the map. Must never believe it: `runs` says whether it adds up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.images.refused import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BLOCK = 512
_MOST_RUNS = 100_000


def runs(numbers: Sequence[int], size: int, stored: int) -> tuple[tuple[int, int], ...] | None:
    """Return the runs that offsets and lengths in turn tell, or None where they do not add up (pure).

    Args:
        numbers: offset, length, offset, length, …
        size: of the file with its holes.
        stored: how many bytes of it are in the archive.
    """
    if len(numbers) % 2:
        return None
    found = tuple((at, length) for at, length in zip(numbers[::2], numbers[1::2], strict=True) if length)
    end = 0
    for at, length in found:
        if at < end or length < 0:
            return None
        end = at + length
    if end > size or sum(length for _, length in found) != stored:
        return None
    return found


def old(block: bytes, more: Callable[[], bytes]) -> tuple[list[int], int]:
    """Return the numbers and the size from a header of the oldest form, and from the blocks behind it.

    Args:
        block: the header.
        more: reads the next block.
    """
    numbers = _fields(block[386:482])
    size, goes_on = _field(block[483:495]), block[482]
    while goes_on and len(numbers) < 2 * _MOST_RUNS:
        block = more().ljust(_BLOCK, b"\0")
        numbers += _fields(block[:504])
        goes_on = block[504]
    return numbers, size


def pax(
    told: dict[bytes, bytes], name: bytes, read: Callable[[int], bytes], stored: int, source: str
) -> tuple[list[int], int, bytes, int]:
    """Return numbers, size, name, and how many bytes of the content were the map, from a pax header.

    Raises:
        PolicyRefused: `archive-damaged`.
    """
    name = told.get(b"GNU.sparse.name", name)
    try:
        size = int(told.get(b"GNU.sparse.realsize") or told[b"GNU.sparse.size"])
        if told.get(b"GNU.sparse.major") == b"1":
            numbers, used = _leading_map(read, stored)
        else:
            used = 0
            if b"GNU.sparse.map" in told:
                numbers = [int(word) for word in told[b"GNU.sparse.map"].split(b",") if word]
            else:
                offsets = told.get(b"GNU.sparse.offset", b"").split(b",")
                lengths = told.get(b"GNU.sparse.numbytes", b"").split(b",")
                pairs = zip(offsets, lengths, strict=True)
                numbers = [int(word) for pair in pairs for word in pair if word]
    except (KeyError, ValueError) as error:
        raise damaged("a file with holes has no map of them", source) from error
    if size < 0 or any(number < 0 for number in numbers):
        raise damaged("a file with holes has a map of negative numbers", source)
    return numbers, size, name, used


def _leading_map(read: Callable[[int], bytes], stored: int) -> tuple[list[int], int]:
    """Read the map at the start of the content: how many runs, then the numbers, one a line, padded."""
    text, used = b"", 0
    wanted = 1
    words: list[bytes] = []
    while len(words) < wanted:
        if used + _BLOCK > stored:
            raise ValueError("the map is longer than the file")
        text += read(_BLOCK)
        used += _BLOCK
        *lines, text = text.split(b"\n")
        words += lines
        if words and wanted == 1:
            count = int(words[0])
            if not 0 <= count <= _MOST_RUNS:
                raise ValueError("too many runs")
            wanted = 1 + 2 * count
        if len(words) < wanted and len(text) > 32:
            raise ValueError("a number is longer than numbers are")
    return [int(word) for word in words[1:wanted]], used


def _fields(table: bytes) -> list[int]:
    """Return the numbers of a table of 12-byte fields up to the first empty pair."""
    found: list[int] = []
    for at in range(0, len(table) - 23, 24):
        pair = table[at : at + 12], table[at + 12 : at + 24]
        if not pair[0].strip(b"\0 "):
            break
        found += [_field(word) for word in pair]
    return found


def _field(word: bytes) -> int:
    if word[0] == 0x80:
        return int.from_bytes(word[1:], "big")
    try:
        return int(word.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return -1
