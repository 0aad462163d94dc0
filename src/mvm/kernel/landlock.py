"""Landlock: the calling process and all it starts write only where they may (landlock(7)).

Owns which rights are asked of which version of Landlock. A second lock: the mounts of a sandbox are read-only
already. Reading and running files are never restricted here, nor is the network: the door is that.

What each version gives, and what is made of it:

    1  Linux 5.13  nothing: a rule set of this version forbids every rename and link between directories, on
                   which package managers depend
    2  5.19        making, removing, renaming and writing files only below the writable places
    3  6.2         truncating likewise
    4  6.7         (TCP ports: not used)
    5  6.10        (ioctl on devices: not used; a sandbox has terminals and /dev/null alike only)
    6  6.12        abstract UNIX sockets and signals reach only processes under the same restriction
    7  6.15        the workload's own rule sets write nothing into the host's audit log
    8  7.0         (restricting all threads at once: not used; init has one)
    9  7.1         UNIX sockets with a place in the file system likewise, wherever they lie and whenever they
                   were made (LANDLOCK_ACCESS_FS_RESOLVE_UNIX, which no rule of ours gives)
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from mvm.kernel.syscalls import call

if TYPE_CHECKING:
    from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine

# linux/landlock.h
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
_MAKE_AND_REMOVE = 0b1_1111_1111 << 4  # remove_dir, remove_file, make_char, dir, reg, sock, fifo, block, sym
_RESOLVE_UNIX = 1 << 16
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
_LOG_SAME_EXEC_OFF, _LOG_SUBDOMAINS_OFF = 1, 4


class Rights(NamedTuple):
    """What a rule set of one version of Landlock restricts.

    Attributes:
        files: rights on files, as bits.
        directories: rights on what is in directories, as bits.
        sockets: rights on UNIX sockets made outside of the restriction, as bits; no place opens them.
        scoped: what stays among processes under the same restriction, as bits.
        flags: of landlock_restrict_self(2).
    """

    files: int
    directories: int
    sockets: int
    scoped: int
    flags: int


def rights(version: int) -> Rights:
    """Return what a rule set for one version restricts (pure; the table at the head of this file)."""
    if version < 2:
        return Rights(0, 0, 0, 0, 0)
    return Rights(
        files=_WRITE_FILE | (_TRUNCATE if version >= 3 else 0),
        directories=_MAKE_AND_REMOVE | _REFER,
        sockets=_RESOLVE_UNIX if version >= 9 else 0,
        scoped=_ABSTRACT_SOCKETS | _SIGNALS if version >= 6 else 0,
        flags=_LOG_SAME_EXEC_OFF | _LOG_SUBDOMAINS_OFF if version >= 7 else 0,
    )


def abi() -> int:
    """Return the version of Landlock that this kernel has, 0 where it has none or has it switched off."""
    try:
        return call("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION)
    except OSError as missing:
        # EPERM: a filter around this process that knows nothing of Landlock.
        if missing.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise


def restricted(version: int) -> frozenset[str]:
    """Return what `restrict` restricts under one version (pure).

    Of `files`, `abstract-sockets`, `signals` and `sockets`.
    """
    asked = rights(version)
    words = {"files"} if asked.files else set()
    words |= {"sockets"} if asked.sockets else set()
    return frozenset(words | {"abstract-sockets", "signals"} if asked.scoped else words)


def restrict(writable: Sequence[str]) -> frozenset[str]:
    """Restrict the calling thread, and all it starts from now on, for good.

    Args:
        writable: directories below which everything may be changed, and files that may be written. One that
            isn't there opens nothing.

    Returns:
        what is restricted, as `restricted` has it; empty where the kernel can't.

    Raises:
        OSError: EPERM without no_new_privs or a capability; E2BIG under 16 restrictions already.
    """
    version = abi()
    asked = rights(version)
    if not asked.files:
        return frozenset()
    attributes = struct.pack("=QQQ", asked.files | asked.directories | asked.sockets, 0, asked.scoped)
    rules = call("landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in writable:
            _open_up(rules, path, asked)
        call("landlock_restrict_self", _RESTRICT_SELF, rules, asked.flags)
    finally:
        os.close(rules)
    return restricted(version)


def _open_up(rules: int, path: str, asked: Rights) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        is_directory = stat.S_ISDIR(os.fstat(place).st_mode)
        allowed = asked.files | (asked.directories if is_directory else 0)
        rule = struct.pack("=Qi", allowed, place)
        call(f"landlock_add_rule {path}", _ADD_RULE, rules, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)
