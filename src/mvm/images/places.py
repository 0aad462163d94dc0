"""The directories of an image while it is unpacked: found by path, made when missing, finished at the end.

Owns how a path becomes a descriptor: resolved by the kernel as if the image were the root, so that a link
leads to where it leads inside, and nothing leads outside. Must never hold more than a few descriptors, and
never look at what is in a directory.

While something may still be unpacked every directory is its owner's to use; `finish` gives them the modes and
times they shall have.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.images.refused import hostile, shown
from mvm.kernel.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.errors import PolicyRefused

_OPEN_AT_ONCE = 64
_LONGEST = 4095  # PATH_MAX with its NUL
_WHOLLY = 0o700
_NEW = 0o755
_AS_PLACE = os.O_PATH | os.O_DIRECTORY
_NO_DIRECTORY = {errno.ENOTDIR, errno.ENOENT, errno.ELOOP}


class Place(NamedTuple):
    """A directory: a descriptor (O_PATH) that stays open for a while, and its inode number."""

    descriptor: int
    inode: int


class _Told(NamedTuple):
    """A directory that was made: where it is, how long its path is, and what it shall have at the end."""

    parent: int
    name: bytes
    length: int
    mode: int
    mtime: int | None


class Places:
    """The directories below one root."""

    def __init__(
        self, root: int, *, owner: tuple[int, int] | None, source: str, count: Callable[[], None]
    ) -> None:
        """Begin.

        Args:
            root: descriptor of the directory that is the image's root; stays the caller's.
            owner: whom what is made belongs to; None leaves it the caller's.
            source: the image, for people.
            count: called before each directory that is made because something is in it.
        """
        self.source = source
        self._owner, self._count = owner, count
        self._root = Place(os.open(".", _AS_PLACE | os.O_CLOEXEC, dir_fd=root), os.stat(root).st_ino)
        self._open: dict[bytes, Place] = {b"": self._root}
        self._is_stale = False
        self._told: dict[int, _Told] = {}

    @property
    def root(self) -> Place:
        """The root itself."""
        return self._root

    def find(self, parts: Sequence[bytes]) -> Place | None:
        """Return the directory at a path, or None where there is none.

        Valid until the next call of this object.
        """
        try:
            return self._at(b"/".join(parts))
        except OSError as absent:
            if absent.errno in _NO_DIRECTORY:
                return None
            raise

    def reach(self, parts: Sequence[bytes]) -> Place:
        """Return the directory at a path, made if it is not there.

        Valid until the next call of this object.

        Raises:
            PolicyRefused: `archive-path` where a part of it is a file, `archive-symlink` where it leads
                through a link to nothing: what makes images writes real paths, only mischief gets there.
            OSError: anything else.
        """
        path = b"/".join(parts)
        try:
            return self._at(path)
        except OSError as absent:
            if absent.errno == errno.ENOENT:
                self._make_all(parts)
                return self._at(path)
            if absent.errno in _NO_DIRECTORY:
                raise self._impassable(parts, absent) from None
            raise

    def make(self, place: Place, name: bytes) -> int:
        """Make a directory and return its inode number. Raises OSError, FileExistsError too."""
        os.mkdir(name, _WHOLLY, dir_fd=place.descriptor)
        if self._owner:
            os.chown(name, *self._owner, dir_fd=place.descriptor, follow_symlinks=False)
        inode = os.stat(name, dir_fd=place.descriptor, follow_symlinks=False).st_ino
        self.tell(place, name, inode, _NEW, None)
        return inode

    def tell(self, place: Place, name: bytes, inode: int, mode: int, mtime: int | None) -> None:
        """Say what mode and time a directory shall have at the end.

        Raises:
            PolicyRefused: `archive-name` where its path is longer than a path may be.
        """
        above = self._told.get(place.inode)
        length = (above.length if above else 0) + len(name) + 1
        if length > _LONGEST:
            raise hostile("archive-name", f"{shown(name)} lies too deep", self.source)
        self._told[inode] = _Told(place.inode, name, length, mode, mtime)

    def forget(self) -> None:
        """A directory or link is gone: paths may lead elsewhere from the next call on."""
        self._is_stale = True

    def finish(self) -> None:
        """Give each directory its mode and time; those that close what is in them last, deepest first."""
        closing = []
        for inode, told in self._told.items():
            if told.mode & _WHOLLY == _WHOLLY:
                self._finish(inode, told)
            else:
                closing.append((told.length, inode, told))
        for _, inode, told in sorted(closing, reverse=True):
            self._finish(inode, told)

    def close(self) -> None:
        """Give the descriptors back."""
        self._drop()
        os.close(self._root.descriptor)

    def _drop(self) -> None:
        for place in self._open.values():
            if place is not self._root:
                os.close(place.descriptor)
        self._open = {b"": self._root}
        self._is_stale = False

    def _at(self, path: bytes) -> Place:
        if self._is_stale or len(self._open) >= _OPEN_AT_ONCE:
            self._drop()
        known = self._open.get(path)
        if known is not None:
            return known
        descriptor = open_in_root(self._root.descriptor, path, _AS_PLACE)
        place = self._open[path] = Place(descriptor, os.fstat(descriptor).st_ino)
        return place

    def _make_all(self, parts: Sequence[bytes]) -> None:
        for end in range(1, len(parts) + 1):
            try:
                self._at(b"/".join(parts[:end]))
            except OSError as absent:
                if absent.errno != errno.ENOENT:
                    raise self._impassable(parts, absent) from None
                above = self._at(b"/".join(parts[: end - 1]))
                self._count()
                try:
                    self.make(above, parts[end - 1])
                except FileExistsError:
                    raise self._impassable(parts, absent) from None

    def _impassable(self, parts: Sequence[bytes], error: OSError) -> PolicyRefused | OSError:
        name = shown(b"/".join(parts))
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            message = f"{name} leads through a symbolic link to no directory of the image"
            return hostile("archive-symlink", message, self.source)
        if error.errno == errno.ENOTDIR:
            return hostile("archive-path", f"a part of {name} is no directory", self.source)
        return error

    def _path(self, told: _Told) -> bytes:
        parts = [told.name]
        while (above := self._told.get(told.parent)) is not None and len(parts) <= _LONGEST:
            told = above
            parts.append(told.name)
        return b"/".join(reversed(parts))

    def _finish(self, inode: int, told: _Told) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            descriptor = open_in_root(self._root.descriptor, self._path(told), flags)
        except OSError as absent:
            if absent.errno in _NO_DIRECTORY:
                return  # removed again by a later layer
            raise
        try:
            if os.fstat(descriptor).st_ino == inode:
                if told.mtime is not None:
                    os.utime(descriptor, ns=(told.mtime, told.mtime))
                os.fchmod(descriptor, told.mode)
        finally:
            os.close(descriptor)
