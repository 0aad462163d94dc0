"""System calls that would lead out of a workload's namespaces, rights or filter (ATTACKS 39, 44)."""

from __future__ import annotations

import os
import platform
import signal
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.escape.confinement import Confined

pytestmark = pytest.mark.escape

MISSING = frozenset({"ENOSYS"})

# ---- 39: other ways into the kernel


@pytest.mark.parametrize("entries", [1, 4096])
@pytest.mark.parametrize("flags", [0, 2, 1 << 1 | 1 << 2, 1 << 6])
def test_there_is_no_io_uring(confined: Confined, entries: int, flags: int) -> None:
    """39: no ring is made, whatever its flags, so no socket is opened without a call that a filter sees."""
    parameters = struct.pack("=IIIIIII", 0, 0, flags, 0, 1000, 0, 0).ljust(120, b"\0").decode("latin-1")
    confined.refused("call", "io_uring_setup", entries, parameters, by=MISSING)


@pytest.mark.parametrize("words", [("io_uring_enter", -1, 1, 0, 0, 0), ("io_uring_register", -1, 0, 0, 0)])
def test_a_ring_that_is_handed_in_is_of_no_use(confined: Confined, words: tuple[str | int, ...]) -> None:
    """39: a ring isn't entered or changed either."""
    confined.refused("call", *words, by=MISSING)


X32 = 1 << 30
FOREIGN = {
    "getpid": 39,
    "socket": 41,
    "connect": 42,
    "clone": 56,
    "ptrace": 101,
    "mount": 165,
    "unshare": 272,
}
FOREIGN |= {"io_uring_setup": 425, "x32 execve": 520, "x32 ptrace": 521, "x32 sendmsg": 518}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has x32 calls")
@pytest.mark.parametrize("name", FOREIGN)
def test_x32_calls_are_missing(confined: Confined, name: str) -> None:
    """39: a number with the x32 bit is no call, whichever it is; negative and huge ones neither."""
    confined.refused("call", FOREIGN[name] | X32, 1, 1, 0, by=MISSING)
    confined.works("call", "getpid")


@pytest.mark.parametrize("number", [-1, -2, 1 << 31, (1 << 31) - 1, 470, 511, 547, 600, 1 << 20])
def test_calls_that_nobody_knows_are_missing(confined: Confined, number: int) -> None:
    """39: a call newer than the filter is no call, nor is one beyond all numbers."""
    confined.refused("call", number, 1, 1, 0, by=MISSING)


INT80 = {"getpid": 20, "socketcall": 102, "socket": 359, "connect": 362, "mount": 21, "ptrace": 26}
INT80 |= {"clone": 120, "unshare": 310, "setns": 346, "io_uring_setup": 425, "execve": 11}


@pytest.mark.parametrize("name", INT80)
def test_the_entry_of_another_machine_is_death(confined: Confined, foreign_calls: Path, name: str) -> None:
    """39: a 32-bit call from a 64-bit program ends it, before anything is done; the own entry answers."""
    place = confined.shown / "foreign_calls"
    if not place.exists():
        place.write_bytes(foreign_calls.read_bytes())
        place.chmod(0o755)
    outside = subprocess.run([foreign_calls, "int80", "20"], capture_output=True, check=False)
    # Where the kernel was built without 32-bit calls the instruction itself is a fault.
    death = signal.SIGSEGV if outside.returncode else signal.SIGSYS
    said = confined.inside.denied("run", argv=["/shown/foreign_calls", "int80", str(INT80[name])])
    assert (said.status, said.data) == (-death, "")
    own = confined.inside.denied("run", argv=["/shown/foreign_calls", "own", "39"])
    assert (own.status, own.data) == (0, "0\n")


# ---- 44: other namespaces

NEW = {
    "time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000, "user and net": 0x50000000,
    "user and mount": 0x10020000, "all": 0x7E020000,
}  # fmt: skip
FILES = 0x400


@pytest.mark.parametrize("kind", NEW)
@pytest.mark.parametrize("high", [0, 1 << 40])
def test_no_namespace_is_unshared(confined: Confined, kind: str, high: int) -> None:
    """44: none of any kind, for its creator would hold every capability in it; own files may be unshared."""
    confined.refused("call", "unshare", NEW[kind] | high)
    confined.works("call", "unshare", FILES)


@pytest.mark.parametrize("kind", [kind for kind in NEW if kind != "time"])
def test_no_process_is_made_in_a_new_namespace(confined: Confined, kind: str) -> None:
    """44: clone(2) makes none, only ordinary ones; clone3(2), whose flags lie in memory, is missing."""
    confined.refused("clone", NEW[kind])
    confined.works("clone", 0)
    words = struct.pack("=QQQQQ", NEW[kind], 0, 0, 0, signal.SIGCHLD).ljust(88, b"\0").decode("latin-1")
    confined.refused("call", "clone3", words, 88, by=MISSING)


