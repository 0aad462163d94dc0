"""System calls on the calling process: namespaces, capabilities, descriptors, and what others see of it.

One function per call; decides nothing. A call that fails raises OSError that says what was tried.
ctypes is loaded with the first call, not with this module: commands that start nothing do without it.
"""

from __future__ import annotations

import errno
import os
from signal import SIGKILL
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/sched.h
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
_KINDS = {
    NEWNS: "mnt",
    NEWCGROUP: "cgroup",
    NEWUTS: "uts",
    NEWIPC: "ipc",
    NEWUSER: "user",
    NEWPID: "pid",
    NEWNET: "net",
}

# linux/prctl.h, linux/capability.h, linux/securebits.h, linux/keyctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 4, 15, 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 23, 24, 28
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITY_VERSION_3 = 0x20080522
_SECURE_AND_LOCKED = 0b1110_1111  # noroot, no_setuid_fixup, keep_caps off, no_cap_ambient_raise; each locked
_KEYCTL_JOIN_SESSION_KEYRING = 1

# Numbers from 424 on are the same on every machine; libc has no function for these four.
_CLOSE_RANGE = 436
_NUMBERS = {"x86_64": {"pivot_root": 155, "keyctl": 250}, "aarch64": {"pivot_root": 41, "keyctl": 219}}
_LAST_DESCRIPTOR = 0xFFFFFFFF
_ARGUMENT_AREA = slice(45, 49)  # arg_start to env_end, fields 48 to 51 of /proc/PID/stat; the third is 0 here


class _Loaded:
    """What is loaded once, with the first call."""

    ctypes: Any = None
    libc: Any = None


def library() -> tuple[Any, Any]:
    """Return the module ctypes and the C library as ctypes sees it, loaded on first use."""
    if _Loaded.libc is None:
        import ctypes

        _Loaded.ctypes = ctypes
        _Loaded.libc = ctypes.CDLL(None, use_errno=True)
    return _Loaded.ctypes, _Loaded.libc


def checked(result: int, tried: str) -> int:
    """Return what a call of the C library returned.

    Raises:
        OSError: it was negative; the message is `tried` and what errno says.
    """
    if result < 0:
        code = library()[0].get_errno()
        raise OSError(code, f"{tried}: {os.strerror(code)}")
    return result


def call(tried: str, number: int, *arguments: int | bytes | None) -> int:
    """Make one system call by its number.

    Args:
        tried: what to say if it fails.
        number: of the call, on this machine.
        arguments: up to six; bytes are passed by address and must hold all the call reads or writes.

    Raises:
        OSError: it failed.
    """
    ctypes, libc = library()
    words = [ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in arguments]
    return checked(libc.syscall(ctypes.c_long(number), *words), tried)


def _number(name: str) -> int:
    machine = os.uname().machine
    try:
        return _NUMBERS[machine][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: its number on {machine} is not known") from None


def _prctl(tried: str, option: int, *arguments: int | bytes) -> int:
    ctypes, libc = library()
    words = [ctypes.c_ulong(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in arguments]
    words += [ctypes.c_ulong(0)] * (4 - len(words))
    return checked(libc.prctl(option, *words), f"prctl({tried})")


def kinds(flags: int) -> str:
    """Return the names of the namespaces in `flags` as /proc/PID/ns has them, joined by commas."""
    return ",".join(name for flag, name in _KINDS.items() if flags & flag)


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces (unshare(2)).

    Args:
        flags: of NEWNS, NEWUSER, NEWPID (for its children), NEWNET, NEWIPC, NEWUTS, NEWCGROUP.

    Raises:
        OSError: EPERM or ENOSPC where the machine withholds them (`probe` says why), EINVAL for a new user
            namespace from a process with several threads.
    """
    tried = f"unshare({kinds(flags)})"
    try:
        checked(library()[1].unshare(flags), tried)
    except OSError as refusal:
        if refusal.errno != errno.ENOSPC:
            raise
        text = f"{refusal.strerror}: a limit of /proc/sys/user/max_*_namespaces is reached"
        raise OSError(errno.ENOSPC, text) from None


def enter(descriptor: int, kind: int = 0) -> None:
    """Move the calling thread into an existing namespace (setns(2)).

    Args:
        descriptor: of a file in /proc/PID/ns.
        kind: which it must be (NEWNET, …); 0 takes any.

    Raises:
        OSError: it is of another kind, or the caller has no capability over it.
    """
    checked(library()[1].setns(descriptor, kind), f"setns({kinds(kind) or 'any'})")


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old root at `old` (pivot_root(2)).

    `pivot_root(".", ".")` stacks both; unmounting "." then leaves only the new one.

    Raises:
        OSError: `new` is no mount point, or is shared with other mount namespaces (`mounts.make_private`).
    """
    call(f"pivot_root {new}", _number("pivot_root"), os.fsencode(new), os.fsencode(old))


def die_with_parent(signal: int = SIGKILL) -> None:
    """Have the kernel send `signal` when the thread that made this process ends (PR_SET_PDEATHSIG).

    Forgotten by fork, by a change of the effective user, and by a set-user-id program. A parent that was gone
    before the call sends nothing: compare getppid() afterwards.
    """
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, int(signal))


def set_dumpable(allowed: bool) -> None:
    """Say whether processes of the same user may trace this one and open its /proc files (PR_SET_DUMPABLE).

    Inherited by fork; a program that is started is dumpable again.
    """
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, int(allowed))


