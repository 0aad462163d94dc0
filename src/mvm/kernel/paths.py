"""Paths that are resolved below a directory as if it were the root (openat2(2), Linux 5.6).

One function per call; decides nothing. A call that fails raises OSError that says what was tried.
"""

from __future__ import annotations

import errno
import os
import struct

from mvm.kernel.syscalls import call

_OPENAT2 = 437  # the same on every machine

# linux/openat2.h
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
_TRIES = 128


def open_in_root(root: int, path: bytes, flags: int) -> int:
    """Open what `path` is for a process whose root directory is `root`; symbolic links stay inside of it.

    Args:
        root: descriptor of a directory. `/` at the start of the path or of a link is it, and so is its `..`.
        path: without NUL; links are followed, the last one too unless `flags` has O_NOFOLLOW. Links of /proc
            that lead elsewhere are not.
        flags: as for open(2); nothing is made. The descriptor is not inherited by programs.

    Raises:
        OSError: it is not there (ENOENT), a part of it is no directory (ENOTDIR), it is a link that was not
            to be followed or too many are (ELOOP), or the kernel is older than 5.6 (ENOSYS).
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGICLINKS)
    for _ in range(_TRIES):
        try:
            return call("openat2", _OPENAT2, root, path or b".", how, len(how))
        except OSError as refusal:
            # A rename or mount anywhere on the machine while `..` was resolved: the kernel can't be sure.
            if refusal.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, f"openat2: given up after {_TRIES} tries")
