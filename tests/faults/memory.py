"""The memory that a gateway has back once a fault is over.

Owns how it is measured and what counts as the same. The first time a fault is met, modules are loaded and
arenas grow; so it is measured between the first time and the second.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MORE = 1.05
_ROOM_KIB = 512
"""What a small process may have more all the same: a page table, an arena."""
_WITHIN_S = 5.0
_PAUSE_S = 0.01


def anonymous_kib(pid: int) -> int:
    """The memory of a process that is its own, and resident (proc(5), RssAnon)."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("RssAnon:"))
    return int(line.split()[1])


@contextlib.contextmanager
def same_memory(pid: int) -> Iterator[None]:
    """Raise AssertionError if a process has more than 5 % and 512 KiB more after the block than before.

    It has a moment to give back what it took: that has no event of its own, hence looking again.
    """
    before = anonymous_kib(pid)
    yield
    deadline = time.monotonic() + _WITHIN_S
    while (after := anonymous_kib(pid)) > before * _MORE + _ROOM_KIB:
        assert time.monotonic() < deadline, f"{before} KiB before, {after} KiB after"
        time.sleep(_PAUSE_S)


def expect_same_memory_after(pid: int, fault: Callable[[], object], *, times: int = 1) -> None:
    """Meet a fault once, then as often as `times` says: the memory is the same as after the first time."""
    fault()
    with same_memory(pid):
        for _ in range(times):
            fault()
