"""Control groups: limits on memory, processor time and processes of a sandbox; what rlimits hold instead.

Owns one cgroup for each sandbox, named `mvm-RUN`. Must never change a cgroup that it did not make, nor move a
process that it was not given.

Which kind (cgroups(7)), the first that carries anything:

    version 2  below the nearest ancestor of the caller's cgroup that gives the most of the controllers to its
               children and lets the caller make one: as root, or in a delegated systemd unit. A cgroup that
               holds processes gives none, so this is mostly a sibling of the caller's own
    version 1  below the caller's own cgroup in each hierarchy that is writable: as root

Whatever neither can carry is not in `Cgroup.achieved`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mvm.terms import Limits

V1, V2 = "cgroup-v1", "cgroup-v2"
_PERIOD = 100_000  # microseconds; processor time is given out anew in each (the kernel's own default)
_SHORTEST = 1_000  # microseconds of a period that the kernel takes as a limit, at least
_REMOVE_SECONDS = 2.0
_RETRY_SECONDS = 0.002
_CONTROLLERS = {"memory": "memory", "cpus": "cpu", "pids": "pids"}


class Cgroup(NamedTuple):
    """One cgroup of ours.

    Attributes:
        name: of its directories.
        version: V1 or V2.
        paths: its directories: one, or in version 1 one for each controller.
        achieved: the limits that it carries, of `memory`, `cpus`, `pids`.
    """

    name: str
    version: str
    paths: tuple[str, ...]
    achieved: tuple[str, ...]

    def add(self, pid: int) -> None:
        """Move a process in; what it starts from now on is in it too.

        Raises:
            OSError: it is gone, or the caller may not.
        """
        for path in self.paths:
            _write(f"{path}/cgroup.procs", str(pid))

    def processes(self) -> frozenset[int]:
        """Return the pids of what is in it."""
        return frozenset(pid for path in self.paths for pid in _processes(path))

    def remove(self) -> None:
        """Kill what is in it, and remove it, within two seconds; one that is gone already is no error.

        Raises:
            OSError: EBUSY: something in it would not end (a process that waits for a dead disk).
        """
        deadline = time.monotonic() + _REMOVE_SECONDS
        for path in self.paths:
            while not _removed(path):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OSError(errno.EBUSY, f"remove {path}: {os.strerror(errno.EBUSY)}")
                _kill(path, left)


def create(name: str, limits: Limits) -> Cgroup | None:
    """Make a cgroup that carries as many of the limits as this machine lets it.

    Args:
        name: of the new directories, `mvm-` and the run's id.
        limits: at least one is set.

    Returns:
        the cgroup; None where none of the limits can be carried.

    Raises:
        FileExistsError: there is one of that name.
        OSError: a limit was taken by the kernel, and not kept.
    """
    wanted = limits.asked()
    for version, places in ((V2, _places_v2(wanted)), (V1, _places_v1(wanted))):
        for parents in places:
            made = _make(name, version, parents, limits)
            if made is not None:
                return made
    return None


def rlimits(limits: Limits, already: Collection[str]) -> list[tuple[int, int]]:
    """Return which rlimits hold what no cgroup does, as (resource, value) for setrlimit(2).

    Memory is then held for each process by itself, as address space. Processes are counted for each user in a
    user namespace since Linux 5.14; before, all of the user's on the machine were, so no such limit is set.
    Processor time has no rlimit that holds.

    Args:
        limits: that were asked for.
        already: names of those that a cgroup carries.
    """
    import resource

    held = []
    if limits.memory is not None and "memory" not in already:
        held.append((resource.RLIMIT_AS, limits.memory))
    if limits.pids is not None and "pids" not in already and linux() >= (5, 14):
        held.append((resource.RLIMIT_NPROC, limits.pids))
    return held


def stale() -> tuple[Cgroup, ...]:
    """Return the cgroups of ours, anywhere on this machine, in which no process is.

    One that was made a moment ago and waits for its first process is among them: compare the run's id with
    the runs that are under way before removing it.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for version, _, root, _ in _mounts():
        for directory, names, _ in os.walk(root):
            for name in names:
                if name.startswith("mvm-") and os.access(directory, os.W_OK):
                    found.setdefault((name, version), []).append(f"{directory}/{name}")
    made = (Cgroup(name, version, tuple(paths), ()) for (name, version), paths in sorted(found.items()))
    return tuple(cgroup for cgroup in made if not cgroup.processes())


def linux() -> tuple[int, int]:
    """Return the version of the running kernel."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)


def _mounts() -> Iterator[tuple[str, frozenset[str], str, str]]:
    """Give each mounted hierarchy: version, controllers (version 1), mount point, the cgroup seen there."""
    for line in _lines("/proc/self/mountinfo"):
        fields, _, source = line.partition(" - ")
        kind, _, options = source.split(" ", 2)
        if kind in {"cgroup", "cgroup2"}:
            mounted, point = (word.replace("\\040", " ") for word in fields.split()[3:5])
            yield (V2 if kind == "cgroup2" else V1), frozenset(options.split(",")), point, mounted


def _own(controller: str) -> str:
    """Return the caller's cgroup in the hierarchy of a controller; of version 2 for an empty one."""
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return ""


