"""Each call does what its name says, its absence does not, and a refusal says what was tried."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.kernel import mounts, syscalls
from tests.support import namespaces
from tests.support.children import in_child, in_mount_namespace, in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.kernel

_PR_GET_SECUREBITS = 27
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING = 0, -3


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except FileNotFoundError:
        return "a new one for pids, without a process as yet"


def _status(word: str) -> str:
    return next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(word))


KINDS = [
    (syscalls.NEWNS, "mnt"),
    (syscalls.NEWCGROUP, "cgroup"),
    (syscalls.NEWUTS, "uts"),
    (syscalls.NEWIPC, "ipc"),
    (syscalls.NEWUSER, "user"),
    (syscalls.NEWPID, "pid_for_children"),
    (syscalls.NEWNET, "net"),
]


@pytest.mark.parametrize(("flag", "kind"), KINDS, ids=[kind for _, kind in KINDS])
def test_unshare_makes_the_namespace_it_is_asked_for(flag: int, kind: str) -> None:
    """One flag changes that namespace of the caller, and none of the others."""

    def act() -> list[str]:
        before = {other: _namespace(other) for _, other in KINDS}
        syscalls.unshare(flag)
        return [other for _, other in KINDS if _namespace(other) != before[other]]

    assert in_child(act) == [kind]


def test_unshare_says_what_was_refused() -> None:
    """A refusal names the namespaces that were asked for."""

    def act() -> None:
        syscalls.unshare(syscalls.NEWUSER)
        Path("/proc/sys/user/max_net_namespaces").write_text("0")
        syscalls.unshare(syscalls.NEWNET | syscalls.NEWUTS)

    with pytest.raises(OSError, match=r"unshare\(uts,net\): No space left") as refusal:
        in_user_namespace(act)
    assert refusal.value.errno == errno.ENOSPC


def test_enter_goes_to_the_namespace_of_a_descriptor() -> None:
    """A process that left a namespace comes back by its descriptor."""

    def act() -> list[bool]:
        before = _namespace("net")
        descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
        syscalls.unshare(syscalls.NEWNET)
        left = _namespace("net") != before
        syscalls.enter(descriptor, syscalls.NEWNET)
        return [left, _namespace("net") == before]

    assert in_child(act) == [True, True]


def test_enter_refuses_another_kind() -> None:
    """The descriptor of a namespace of another kind than was said is refused."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"setns\(uts\)"):
            in_child(lambda: syscalls.enter(descriptor, syscalls.NEWUTS))
    finally:
        os.close(descriptor)


def test_pivot_root_leaves_nothing_of_the_old_root(tmp_path: Path) -> None:
    """After it, and after the old root is unmounted, `/` is the new tree alone."""

    def act() -> list[str]:
        mounts.tmpfs(str(tmp_path), mode=0o755, uid=os.getuid(), gid=os.getgid())
        (tmp_path / "here").touch()
        os.chdir(tmp_path)
        syscalls.pivot_root(".", ".")
        mounts.unmount(".")
        return os.listdir("/")

    assert in_mount_namespace(act) == ["here"]


def test_pivot_root_refuses_what_is_no_mount(tmp_path: Path) -> None:
    """A plain directory can't be a root, and the message names it."""
    with pytest.raises(OSError, match=f"pivot_root {tmp_path}"):
        in_mount_namespace(lambda: syscalls.pivot_root(str(tmp_path), str(tmp_path)))


@pytest.mark.parametrize("asked", [True, False])
def test_a_process_dies_with_its_parent_if_it_asked(asked: bool) -> None:
    """A grandchild ends when its parent does, only if it called die_with_parent."""
    alive, grandchild_alive = os.pipe()

    def act() -> int:
        ready, grandchild_ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            if asked:
                syscalls.die_with_parent()
            syscalls.close_from(3, keep=(grandchild_alive, grandchild_ready))
            os.write(grandchild_ready, b"1")
            signal.pause()
        os.read(ready, 1)
        return pid

    pid = in_child(act)
    os.close(grandchild_alive)
    poll = select.poll()
    poll.register(alive, select.POLLHUP)
    ended = bool(poll.poll(5000 if asked else 200))
    os.close(alive)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # the world's process adopts orphans
    assert ended is asked


@pytest.mark.parametrize("dumpable", [True, False])
def test_a_process_that_is_not_dumpable_shows_nothing(dumpable: bool) -> None:
    """Another process of the same user, without capabilities, sees what a dumpable one has open; no other."""

    def act() -> None:
        syscalls.drop_capabilities()
        pid = os.fork()
        if pid == 0:
            signal.pause()
        try:
            syscalls.set_dumpable(True)
            os.readlink(f"/proc/{pid}/fd/2")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def with_setting() -> None:
        syscalls.set_dumpable(dumpable)
        act()

    if dumpable:
        in_user_namespace(with_setting)
    else:
        with pytest.raises(PermissionError):
            in_user_namespace(with_setting)


def test_no_new_privileges_is_set_for_good() -> None:
    """The kernel says so, before and after."""

    def act() -> list[str]:
        before = _status("NoNewPrivs")
        syscalls.set_no_new_privileges()
        return [before, _status("NoNewPrivs")]

    assert in_child(act) == ["NoNewPrivs:\t0", "NoNewPrivs:\t1"]


def test_every_capability_goes_from_every_set() -> None:
    """The owner of a user namespace has all capabilities, and afterwards none in any set the kernel shows."""

    def act() -> tuple[syscalls.Capabilities, syscalls.Capabilities, list[str]]:
        before = syscalls.capabilities()
        namespaces.share_capabilities()
        syscalls.drop_capabilities()
        words = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        return before, syscalls.capabilities(), [_status(word).split()[1] for word in words]

    before, after, told = in_user_namespace(act)
    assert before.effective
    assert before.bounding
    assert after == (0, 0, 0, 0)
    assert told == ["0" * 16] * 5


