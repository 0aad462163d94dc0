"""The processes of a sandbox that stands, by their place below the one that was started.

the supervisor ── the keeper ── init ── the workload
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Processes(NamedTuple):
    """Process ids."""

    supervisor: int
    keeper: int
    init: int


def children(pid: int) -> list[int]:
    """The processes that a process has started and not waited for (proc(5))."""
    with_children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in with_children.read_text().split()] if with_children.exists() else []


def processes(supervisor: int) -> Processes:
    """Those of the only sandbox of a supervisor. Raises ValueError where it has another number of them."""
    (keeper,) = children(supervisor)
    (init,) = children(keeper)
    return Processes(supervisor, keeper, init)
