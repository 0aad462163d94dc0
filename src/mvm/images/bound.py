"""Where UNIX sockets of this machine lie in a directory, at any depth, without a walk through it.

Owns the reading of the kernel's own list of them (proc_pid_net(5), /proc/net/unix). It has each by the name
that it was bound to, in the network namespace of the caller; a directory is told by its identity, so that a
name that leads there through a link, or a mount that shows another place, counts as well. Must never list a
directory.

Not found are sockets of other network namespaces, those bound in another mount namespace by a name that means
something else here, by a relative name in a process that went elsewhere since, or with a line feed in it.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import islice, product
from typing import TYPE_CHECKING

from mvm.images.trace import lies_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_LIST, _MOUNTS = "/proc/net/unix", "/proc/self/mountinfo"
_BEFORE_THE_NAME = 7  # words of a line
_MOUNT_POINT = 4
MOST_PLACES = 4096
"""How many directories with sockets are looked at; first those whose names lie where is asked."""


def are_named_below(sources: Iterable[str]) -> bool:
    """Tell whether the list has names below some directories, as they are written: mostly it has none."""
    try:
        with open(_LIST, "rb") as file:
            names = file.read()
    except OSError:  # a /proc that shows no more than processes
        return False
    return any(b" %b/" % os.fsencode(source) in names for source in sources)


class BoundSockets:
    """The sockets that lie in some directories of this machine.

    Attributes:
        whole: whether everything in the list could be looked at.
    """

    def __init__(self, sources: Sequence[str], *, most: int = MOST_PLACES) -> None:
        """Read the list, at once.

        Args:
            sources: directories of which will be asked, real paths.
            most: how many directories are looked at, at most.
        """
        self._identities: dict[str, tuple[int, int] | None] = {}
        self._names: dict[str, set[str]] = {}
        written: dict[str, set[str]] = {}
        names, self.whole = _absolute_names(most)
        for path in names:
            directory, _, name = path.rpartition("/")
            written.setdefault(directory, set()).add(name)
        places = sorted(written, key=lambda place: not any(lies_in(place, source) for source in sources))
        self.whole &= len(places) <= most
        for place in places[:most]:
            real = _real(place or "/")
            if real is not None:
                self._names.setdefault(real, set()).update(written[place])
        self._mounts = _mount_points() if self._names else []

    def below(self, source: str) -> list[str]:
        """Give the paths of the sockets at or below a directory, each as it is found from there."""
        found: set[str] = set()
        roots: dict[tuple[int, int], list[str]] = {}
        for place in (
            source,
            *(point for point in self._mounts if point != source and lies_in(point, source)),
        ):
            identity = self._identity(place)
            if identity is not None:
                roots.setdefault(identity, []).append(place)
            found.add(place)  # a mount may show a single socket
        for directory, names in self._names.items():
            for above in _upwards(directory):
                identity = self._identity(above)
                for root in roots.get(identity, ()) if identity is not None else ():
                    base = root + directory[len(above) :]
                    found.update(f"{base}/{name}" for name in names)
        return sorted(path for path in found if _is_socket(path))

    def _identity(self, place: str) -> tuple[int, int] | None:
        if place not in self._identities:
            try:
                status = os.stat(place)
            except OSError:  # gone, or not ours to see
                self._identities[place] = None
            else:
                self._identities[place] = (status.st_dev, status.st_ino)
        return self._identities[place]


def _absolute_names(most: int) -> tuple[set[str], bool]:
    """Give what sockets were bound to, and whether that is all.

    A relative name is taken from wherever a process stands, `most` such guesses at most.
    """
    try:
        with open(_LIST, "rb") as file:
            lines = file.read().splitlines()[1:]
    except OSError:  # a /proc that shows no more than processes
        return set(), False
    names = {
        os.fsdecode(words[-1])
        for words in (line.split(None, _BEFORE_THE_NAME) for line in lines)
        if len(words) > _BEFORE_THE_NAME and not words[-1].startswith(b"@")  # an abstract one
    }
    relative = {name for name in names if not name.startswith("/")}
    if not relative:
        return names, True
    guesses = [
        f"{place.rstrip('/')}/{name}" for place, name in islice(product(_standing(), relative), most + 1)
    ]
    return names - relative | set(guesses[:most]), len(guesses) <= most


def _standing() -> set[str]:
    """Give the working directories of all processes of which we may know them."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                found.add(os.readlink(f"/proc/{name}/cwd"))
            except OSError:  # ended, or another user's
                continue
    return found


def _mount_points() -> list[str]:
    with open(_MOUNTS, "rb") as file:
        points = [line.split(b" ", _MOUNT_POINT + 1)[_MOUNT_POINT] for line in file]
    return [os.fsdecode(re.sub(rb"\\([0-7]{3})", _character, point)) for point in points]


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 8)])


def _real(directory: str) -> str | None:
    """Give the real path of a directory, resolved by the kernel; None for none that we may enter."""
    try:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return os.readlink(f"/proc/self/fd/{place}")
    finally:
        os.close(place)


def _upwards(directory: str) -> Iterator[str]:
    """Give a directory and those above it, the root left out: no volume shows it."""
    while directory not in {"", "/"}:
        yield directory
        directory = directory.rpartition("/")[0]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