def set_no_new_privileges() -> None:
    """Have no program started from here on gain privileges by its file (PR_SET_NO_NEW_PRIVS); for good."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


class Capabilities(NamedTuple):
    """The capability sets of a process, bit n for capability n (capabilities(7)).

    The ambient set isn't among them: it can't hold more than both permitted and inheritable do.
    """

    effective: int
    permitted: int
    inheritable: int
    bounding: int


def capabilities() -> Capabilities:
    """Return the capability sets of the calling thread, as the kernel has them now."""
    ctypes, libc = library()
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    checked(libc.capget(header, data), "capget")
    effective, permitted, inheritable = (data[at] | data[at + 3] << 32 for at in range(3))
    bounding = 0
    for number in range(64):
        held = libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)
        if held < 0:
            break
        bounding |= held << number
    return Capabilities(effective, permitted, inheritable, bounding)


def drop_capabilities() -> None:
    """Give up every capability in every set for good, and lock that being root brings none back.

    Raises:
        OSError: one remains. That is so for a caller without CAP_SETPCAP, who can't empty the bounding set;
            the creator of a user namespace has it there.
    """
    ctypes, libc = library()
    if libc.prctl(_PR_SET_SECUREBITS, _SECURE_AND_LOCKED, 0, 0, 0) < 0 and ctypes.get_errno() != errno.EPERM:
        checked(-1, "prctl(PR_SET_SECUREBITS)")
    number = 0
    while libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    left = capabilities()
    if any(left):
        raise OSError(errno.EPERM, f"drop capabilities: still held: {left}")


def join_new_keyring() -> bool:
    """Leave the session keyring that was inherited, for a new and empty one (keyctl(2)).

    Returns:
        False where this kernel has no keyrings, or where a filter around this process withholds the call, and
        so from whatever it starts too.

    Raises:
        OSError: the user's quota of keys is used up.
    """
    try:
        call("keyctl(JOIN_SESSION_KEYRING)", _number("keyctl"), _KEYCTL_JOIN_SESSION_KEYRING, None)
    except OSError as refusal:
        if refusal.errno in {errno.ENOSYS, errno.EPERM}:
            return False
        if refusal.errno == errno.EDQUOT:
            what = "this user has no room for another keyring, and each sandbox takes one"
            raise OSError(errno.EDQUOT, what) from None
        raise
    return True


def hide_arguments(title: bytes) -> None:
    """Overwrite what /proc/PID/cmdline, environ and comm show of this process, with `title` and nothing.

    The C library's environment is empty afterwards; `os.environ` is Python's own copy and stays as it was, so
    whatever is started must be handed its environment.

    Args:
        title: without NUL; cut to the room there is. Its first 15 bytes become the name of the thread.

    Raises:
        OSError: /proc is not there.
    """
    arguments_start, arguments_end = hide_environment()
    ctypes, _libc = library()
    _prctl("PR_SET_NAME", _PR_SET_NAME, title[:15])
    room = arguments_end - arguments_start
    ctypes.memset(arguments_start, 0, room)
    # The last byte stays NUL: otherwise the kernel reads on into the environment (fs/proc/base.c).
    kept = title[: max(room - 1, 0)]
    ctypes.memmove(arguments_start, kept, len(kept))


def hide_environment() -> tuple[int, int]:
    """Overwrite what /proc/PID/environ shows of this process with nothing, as `hide_arguments` does.

    Returns:
        Where the words of its command line begin and end.

    Raises:
        OSError: /proc is not there.
    """
    with open("/proc/self/stat", "rb") as file:
        # The second field, the program's name, may hold blanks and brackets too: count from its end.
        fields = file.read().rpartition(b")")[2].split()
    arguments_start, arguments_end, start, end = (int(word) for word in fields[_ARGUMENT_AREA])
    ctypes, libc = library()
    libc.clearenv()
    ctypes.memset(start, 0, end - start)
    return arguments_start, arguments_end


def close_from(lowest: int, keep: Iterable[int] = ()) -> None:
    """Close every descriptor from `lowest` on, except those in `keep` (close_range(2)).

    Raises:
        OSError: the kernel is older than 5.9.
    """
    start = lowest
    for descriptor in sorted(set(keep)):
        if descriptor > start:
            call("close_range", _CLOSE_RANGE, start, descriptor - 1, 0)
        start = max(start, descriptor + 1)
    call("close_range", _CLOSE_RANGE, start, _LAST_DESCRIPTOR, 0)
