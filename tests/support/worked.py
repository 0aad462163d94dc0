"""How much a process has worked: what it waited for a processor, which others share, is not its doing.

Owns that measure. Must never be a clock: whoever sleeps too long is found by one.
"""

from __future__ import annotations

import os
from pathlib import Path


def worked_s(pid: int) -> float:
    """How many seconds a process has been on a processor so far, in steps of a tick (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
