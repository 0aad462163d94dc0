"""The files that an image consists of, in a directory or in a tar: found, opened, checked against digests.

Owns that a blob is nothing until every byte of it was hashed. Must never open what is no plain file, nor
unpack a tar to look into it.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from typing import TYPE_CHECKING, Protocol

from mvm.errors import UsageError
from mvm.images.inflate import Bounds, Inflated, Spent, compression
from mvm.images.refused import damaged, hostile, refused, shown
from mvm.images.tar_entries import HARD_LINK, REGULAR, SYMBOLIC_LINK, Entries

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 20
_MOST_TEXT = 4 << 20  # as registries have it for manifests
_MOST_MEMBERS = 100_000
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]{64}|[0-9a-f]{128})\Z")
_LENGTHS = {"sha256": 64, "sha512": 128}


class Segment:
    """Consecutive bytes of an open file, which others read too (`inflate.Raw`)."""

    def __init__(self, descriptor: int, start: int, size: int, name: str) -> None:
        """Begin at `start`; the descriptor stays the caller's."""
        self.name = name
        self.size: int | None = size
        self.length = size
        self.taken = 0
        self._descriptor, self._start = descriptor, start

    def read(self, most: int) -> bytes:
        """As `Raw` has it; fewer bytes than there should be if the file was cut meanwhile."""
        data = os.pread(self._descriptor, min(most, self.length - self.taken), self._start + self.taken)
        self.taken += len(data)
        return data

    def skip(self, size: int) -> int:
        """As `Raw` has it."""
        passed = min(size, self.length - self.taken)
        self.taken += passed
        return size - passed

    def again(self) -> Segment:
        """Return the same bytes, to be read from their start."""
        return Segment(self._descriptor, self._start, self.length, self.name)


class Files(Protocol):
    """Where the files of an image lie.

    Attributes:
        name: the image, for people.
    """

    name: str

    def open(self, path: str) -> Segment | None:
        """Return a file's bytes, or None where there is none."""

    def close(self) -> None:
        """Give the descriptors back."""


class DirectoryFiles:
    """The files below a directory."""

    def __init__(self, path: str) -> None:
        """Look at nothing yet."""
        self.name = path
        self._open: list[int] = []

    def open(self, path: str) -> Segment | None:
        """As `Files` has it. Raises UsageError where the caller may not read it."""
        place = os.path.join(self.name, path)
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}", hint="an image is read by you") from error
        self._open.append(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise hostile("archive-path", f"{shown(os.fsencode(path))} is no plain file", self.name)
        return Segment(descriptor, 0, found.st_size, place)

    def close(self) -> None:
        """As `Files` has it."""
        while self._open:
            os.close(self._open.pop())


class TarFiles:
    """The files in a tar that is not compressed."""

    def __init__(self, path: str) -> None:
        """Read the headers.

        Raises:
            UsageError: it is no tar, or is compressed, or the caller may not read it.
            PolicyRefused: it is damaged.
        """
        self.name = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"{path}: {error.strerror}", hint="name the file or directory of the image"
            ) from error
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        try:
            self._scan()
        except BaseException:
            os.close(self._descriptor)
            raise

    def open(self, path: str) -> Segment | None:
        """As `Files` has it; docker-save(1) of old wrote equal layers as links to one."""
        path = posixpath.normpath(path)
        for _ in range(8):
            if path not in self._links:
                break
            path = self._links[path]
        found = self._members.get(path)
        return Segment(self._descriptor, *found, self.name) if found else None

    def close(self) -> None:
        """As `Files` has it."""
        os.close(self._descriptor)

    def _scan(self) -> None:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{self.name} is no plain file", hint="name the file or directory of the image")
        kind = compression(os.pread(self._descriptor, 8, 0))
        if kind:
            hint = f"{kind.replace('gzip', 'gunzip')} it first: its parts are read where they lie"
            raise UsageError(f"{self.name} is compressed as a whole", hint=hint)
        raw = Segment(self._descriptor, 0, found.st_size, self.name)
        bounds = Bounds(bytes=max(found.st_size, 1))
        stream = Inflated(raw, bounds=bounds, spent=Spent(), progress=lambda _: None)
        for count, entry in enumerate(Entries(stream, may_lack_end=True)):
            if count == _MOST_MEMBERS:
                raise refused(
                    "archive-entries", "it has too many files for an image", "look into it", self.name
                )
            name = posixpath.normpath(entry.name.decode("utf-8", "surrogateescape").lstrip("/"))
            link = entry.link.decode("utf-8", "surrogateescape")
            if entry.kind == REGULAR and entry.pieces is None:
                if stream.position + entry.size > found.st_size:
                    raise damaged("it ends in the middle", self.name, "archive-truncated")
                self._members[name] = (stream.position, entry.size)
            elif entry.kind == SYMBOLIC_LINK:
                self._links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
            elif entry.kind == HARD_LINK:
                self._links[name] = posixpath.normpath(link)


def text_of(files: Files, path: str) -> bytes | None:
    """Return the content of a small file, or None where there is none.

    Raises:
        PolicyRefused: it is not small, `archive-headers`.
    """
    segment = files.open(path)
    if segment is None:
        return None
    if segment.length > _MOST_TEXT:
        raise hostile("archive-headers", f"{path} has {segment.length:,} bytes", files.name)
    data = bytearray()
    while piece := segment.read(_CHUNK):
        data += piece
    return bytes(data)


def blob_path(digest: object, source: str) -> str:
    """Return where in an image layout a blob lies.

    Raises:
        PolicyRefused: `archive-digest`: this is no digest, or one of a kind that is not known.
    """
    match = _DIGEST.match(digest) if isinstance(digest, str) else None
    if not match or len(match[2]) != _LENGTHS[match[1]]:
        raise damaged(f"{str(digest)[:90]!r} is no digest in SHA-256 or SHA-512", source, "archive-digest")
    return f"blobs/{match[1]}/{match[2]}"


def check_text(data: bytes, digest: str, size: int | None, source: str) -> None:
    """Refuse a small blob that is not the one that was named, by `archive-digest` or `archive-size`."""
    if size is not None and len(data) != size:
        raise _of_other_size(digest, size, len(data), source)
    import hashlib

    if hashlib.new(digest.partition(":")[0], data).hexdigest() != digest.partition(":")[2]:
        raise not_what_it_says(digest, source)


def check(
    segment: Segment, digest: str, size: int | None, source: str, progress: Callable[[int], None]
) -> None:
    """Read a blob to its end, and refuse it as `check_text` does.

    Args:
        segment: the blob, read from its start.
        digest: what it must be.
        size: its bytes, or None where nobody said.
        source: the image, for people.
        progress: is told how many bytes were read so far.
    """
    if size is not None and segment.length != size:
        raise _of_other_size(digest, size, segment.length, source)
    import hashlib

    sum_ = hashlib.new(digest.partition(":")[0])
    while data := segment.read(_CHUNK):
        sum_.update(data)
        progress(segment.taken)
    if sum_.hexdigest() != digest.partition(":")[2]:
        raise not_what_it_says(digest, source)


def not_what_it_says(digest: str, source: str, code: str = "archive-digest") -> Exception:
    """Return the refusal of content that has another digest than was said."""
    return damaged(f"what is called {digest[:19]}… has another digest", source, code)


def _of_other_size(digest: str, size: int, found: int, source: str) -> Exception:
    message = f"what is called {digest[:19]}… has {found:,} bytes, not {size:,}"
    return damaged(message, source, "archive-size")
