"""What processes use: processor seconds, memory, and what the rest of the machine does meanwhile.

Owns reading /proc (proc(5)). /proc is that of the bench's own pid namespace, so that all processes seen
there are the bench's, while /proc/stat counts the whole machine. Must never start anything.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int], *, with_ended: bool) -> float:
    """What these processes have used since they began, over all their threads, those too that have ended.

    Args:
        pids: each counted for itself.
        with_ended: whether their children that were waited for count too.
    """
    wanted, last = frozenset(pids), 15 if with_ended else 13
    return sum(sum(map(int, fields[11:last])) for pid, fields in _stats() if pid in wanted) / _TICKS


def split_seconds(pids: Iterable[int], *, with_ended: bool = False) -> tuple[float, float]:
    """The same, what they used themselves and what the kernel used for them apart."""
    wanted, user, system = frozenset(pids), 0, 0
    for pid, fields in _stats():
        if pid in wanted:
            user += int(fields[11]) + (int(fields[13]) if with_ended else 0)
            system += int(fields[12]) + (int(fields[14]) if with_ended else 0)
    return user / _TICKS, system / _TICKS


def pss_bytes(pids: Iterable[int]) -> int:
    """Their memory, what they share with others divided among all that share it."""
    return sum(_rollup(pid, "Pss:") for pid in pids)


def rss_bytes(pid: int) -> int:
    """Its memory, what it shares with others counted in full."""
    return _rollup(pid, "Rss:")


def _rollup(pid: int, field: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def with_descendants(root: int) -> list[int]:
    """A process and all below it."""
    parents = {pid: int(fields[1]) for pid, fields in _stats()}
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def descriptors(pid: int) -> int:
    """How many a process has open. Raises OSError."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def alive() -> int:
    """How many processes of the bench there are that have not ended."""
    return sum(1 for _, fields in _stats() if fields[0] not in "ZX")


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of proc_pid_stat(5) after its name, the state first."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield (
                    int(entry.name),
                    (entry / "stat").read_text(errors="replace").rpartition(")")[2].split(),
                )


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Hold all processes of the bench, and those that they start meanwhile, to one processor."""
    whole = os.sched_getaffinity(0)
    _hold({min(whole)})
    try:
        yield
    finally:
        _hold(whole)


def _hold(processors: set[int]) -> None:
    for pid, _ in _stats():
        with contextlib.suppress(OSError):  # it, or a thread of it, has ended meanwhile
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), processors)


class Watch:
    """A stretch of time, and how many processors other programs used meanwhile; a context manager."""

    seconds = 0.0
    others = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        self._began, self._machine, self._own = time.monotonic(), _machine_seconds(), _own_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        """Take stock."""
        self.seconds = time.monotonic() - self._began
        used = _machine_seconds() - self._machine - (_own_seconds() - self._own)
        self.others = max(0.0, used / self.seconds) if self.seconds else 0.0


def _machine_seconds() -> float:
    """Processor seconds of all programs (user, nice, system) and of the machine's own host (steal)."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[7]) / _TICKS


def _own_seconds() -> float:
    """The same of the bench: all its processes, those too that were waited for."""
    return sum(sum(map(int, fields[11:15])) for _, fields in _stats()) / _TICKS