def _directory(point: str, mounted: str, path: str) -> str | None:
    """Return where a cgroup is seen, given that `mounted` is seen at `point`; None if it isn't seen there."""
    inside = os.path.relpath(path, mounted) if path else ".."
    directory = os.path.normpath(f"{point}/{inside}")
    return directory if not inside.startswith("..") and os.path.isdir(directory) else None


def _places_v2(wanted: tuple[str, ...]) -> list[dict[str, str]]:
    """Return for each ancestor that could hold the new cgroup which limits it may carry there, best first."""
    for version, _, point, mounted in _mounts():
        directory = _directory(point, mounted, _own("")) if version == V2 else None
        if directory is None:
            continue
        places = []
        while directory.startswith(point):
            given = "".join(_lines(f"{directory}/cgroup.subtree_control")).split()
            held = {limit: directory for limit in wanted if _CONTROLLERS[limit] in given}
            # To move a process below an ancestor one must own the procs file of that ancestor (cgroups(7)).
            if held and os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK):
                places.append(held)
            directory = os.path.dirname(directory)
        return sorted(places, key=len, reverse=True)
    return []


def _places_v1(wanted: tuple[str, ...]) -> list[dict[str, str]]:
    held = {}
    for version, controllers, point, mounted in _mounts():
        for limit in wanted:
            if version == V1 and _CONTROLLERS[limit] in controllers:
                directory = _directory(point, mounted, _own(_CONTROLLERS[limit]))
                if directory is not None and os.access(directory, os.W_OK):
                    held[limit] = directory
    return [held] if held else []


def _make(name: str, version: str, parents: dict[str, str], limits: Limits) -> Cgroup | None:
    paths: list[str] = []
    achieved = []
    try:
        for limit, parent in parents.items():
            path = f"{parent}/{name}"
            try:
                if path not in paths:
                    os.mkdir(path)
                    paths.append(path)
                if _limit(path, version, limit, limits):
                    achieved.append(limit)
            except PermissionError:
                continue
    except OSError:
        Cgroup(name, version, tuple(paths), ()).remove()
        raise
    made = Cgroup(name, version, tuple(paths), tuple(achieved))
    if not achieved:
        made.remove()
        return None
    return made


def _limit(path: str, version: str, limit: str, limits: Limits) -> bool:
    """Set one limit and read it back; False where this kernel has no file for it."""
    value: int | None = getattr(limits, limit) if limit != "cpus" else None
    quota = max(_SHORTEST, round((limits.cpus or 0) * _PERIOD))
    files = {
        (V1, "memory"): (("memory.limit_in_bytes", str(value)), ("memory.memsw.limit_in_bytes", str(value))),
        (V2, "memory"): (("memory.max", str(value)), ("memory.swap.max", "0")),
        (V1, "cpus"): (("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", str(quota))),
        (V2, "cpus"): (("cpu.max", f"{quota} {_PERIOD}"),),
        (V1, "pids"): (("pids.max", str(value)),),
        (V2, "pids"): (("pids.max", str(value)),),
    }[version, limit]
    for name, text in files:
        file = f"{path}/{name}"
        if "sw" in name and not os.path.exists(file):
            continue  # this kernel does not count swap
        if not os.path.exists(file):
            return False
        _write(file, text)
        kept = "".join(_lines(file))
        # Memory is rounded down to whole pages.
        if kept != text and not (limit == "memory" and int(kept) <= int(text)):
            raise OSError(errno.EIO, f"set {file} to {text}: it is {kept}")
    return True


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError as gone:
        if gone.errno in {errno.ENOENT, errno.ENODEV}:  # ENODEV: removed while it was being read
            return []
        raise


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as refusal:
        raise OSError(refusal.errno, f"write {text} to {path}: {refusal.strerror}") from None
    finally:
        os.close(descriptor)


def _processes(path: str) -> list[int]:
    return [int(line) for line in _lines(f"{path}/cgroup.procs") if line != "0"]


def _removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as refusal:
        if refusal.errno != errno.EBUSY:
            raise
        return False
    return True


def _kill(path: str, seconds: float) -> None:
    """Kill the processes of one cgroup, and wait until they have ended or the time is over."""
    poll, handles, waits = select.poll(), {}, False
    try:
        for pid in _processes(path):
            try:
                handles[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        # A number that was free for a moment may be another's by now: only what is still in the cgroup.
        for pid in handles.keys() & _processes(path):
            try:
                signal.pidfd_send_signal(handles[pid], signal.SIGKILL)
            except ProcessLookupError:
                continue
            poll.register(handles[pid], select.POLLIN)
            waits = True
        if waits:
            poll.poll(seconds * 1000)
    finally:
        for handle in handles.values():
            os.close(handle)
    if not waits:
        # The last has ended and is not yet taken out; version 1 tells nobody when it is.
        time.sleep(_RETRY_SECONDS)
