"""A hostile C program with full knowledge: what it tries in one sandbox, and what must come of each try.

Owns the expectation of everything in `hostile/`, said anew: each try stands in one of two tables, of what is
refused and of what works beside it.
"""

from __future__ import annotations

import errno
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.mvmctl import Mvmctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

pytestmark = pytest.mark.escape

_SOURCES = sorted(Path(__file__).with_name("hostile").glob("*.c"))

REFUSED = {
    "EPERM": """
        unshare-mnt unshare-cgroup unshare-uts unshare-ipc unshare-user unshare-user-high unshare-pid
        unshare-net unshare-time unshare-user-and-time clone-mnt clone-cgroup clone-uts clone-ipc clone-user
        clone-pid clone-net clone-user-and-net clone-vm-and-user enter-own-mnt enter-own-net enter-own-user
        enter-own-pid enter-own-ipc enter-own-uts enter-own-cgroup enter-by-process mount-tmpfs mount-proc
        mount-cgroup mount-cgroup-named mount-cgroup2 mount-bind mount-writable mount-shared umount fsopen
        fsopen-cgroup fsconfig fsmount fspick open-tree open-tree-attr move-mount mount-setattr pivot-root
        chroot name-to-handle open-by-handle fanotify bpf-map bpf-token perf-event userfaultfd init-module
        finit-module delete-module kexec-load reboot swapon acct syslog sethostname clock-settime adjtimex
        personality trace-init seize-init memory-of-init descriptor-of-init compare-init advise-init
        setgroups securebits ambient-capability capabilities core-limit-lowered openat-set-uid
        openat-unnamed-set-uid mknodat-set-uid mknodat-character mknodat-block fchmodat-set-uid
        fchmodat-set-gid-high own-filter-allows own-filter-logs own-filter-traces own-filter-tells
        terminal-typed-into terminal-typed-into-high terminal-console terminal-discipline option-transparent
        option-mark option-big-buffer route-link-down route-link-gone raw-1 raw-6 raw-17 raw-33 raw-58
        raw-132 raw-136 raw-255 raw-262
    """,
    "ENOSYS": """
        clone3-user clone3-into-cgroup clone3-plain io-uring-setup io-uring-enter io-uring-register
        unknown-negative unknown-next unknown-far add-key request-key keyctl-read-user keyctl-join
        openat2-set-uid openat2-plain
    """,
    "EPERM EINVAL": "setuid-0 setgid-0",
    "EPERM ENOENT": "enter-own-time",
    "EINVAL": "new-privileges dumpable-as-root",
    "EBADF": "descriptors",
    "ECONNREFUSED": "abstract-of-the-host",
    "EAFNOSUPPORT": "pair-inet pair-tipc",
    "EPROTONOSUPPORT": "stream-1 stream-17 stream-33 stream-58 stream-132 stream-136 stream-255 stream-262",
}
WORKS = """
    unshare-files unshare-directory clone-plain clone-vm mkdir getpid personality-asked dumpable
    trace-a-child memory-of-a-child own-filter-installed terminal-size
    openat-plain openat-unnamed-plain openat-making-nothing mknodat-pipe mknodat-plain fchmodat-plain
    stream-6 netlink-0 pair-unix option-reuse route-link-asked abstract-own
    own:/proc/self/maps own:/proc/self/environ own:/proc/self/status own:/etc/passwd own:/dev/null
    own:/proc/self/comm
"""
# By entries and calls that only x86_64 has.
REFUSED_THERE = {
    "EPERM": """
        open-set-uid open-set-uid-high creat-set-uid creat-set-gid mknod-set-uid mknod-character chmod-set-uid
        iopl ioperm exchanged-for-unshare
    """,
    "ENOSYS": "x32-getpid x32-mount x32-ptrace modify-ldt",
    # SIGSEGV where the kernel was built without 32-bit calls.
    "SIGSYS SIGSEGV": "int80-getpid int80-mount int80-socketcall int80-io-uring",
}
WORKS_THERE = "open-plain open-making-nothing creat-plain mknod-plain chmod-plain exchanged-for-getppid"

