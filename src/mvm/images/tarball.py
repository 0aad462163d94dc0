"""A file tree in one tar: `tar:PATH`.

Owns its digest, which names it in the cache: that of the file as it lies there, and checked again over the
bytes that are unpacked. Must never look for what it runs beyond its first entries.
"""

from __future__ import annotations

import os
import stat
from functools import cached_property
from typing import TYPE_CHECKING

from mvm.errors import MvmError, UsageError
from mvm.images.archive import Unpacker
from mvm.images.config import DOCUMENT, ImageConfig, config_from_document
from mvm.images.inflate import Bounds, Inflated, OpenFile, Spent
from mvm.images.refused import damaged, failed
from mvm.images.tar_entries import REGULAR, Entries

if TYPE_CHECKING:
    from mvm.images.inflate import Progress

_CHUNK = 1 << 20
_FIRST_ENTRIES = 16
_FIRST_BYTES = 8 << 20
_MOST_TEXT = 1 << 20


class Tarball:
    """A tar that was opened.

    Attributes:
        size: bytes of the file.
        work: what the progress of `unpack` comes to.
    """

    def __init__(self, path: str) -> None:
        """Open it; see `open_tar`."""
        self._path = path
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", hint="name the file of a tar") from error
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise UsageError(f"{path} is no plain file", hint="name the file of a tar")
        self._file = open(path, "rb", buffering=0, opener=lambda *_: descriptor)  # noqa: SIM115  see close
        self.size = self.work = found.st_size

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the file; the first time, all of it is read."""
        import hashlib

        sum_ = hashlib.sha256()
        self._file.seek(0)
        while data := self._file.read(_CHUNK):
            sum_.update(data)
        return f"sha256:{sum_.hexdigest()}"

    @cached_property
    def config(self) -> ImageConfig:
        """What an `mvm.json` among the first entries says; else all of it is empty.

        Raises:
            PolicyRefused: `image-config` or `image-needs`: it is malformed.
        """
        self._file.seek(0)
        raw = OpenFile(self._file)
        bounds = Bounds(bytes=_FIRST_BYTES)
        found: bytes | None = None
        try:
            stream = Inflated(raw, bounds=bounds, spent=Spent(), progress=lambda _: None)
            entries = Entries(stream, may_lack_end=True)
            for count, entry in enumerate(entries):
                if entry.name.removeprefix(b"./") == DOCUMENT.encode() and entry.kind == REGULAR:
                    found = entries.content(entry) if entry.size <= _MOST_TEXT and not entry.pieces else None
                if found is not None or count == _FIRST_ENTRIES:
                    break
        except MvmError:
            return ImageConfig()  # whatever is wrong with the archive, `unpack` says it
        return ImageConfig() if found is None else config_from_document(found, self._path)

    def unpack(
        self,
        root: int,
        *,
        owner: tuple[int, int] | None,
        bounds: Bounds,
        progress: Progress,
        spent: Spent | None = None,
    ) -> None:
        """Unpack it; the parameters and errors are those of `OciImage.unpack`.

        Raises:
            PolicyRefused: `archive-digest` too: it is not what `digest` was taken of.
        """
        import hashlib

        spent = Spent() if spent is None else spent
        sum_ = hashlib.sha256()
        try:
            self._file.seek(0)
            unpacker = Unpacker(root, owner=owner, bounds=bounds, spent=spent, source=self._path)
            try:
                raw = OpenFile(self._file, sum_.update)
                stream = Inflated(raw, bounds=bounds, spent=spent, progress=progress)
                unpacker.add(stream, is_layer=False)
                unpacker.finish()
            finally:
                unpacker.close()
        except OSError as error:
            raise failed(error, "reading it", self._path) from error
        digest = f"sha256:{sum_.hexdigest()}"
        if self.__dict__.setdefault("digest", digest) != digest:
            raise damaged("it changed while it was read", self._path, "archive-digest")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_tar(path: str) -> Tarball:
    """Open a tar, compressed with gzip, bzip2, xz or not.

    Args:
        path: the file.

    Raises:
        UsageError: there is no such file, or the caller may not read it. What is in it, `unpack` finds out.
    """
    return Tarball(path)
