"""Namespaces, capabilities and mounts by system call, for building the world that tests run in.

Owns the raw calls, one function each. Must never import the product, and decides nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MS_RDONLY, MS_REMOUNT = 0x1, 0x20

_MNT_DETACH = 2
_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, tried: str) -> None:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{tried}: {os.strerror(errno)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)). Raises OSError."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def enter_user_namespace() -> None:
    """A user namespace in which this process keeps its ids and gains every capability (user_namespaces(7)).

    Raises OSError where user namespaces are withheld, and EINVAL when the process has more than one thread.
    """
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Attach a file system, or change how one is attached. Raises OSError."""
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    result = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _checked(result, f"mount {source or kind} on {target}")


def unmount(target: str) -> None:
    """Detach what is mounted at `target`. Raises OSError."""
    _checked(_libc.umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (PR_SET_CHILD_SUBREAPER)."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def may_administer() -> bool:
    """Whether the calling thread holds CAP_SYS_ADMIN over its own user namespace."""
    effective, _, _ = _capabilities()
    return bool(effective >> _CAP_SYS_ADMIN & 1)


@contextlib.contextmanager
def inherited_capabilities() -> Iterator[None]:
    """Within it, programs that the calling thread starts keep its capabilities (capabilities(7))."""
    share_capabilities()
    try:
        yield
    finally:
        withdraw_capabilities()


def share_capabilities() -> None:
    """Programs that this thread starts from now on keep its capabilities. Raises OSError."""
    effective, permitted, _ = _capabilities()
    _set_capabilities(effective, permitted, permitted)
    for number in range(64):
        if permitted >> number & 1:
            _checked(
                _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0),
                f"raise capability {number}",
            )


def withdraw_capabilities() -> None:
    """Programs started from now on get only what their user has anyway. Raises OSError."""
    effective, permitted, _ = _capabilities()
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")
    _set_capabilities(effective, permitted, 0)


def _capabilities() -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets of the calling thread, as bit masks."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(header, data), "capget")
    effective, permitted, inheritable = (data[at] | data[at + 3] << 32 for at in range(3))
    return effective, permitted, inheritable


def _set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    masks = (effective, permitted, inheritable)
    words = [mask & 0xFFFFFFFF for mask in masks] + [mask >> 32 for mask in masks]
    _checked(_libc.capset(header, (ctypes.c_uint32 * 6)(*words)), "capset")
