"""The headers of a tar: ustar, pax and GNU, read strictly and once (pax(1), GNU tar "Basic Tar Format").

Owns what an entry is. Must never make anything of it, and never skip what it does not understand: a header
that is no header, a number that is none, or an end in the middle refuses the archive.

Left out as Docker leaves them: global pax headers, extended attributes, access lists, owners.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import UsageError
from mvm.images.refused import damaged, hostile, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.images.inflate import Inflated

REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK, DIRECTORY, FIFO = (b"%d" % digit for digit in range(7))

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_FIELDS = Struct("100s8s16x12s12s8sc100s6s66x8s8s155s12x")
_LABEL, _EXTENDED, _EXTENDED_SOLARIS, _GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"VxXgLKS"  # as numbers
_EXTENSIONS = {_EXTENDED, _EXTENDED_SOLARIS, _GLOBAL, _LONG_NAME, _LONG_LINK}
_AS_REGULAR = {b"\x00", b"0", b"7"}
_MOST_TEXT = 1 << 20  # as Go's archive/tar, which Docker uses
_MOST_EXTENSIONS = 16
_LATEST = 1 << 40  # seconds; file systems hold less
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")
_DECIMAL = re.compile(rb"[0-9]{1,19}\Z")
_TIME = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?\Z")


class Entry(NamedTuple):
    """One thing in an archive.

    Attributes:
        kind: REGULAR, HARD_LINK, SYMBOLIC_LINK, CHARACTER, BLOCK, DIRECTORY or FIFO.
        name: as it stands there.
        link: where a link leads.
        mode: its permission bits, as they stand there.
        mtime: nanoseconds.
        size: bytes of the file, holes included; 0 for all others.
        pieces: offset and length of each run of bytes that is in the archive; None where there are no holes.
        device: major and minor number.
    """

    kind: bytes
    name: bytes
    link: bytes
    mode: int
    mtime: int
    size: int
    pieces: tuple[tuple[int, int], ...] | None
    device: tuple[int, int]


class Entries:
    """What is in one archive, in order; the bytes of each file come between."""

    def __init__(self, stream: Inflated, *, may_lack_end: bool) -> None:
        """Begin.

        Args:
            stream: the uncompressed bytes.
            may_lack_end: take the end of the bytes for the end of the archive, though no mark stands
                there: for bytes that something else proves whole.
        """
        self._stream, self._may_lack_end = stream, may_lack_end
        self._left = 0  # bytes of the present file
        self._padding = 0
        self._begun = False

    def __iter__(self) -> Iterator[Entry]:
        """Return each entry; what was not copied of the one before is passed over."""
        while True:
            self._pass(self._left + self._padding)
            self._left = self._padding = 0
            entry = self._next()
            if entry is None:
                return
            yield entry

    def copy(self, entry: Entry, descriptor: int) -> None:
        """Write the bytes of the present entry to an empty file; holes are left to whoever sets its size."""
        import os

        for offset, length in entry.pieces or ((0, entry.size),):
            if entry.pieces:
                os.lseek(descriptor, offset, os.SEEK_SET)
            if self._stream.copy(descriptor, length):
                raise self._stream.truncated()
        self._left = 0

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of the present entry, which is known to be small and without holes."""
        data = self._stream.exactly(entry.size)
        if len(data) < entry.size:
            raise self._stream.truncated()
        self._left = 0
        return data

    def _next(self) -> Entry | None:
        extended: dict[bytes, bytes] = {}
        for _ in range(_MOST_EXTENSIONS):
            block = self._header()
            if block is None:
                if extended:
                    raise self._stream.truncated()
                return None
            kind = block[156]
            if kind not in _EXTENSIONS:
                return self._entry(block, extended)
            text = self._text(_number(block[124:136], self._stream.name))
            if kind == _LONG_NAME:
                extended[b"path"] = text.partition(b"\0")[0]
            elif kind == _LONG_LINK:
                extended[b"linkpath"] = text.partition(b"\0")[0]
            elif kind != _GLOBAL:
                extended.update(_records(text, self._stream.name))
        raise hostile("archive-headers", "it has headers of headers without end", self._stream.name)

    def _header(self) -> bytes | None:
        block = self._stream.exactly(_BLOCK)
        if len(block) == _BLOCK and block != _ZEROS:
            self._check(block)
            self._begun = True
            return block
        if block == _ZEROS:
            after = self._stream.exactly(_BLOCK)
            if after.strip(b"\0"):
                raise damaged("something stands behind its end", self._stream.name)
        elif block:
            self._no_archive("it is shorter than a header")
            raise self._stream.truncated()
        elif not self._may_lack_end:
            self._no_archive("it is empty")
            raise self._stream.truncated()
        return None

    def _check(self, block: bytes) -> None:
        try:
            told = _number(block[148:156], self._stream.name)
        except Exception:
            self._no_archive("it does not begin with a header")
            raise
        if sum(block) - sum(block[148:156]) + 8 * 0x20 != told and _signed_sum(block) != told:
            self._no_archive("it does not begin with a header")
            raise damaged("a header has the wrong sum", self._stream.name)

    def _no_archive(self, why: str) -> None:
        if not self._begun:
            raise UsageError(
                f"{self._stream.name} is no archive: {why}", hint="an image is a tar, compressed or not"
            )

    def _text(self, size: int) -> bytes:
        if size > _MOST_TEXT:
            raise hostile("archive-headers", f"it has a header of {size:,} bytes", self._stream.name)
        text = self._stream.exactly(size)
        if len(text) < size:
            raise self._stream.truncated()
        self._pass(-size % _BLOCK)
        return text

    def _pass(self, size: int) -> None:
        if size and self._stream.skip(size):
            raise self._stream.truncated()

    def _entry(self, block: bytes, extended: dict[bytes, bytes]) -> Entry:
        source = self._stream.name
        name, mode, size, mtime, _, flag, link, magic, major, minor, prefix = _FIELDS.unpack(block)
        name, link = name.partition(b"\0")[0], link.partition(b"\0")[0]
        if magic == b"ustar\0" and prefix[0]:
            name = prefix.partition(b"\0")[0] + b"/" + name
        name, link = extended.get(b"path", name), extended.get(b"linkpath", link)
        kind = _kind(flag, name, source)
        stored = _decimal(extended[b"size"], source) if b"size" in extended else _number(size, source)
        time = extended.get(b"mtime")
        when = _time(time, source) if time is not None else _number(mtime, source, signed=True) * 10**9
        pieces, real = None, stored
        if kind == REGULAR:
            self._stream.expect(stored)
            self._left, self._padding = stored, -stored % _BLOCK
            if flag == b"S" or any(key.startswith(b"GNU.sparse.") for key in extended):
                name, pieces, real = self._holes(block, name, extended, stored)
        else:
            real = 0
        return Entry(
            kind=kind,
            name=name,
            link=link,
            mode=_number(mode, source),
            mtime=max(-_LATEST, min(when // 10**9, _LATEST)) * 10**9 + when % 10**9,
            size=real,
            pieces=pieces,
            device=(_number(major, source), _number(minor, source)) if kind in {CHARACTER, BLOCK} else (0, 0),
        )

    def _holes(
        self, block: bytes, name: bytes, extended: dict[bytes, bytes], stored: int
    ) -> tuple[bytes, tuple[tuple[int, int], ...], int]:
        """Return the name, the runs and the size of a file with holes, in any of GNU tar's four forms."""
        from mvm.images import tar_sparse

        source = self._stream.name
        if block[156] == _SPARSE:
            numbers, size = tar_sparse.old(block, lambda: self._stream.exactly(_BLOCK))
        else:
            numbers, size, name, used = tar_sparse.pax(extended, name, self._stream.exactly, stored, source)
            stored -= used
            self._left = stored
        runs = tar_sparse.runs(numbers, size, stored)
        if runs is None:
            raise damaged(f"{shown(name)} has holes that do not add up", source)
        self._stream.add(size - stored)
        return name, runs, size


def _kind(flag: bytes, name: bytes, source: str) -> bytes:
    if flag in _AS_REGULAR:
        return DIRECTORY if flag == b"\0" and name.endswith(b"/") else REGULAR
    if flag == b"S":
        return REGULAR
    if flag in b"123456":
        return flag
    raise hostile("archive-entry", f"{shown(name)} is of the kind {flag!r}, which no image has", source)


def _number(field: bytes, source: str, *, signed: bool = False) -> int:
    """Return a number in octal digits, or in GNU's binary form."""
    match = _OCTAL.match(field)
    if match:
        return int(match[1] or b"0", 8)
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF and signed:
        return int.from_bytes(field, "big", signed=True)
    raise damaged(f"a header has {field!r} for a number", source)


def _decimal(text: bytes, source: str) -> int:
    if not _DECIMAL.match(text):
        raise damaged(f"a header has {shown(text)} for a number", source)
    return int(text)


def _time(text: bytes, source: str) -> int:
    match = _TIME.match(text)
    if not match:
        raise damaged(f"a header has {shown(text)} for a time", source)
    when = int(match[2]) * 10**9 + int(((match[3] or b"") + b"000000000")[:9])
    return -when if match[1] else when


def _signed_sum(data: bytes) -> int:
    """Return the sum that some old tars wrote of a header."""
    rest = data[:148] + data[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in rest) + 8 * 0x20


def _records(text: bytes, source: str) -> dict[bytes, bytes]:
    """Return the `LENGTH KEY=VALUE` records of a pax header; the fourth form of holes repeats its keys."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        length, blank, _ = text[at : at + 20].partition(b" ")
        end = at + (int(length) if blank and _DECIMAL.match(length) else 0)
        key, equals, value = text[at + len(length) + 1 : end - 1].partition(b"=")
        if (
            not at + len(length) + 1 < end <= len(text)
            or text[end - 1 : end] != b"\n"
            or not equals
            or not key
        ):
            raise damaged("a pax header is malformed", source)
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"} and key in found:
            value = found[key] + b"," + value
        found[key] = value
        at = end
    return found
