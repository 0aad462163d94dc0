"""Unpacking a tar, or the layers of an image, into a directory, whatever is in it.

Owns what each kind of entry becomes, and what is refused. Must never touch anything outside of the root: a
name is made in a directory that the kernel resolved below the root, follows no link and replaces nothing.
Must never go beyond the bounds.

Kept are modes, but not set-user-id and set-group-id, and times. Left out: owners, extended attributes, fifos,
and devices in /dev, of which a sandbox has its own. Stricter than Docker in one thing: a path through a
symbolic link that leads to nothing is refused, not made.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from mvm.images import removal
from mvm.images.inflate import Bounds, Inflated, OpenFile, Progress, Spent
from mvm.images.places import Place, Places
from mvm.images.refused import damaged, failed, hostile, refused, shown
from mvm.images.tar_entries import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARD_LINK,
    REGULAR,
    SYMBOLIC_LINK,
    Entries,
)

if TYPE_CHECKING:
    from typing import BinaryIO

    from mvm.errors import PolicyRefused
    from mvm.images.tar_entries import Entry

__all__ = ["Bounds", "Progress", "Spent", "Unpacker", "unpack"]

_KEPT_OF_MODES = 0o1777
_LONGEST = 4095
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT, _OPAQUE, _OF_AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."


def unpack(
    stream: BinaryIO,
    root: int,
    *,
    owner: tuple[int, int] | None,
    whiteouts: bool,
    bounds: Bounds,
    progress: Progress,
    spent: Spent,
) -> None:
    """Unpack one archive.

    Args:
        stream: a tar, or one compressed with gzip, bzip2 or xz; read once, in order, to its end.
        root: descriptor of a directory that nobody else changes meanwhile.
        owner: user and group to whom all is given; None leaves it the caller's.
        whiteouts: it is a layer over what is in `root`: `.wh.` names and 0/0 devices hide what is there.
        bounds: what it may come to, with all that `spent` counts already.
        progress: is told how many bytes of the archive were read so far.
        spent: counts on.

    Raises:
        UsageError: it is no archive.
        PolicyRefused: `archive-…`: it is damaged, or hostile. What was unpacked so far stays in `root`.
        BackendUnavailable: this machine has no room for it, or does not let the caller.
    """
    raw = OpenFile(stream)
    unpacker = Unpacker(root, owner=owner, bounds=bounds, spent=spent, source=raw.name)
    try:
        unpacker.add(
            Inflated(raw, bounds=bounds, spent=spent, progress=progress),
            is_layer=whiteouts,
        )
        unpacker.finish()
    finally:
        unpacker.close()


class Unpacker:
    """One image while it is unpacked, archive upon archive."""

    def __init__(
        self, root: int, *, owner: tuple[int, int] | None, bounds: Bounds, spent: Spent, source: str
    ) -> None:
        """Begin; the parameters are those of `unpack`, `source` is the image, for people."""
        self._owner, self._bounds, self._spent, self._source = owner, bounds, spent, source
        self._places = Places(root, owner=owner, source=source, count=self._count)
        self._root_mode: int | None = None
        self._is_layer = False
        self._made: _Made | None = None

    def add(self, stream: Inflated, *, is_layer: bool) -> None:
        """Unpack one archive over what is there; raises as `unpack` does."""
        self._is_layer = is_layer
        name = b""
        try:
            self._made = _Made() if is_layer and self._has_something() else None
            entries = Entries(stream, may_lack_end=is_layer)
            for entry in entries:
                name = entry.name
                self._count()
                self._entry(entry, entries)
            stream.drain()
        except OSError as error:
            raise failed(error, f"unpacking {shown(name)}", self._source) from error

    def finish(self) -> None:
        """Give the directories their modes and times, and the root its mode and owner."""
        try:
            self._places.finish()
            root = self._places.root.descriptor
            if self._root_mode is not None:
                os.chmod(".", self._root_mode, dir_fd=root)
            if self._owner:
                os.chown(".", *self._owner, dir_fd=root)
        except OSError as error:
            raise failed(error, "setting the modes of directories", self._source) from error

    def close(self) -> None:
        """Give the descriptors back."""
        self._places.close()

    def _has_something(self) -> bool:
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._places.root.descriptor)
        try:
            with os.scandir(here) as inside:
                return next(inside, None) is not None
        finally:
            os.close(here)

    def _count(self) -> None:
        self._spent.entries += 1
        if self._spent.entries > self._bounds.entries:
            raise refused(
                "archive-entries",
                f"it has more than {self._bounds.entries:,} entries",
                "make the image smaller",
                self._source,
            )

    def _entry(self, entry: Entry, entries: Entries) -> None:
        parts = self._parts(entry.name)
        if self._is_layer and self._is_whiteout(entry, parts):
            return
        if not parts:
            if entry.kind != DIRECTORY:
                raise hostile("archive-name", "its root is no directory", self._source)
            self._root_mode = entry.mode & _KEPT_OF_MODES | 0o700
            return
        if entry.kind in {CHARACTER, BLOCK} and parts[0] != b"dev":
            raise hostile("archive-device", f"{shown(entry.name)} is a device outside of /dev", self._source)
        if entry.kind in {CHARACTER, BLOCK, FIFO}:
            self._spent.skip(shown(entry.name))
            return
        place, name = self._places.reach(parts[:-1]), parts[-1]
        if entry.kind == REGULAR:
            self._file(place, name, entry, entries)
        elif entry.kind == DIRECTORY:
            self._directory(place, name, entry)
        elif entry.kind == SYMBOLIC_LINK:
            self._symbolic_link(place, name, entry)
        else:
            assert entry.kind == HARD_LINK
            self._hard_link(place, name, entry)
        if self._made:
            self._made.add(place.inode, name)

    def _parts(self, name: bytes) -> list[bytes]:
        """Return the names that a path consists of."""
        parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
        if b".." in parts:
            raise hostile("archive-dotdot", f"{shown(name)} leads upwards", self._source)
        if not name or b"\0" in name or len(name) > _LONGEST:
            what = "has no name" if not name else f"{shown(name)} is no name for a file"
            raise hostile("archive-name", f"an entry {what}" if not name else what, self._source)
        return parts

    def _file(self, place: Place, name: bytes, entry: Entry, entries: Entries) -> None:
        try:
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=place.descriptor)
        except FileExistsError:
            self._clear(place, name)
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=place.descriptor)
        try:
            entries.copy(entry, descriptor)
            if entry.pieces is not None:
                os.ftruncate(descriptor, entry.size)
            if self._owner:
                os.fchown(descriptor, *self._owner)
            os.fchmod(descriptor, entry.mode & _KEPT_OF_MODES)
            os.utime(descriptor, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)

    def _directory(self, place: Place, name: bytes, entry: Entry) -> None:
        try:
            inode, is_new = self._places.make(place, name), True
        except FileExistsError:
            found = os.stat(name, dir_fd=place.descriptor, follow_symlinks=False)
            inode, is_new = found.st_ino, not stat.S_ISDIR(found.st_mode)
            if is_new:
                self._clear(place, name)
                inode = self._places.make(place, name)
        if self._made and is_new:
            self._made.untouched(inode)
        self._places.tell(place, name, inode, entry.mode & _KEPT_OF_MODES, entry.mtime)

    def _symbolic_link(self, place: Place, name: bytes, entry: Entry) -> None:
        if not entry.link or b"\0" in entry.link:
            raise damaged(f"{shown(entry.name)} is a symbolic link to no name", self._source)
        try:
            os.symlink(entry.link, name, dir_fd=place.descriptor)
        except FileExistsError:
            self._clear(place, name)
            os.symlink(entry.link, name, dir_fd=place.descriptor)
        if self._owner:
            os.chown(name, *self._owner, dir_fd=place.descriptor, follow_symlinks=False)
        times = (entry.mtime, entry.mtime)
        os.utime(name, ns=times, dir_fd=place.descriptor, follow_symlinks=False)

    def _hard_link(self, place: Place, name: bytes, entry: Entry) -> None:
        to = self._parts(entry.link)
        here = os.dup(place.descriptor)  # `find` may close it
        try:
            there = self._places.find(to[:-1]) if to else None
            if there is None:
                raise self._no_target(entry)
            place = Place(here, place.inode)
            try:
                self._link(there, to[-1], place, name)
            except FileExistsError:
                if not self._is_same(there, to[-1], place, name):
                    self._clear(place, name)
                    self._link(there, to[-1], place, name)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EPERM, errno.EMLINK}:
                raise self._no_target(entry) from error
            raise
        finally:
            os.close(here)

    def _link(self, there: Place, target: bytes, place: Place, name: bytes) -> None:
        os.link(
            target,
            name,
            src_dir_fd=there.descriptor,
            dst_dir_fd=place.descriptor,
            follow_symlinks=False,
        )

    def _is_same(self, there: Place, target: bytes, place: Place, name: bytes) -> bool:
        found = os.stat(target, dir_fd=there.descriptor, follow_symlinks=False)
        return os.path.samestat(found, os.stat(name, dir_fd=place.descriptor, follow_symlinks=False))

    def _no_target(self, entry: Entry) -> PolicyRefused:
        message = f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is no file of the image"
        return hostile("archive-hard-link", message, self._source)

    def _clear(self, place: Place, name: bytes) -> None:
        """Remove what an entry takes the place of."""
        mode = os.stat(name, dir_fd=place.descriptor, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._places.forget()
        removal.remove(place.descriptor, name)

    def _is_whiteout(self, entry: Entry, parts: list[bytes]) -> bool:
        """Hide what an entry of a layer hides, and return whether it is one that hides."""
        if entry.kind == CHARACTER and entry.device == (0, 0) and parts:
            self._hide(parts)  # as overlayfs writes them
            return True
        if _WHITEOUT not in entry.name or not parts:
            return False
        *above, name = parts
        if name.startswith(_OF_AUFS) or any(part.startswith(_OF_AUFS) for part in above):
            if name == _OPAQUE:
                self._hide_all(above)
            return True  # what else aufs keeps under such names is its own
        hides = name.startswith(_WHITEOUT)
        hidden = name[len(_WHITEOUT) :]
        if any(part.startswith(_WHITEOUT) for part in above) or (hides and hidden in {b"", b".", b".."}):
            raise hostile("archive-whiteout", f"{shown(entry.name)} hides no name", self._source)
        if hides:
            self._hide([*above, hidden])
        return hides

    def _hide(self, parts: list[bytes]) -> None:
        place = self._places.find(parts[:-1]) if self._made else None
        if place is not None:
            removal.remove(place.descriptor, parts[-1], self._made)
            self._places.forget()

    def _hide_all(self, parts: list[bytes]) -> None:
        """Hide what the layers below have in a directory."""
        place = self._places.find(parts) if self._made else None
        if place is None or self._made is None or self._made.untouched(place.inode):
            return
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.descriptor)
        try:
            for name in os.listdir(here):
                removal.remove(here, os.fsencode(name), self._made)
        finally:
            os.close(here)
        self._places.forget()


class _Made:
    """What the present layer made: a layer hides only what is below it, whatever the order of its entries.

    Names are kept by the inode number of their directory. A directory that was looked through, or made, has
    nothing left of the layers below: each is looked through once, however often a layer says it.
    """

    def __init__(self) -> None:
        self._names: dict[int, set[bytes]] = {}
        self._done: set[int] = set()

    def add(self, directory: int, name: bytes) -> None:
        self._names.setdefault(directory, set()).add(name)

    def entry(self, directory: int, name: bytes) -> bool:
        return name in self._names.get(directory, ())

    def untouched(self, directory: int) -> bool:
        if directory in self._done:
            return True
        self._done.add(directory)
        return False
