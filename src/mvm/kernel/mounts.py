"""Mounts: attaching, moving and detaching file systems, and changing how they are attached.

One function per call (mount(2), mount_setattr(2), open_tree(2), move_mount(2)); decides nothing. A call that
fails raises OSError that says what was tried. All act on the mount namespace of the caller.
"""

from __future__ import annotations

import os
import re
import struct

from mvm.kernel.syscalls import call, checked, library

# linux/mount.h, linux/fcntl.h
READONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
NOSYMFOLLOW, BIND, MOVE, RECURSIVE, PRIVATE, SLAVE = 0x100, 0x1000, 0x2000, 0x4000, 0x40000, 0x80000
_DETACH = 2
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_ATTR_READONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC, _ATTR_IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000
_CLONE, _MOVE_EMPTY_PATH = 1, 4
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Attach a file system (mount(2)).

    Args:
        source: device, directory or plain label; None where `kind` needs none.
        target: existing directory (or file, for a bind of a file).
        kind: of file system; None for binds and changes.
        flags: of READONLY, NOSUID, NODEV, NOEXEC, BIND, RECURSIVE, …
        data: options of the file system, comma separated.

    Raises:
        OSError: it was refused.
    """
    ctypes, libc = library()
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, data)]
    result = libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    checked(result, f"mount {source or kind or 'change'} on {target}")


def unmount(target: str, detach: bool = True) -> None:
    """Detach what is mounted at `target` (umount2(2)).

    Args:
        target: the mount point.
        detach: at once, with all that is mounted below it, also while it is in use; otherwise EBUSY then.
    """
    checked(library()[1].umount2(os.fsencode(target), _DETACH if detach else 0), f"unmount {target}")


def make_private(target: str = "/") -> None:
    """Share no later mount at or below `target` with any other mount namespace, in neither direction."""
    mount(None, target, None, RECURSIVE | PRIVATE)


def bind(source: str, target: str, *, recursive: bool = True) -> None:
    """Show `source` at `target` too.

    Args:
        source: file or directory.
        target: existing file or directory, as `source` is.
        recursive: with all that is mounted below. Without it a user namespace is refused (EINVAL) wherever
            something below was mounted from outside: what it covers must stay covered (mount_namespaces(7)).
    """
    mount(source, target, None, BIND | (RECURSIVE if recursive else 0))


def set_attributes(
    target: str,
    *,
    readonly: bool = False,
    nosuid: bool = False,
    nodev: bool = False,
    noexec: bool = False,
    recursive: bool = True,
) -> None:
    """Add restrictions to a mount and, with `recursive`, to all below it (mount_setattr(2), Linux 5.12).

    What isn't named stays as it is; nothing is ever taken back. All or none is changed.
    """
    added = (
        (_ATTR_READONLY if readonly else 0)
        | (_ATTR_NOSUID if nosuid else 0)
        | (_ATTR_NODEV if nodev else 0)
        | (_ATTR_NOEXEC if noexec else 0)
    )
    _set_attributes(_AT_FDCWD, target, _AT_RECURSIVE if recursive else 0, struct.pack("=4Q", added, 0, 0, 0))


def _set_attributes(at: int, path: str, flags: int, attributes: bytes) -> None:
    call(
        f"mount_setattr {path or at}",
        _MOUNT_SETATTR,
        at,
        os.fsencode(path),
        flags,
        attributes,
        len(attributes),
    )


def tmpfs(
    target: str, *, mode: int, uid: int, gid: int, size: int | None = None, flags: int = NOSUID | NODEV
) -> None:
    """Attach an empty file system in memory (tmpfs(5)).

    Args:
        target: existing directory.
        mode: permission bits of its root.
        uid: owner of its root, as the caller's user namespace has it.
        gid: group of its root.
        size: limit in bytes; None for half of the memory.
        flags: as in `mount`.
    """
    data = f"mode={mode:o},uid={uid},gid={gid}" + ("" if size is None else f",size={size}")
    mount("tmpfs", target, "tmpfs", flags, data)


def overlay(target: str, *, lower: str, upper: str, work: str, volatile: bool) -> None:
    """Attach a tree whose changes are kept apart (overlayfs; in a user namespace Linux 5.11).

    Args:
        target: existing directory.
        lower: the tree; it is never written.
        upper: directory that takes what is changed.
        work: empty directory on the same file system as `upper`.
        volatile: whether `upper` is not worth waiting for a disk.

    Raises:
        OSError: it was refused.
    """
    escaped = (re.sub(r"([\\\\,:])", r"\\\1", place) for place in (lower, upper, work))
    data = "lowerdir={},upperdir={},workdir={},userxattr".format(*escaped)
    mount("overlay", target, "overlay", NOSUID | NODEV, data + (",volatile" if volatile else ""))


def devpts(target: str) -> None:
    """Attach terminals of their own: none of the host's is seen in it, and its ptmx is usable by all."""
    mount("devpts", target, "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620")


def proc(target: str) -> None:
    """Attach a /proc of the caller's pid namespace.

    Raises:
        OSError: EPERM in a user namespace in which the host's own /proc is not wholly visible.
    """
    mount("proc", target, "proc", NOSUID | NODEV | NOEXEC)


def move(source: str, target: str) -> None:
    """Move what is mounted at `source` to `target`."""
    mount(source, target, None, MOVE)


def clone_tree(source: str) -> int:
    """Copy the mount that holds `source`, from there on and with all below, attached nowhere (open_tree(2)).

    Returns:
        a descriptor for `attach`; the copy is gone when it is closed unattached. Not inherited by programs.
    """
    flags = _CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return call(f"open_tree {source}", _OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)


def attach(descriptor: int, target: str) -> None:
    """Attach a copy made by `clone_tree` (move_mount(2)).

    Args:
        descriptor: of the copy; it stays open, and names the mount.
        target: existing directory, or file for a copy of a file.
    """
    call(
        f"move_mount to {target}",
        _MOVE_MOUNT,
        descriptor,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        _MOVE_EMPTY_PATH,
    )


def map_ids(descriptor: int, user_namespace: int) -> None:
    """Show other owners on a copy made by `clone_tree` and not yet attached (MOUNT_ATTR_IDMAP).

    A file of user n on disk belongs, seen through this mount, to the user whom `user_namespace` maps n to;
    and what that one makes there is n's on disk.

    Args:
        descriptor: of the copy.
        user_namespace: a descriptor of one, other than the initial one.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN over the file system's own user namespace (root of the host has
            it), EINVAL where the file system cannot do it.
    """
    attributes = struct.pack("=4Q", _ATTR_IDMAP, 0, 0, user_namespace)
    _set_attributes(descriptor, "", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes)
