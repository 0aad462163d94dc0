"""The filter in the kernel: a process under it tries each rule, and one without shows what it adds."""

from __future__ import annotations

import ctypes
import errno
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import termios
from typing import TYPE_CHECKING, TypeVar

import pytest

from mvm.kernel import seccomp, syscall_table, syscalls
from tests.support.children import in_child, in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.kernel

T = TypeVar("T")

MACHINE = os.uname().machine
HIGH = 1 << 32
NEWUSER, NEWNET, NEWTIME = 0x10000000, 0x40000000, 0x80
ADDR_NO_RANDOMIZE, ASK = 0x0040000, 0xFFFFFFFF
TIOCSTI, TIOCSETD = 0x5412, 0x5423


def _number(name: str) -> int:
    verdicts = (syscall_table.ALLOWED, syscall_table.RULED, syscall_table.FORBIDDEN, syscall_table.MISSING)
    return next(
        numbers[name] for verdict in verdicts if name in (numbers := syscall_table.numbers(MACHINE, verdict))
    )


def _call(name: str | int, *arguments: int | bytes) -> str:
    """Make one system call; return `ok` or the name of its error."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = name if isinstance(name, int) else _number(name)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in (*arguments, *[0] * 6)]
    if libc.syscall(ctypes.c_long(number), *words[:6]) >= 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def _under_filter() -> None:
    syscalls.set_no_new_privileges()
    seccomp.install(seccomp.program(MACHINE))


def _with_and_without(act: Callable[[], T]) -> tuple[T, T]:
    """Return what an act gives under the filter, and without; both as owner of the namespaces."""

    def free() -> T:
        syscalls.unshare(syscalls.NEWNS | syscalls.NEWNET)
        return act()

    def filtered() -> T:
        syscalls.unshare(syscalls.NEWNS | syscalls.NEWNET)
        _under_filter()
        return act()

    return in_user_namespace(filtered), in_user_namespace(free)


def test_the_kernel_holds_the_filter() -> None:
    """After installing, and not before, the process is in filter mode, and so is what it starts."""

    def act() -> list[str]:
        words = ["sed", "-n", "s/^Seccomp:\t//p", "/proc/self/status"]
        before = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
        _under_filter()
        return [before.decode(), subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode()]

    assert in_child(act) == ["0\n", "2\n"]


def test_installing_needs_no_new_privileges() -> None:
    """Without them, and without a capability, the kernel refuses the filter, and the refusal is raised."""

    def act() -> None:
        syscalls.drop_capabilities()
        seccomp.install(seccomp.program(MACHINE))

    with pytest.raises(PermissionError, match="PR_SET_SECCOMP"):
        in_user_namespace(act)


SOCKETS = {
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM, 0, "ok"),
    "tcp": (socket.AF_INET, socket.SOCK_STREAM, 0, "ok"),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, 17, "ok"),
    "route": (socket.AF_NETLINK, socket.SOCK_RAW, 0, "ok"),
    "raw": (socket.AF_INET, socket.SOCK_RAW, 255, "EPERM"),
    "raw6, and bits above": (HIGH | socket.AF_INET6, HIGH | socket.SOCK_RAW, 58, "EPERM"),
    "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0x300, "EAFNOSUPPORT"),
    "packet by its old name": (socket.AF_INET, 10, 0x300, "EPERM"),
    "netfilter": (socket.AF_NETLINK, socket.SOCK_RAW, 12, "EPROTONOSUPPORT"),
    "audit, and bits above": (socket.AF_NETLINK, socket.SOCK_RAW, HIGH | 9, "EPROTONOSUPPORT"),
    "vsock": (40, socket.SOCK_STREAM, 0, "EAFNOSUPPORT"),
    "alg": (38, socket.SOCK_SEQPACKET, 0, "EAFNOSUPPORT"),
    "xdp": (44, socket.SOCK_RAW, 0, "EAFNOSUPPORT"),
    "key": (15, socket.SOCK_RAW, 2, "EAFNOSUPPORT"),
    "bluetooth": (31, socket.SOCK_RAW, 1, "EAFNOSUPPORT"),
    "tipc": (30, socket.SOCK_SEQPACKET, 0, "EAFNOSUPPORT"),
    "mptcp": (socket.AF_INET, socket.SOCK_STREAM, 262, "EPROTONOSUPPORT"),
    "sctp": (socket.AF_INET, socket.SOCK_STREAM, 132, "EPROTONOSUPPORT"),
}
MADE_WITHOUT = {"raw", "raw6, and bits above", "packet", "netfilter", "mptcp"}


def test_sockets() -> None:
    """Each kind is made or refused as the rule says, where an owner of the network can make more of them."""

    def act() -> dict[str, str]:
        return {name: _call("socket", *words[:3]) for name, words in SOCKETS.items()}

    filtered, free = _with_and_without(act)
    assert filtered == {name: words[3] for name, words in SOCKETS.items()}
    assert {name for name, result in free.items() if result == "ok"} >= MADE_WITHOUT


def test_no_new_namespace() -> None:
    """None is made by unshare, clone or clone3, where without the filter it would; setns goes nowhere."""
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)

    def act() -> dict[str, str]:
        return {
            "clone user": _clone(NEWUSER | signal.SIGCHLD),
            "clone net": _clone(NEWNET | signal.SIGCHLD),
            "clone": _clone(signal.SIGCHLD),
            "clone3": _call("clone3", 0, 0),
            "setns": _call("setns", own, 0),
            "unshare files": _call("unshare", 0x400),
            "unshare net": _call("unshare", NEWNET),
            "unshare time": _call("unshare", NEWTIME),
            "unshare user": _call("unshare", NEWUSER),
        }

    filtered, free = _with_and_without(act)
    os.close(own)
    opened = {name for name in free if name.endswith(("user", "net", "time"))}
    passed = {"clone": "ok", "unshare files": "ok"}
    assert filtered == {**dict.fromkeys(opened, "EPERM"), **passed, "setns": "EPERM", "clone3": "ENOSYS"}
    assert free == {**dict.fromkeys(opened, "ok"), **passed, "setns": free["setns"], "clone3": "EINVAL"}


def _clone(flags: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    pid = libc.syscall(ctypes.c_long(_number("clone")), ctypes.c_ulong(flags), *[ctypes.c_long(0)] * 4)
    if pid == 0:
        os._exit(0)
    if pid < 0:
        return errno.errorcode[ctypes.get_errno()]
    os.waitpid(pid, 0)
    return "ok"


# Made with arguments that do no harm where they pass; what the kernel then says is in the last column.
CALLS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "mount": ((0, 0, 0, 0, 0), "EPERM", "EFAULT"),
    "umount2": ((0, 0), "EPERM", "EFAULT"),
    "pivot_root": ((0, 0), "EPERM", "EFAULT"),
    "chroot": ((0,), "EPERM", "EFAULT"),
    "open_tree": ((-1, 0, 0), "EPERM", "EFAULT"),
    "move_mount": ((-1, 0, -1, 0, 0x8000), "EPERM", "EINVAL"),
    "fsopen": ((0, 0xFFFF), "EPERM", "EINVAL"),
    "fsconfig": ((-1, 0, 0, 0, 0), "EPERM", "EINVAL"),
    "mount_setattr": ((-1, 0, 0xFFFF, 0, 0), "EPERM", "EINVAL"),
    "name_to_handle_at": ((-1, 0, 0, 0, 0xFFFFFF), "EPERM", "EINVAL"),
    "kcmp": ((0, 0, 99, 0, 0), "EPERM", "ESRCH"),
    "pidfd_getfd": ((-1, 0, 0), "EPERM", "EBADF"),
    "process_madvise": ((-1, 0, 0, 0, 0xFF), "EPERM", "EINVAL"),
    "fanotify_mark": ((-1, 0, 0, 0, 0), "EPERM", "EINVAL"),
    "swapoff": ((0,), "EPERM", "EPERM"),
    "reboot": ((0, 0, 0, 0), "EPERM", "EPERM"),
    "bpf": ((99, 0, 0), "EPERM", "EINVAL"),
    "userfaultfd": ((0xFFFF,), "EPERM", "EINVAL"),
    "perf_event_open": ((0, 0, 0, 0, 0), "EPERM", "EFAULT"),
    "io_uring_setup": ((1, 0), "ENOSYS", "EFAULT"),
    "io_uring_enter": ((-1, 0, 0, 0, 0), "ENOSYS", "EBADF"),
    "io_uring_register": ((-1, 99, 0, 0), "ENOSYS", "EINVAL"),
    "keyctl": ((99999,), "ENOSYS", "EOPNOTSUPP"),
    "add_key": ((0, 0, 0, 0, 0), "ENOSYS", "EFAULT"),
    "request_key": ((0, 0, 0, 0), "ENOSYS", "EFAULT"),
    "get_mempolicy": ((0, 0, 0, 0, 0), "ENOSYS", "ok"),
    "adjtimex": ((0,), "EPERM", "EFAULT"),
    "landlock_create_ruleset": ((0, 0, 1), "ok", "ok"),
    "seccomp": ((2, 0, 0), "EFAULT", "EFAULT"),
    "ptrace": ((9999, 1), "EPERM", "EPERM"),
    "memfd_secret": ((0xFFFF,), "EINVAL", "EINVAL"),
    "getpid": ((), "ok", "ok"),
}
# What a kernel may have been built without, or may keep for its own root.
DEPENDS = {"memfd_secret", "landlock_create_ruleset", "get_mempolicy", "swapoff", "reboot", "ptrace", "bpf"}
DEPENDS |= {"userfaultfd", "fanotify_mark", "perf_event_open", "keyctl", "kcmp"}


def test_calls_that_are_kept_and_taken() -> None:
    """Each answers under the filter as the table says, and without it as the kernel does."""

    def act() -> dict[str, str]:
        return {name: _call(name, *arguments) for name, (arguments, _, _) in CALLS.items()}

    filtered, free = _with_and_without(act)
    closed = {name: wanted for name, (_, wanted, _) in CALLS.items() if wanted in {"EPERM", "ENOSYS"}}
    closed.pop("ptrace")
    assert {name: filtered[name] for name in closed} == closed
    certain = {name: told for name, (_, _, told) in CALLS.items() if name not in DEPENDS}
    assert {name: free[name] for name in certain} == certain
    assert {name: filtered[name] for name in CALLS if name not in closed} == {
        name: free[name] for name in CALLS if name not in closed
    }


def test_a_call_newer_than_the_table_is_unknown() -> None:
    """Numbers that Linux has not given out are answered ENOSYS, as are those that it may give out next."""
    filtered, _ = _with_and_without(lambda: [_call(number, -1, -1) for number in range(470, 600)])
    assert set(filtered) == {"ENOSYS"}


def test_nobody_types_into_the_terminal() -> None:
    """A byte put into one's own terminal by TIOCSTI arrives without the filter, and under it is refused."""

    def act() -> tuple[str, str, str]:
        _, follower = pty.openpty()
        os.setsid()
        ioctl = _number("ioctl")
        _call(ioctl, follower, termios.TIOCSCTTY, 0)
        size = ctypes.create_string_buffer(8)
        with_high_bits = _call(ioctl, follower, HIGH | TIOCSTI, b"x")
        plain = _call(ioctl, follower, TIOCSTI, b"x")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the end of the terminal sends
        return plain, with_high_bits, _call(ioctl, follower, termios.TIOCGWINSZ, ctypes.addressof(size))

    filtered, free = _with_and_without(act)
    assert filtered == ("EPERM", "EPERM", "ok")
    # Linux 6.2 can switch TIOCSTI off for everybody (dev.tty.legacy_tiocsti), with another error.
    assert free[0] in {"ok", "EIO"}
    assert free[0] == free[1]


