"""The filter on the workload's system calls: a classic BPF program (seccomp(2)), made and installed here.

Owns the program; which call is treated how stands in `syscall_table`. `program` is pure. Must never ask a
library or a tool, and must never be the only thing that stands between a workload and the network.

The choice: **an allow-list**. A list of what is forbidden would open every call that Linux gets after it was
written, and io_uring, mount_setattr and userfaultfd were each such a call. What is not in the table is
answered ENOSYS, as an older kernel would answer, and every libc knows what to do then.

What the program does, in this order:

- Another machine's calls (`int 0x80` and 32-bit programs on x86_64, 32-bit ones on aarch64) end the process
  by SIGSYS: their numbers mean other calls.
- x32 calls (bit 30 of the number, x86_64) are answered ENOSYS, as by a kernel without them.
- Allowed and refused calls are found by a binary search over runs of numbers, seven comparisons deep.
- Calls that are allowed or refused by their arguments (`_RULES`):
    socket       AF_UNIX; AF_INET and AF_INET6 with TCP, UDP or ICMP (echo) only, so that no raw socket and
                 no rarely used protocol of the host's kernel is reached; AF_NETLINK for NETLINK_ROUTE, which
                 lists links and addresses (getifaddrs(3)) and changes none without a capability
    socketpair   AF_UNIX
    clone        without new namespaces; unshare likewise
    personality  those that change only what uname(2) says, and asking
    ioctl        not TIOCSTI and TIOCLINUX (typing into the caller's terminal), not TIOCSETD (it loads
                 line disciplines into the kernel)
    open, openat, creat, mknod, mknodat, chmod, fchmod, fchmodat, fchmodat2
                 no set-user-ID or set-group-ID bit: what a workload makes in a volume is its owner's outside,
                 and could then be run as that owner by anybody who reaches it. openat2 has its mode behind a
                 pointer, and is answered ENOSYS
    setrlimit, prlimit64
                 the limit of core files stays as `cores` set it: at any but 1 a crash could hand made-up
                 memory to a program of the host's root. Answered as if it were done, since programs with
                 secrets lower it to 0, and end where they can't
  Of an argument that the kernel takes as an int only the low half is looked at, as the kernel does: otherwise
  a bit in the high half would pass by.

A filter sees numbers, no memory: what a pointer points to is the kernel's to judge (no capabilities, no
mounts, Landlock).
"""

from __future__ import annotations

import errno
import struct
from functools import cache
from typing import NamedTuple

from mvm.errors import BackendUnavailable
from mvm.kernel.syscall_table import ALLOWED, FORBIDDEN, MACHINES, RULED, numbers
from mvm.kernel.syscalls import checked, library

# linux/bpf_common.h, linux/filter.h: load a word, jumps, a return, and an "and" with a constant.
_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_EQUAL, _AT_LEAST, _HAS_ANY = 0x15, 0x35, 0x45
_FARTHEST = 255  # what the 8 bits of a conditional jump can skip

# linux/seccomp.h, linux/prctl.h, linux/audit.h
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_FORBID, _NO_SUCH_CALL, _PRETEND = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS, _ERRNO
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_RAW, _SOCK_PACKET, _SOCK_TYPE = 1, 2, 3, 10, 0xF
_ANY, _ICMP, _TCP, _UDP, _ICMPV6 = 0, 1, 6, 17, 58
_NETLINK_ROUTE = 0
# All of CLONE_NEW*. CLONE_NEWTIME is a part of the signal in the flags of clone.
_NEW_IN_CLONE, _NEW_IN_UNSHARE = 0x7E020000, 0x7E020080
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_CREATES = 0x40 | 0x400000  # O_CREAT, __O_TMPFILE
_SET_ID = 0o6000
_RLIMIT_CORE = 4
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, UNAME26, both; "tell me"


class _If(NamedTuple):
    """One comparison: of a word of seccomp_data, or of the word that the one before looked at (None)."""

    word: int | None
    test: int
    value: int
    then: _If | int
    otherwise: _If | int
    mask: int | None = None


def _argument(position: int) -> int:
    """Return the offset of the low half of one argument (both machines are little endian)."""
    return _ARGUMENTS + 8 * position


def _one_of(word: int, values: tuple[int, ...], otherwise: _If | int, then: int = _ALLOW) -> _If | int:
    tree = otherwise
    for at, value in reversed(list(enumerate(values))):
        tree = _If(word if at == 0 else None, _EQUAL, value, then, tree)
    return tree


def _socket() -> _If | int:
    family, kind, protocol = _argument(0), _argument(1), _argument(2)
    unsupported = _ERRNO | errno.EPROTONOSUPPORT
    datagram = _one_of(protocol, (_ANY, _UDP, _ICMP, _ICMPV6), unsupported)
    stream = _one_of(protocol, (_ANY, _TCP), unsupported)
    other_kinds = _one_of(kind, (_SOCK_RAW, _SOCK_PACKET), _ERRNO | errno.ESOCKTNOSUPPORT, then=_FORBID)
    assert isinstance(other_kinds, _If)
    internet = _If(
        kind,
        _EQUAL,
        _SOCK_STREAM,
        stream,
        _If(None, _EQUAL, _SOCK_DGRAM, datagram, other_kinds._replace(word=None)),
        mask=_SOCK_TYPE,
    )
    return _If(
        family,
        _EQUAL,
        _AF_UNIX,
        _ALLOW,
        _If(
            None,
            _EQUAL,
            _AF_NETLINK,
            _one_of(protocol, (_NETLINK_ROUTE,), unsupported),
            _If(
                None,
                _EQUAL,
                _AF_INET,
                internet,
                _If(None, _EQUAL, _AF_INET6, internet, _ERRNO | errno.EAFNOSUPPORT),
            ),
        ),
    )


