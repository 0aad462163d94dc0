"""Removing a tree below a directory, without leaving it and without running out of anything.

Owns the walk: no link is followed, and however deep the tree is, one descriptor is open and nothing recurses.
Must never be given a directory that others change meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, Protocol


class Spared(Protocol):
    """What stays though it lies below what is removed."""

    def entry(self, directory: int, name: bytes) -> bool:
        """Return whether `name` in the directory with this inode number stays."""

    def untouched(self, directory: int) -> bool:
        """Return whether nothing below the directory with this inode number is to go; asked once for each."""


class _Frame(NamedTuple):
    """A directory on the way down: its inode number, its name in the one above, what is to do in it."""

    inode: int
    name: bytes
    names: list[bytes]


def remove(parent: int, name: bytes, spared: Spared | None = None) -> bool:
    """Remove a file, link or tree, except for what is spared and the directories it lies in.

    Args:
        parent: descriptor of the directory that has it.
        name: its name there, without slashes.
        spared: what stays; None for nothing.

    Returns:
        whether it is gone; False too if it was never there.

    Raises:
        OSError: something can't be removed. Directories that their owner may not write are made writable.
    """
    frames = [_Frame(os.fstat(parent).st_ino, b"", [name])]
    kept: set[int] = set()
    here = os.dup(parent)
    try:
        while True:
            frame = frames[-1]
            if frame.names:
                child = frame.names.pop()
                below = _step(here, frame, child, spared, kept)
                if below is not None:
                    here = _replaced(here, below)
                    names = [os.fsencode(inner) for inner in os.listdir(here)]
                    frames.append(_Frame(os.fstat(here).st_ino, child, names))
                continue
            if len(frames) == 1:
                return frame.inode not in kept
            frames.pop()
            here = _replaced(here, os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here))
            above = frames[-1].inode
            if os.fstat(here).st_ino != above:
                raise OSError(errno.ESTALE, "a directory moved while it was removed")
            if frame.inode in kept or (spared and spared.entry(above, frame.name)):
                kept.add(above)
            else:
                os.rmdir(frame.name, dir_fd=here)
    finally:
        os.close(here)


def _step(here: int, frame: _Frame, child: bytes, spared: Spared | None, kept: set[int]) -> int | None:
    """Remove one name, or return a descriptor of the directory it is."""
    try:
        found = os.stat(child, dir_fd=here, follow_symlinks=False)
    except FileNotFoundError:
        kept.add(frame.inode)  # the only one asked for; nothing is gone
        return None
    if stat.S_ISDIR(found.st_mode):
        if not (spared and spared.untouched(found.st_ino)):
            return _open(here, child, found.st_mode)
        kept.add(frame.inode)
    elif spared and spared.entry(frame.inode, child):
        kept.add(frame.inode)
    else:
        os.unlink(child, dir_fd=here)
    return None


def _open(here: int, name: bytes, mode: int) -> int:
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if mode & 0o700 != 0o700:
        place = os.open(name, flags | os.O_PATH, dir_fd=here)
        try:
            os.chmod(f"/proc/self/fd/{place}", 0o700)
        finally:
            os.close(place)
    return os.open(name, flags | os.O_RDONLY, dir_fd=here)


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new
