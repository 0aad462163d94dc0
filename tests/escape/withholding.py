"""Runs a command on a machine that withholds something, as kernels, distributions and containers do.

    withholding.py JSON COMMAND…    {"limits": {FILE: NUMBER}, "calls": [CALL…], "cover": [PATH…], "files": N}

    limits  what /proc/sys/user allows below here, so in namespaces that the command makes
    calls   [name, {position: value}, errno]: that system call with those arguments fails with that
    cover   directories that are mounted over, as containers do
    files   how many descriptors the command may have

Owns the withholding, in a user and mount namespace of its own, where the command keeps its user and has no
capability that it would not have otherwise. Must never import the product.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_PRIVATE, _BIND, _RECURSIVE = 0x40000, 0x1000, 0x4000
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ARGUMENTS = 16
_NUMBERS = {
    "x86_64": {"mount": 165, "pivot_root": 155, "prctl": 157, "setsockopt": 54, "socket": 41},
    "aarch64": {"mount": 40, "pivot_root": 41, "prctl": 167, "setsockopt": 208, "socket": 198},
}
_EVERYWHERE = {"close_range": 436, "landlock_create_ruleset": 444, "pidfd_open": 434}

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Do as the head of this file says. Raises OSError where this machine doesn't let one withhold."""
    wanted, argv = json.loads(sys.argv[1]), sys.argv[2:]
    _enter()
    for name, number in wanted.get("limits", {}).items():
        Path("/proc/sys/user", name).write_text(str(number))
    for path in wanted.get("cover", ()):
        _checked(_libc.mount(b"none", path.encode(), b"tmpfs", ctypes.c_ulong(0), None))
    if "files" in wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted["files"],) * 2)
    if calls := wanted.get("calls"):
        _filter(b"".join(_refusal(*call) for call in calls))
    os.execvp(argv[0], argv)  # noqa: S606  whatever the test wants


def _enter() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _checked(_libc.unshare(_NEWUSER | _NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text)
    _checked(_libc.mount(None, b"/", None, ctypes.c_ulong(_PRIVATE | _RECURSIVE), None))


def _refusal(name: str, arguments: Mapping[str, int], errno: int) -> bytes:
    """A part of a filter: one call's refusal; what is not that call goes on behind it."""
    number = {**_EVERYWHERE, **_NUMBERS[platform.machine()]}[name]
    words = [(0, number), *((_ARGUMENTS + 8 * int(at), value) for at, value in arguments.items())]
    left = 2 * len(words)
    program = b""
    for offset, value in words:
        program += _step(_LOAD, 0, 0, offset) + _step(_EQUAL, 0, left - 1, value)
        left -= 2
    return program + _step(_RETURN, 0, 0, _ERRNO | errno)


def _step(code: int, then: int, otherwise: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _filter(parts: bytes) -> None:
    program = parts + _step(_RETURN, 0, 0, _ALLOW)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    unused = (ctypes.c_ulong(0),) * 3
    _checked(_libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), *unused))
    _checked(_libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), header, *unused[:2]))


def _checked(result: Any) -> None:  # noqa: ANN401  (ctypes)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