KINDS = ("user", "net", "mnt", "pid", "ipc", "uts", "cgroup", "time", "pid_for_children")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["1", "self"])
def test_no_namespace_is_entered(confined: Confined, kind: str, of: str) -> None:
    """44: not init's, not even the own one again."""
    confined.refused("enter", f"/proc/{of}/ns/{kind}", by=frozenset({"EPERM", "EACCES", "ENOENT"}))


@pytest.mark.parametrize("kind", [0x20000, 0x40000000, 0x10000000])
def test_no_namespace_is_entered_by_a_process(confined: Confined, kind: int) -> None:
    """44: the descriptor of a process leads into its namespaces no more than their files."""
    confined.refused("enter", "pid:1", kind)


@pytest.mark.parametrize("kind", ["net", "mnt", "ipc", "uts", "cgroup"])
def test_what_owns_the_namespaces_is_beyond_the_workload(confined: Confined, kind: str) -> None:
    """44: the user namespace that owns them is another than the workload's, and out of its sight."""
    confined.refused("owner", f"/proc/self/ns/{kind}", 0xB701)
    confined.refused("owner", "/proc/self/ns/user", 0xB702)


# ---- 44: other roots, mounts

BIND, MOVE, REMOUNT, RECURSIVE, PRIVATE = 4096, 8192, 32, 16384, 1 << 18
MOUNTING: dict[str, tuple[str | int, ...]] = {
    "tmpfs": ("mount", "none", "/tmp", "tmpfs", 0, 0),
    "proc": ("mount", "none", "/tmp", "proc", 0, 0),
    "sysfs": ("mount", "none", "/tmp", "sysfs", 0, 0),
    "cgroups": ("mount", "none", "/tmp", "cgroup2", 0, 0),
    "overlay": ("mount", "none", "/tmp", "overlay", 0, "lowerdir=/etc,upperdir=/tmp,workdir=/tmp"),
    "fuse": ("mount", "none", "/tmp", "fuse", 0, "fd=0,rootmode=40000,user_id=0,group_id=0"),
    "bind": ("mount", "/etc", "/tmp", 0, BIND, 0),
    "bind over the resolver": ("mount", "/etc/passwd", "/etc/resolv.conf", 0, BIND, 0),
    "all again": ("mount", "/", "/tmp", 0, BIND | RECURSIVE, 0),
    "move": ("mount", "/dev/shm", "/tmp", 0, MOVE, 0),
    "writable": ("mount", "none", "/", 0, REMOUNT | BIND, 0),
    "writable system": ("mount", "none", "/usr", 0, REMOUNT | BIND, 0),
    "propagation": ("mount", "none", "/", 0, PRIVATE | RECURSIVE, 0),
    "unmount": ("umount2", "/etc/resolv.conf", 0),
    "unmount all": ("umount2", "/", 2),
    "uncover": ("umount2", "/etc/shadow", 2),
    "pivot": ("pivot_root", "/tmp", "/tmp"),
    "chroot": ("chroot", "/tmp"),
    "tree": ("open_tree", -100, "/etc", 1),
    "attach": ("move_mount", 0, "", -100, "/tmp", 4),
    "file system": ("fsopen", "tmpfs", 0),
    "pick": ("fspick", -100, "/", 0),
    "attributes": ("mount_setattr", -100, "/", 0, "\0" * 32, 32),
    "by handle": ("open_by_handle_at", -100, "\x08\0\0\0\1\0\0\0\2\0\0\0\0\0\0\0", 0),
    "handle": ("name_to_handle_at", -100, "/etc", "\x80" + "\0" * 140, "\0" * 8, 0),
    "watch all": ("fanotify_init", 0, 0),
    "quota": ("quotactl", 0x800007, 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MOUNTING)
def test_nothing_is_mounted_or_taken_away(confined: Confined, name: str) -> None:
    """44: no mount, no root, no handle of a file; a directory of one's own can be made."""
    confined.refused("call", *MOUNTING[name])
    confined.works("do", "mkdir", f"/tmp/{name.replace(' ', '-')}")


# ---- 44: the machine, and programs in its kernel

MACHINE: dict[str, tuple[str | int, ...]] = {
    "bpf map": ("bpf", 0, struct.pack("=IIII", 1, 4, 4, 1).ljust(120, b"\0").decode("latin-1"), 120),
    "bpf program": ("bpf", 5, "\1" + "\0" * 119, 120),
    "bpf token": ("bpf", 36, "\0" * 16, 16),
    "performance": ("perf_event_open", "\1\0\0\0\x80" + "\0" * 123, 0, -1, -1, 0),
    "page faults": ("userfaultfd", 0),
    "page faults of users": ("userfaultfd", 1),
    "module": ("init_module", "\x7fELF", 4, ""),
    "module by file": ("finit_module", 0, "", 0),
    "no module": ("delete_module", "ext4", 0o4000),
    "kernel": ("kexec_load", 0, 0, 0, 0),
    "kernel by file": ("kexec_file_load", -1, -1, 0, 0, 8),
    "swap": ("swapon", "/tmp/swap", 0),
    "no swap": ("swapoff", "/tmp/swap"),
    "reboot": ("reboot", 0xFEE1DEAD, 672274793, 0x89ABCDEF, 0),
    "accounting": ("acct", "/tmp/acct"),
    "log": ("syslog", 3, "\0" * 64, 64),
    "host name": ("sethostname", "evil", 4),
    "domain name": ("setdomainname", "evil", 4),
    "time": ("settimeofday", "\0" * 16, 0),
    "clock": ("clock_settime", 0, "\0" * 16),
    "drift": ("adjtimex", "\0" * 208),
    "hang up": ("vhangup",),
    "another personality": ("personality", 0x0040000),
    "descriptors of others": ("pidfd_getfd", 0, 0, 0),
    "comparing": ("kcmp", 1, 1, 0, 0, 0),
    "advice": ("process_madvise", 0, 0, 0, 20, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MACHINE)
def test_the_machine_is_not_the_workloads(confined: Confined, name: str) -> None:
    """44: no program in the kernel, no watching it; no module, swap, clock or name of the machine."""
    confined.refused("call", *MACHINE[name])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86_64 has ports of the machine")
@pytest.mark.parametrize("words", [(172, 3), (173, 0x70, 2, 1)])
def test_no_port_of_the_machine_is_opened(confined: Confined, words: tuple[int, ...]) -> None:
    """44: iopl(2) and ioperm(2) are refused."""
    confined.refused("call", *words)


KEYS: dict[str, tuple[str | int, ...]] = {
    "add": ("add_key", "user", "name", "secret", 6, -3),
    "request": ("request_key", "user", "name", 0, -3),
    "join": ("keyctl", 1, 0),
    "read the session's": ("keyctl", 11, -3, 0, 0),
    "read the user's": ("keyctl", 11, -4, 0, 0),
    "search": ("keyctl", 10, -4, "user", "name", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_there_are_no_keyrings(confined: Confined, name: str) -> None:
    """44: the keys of the host's user, which no namespace tells apart, are out of reach."""
    confined.refused("call", *KEYS[name], by=MISSING)


@pytest.mark.parametrize("request_", {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "TIOCSETD": 0x5423}.items())
@pytest.mark.parametrize("high", [0, 1 << 40])
def test_nothing_is_typed_into_a_terminal(confined: Confined, request_: tuple[str, int], high: int) -> None:
    """44: no words are left on the caller's terminal for the caller's shell; its size may be asked."""
    confined.refused("type_in", request_[1] | high)
    confined.works("type_in", 0x5413)


# ---- 44: becoming somebody

BECOMING: dict[str, tuple[object, ...]] = {
    "setuid": ("setuid", 0), "setgid": ("setgid", 0), "seteuid": ("seteuid", 0),
    "setresuid": ("setresuid", 0, 0, 0), "saved": ("setresuid", -1, -1, 0), "setregid": ("setregid", 0, 0),
    "nobody": ("setuid", 65534), "setgroups": ("setgroups", [0]), "no groups": ("setgroups", []),
    "chown": ("chown", "/tmp", 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMING)
def test_the_workload_stays_who_it_is(confined: Confined, name: str) -> None:
    """44: no other user or group, not even those that it is outside; to itself it may turn."""
    confined.refused("do", *BECOMING[name], by=frozenset({"EPERM", "EINVAL"}))
    inside = int(confined.tries(("status", "self", "Uid"))[0].partition(",")[0])
    confined.works("do", "setuid", inside)


@pytest.mark.parametrize("pid", ["self", "1"])
def test_nobody_inside_holds_a_right(confined: Confined, pid: str) -> None:
    """44: workload and init: no capability in any set, no new privileges, the filter in force."""
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    (found,) = confined.tries(("status", pid, *sets, "NoNewPrivs", "Seccomp"))
    assert found.split() == [*["0" * 16] * 5, "1", "2"]


@pytest.mark.parametrize("kind", [0o020000, 0o060000])
@pytest.mark.parametrize("device", [(1, 1), (1, 3), (8, 0), (254, 0), (10, 200), (10, 232)])
def test_no_device_is_made(confined: Confined, kind: int, device: tuple[int, int]) -> None:
    """44: neither memory nor disks, tunnels or hypervisors; a pipe is made."""
    place = f"/tmp/{kind}-{device[0]}-{device[1]}"
    confined.refused("do", "mknod", place, kind | 0o666, os.makedev(*device))
    confined.works("do", "mkfifo", place)
