"""The processes of a sandbox as the host sees them in /proc (proc(5)).

Must never look at one from inside, nor change any.
"""

from __future__ import annotations

import os
from pathlib import Path


def status(pid: int) -> dict[str, str]:
    """The fields of a process's status, by name. Raises OSError where it has gone."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def below(top: int) -> set[int]:
    """A process and all that it has started, and those have."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(status(int(entry))["PPid"])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def inside(top: int) -> set[int]:
    """Of those, the ones that are in a pid namespace of their own: init and the commands."""
    ours = len(status(os.getpid())["NSpid"].split())
    return {pid for pid in below(top) if len(status(pid)["NSpid"].split()) > ours}
