"""An archive as the bytes it unpacks to, counted and bounded while they are read.

Owns the recognition of gzip, bzip2 and xz, the bounds on how much comes out of how little, and the end: a
file that stops early, or goes on after its end. Must never read ahead of a bound, and never know what the
bytes mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mvm.errors import UsageError
from mvm.images.refused import damaged, refused

if TYPE_CHECKING:
    from typing import BinaryIO

    from mvm.errors import PolicyRefused

Progress = Callable[[int], None]
"""What is told how many bytes of an archive were read so far."""

_CHUNK = 1 << 20
_RATIO_COUNTS_FROM = 1 << 30
_XZ_MEMORY = 256 << 20  # xz -9 needs 65 MiB

_MAGIC = ((b"\x1f\x8b\x08", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Bounds(NamedTuple):
    """What an archive, with all its layers, may come to.

    Attributes:
        entries: files, directories, links, and directories that are made because something is in them.
        bytes: of the uncompressed archive, holes of sparse files included.
        ratio: bytes to bytes of the archive; counts once more than 1 GiB was unpacked.
    """

    entries: int = 500_000
    bytes: int = 64 << 30
    ratio: int = 200


class Spent:
    """What was read and made so far, over several layers.

    Attributes:
        entries: as in `Bounds`.
        bytes: as in `Bounds`.
        read: bytes of the archive.
        skipped: names of what was left out on purpose (devices in /dev, fifos), the first hundred.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.entries = 0
        self.bytes = 0
        self.read = 0
        self.skipped: list[str] = []

    def skip(self, name: str) -> None:
        """Take note of what is left out."""
        if len(self.skipped) < 100:
            self.skipped.append(name)


class Raw(Protocol):
    """An archive as it lies on disk, read in order."""

    @property
    def name(self) -> str:
        """The file, for people."""

    @property
    def size(self) -> int | None:
        """How many bytes `read` gives in all, or None where nobody knows before the end."""

    @property
    def taken(self) -> int:
        """How many bytes of the file were read."""

    def read(self, most: int) -> bytes:
        """Return the next bytes, none at the end."""

    def skip(self, size: int) -> int:
        """Pass over that many bytes without reading them, or over fewer; return how many were not."""


class OpenFile:
    """An open file, or whatever reads like one, from where it stands."""

    def __init__(self, stream: BinaryIO, observe: Callable[[bytes], object] | None = None) -> None:
        """Take it; it stays the caller's to close. `observe` is handed every byte, in order."""
        self.name = str(getattr(stream, "name", "the archive"))
        self.size = _size(stream)
        self.taken = 0
        self._stream, self._observe = stream, observe

    def read(self, most: int) -> bytes:
        """As `Raw` has it."""
        data = self._stream.read(most)
        self.taken += len(data)
        if self._observe:
            self._observe(data)
        return data

    def skip(self, size: int) -> int:
        """As `Raw` has it: nothing is passed over unread."""
        return size


