"""A view while it grows: what is mounted where so far, and therefore what a path inside shows.

Owns the order of entries and the answer to "is this path of the host seen inside, at its own place?". Must
never decide what ought to be seen.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mvm.images.trace import Tracer, lies_in, plain
from mvm.plan.view import Bind, Device, File, Link, Terminals, Tmpfs

if TYPE_CHECKING:
    from mvm.errors import Finding
    from mvm.plan.view import Entry, Overlay

_MOST_LINKS = 40  # as the kernel follows (path_resolution(7))


class Tree:
    """The entries so far.

    Attributes:
        tracer: follows paths on the host.
        entries: as `View.entries`.
        findings: as `View.findings`.
    """

    def __init__(self, root: Overlay | None = None) -> None:
        """Start with nothing in it, or with an image's tree."""
        self.tracer = Tracer()
        self.entries: list[Entry] = [] if root is None else [root]
        self._root = root
        self.findings: list[Finding] = []
        self._mounts: dict[str, Bind | Tmpfs] = {}
        self._links: dict[str, str] = {}

    def covering(self, path: str) -> Bind | Tmpfs | None:
        """Return the mount that `path`, absolute and free of links, lies in, or None for the bare root."""
        while path:
            if path in self._mounts:
                return self._mounts[path]
            path = path.rpartition("/")[0]
        return None

    def host_path(self, path: str) -> str | None:
        """Return the path on the host that is seen at `path` inside, whether or not it exists, or None."""
        mount = self.covering(path)
        return mount.source + path[len(mount.target) :] if isinstance(mount, Bind) else None

    def shows(self, path: str) -> bool:
        """Return whether the host's `path`, free of links, is seen inside at its own place."""
        return self.host_path(path) == path

    def holds(self, path: str) -> bool:
        """Return whether a mount lies at or below `path`, so that the directory is there inside."""
        return any(lies_in(target, path) for target in self._mounts)

    def bind(self, bind: Bind) -> None:
        """Add a bind; a read-only one that would change nothing is left out."""
        if not bind.writable and bind.source == bind.target and self.shows(bind.source):
            return
        over = isinstance(self.covering(bind.target), Bind)
        self._mounts[bind.target] = made = bind._replace(over=over)
        self.entries.append(made)

    def tmpfs(self, target: str, *, mode: int, size: int | None = None, owned: bool = True) -> None:
        """Add an empty file system."""
        over = isinstance(self.covering(target), Bind)
        self._mounts[target] = made = Tmpfs(target, mode, size, owned, over)
        self.entries.append(made)

    def file(self, target: str, content: bytes, mode: int = 0o444) -> None:
        """Add a generated file; below a bind the host must have a file there already."""
        makes = self._root is not None and self.covering(target) is None
        over = makes or isinstance(self.covering(target), Bind)
        self.entries.append(File(target, content, mode, over, makes))

    def cover(self, target: str) -> None:
        """Lay an empty file over a socket of the host that a bind shows."""
        self.entries.append(File(target, b"", 0, over=True, hides=True))

    def link(self, target: str, to: str) -> None:
        """Add a symbolic link, unless a bind shows that place already or the same link is there."""
        if (
            target not in self._links
            and not isinstance(self.covering(target), Bind)
            and not self.holds(target)
        ):
            self._links[target] = to
            self.entries.append(Link(target, to))

    def links(self, links: tuple[tuple[str, str], ...]) -> None:
        """Add the links that a trace passed."""
        for target, to in links:
            self.link(target, to)

    def device(self, name: str) -> None:
        """Add a device of the host."""
        self.entries.append(Device(name))

    def terminals(self, target: str) -> None:
        """Add a devpts of its own."""
        self.entries.append(Terminals(target))

    def inside(self, path: str) -> str:
        """Return `path`, absolute and normalised, with the view's own links in it followed."""
        for _ in range(_MOST_LINKS):  # a loop of links leaves the path as it is
            link = next((target for target in self._links if lies_in(path, target)), None)
            if link is None:
                break
            path = plain(os.path.join(os.path.dirname(link), self._links[link]) + path[len(link) :])
        return path if self._root is None else follow(self._root.source, path) or path


def follow(root: str, path: str) -> str | None:
    """Follow the links that an image has on the way to a path, none of which leads out of it.

    Args:
        root: of the image's tree, on the host.
        path: absolute, as the workload writes it.

    Returns:
        The path inside at which there is no link on the way; parts that don't exist stay as they are. None
        for more links than the kernel would follow: on the host they may lead elsewhere.
    """
    done, waiting, links = "", [part for part in path.split("/") if part], 0
    while waiting:
        part = waiting.pop(0)
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        place = f"{done}/{part}"
        try:
            to = os.readlink(root + place)
        except OSError:  # no link, or not there
            done = place
            continue
        links += 1
        if links > _MOST_LINKS:
            return None
        done = "" if to.startswith("/") else done
        waiting = [*(part for part in to.split("/") if part not in {"", "."}), *waiting]
    return done or "/"


def read_plain(place: str, most: int) -> bytes | None:
    """Read a file of an image, which may have a pipe in its place, and that would never end.

    Args:
        place: on the host, free of links but for the last part.
        most: how many bytes at most.

    Returns:
        What is in it; None where there is no plain file, or it can't be read.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
