"""No image of a process's memory in a core file or a crash report (core(5)).

Owns the two settings of the calling process that see to it; both are inherited by what it starts. Must never
touch the machine's own (core_pattern).

A limit of 0 keeps files away, but no pipe: where core_pattern names a program (systemd-coredump, apport), the
kernel runs it as the host's root whatever the limit is, and hands it everything. The one limit that it heeds
there is 1 (fs/coredump.c), and of a file no single byte is then written either, for one is less than a page.
`coredump_filter` is the second lock, for a caller whose hard limit of 0 can't be raised to 1, and for sockets
(Linux 6.16): of no kind of memory is anything told, only registers and the names of mapped files.
"""

from __future__ import annotations

import contextlib
import resource

_NO_PROGRAM = 1
_FILTER = "/proc/self/coredump_filter"


def leave_none(*, for_good: bool) -> None:
    """Have a crash leave no image of this process's memory, nor start the program that takes one.

    Args:
        for_good: lower the hard limit too.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    soft = _NO_PROGRAM if hard == resource.RLIM_INFINITY else min(_NO_PROGRAM, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (soft, soft if for_good else hard))
    # A kernel may lack it, and /proc may be read-only where mvm itself runs in a container: the limit holds.
    with contextlib.suppress(OSError), open(_FILTER, "w", encoding="ascii") as file:
        file.write("0")