CLOSED = frozenset({"EACCES", "EPERM", "EROFS", "ENOENT", "EINVAL"})
_UNIX, _INTERNET, _NETLINK = {1}, {2, 10}, {16}
_KINDS = (1, 2, 3, 4, 5, 6, 10)


def _socket(family: int, kind: int) -> str:
    """What must come of a socket of one family and kind, without a protocol."""
    if family in _UNIX:
        return "ok" if kind in {1, 2, 3, 5} else "ESOCKTNOSUPPORT"
    if family in _NETLINK:
        return "ok" if kind in {2, 3} else "ESOCKTNOSUPPORT"
    if family in _INTERNET:
        return {1: "ok", 2: "ok", 3: "EPERM", 10: "EPERM"}.get(kind, "ESOCKTNOSUPPORT")
    return "EAFNOSUPPORT"


def _expected(said: dict[str, str]) -> dict[str, frozenset[str]]:
    """What may be said of each try: one answer, or one of some."""
    tables = [REFUSED, {"ok": WORKS}]
    if platform.machine() == "x86_64":
        tables += [REFUSED_THERE, {"ok": WORKS_THERE}]
    wanted = {
        name: frozenset(answers.split())
        for table in tables
        for answers, names in table.items()
        for name in names.split()
    }
    for family in range(48):
        for kind in _KINDS:
            wanted[f"socket-{family}-{kind}"] = frozenset({_socket(family, kind)})
    wanted |= {f"netlink-{protocol}": frozenset({"EPROTONOSUPPORT"}) for protocol in range(1, 24)}
    return wanted | {name: CLOSED for name in said if name.startswith(("read:", "write:"))}


@pytest.fixture(scope="module")
def said(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the program says of each try, by name; nobody came to the host's abstract socket meanwhile."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make the hostile program with")
    place = tmp_path_factory.mktemp("hostile")
    place.chmod(0o755)
    subprocess.run([compiler, "-Wall", "-O1", "-o", place / "hostile", *_SOURCES], check=True)
    (place / "hostile").chmod(0o755)
    name = f"mvm-hostile-{secrets.token_hex(8)}"
    mvmctl = Mvmctl(Path(tempfile.mkdtemp(prefix="h", dir=world.directory)))
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            listener.settimeout(0)
            words = ("run", "-v", f"{place}:/hostile:ro", "--", "/hostile/hostile", name)
            lines = mvmctl(*words, timeout_s=120).expect(0).stdout.splitlines()
            with pytest.raises(BlockingIOError):
                listener.accept()
        yield {name: _answer(int(number)) for name, number in (line.rsplit(" ", 1) for line in lines)}
    finally:
        mvmctl.close()


def _answer(number: int) -> str:
    if number < 0:
        return signal.Signals(-number).name
    return errno.errorcode[number] if number else "ok"


def test_every_way_out_is_shut(said: dict[str, str]) -> None:
    """39, 42, 44, 47: namespaces, mounts, sockets, rings, entries, keys, processes, files and modes."""
    shut = {name: answers for name, answers in _expected(said).items() if answers != {"ok"}}
    assert {
        name: (said.get(name), answers) for name, answers in shut.items() if said.get(name) not in answers
    } == {}
    assert len(shut) > 400


def test_what_stands_beside_them_works(said: dict[str, str]) -> None:
    """The allowed twins: what programs ordinarily do, by the same calls, in the same sandbox."""
    works = {name for name, answers in _expected(said).items() if answers == {"ok"}}
    assert {name: said.get(name) for name in works if said.get(name) != "ok"} == {}
    assert len(works) > 30


def test_nothing_was_tried_that_is_not_judged(said: dict[str, str]) -> None:
    """Each try of the program is in the tables, and each name in the tables was tried."""
    assert set(said) == set(_expected(said))
    assert sum(answers is CLOSED for answers in _expected(said).values()) >= 46