@pytest.mark.parametrize("dropped", [True, False])
def test_being_root_brings_no_capability_back(dropped: bool) -> None:
    """A program started by uid 0 of the namespace has capabilities, unless they were dropped and locked."""

    def act() -> tuple[str, int]:
        uid, gid = os.getuid(), os.getgid()
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        os.setresuid(0, 0, 0)
        if dropped:
            syscalls.drop_capabilities()
        status = subprocess.run(
            ["cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True, text=True
        ).stdout
        effective = next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1]
        return effective, ctypes.CDLL(None).prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)

    effective, bits = in_child(act)
    assert (int(effective, 16) == 0) is dropped
    assert bits == (0xEF if dropped else 0)


def test_capabilities_that_cannot_be_dropped_are_told() -> None:
    """Who may not empty the bounding set is told that capabilities remain, instead of going on."""

    def act() -> None:
        libc = ctypes.CDLL(None)
        libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
        syscalls.drop_capabilities()

    with pytest.raises(PermissionError, match="still held"):
        in_user_namespace(act)


@pytest.mark.parametrize("joined", [True, False])
def test_a_new_keyring_is_not_the_callers(joined: bool) -> None:
    """A child has its parent's session keyring, until it joins a new one."""
    number = _KEYCTL[os.uname().machine]

    def keyring() -> int:
        return int(ctypes.CDLL(None).syscall(number, _KEYCTL_GET_KEYRING_ID, _SESSION_KEYRING, 1, 0, 0))

    def act() -> tuple[int, int]:
        syscalls.join_new_keyring()  # so that there is one to inherit
        inherited = keyring()
        return inherited, in_child(lambda: (syscalls.join_new_keyring() if joined else None, keyring())[1])

    inherited, own = in_child(act)
    if inherited < 0:
        pytest.skip("this kernel has no keyrings")
    assert (inherited != own) is joined


def test_a_kernel_without_keyrings_is_told_not_raised() -> None:
    """Under a filter that answers as a kernel without keyrings would, joining returns False."""
    from mvm.kernel import seccomp

    def act() -> bool:
        syscalls.set_no_new_privileges()
        seccomp.install(seccomp.program(os.uname().machine))
        return syscalls.join_new_keyring()

    assert in_child(act) is False


_SECRETIVE = """
import os, sys
from mvm.kernel.syscalls import hide_arguments
def shown():
    return [open(f"/proc/self/{name}", "rb").read() for name in ("cmdline", "environ", "comm")]
before = shown()
hide_arguments(os.fsencode(sys.argv[1]))
given = os.spawnve(os.P_WAIT, "/bin/sh", ["sh", "-c", '[ "$SECRET" = new ]'], {"SECRET": "new"})
not_given = os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", '[ -z "$SECRET" ]'])
print([before, shown(), os.environ["SECRET"], given, not_given])
"""


@pytest.mark.parametrize("title", ["mvm init", "long " * 1000], ids=["short", "longer-than-there-is-room"])
def test_arguments_and_environment_are_hidden(title: str) -> None:
    """Words and variables of the caller are in /proc before, not after; the title is, cut to the room."""
    words = [sys.executable, "-c", _SECRETIVE, title, "--token=hush"]
    environ = {"SECRET": "hush", "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(words, env=environ, stdout=subprocess.PIPE, check=True).stdout
    before, after, kept, given_on, not_given_on = eval(said)  # noqa: S307 - what the program above printed
    assert b"--token=hush" in before[0]
    assert b"SECRET=hush" in before[1]
    assert after[0].rstrip(b"\0") == title.encode()[: len(before[0]) - 1]
    assert len(after[0]) == len(before[0])
    assert after[1].strip(b"\0") == b""
    assert after[2] == title.encode()[:15] + b"\n"
    assert kept == "hush"
    assert (given_on, not_given_on) == (0, 0)


def test_arguments_are_found_behind_an_odd_name(tmp_path: Path) -> None:
    """A program whose name holds blanks and brackets finds its argument area all the same."""
    odd = tmp_path / ") 1 ( x"
    odd.symlink_to(sys.executable)
    environ = {"SECRET": "hush", "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [odd, "-c", _SECRETIVE, "t"], env=environ, stdout=subprocess.PIPE, check=True
    ).stdout
    before, after, *_ = eval(said)  # noqa: S307 - as above
    assert before[2] == b") 1 ( x\n"
    assert after[0].rstrip(b"\0") == b"t"


def test_descriptors_are_closed_except_those_kept() -> None:
    """From the lowest on all are closed, far ones too; those to keep and those below stay."""

    def act() -> list[int]:
        for target in (10, 11, 12, 13, 500):
            os.dup2(2, target)
        syscalls.close_from(11, keep=(12, 500, 4))
        return [number for number in (10, 11, 12, 13, 500) if _is_open(number)]

    assert _without_answer(act) == [10, 12, 500]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _without_answer(act: Callable[[], list[int]]) -> list[int]:
    """As `in_child`, for an act that may close the descriptor of the answer: by a file instead."""
    file = os.memfd_create("answer")
    pid = os.fork()
    if pid == 0:
        os.dup2(file, 9)
        os.write(9, repr(act()).encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    answer: list[int] = eval(os.pread(file, 4096, 0))  # noqa: S307 - from our own child
    os.close(file)
    return answer


def test_nothing_is_loaded_before_the_first_call() -> None:
    """Importing the module does not load ctypes, which a command that starts nothing does without."""
    program = "import sys; from mvm.kernel import syscalls, mounts; sys.exit('ctypes' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