def _without_set_id(position: int) -> _If:
    """Refuse a mode by which a file would run as its owner or its group."""
    return _If(_argument(position), _HAS_ANY, _SET_ID, _FORBID, _ALLOW)


def _core_limit_kept() -> _If:
    """Let prlimit64 ask for the limit of core files, as it does where the pointer to new ones is null."""
    new = _argument(2)
    changes = _If(new, _EQUAL, 0, _If(new + 4, _EQUAL, 0, _ALLOW, _PRETEND), _PRETEND)
    return _If(_argument(1), _EQUAL, _RLIMIT_CORE, changes, _ALLOW)


_RULES: dict[str, _If | int] = {
    "socket": _socket(),
    "socketpair": _one_of(_argument(0), (_AF_UNIX,), _ERRNO | errno.EAFNOSUPPORT),
    "clone": _If(_argument(0), _HAS_ANY, _NEW_IN_CLONE, _FORBID, _ALLOW),
    "unshare": _If(_argument(0), _HAS_ANY, _NEW_IN_UNSHARE, _FORBID, _ALLOW),
    "personality": _one_of(_argument(0), _PERSONALITIES, _FORBID),
    "ioctl": _one_of(_argument(1), (_TIOCSTI, _TIOCLINUX, _TIOCSETD), _ALLOW, then=_FORBID),
    "open": _If(_argument(1), _HAS_ANY, _CREATES, _without_set_id(2), _ALLOW),
    "openat": _If(_argument(2), _HAS_ANY, _CREATES, _without_set_id(3), _ALLOW),
    "creat": _without_set_id(1),
    "mknod": _without_set_id(1),
    "mknodat": _without_set_id(2),
    "chmod": _without_set_id(1),
    "fchmod": _without_set_id(1),
    "fchmodat": _without_set_id(2),
    "fchmodat2": _without_set_id(2),
    "setrlimit": _If(_argument(0), _EQUAL, _RLIMIT_CORE, _PRETEND, _ALLOW),
    "prlimit64": _core_limit_kept(),
}


@cache
def program(machine: str) -> bytes:
    """Make the filter for one machine.

    Args:
        machine: as uname(2) names it.

    Returns:
        the program, 8 bytes an instruction (struct sock_filter), for `install`.

    Raises:
        BackendUnavailable: its system calls are not in the table.
    """
    if machine not in MACHINES:
        raise BackendUnavailable(
            f"no system call filter is known for the machine {machine}",
            hint=f"use a machine of {', '.join(MACHINES)}",
        )
    verdicts: dict[int, _If | int] = dict.fromkeys(numbers(machine, ALLOWED).values(), _ALLOW)
    verdicts |= dict.fromkeys(numbers(machine, FORBIDDEN).values(), _FORBID)
    verdicts |= {number: _RULES[name] for name, number in numbers(machine, RULED).items()}
    calls = _search(_runs(verdicts), load=True)
    if machine == "x86_64":
        calls = _If(_NUMBER, _AT_LEAST, _X32_BIT, _NO_SUCH_CALL, calls)
    tree = _If(_MACHINE, _EQUAL, _AUDIT_ARCH[machine], calls, _KILL)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _assembled(tree))


def _runs(verdicts: dict[int, _If | int]) -> list[tuple[int, _If | int]]:
    """Return where each run of equal verdicts begins, from 0 on; numbers without one are missing calls."""
    runs: list[tuple[int, _If | int]] = []
    for number in range(max(verdicts) + 2):
        verdict = verdicts.get(number, _NO_SUCH_CALL)
        if not runs or runs[-1][1] is not verdict:
            runs.append((number, verdict))
    return runs


def _search(runs: list[tuple[int, _If | int]], *, load: bool) -> _If | int:
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    upper, lower = _search(runs[middle:], load=False), _search(runs[:middle], load=False)
    return _If(_NUMBER if load else None, _AT_LEAST, runs[middle][0], upper, lower)


def _assembled(tree: _If | int) -> list[tuple[int, int, int, int]]:
    """Return the instructions of a tree of comparisons: code, skipped if true, skipped if false, constant."""
    if isinstance(tree, int):
        return [(_RETURN, 0, 0, tree)]
    then, otherwise = _assembled(tree.then), _assembled(tree.otherwise)
    head = [] if tree.word is None else [(_LOAD, 0, 0, tree.word)]
    if tree.mask is not None:
        head.append((_AND, 0, 0, tree.mask))
    if len(then) <= _FARTHEST:
        return [*head, (tree.test, 0, len(then), tree.value), *then, *otherwise]
    return [*head, (tree.test, 1, 0, tree.value), (_JUMP, 0, 0, len(then)), *then, *otherwise]


def install(filter_program: bytes) -> None:
    """Put the calling thread, and whatever it starts, under a filter for good (PR_SET_SECCOMP).

    Args:
        filter_program: from `program`, for the machine that this is.

    Raises:
        OSError: EACCES without no_new_privs (`syscalls.set_no_new_privileges`) or a capability, EINVAL where
            the kernel has no filters or the program isn't one.
    """
    ctypes, libc = library()
    kept = ctypes.create_string_buffer(filter_program, len(filter_program))
    described = struct.pack("@HP", len(filter_program) // 8, ctypes.addressof(kept))
    mode, nothing = ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.c_ulong(0)
    result = libc.prctl(_PR_SET_SECCOMP, mode, ctypes.c_char_p(described), nothing, nothing)
    checked(result, "prctl(PR_SET_SECCOMP)")
