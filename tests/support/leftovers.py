"""What is still there after something should be gone.

Owns the comparison of before and after: of processes, namespaces, mounts, links, cgroups, sockets, files.
The pytest process is the parent of every orphan below it (`world.enter`), so a process that outlives its run
is found whatever it calls itself. Must never remove anything.

Known holes: a network namespace that only a socket in another process holds is not seen, nor is a file
outside the runtime and temporary directories.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACE = re.compile(r"(net|mnt|pid|user|ipc|uts|cgroup):\[\d+\]")
_NAMESPACE_MOUNT = re.compile(r" ((?:net|mnt|pid|user):\[\d+\]) ")
_NAMESPACES = ("net", "mnt", "pid", "user")
_PAUSE_S = 0.01
WITHIN_S = 10.0
"""Far more than anything takes to go, as this machine may be busy: what stays at all is told."""

Seen = frozenset[tuple[str, str]]
"""Pairs of kind and description."""


class _Process(NamedTuple):
    parent: int
    started: str
    name: str
    has_ended: bool


class Leftovers:
    """Compares now with the moment it was made or last told to `begin`."""

    def __init__(self, directories: Iterable[Path]) -> None:
        """Watch the files in `directories` besides everything else, from now on."""
        self._directories = tuple(directories)
        self._before = self._look()

    def begin(self) -> None:
        """Compare with this moment from now on."""
        self._before = self._look()

    def now(self) -> tuple[str, ...]:
        """What is there that was not there before, as `kind: description`."""
        return tuple(sorted(f"{kind}: {what}" for kind, what in self._look() - self._before))

    def expect_none(self, *, within_s: float = WITHIN_S) -> None:
        """Wait at most `within_s` seconds for nothing to remain. Raises AssertionError with what does.

        The end of a process is an event, but the going of a mount or a cgroup has none: hence looking again.
        """
        deadline = time.monotonic() + within_s
        while remaining := self.now():
            if time.monotonic() > deadline:
                raise AssertionError(f"after {within_s} s there remain: " + "; ".join(remaining))
            time.sleep(_PAUSE_S)

    def _look(self) -> Seen:
        pids = set(_descendants(os.getpid()))
        kinds: dict[str, Iterable[str]] = {
            "process": (f"{pid} {_command_line(pid)}" for pid in pids),
            "namespace": _namespaces({os.getpid(), *pids}),
            "mount": _mounts(),
            "link": (name for _, name in socket.if_nameindex()),
            "cgroup": _cgroups(),
            "socket": _unix_sockets(),
            "file": _files(self._directories),
        }
        return frozenset((kind, what) for kind, found in kinds.items() for what in found)


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name is in brackets and may hold anything; the fields after it are those of proc(5).
                head, _, tail = (entry / "stat").read_text(errors="replace").rpartition(")")
                fields = tail.split()
                name = head.partition("(")[2]
                found[int(entry.name)] = _Process(int(fields[1]), fields[19], name, fields[0] in "ZX")
    return found


def _descendants(root: int) -> Iterator[int]:
    processes = _processes()
    below = {root}
    while True:
        more = {pid for pid, process in processes.items() if process.parent in below} - below
        if not more:
            break
        below |= more
    yield from (pid for pid in below - {root} if not processes[pid].has_ended)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        return words.decode(errors="replace").strip()
    return ""


def _namespaces(pids: Iterable[int]) -> Iterator[str]:
    """Every namespace that one of `pids` is in or holds a descriptor of, and every one that is mounted."""
    for pid in pids:
        for kind in _NAMESPACES:
            with contextlib.suppress(OSError):
                yield str(Path(f"/proc/{pid}/ns/{kind}").readlink())
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(descriptor.readlink())
                    if _NAMESPACE.fullmatch(target):
                        yield target
    yield from _NAMESPACE_MOUNT.findall(Path("/proc/self/mountinfo").read_text())


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        yield f"{after.split()[0]} at {before.split()[4]}"


def _cgroups() -> Iterator[str]:
    """The empty ones called `mvm-…`: one with processes in it is in use, maybe by another worker's test."""
    for folder, _, _ in os.walk(_CGROUPS):
        path = Path(folder)
        if path.name.startswith("mvm-"):
            with contextlib.suppress(OSError):
                if not any((each / "cgroup.procs").read_text() for each in (path, *path.glob("*/"))):
                    yield str(path)


def _files(directories: Iterable[Path]) -> Iterator[str]:
    """What is in them, directories too; what goes meanwhile may be among it or not (pathlib raises)."""
    for each in directories:
        for folder, inner, files in os.walk(each):
            yield from (f"{folder}/{name}" for name in (*inner, *files))


def _unix_sockets() -> Iterator[str]:
    for line in Path("/proc/self/net/unix").read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and "mvm" in fields[7]:
            yield fields[7]