class Inflated:
    """The uncompressed bytes of one archive, in order, once."""

    def __init__(
        self,
        raw: Raw,
        *,
        bounds: Bounds,
        spent: Spent,
        progress: Progress,
        observe: Callable[[bytes], object] | None = None,
    ) -> None:
        """Begin at the place where `raw` is.

        Args:
            raw: the archive.
            bounds: what it may come to.
            spent: counts on.
            progress: is told `spent.read` as it grows.
            observe: is handed every uncompressed byte, in order.
        """
        self.name = raw.name
        self._raw, self._bounds, self._spent = raw, bounds, spent
        self._progress, self._observe = progress, observe
        self._read_before = spent.read
        self._made = 0
        self._pending = self._read_raw()
        self._decoder: Any = None
        self._new_decoder: Callable[[], Any] | None = _decoder_for(self._pending, self.name)
        if self._new_decoder:
            self._decoder = self._new_decoder()
        self._chunk, self._at = memoryview(b""), 0

    def piece(self, most: int) -> memoryview:
        """Return the next bytes, at least one and at most `most`; none at the end."""
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._next_chunk()), 0
        piece = self._chunk[self._at : self._at + most]
        self._at += len(piece)
        return piece

    @property
    def position(self) -> int:
        """How many uncompressed bytes were passed on."""
        return self._made - (len(self._chunk) - self._at)

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""
        if self._at + size <= len(self._chunk):
            self._at += size
            return bytes(self._chunk[self._at - size : self._at])
        data = bytearray()
        while len(data) < size and (piece := self.piece(size - len(data))):
            data += piece
        return bytes(data)

    def copy(self, descriptor: int, size: int) -> int:
        """Write the next `size` bytes, or fewer at the end, to a file; return how many are missing."""
        while size and (piece := self.piece(size)):
            size -= len(piece)
            while piece:
                piece = piece[os.write(descriptor, piece) :]
        return size

    def skip(self, size: int) -> int:
        """Pass over the next `size` bytes, or fewer at the end; return how many are missing."""
        if size > len(self._chunk) - self._at and self._decoder is None and not self._observe:
            size -= len(self._chunk) - self._at
            self._chunk = memoryview(b"")
            self._at = 0
            left = self._raw.skip(size)
            self._made += size - left
            size = left
        while size and (piece := self.piece(size)):
            size -= len(piece)
        return size

    def drain(self) -> None:
        """Read on to the end, so that what is checked there is checked."""
        while self.piece(_CHUNK):
            pass

    def expect(self, size: int) -> None:
        """Refuse at once what announces more bytes than the bounds leave, or than there are."""
        if self._raw.size is not None:
            if self._decoder is None and self.position + size > self._raw.size:
                raise self.truncated()
            ahead = len(self._chunk) - self._at
            self._check(self._spent.bytes - ahead + size, self._read_before + self._raw.size)

    def add(self, size: int) -> None:
        """Count bytes that the archive unpacks to without holding them: the holes of sparse files."""
        self._spent.bytes += size
        self._check(self._spent.bytes, self._spent.read)

    def truncated(self) -> PolicyRefused:
        """Return the refusal of an archive that ends before its end."""
        return damaged("it ends in the middle", self.name, "archive-truncated")

    def _check(self, made: int, read: int) -> None:
        if made > self._bounds.bytes:
            raise refused(
                "archive-bytes",
                f"it unpacks to more than {self._bounds.bytes:,} bytes",
                "make the image smaller",
                self.name,
            )
        if made > _RATIO_COUNTS_FROM and made > self._bounds.ratio * read:
            raise refused(
                "archive-ratio",
                f"it unpacks to more than {self._bounds.ratio} times its size, as no image does",
                "unpack it yourself and use dir:PATH if you trust it",
                self.name,
            )

    def _read_raw(self) -> bytes:
        data = self._raw.read(_CHUNK)
        if data:
            self._spent.read = self._read_before + self._raw.taken
            self._progress(self._spent.read)
        return data

    def _next_chunk(self) -> bytes:
        data = self._plain_chunk() if self._decoder is None else self._decoded_chunk()
        self._spent.bytes += len(data)
        self._made += len(data)
        self._check(self._spent.bytes, self._spent.read)
        if self._observe and data:
            self._observe(data)
        return data

    def _plain_chunk(self) -> bytes:
        data, self._pending = self._pending, b""
        return data or self._read_raw()

    def _decoded_chunk(self) -> bytes:
        while True:
            if self._decoder.eof and not self._next_member():
                return b""
            data = self._decode()
            if data:
                return data

    def _decode(self) -> bytes:
        if not self._pending and self._decoder.needs_input:
            self._pending = self._read_raw()
            if not self._pending:
                raise self.truncated()
        given, self._pending = self._pending, b""
        try:
            data: bytes = self._decoder.decompress(given, _CHUNK)
        except _decoding_errors() as error:
            raise damaged(f"its compression is damaged: {error}", self.name) from error
        return data

    def _next_member(self) -> bool:
        """Begin the next part of a file that was compressed in parts; zeros after the last are no part."""
        rest: bytes = self._decoder.unused_data
        while not rest.lstrip(b"\0"):
            rest = self._read_raw()
            if not rest:
                return False
        if self._new_decoder is None or _kind(rest.lstrip(b"\0"), partial=True) is None:
            raise damaged("something follows its end", self.name)
        self._decoder = self._new_decoder()
        self._pending = rest
        return True


class _Gzip:
    """zlib's decoder with the words of the other two."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not (self._inner.unconsumed_tail or self._full)

    def decompress(self, data: bytes, most: int) -> bytes:
        made = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        self._full = len(made) == most  # then there may be more without more input
        return made


def compression(head: bytes) -> str | None:
    """Return `gzip`, `bzip2`, `xz` or `zstd` for what begins like one, else None (pure)."""
    return "zstd" if head.startswith(ZSTD_MAGIC) else _kind(head)


def _kind(head: bytes, *, partial: bool = False) -> str | None:
    """Return what begins with `head`; `partial`: a head that is cut may be one."""
    for magic, kind in _MAGIC:
        if head.startswith(magic) or (partial and head and magic.startswith(head)):
            return kind
    return None


def _decoder_for(head: bytes, name: str) -> Callable[[], Any] | None:
    match compression(head):
        case "gzip":
            return _Gzip
        case "bzip2":
            from bz2 import BZ2Decompressor

            return BZ2Decompressor
        case "xz":
            from lzma import FORMAT_XZ, LZMADecompressor

            return lambda: LZMADecompressor(FORMAT_XZ, memlimit=_XZ_MEMORY)
        case "zstd":
            raise UsageError(f"{name} is compressed with zstd", hint=f"zstd -d {name}, and use the result")
        case _:
            return None


def _decoding_errors() -> tuple[type[Exception], ...]:
    from lzma import LZMAError
    from zlib import error

    return LZMAError, error, OSError, EOFError, ValueError, MemoryError


def _size(raw: BinaryIO) -> int | None:
    """Return how many bytes there are to read, where that can be known without reading them."""
    try:
        if not raw.seekable():
            return None
        at = raw.tell()
        end = raw.seek(0, os.SEEK_END)
        raw.seek(at)
    except (OSError, AttributeError):
        return None
    return end - at
