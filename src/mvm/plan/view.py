"""A root tree as data: what a sandbox sees of this machine, and where.

Owns the shape of such a tree and its description for `--dry-run`. Must never touch the file system.

The entries are tuples by `NamedTuple`, not dataclasses: eight classes cost a start 0.4 ms instead of 3.

What a backend that makes a view may rely on, and must do:

- It starts from an empty tmpfs, makes the entries in their order, and leaves that tmpfs read-only, and every
  `Tmpfs` that isn't `owned`. An `Overlay` comes first, if at all, and stands in place of that tmpfs.
- No target passes through a `Link` of the same view, and each is absolute and normalised. A mount on the
  target of an earlier one covers it.
- A missing directory on the way to a target is made with mode 0755, and belongs to whoever the tmpfs belongs
  to that it lies in. Below a `Bind` everything exists already, so a backend never makes anything there: it
  would make it on the host. `over` says which files and mount points these are.
- Binds are recursive, and read-only with all they contain before the next entry is made, unless `writable`.
- Devices apart, mounts are `nosuid,nodev`. /proc is the backend's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mvm.errors import Finding


class Bind(NamedTuple):
    """A file or directory of the host, seen at `target`.

    Attributes:
        source: absolute real path on the host, free of symbolic links when the view was made.
        target: absolute path inside.
        writable: whether the workload may change it; otherwise it is read-only with all mounts below it.
        optional: whether it is left out in silence if it is gone when the tree is made.
        reason: why it is there, for people.
        over: whether the mount point exists already, since it lies below an earlier `Bind`.
    """

    source: str
    target: str
    writable: bool
    optional: bool
    reason: str
    over: bool = False

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        origin = "" if self.source == self.target else f" from {self.source}"
        return f"{self.target}{origin} ({'read-write' if self.writable else 'read-only'}: {self.reason})"


class Overlay(NamedTuple):
    """A root tree of an image: read-only, with what is changed in it kept apart.

    Attributes:
        source: absolute real path of the tree on the host.
        upper: absolute path of the directory on the host that keeps what is changed, with `upper` and `work`
            in it; None to keep it in memory, as long as the sandbox lives.
        reason: what it is, for people.
        target: where it is seen: it is the root.
    """

    source: str
    upper: str | None
    reason: str
    target: str = "/"

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        kept = "in memory" if self.upper is None else f"in {self.upper}"
        return f"{self.target} from {self.source} ({self.reason}; changes are kept {kept})"


class Link(NamedTuple):
    """A symbolic link.

    Attributes:
        target: absolute path of the link inside.
        to: its text, as symlink(2) takes it.
    """

    target: str
    to: str

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        return f"{self.target} -> {self.to}"


class Tmpfs(NamedTuple):
    """An empty file system in memory.

    Attributes:
        target: absolute path inside.
        mode: permission bits of its root.
        size: limit in bytes, or None for the kernel's own (half of the memory; tmpfs(5)).
        owned: whether it belongs to the workload's user; else to the sandbox's root.
        over: as in `Bind`.
    """

    target: str
    mode: int
    size: int | None
    owned: bool
    over: bool = False

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        limit = "" if self.size is None else f", at most {self.size} bytes"
        return f"{self.target} (empty, in memory, mode {self.mode:04o}{limit})"


class File(NamedTuple):
    """A small generated file.

    Attributes:
        target: absolute path inside.
        content: all its bytes.
        mode: permission bits; never writable for the workload where `over`.
        over: whether a file of the host is seen at `target` through an earlier `Bind`: then this one must be
            mounted over it, read-only, and never be written into it.
        makes: whether that file may be missing and is made then, since it lies in an `Overlay`.
        hides: whether it is there to lie over a socket, and is left out where there is none by then.
    """

    target: str
    content: bytes
    mode: int
    over: bool
    makes: bool = False
    hides: bool = False

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        if self.hides:
            return f"{self.target} (covered: a socket of this machine)"
        return f"{self.target} (made, {len(self.content)} bytes)"


class Device(NamedTuple):
    """One character device of the host.

    Attributes:
        name: file name below /dev, on the host and inside.
    """

    name: str

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        return f"/dev/{self.name} (device)"


class Terminals(NamedTuple):
    """A devpts file system of its own, `newinstance,ptmxmode=0666,mode=0620` (mount(8)).

    Attributes:
        target: absolute path inside.
    """

    target: str

    def describe(self) -> str:
        """Return one line for `--dry-run`."""
        return f"{self.target} (own terminals)"


Entry = Bind | Overlay | Link | Tmpfs | File | Device | Terminals


class View(NamedTuple):
    """A whole root tree with the environment that fits it.

    Attributes:
        entries: in the order in which they are made.
        path: PATH inside; every directory in it is there.
        environ: the whole environment inside, PATH included.
        workdir: where the workload starts if nobody says otherwise.
        findings: warnings about what was asked to be seen; never errors.
    """

    entries: tuple[Entry, ...]
    path: str
    environ: dict[str, str]
    workdir: str
    findings: tuple[Finding, ...]

    def describe(self) -> tuple[str, ...]:
        """Return one line an entry, in order, for `--dry-run`."""
        return tuple(entry.describe() for entry in self.entries)

    @property
    def root(self) -> Overlay | None:
        """The image's tree, where the root is one."""
        return next((entry for entry in self.entries if isinstance(entry, Overlay)), None)

    @property
    def writable(self) -> tuple[str, ...]:
        """The places inside below which the workload may write, as far as permissions let it."""
        places = [entry.target for entry in self.entries if isinstance(entry, Tmpfs | Overlay)]
        places += [entry.target for entry in self.entries if isinstance(entry, Bind) and entry.writable]
        return (*places, "/proc")