def test_personality() -> None:
    """A process keeps the random places of its memory under the filter, and could give them up without."""

    def act() -> tuple[str, str]:
        return _call("personality", ASK), _call("personality", ADDR_NO_RANDOMIZE)

    assert _with_and_without(act) == (("ok", "EPERM"), ("ok", "ok"))


@pytest.fixture(scope="module")
def foreign_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program that calls by the wrong entries."""
    compiler = shutil.which("cc")
    if compiler is None or MACHINE != "x86_64":
        pytest.skip("no C compiler, or a machine without these entries")
    program = tmp_path_factory.mktemp("foreign") / "foreign_calls"
    source = os.path.join(os.path.dirname(__file__), "foreign_calls.c")
    subprocess.run([compiler, "-o", program, source], check=True)
    return program


def _foreign(program: Path, entry: str, number: int, *, filtered: bool) -> str | int:
    def act() -> str | int:
        if filtered:
            _under_filter()
        done = subprocess.run([program, entry, str(number)], stdout=subprocess.PIPE, check=False, text=True)
        return done.returncode or done.stdout.strip()

    return in_child(act)


def test_the_entry_of_another_machine_is_death(foreign_calls: Path) -> None:
    """`int 0x80` with the number of getpid, or of socketcall, kills by SIGSYS; the own entry answers."""
    if _foreign(foreign_calls, "int80", 20, filtered=False) != "0":
        pytest.skip("this kernel runs no 32-bit calls")
    for number in (20, 102):
        assert _foreign(foreign_calls, "int80", number, filtered=True) == -signal.SIGSYS
    assert _foreign(foreign_calls, "own", 39, filtered=True) == "0"


def test_x32_is_missing(foreign_calls: Path) -> None:
    """A number with the x32 bit is answered ENOSYS, whether or not this kernel has x32."""
    assert _foreign(foreign_calls, "x32", 39, filtered=True) == f"-{errno.ENOSYS}"
    assert _foreign(foreign_calls, "own", 39, filtered=True) == "0"


def test_a_program_of_another_machine_dies_at_once(tmp_path: Path) -> None:
    """A 32-bit program is killed by its first call, where the kernel runs such programs."""
    compiler = shutil.which("cc")
    source = tmp_path / "bare.s"
    source.write_text(".globl _start\n_start: movl $1, %eax\n movl $0, %ebx\n int $0x80\n")
    program = tmp_path / "bare"
    words = [compiler or "cc", "-m32", "-nostdlib", "-static", "-o", str(program), str(source)]
    if compiler is None or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("no compiler for 32-bit programs")
    if subprocess.run([program], check=False).returncode:
        pytest.skip("this kernel runs no 32-bit programs")

    def act() -> int:
        _under_filter()
        return subprocess.run([program], check=False).returncode

    assert in_child(act) == -signal.SIGSYS


PROGRAMS = {
    "threads": "import threading; t = threading.Thread(target=print); t.start(); t.join()",
    "processes": "import subprocess; subprocess.run(['sh', '-c', 'true | cat'], check=True)",
    "a pool of processes": "import multiprocessing as m; p = m.get_context('fork').Pool(2); p.map(abs, [1])",
    "an event loop": "import asyncio; asyncio.run(asyncio.create_subprocess_exec('true'))",
    "links and addresses": "import socket; assert socket.if_nameindex()",
    "looking up names": "import socket; assert socket.getaddrinfo('localhost', 80)",
    "a database": "import sqlite3; c = sqlite3.connect('x.db'); c.execute('create table t (x)'); c.commit()",
    "files": "import shutil; shutil.copy('/etc/hostname', 'y'); shutil.move('y', 'z')",
    "shared memory": "from multiprocessing.shared_memory import *; SharedMemory(None, True, 9).unlink()",
    "a terminal": "import pty, sys; sys.exit(pty.spawn(['true']))",
    "tracing": "import os; os.system('command -v strace >/dev/null || exit 0; strace -f -o t true')",
    "compiling": "import os; assert os.system('echo \"int main(){}\" | cc -x c - || ! command -v cc') == 0",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_programs_ordinarily_do_works(program: str, tmp_path: Path) -> None:
    """Under the filter, without capabilities: programs of every trade end well."""

    def act() -> subprocess.CompletedProcess[str]:
        syscalls.drop_capabilities()
        _under_filter()
        words = [sys.executable, "-c", PROGRAMS[program]]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, text=True)

    done = in_user_namespace(act)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_filter_that_is_no_program_is_refused() -> None:
    """The kernel checks the program, and its refusal is raised."""

    def act() -> None:
        syscalls.set_no_new_privileges()
        seccomp.install(seccomp.program(MACHINE)[:-8])

    with pytest.raises(OSError, match="PR_SET_SECCOMP"):
        in_child(act)


def test_no_filter_on_top_opens_anything() -> None:
    """A filter stacked by the workload itself can only take more: what was refused before stays refused."""

    def act() -> list[str]:
        _under_filter()
        allow_all = b"\x06\0\0\0\0\0\xff\x7f"
        seccomp.install(allow_all)
        return [_call("unshare", NEWUSER), _call("getpid")]

    assert in_child(act) == ["EPERM", "ok"]
