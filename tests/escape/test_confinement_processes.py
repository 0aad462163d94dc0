"""What a workload is handed at its start, and what it can do to other processes (ATTACKS 42, 44)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.escape.confinement import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.escape.confinement import Confined
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

# ---- 42: descriptors


@contextlib.contextmanager
def _many_opened(directory: Path) -> Iterator[tuple[int, ...]]:
    """Descriptors of every kind, inheritable, some of high numbers."""
    (directory / "file").write_text("secret")
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(made)
            for made in (
                socket.create_server(("127.0.0.1", 0)),
                socket.socket(type=socket.SOCK_DGRAM),
                socket.socket(socket.AF_UNIX),
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
                *socket.socketpair(),
            )
        ]
        numbers = [sock.fileno() for sock in sockets]
        opened = [
            os.open(directory / "file", os.O_RDWR),
            os.open("/", os.O_RDONLY),
            os.open("/", os.O_PATH),
            os.open("/proc/self/ns/net", os.O_RDONLY),
            os.pidfd_open(os.getpid()),
            os.memfd_create("secret"),
            *os.pipe(),
        ]
        for at, number in enumerate((*numbers, *opened)):
            opened.append(os.dup2(number, 200 + at))
        for number in opened:
            stack.callback(os.close, number)
        everything = (*numbers, *opened)
        for number in everything:
            os.set_inheritable(number, True)
        yield everything


def _found(
    mvmctl: Mvmctl,
    words: list[str],
    **given: Any,  # noqa: ANN401  (streams, as subprocess takes them)
) -> subprocess.CompletedProcess[bytes]:
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
    line = [*mvmctl.command, *words]
    return subprocess.run(line, check=False, env=mvmctl.environment(), timeout=30, **streams)


@pytest.mark.parametrize("way", ["run", "run --json", "up", "exec"])
def test_no_descriptor_comes_along(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers, tmp_path: Path, way: str
) -> None:
    """42: whatever the caller has open and hands on, a command has its three streams and no more."""
    tries = program(("descriptors",))
    verb, *options = way.split()
    if verb == "exec":
        mvmctl("up", "-d", "--name", "agent").expect(0)
        options.append("agent")
    with internet.watch() as outside, _many_opened(tmp_path) as numbers:
        twin = subprocess.run(tries, pass_fds=numbers, stdout=subprocess.PIPE, check=True)
        ended = _found(mvmctl, [verb, *options, "--", *tries], pass_fds=numbers)
    assert len(json.loads(twin.stdout)[0].split()) >= 3 + len(numbers)
    assert b'["0 1 2"]' in (ended.stderr if options == ["--json"] else ended.stdout)
    if verb == "exec":
        mvmctl("down", "agent").expect(0)
    assert outside.packets == {}
    leftovers.expect_none(within_s=10.0)
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)


def test_what_a_detached_sandbox_is_started_with_stays_outside(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """42: `up -d` passes none on either, neither to its command nor to those that come later."""
    listing = "ls /proc/self/fd | tr '\\n' ' '; echo end; exec sleep 600"
    with _many_opened(tmp_path) as numbers:
        words = ["up", "-d", "--name", "agent", "--", "sh", "-c", listing]
        null = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        assert _found(mvmctl, words, pass_fds=numbers, **null).returncode == 0
    said = mvmctl.start("logs", "-f", "agent").until("end\n")
    assert said == "0 1 2 3 end\n"  # 3 is how it looks
    assert mvmctl("exec", "agent", *program(("descriptors",))).expect(0).stdout == '["0 1 2"]'
    mvmctl("down", "agent").expect(0)


def test_the_descriptors_of_init_are_not_seen(confined: Confined) -> None:
    """42: the channel that init holds can't be found, opened or taken; the own ones can be looked at."""
    for path in ("/proc/1/fd", "/proc/1/fdinfo", "/proc/1/task/1/fd"):
        confined.refused("names", path, beside=[("do", "listdir", "/proc/self/fd")])
    confined.refused("call", "pidfd_getfd", 0, 3, 0)


def _tcp() -> tuple[socket.socket, ...]:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    return client, server, server.accept()[0]


LED_ELSEWHERE: dict[str, Callable[[], tuple[socket.socket, ...]]] = {
    "tcp": _tcp,
    "tcp, unconnected": lambda: (socket.socket(),),
    "tcp server": lambda: (socket.create_server(("127.0.0.1", 0)),),
    "tcp over IPv6": lambda: (socket.socket(socket.AF_INET6),),
    "udp": lambda: (socket.socket(type=socket.SOCK_DGRAM),),
    "netlink": lambda: (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),),
    "unix datagrams": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    "unix, unconnected": lambda: (socket.socket(socket.AF_UNIX),),
}
STREAMS = ("stdin", "stdout", "stderr")
SAYS = ("sh", "-c", "echo it-was-run; echo it-was-run >&2")


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("kind", LED_ELSEWHERE)
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_socket_that_can_be_led_elsewhere_is_no_stream(
    mvmctl: Mvmctl, kind: str, stream: str, verb: str
) -> None:
    """42: through it the workload would speak from the host's network; a local connection is handed on."""
    command = ["--", *SAYS]
    words = [verb, "-i", "agent", *command] if verb == "exec" else [verb, *command]
    if verb == "exec":
        mvmctl("up", "-d", "--name", "agent").expect(0)
    opened, pair = LED_ELSEWHERE[kind](), socket.socketpair()
    refused = _found(mvmctl, words, **{stream: opened[0]})
    passed = _found(mvmctl, words, **{stream: pair[0]})
    ran = [
        b"it-was-run" in b"".join(filter(None, (ended.stdout, ended.stderr))) for ended in (refused, passed)
    ]
    assert ran == [False, True]
    if stream != "stderr":  # where it is, nothing can be said
        assert refused.returncode == 64
        assert f"{stream} is a socket".encode() in refused.stderr
    for sock in (*opened, *pair):
        sock.close()


def test_a_stream_is_not_connected_anew(mvmctl: Mvmctl) -> None:
    """42: the whole act: a listener of the host hears nothing of a workload that was given a connection."""
    act = "import ctypes, socket; ctypes.CDLL(None).connect(0, bytes(16), 16)"
    act += "; socket.socket(fileno=0).connect(('127.0.0.1', {}))"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        text = act.format(listener.getsockname()[1])
        given, *others = _tcp()
        twin = subprocess.run(["python3", "-c", text], stdin=given.fileno(), check=False)
        assert twin.returncode == 0
        listener.accept()[0].close()
        given2, *more = _tcp()
        _found(mvmctl, ["run", "--", "python3", "-c", text], stdin=given2)
        with pytest.raises(BlockingIOError):
            listener.accept()
    for sock in (given, given2, *others, *more):
        sock.close()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
def test_a_directory_is_no_stream(mvmctl: Mvmctl, tmp_path: Path, stream: str, flags: int) -> None:
    """42: one could be walked out of by `..`; nothing runs. A file is one."""
    directory = os.open(tmp_path, flags | os.O_DIRECTORY)
    refused = _found(mvmctl, ["run", "--", *SAYS], **{stream: directory})
    os.close(directory)
    assert refused.returncode != 0
    assert b"it-was-run" not in b"".join(filter(None, (refused.stdout, refused.stderr)))
    with (tmp_path / "file").open("w+b") as file:
        assert _found(mvmctl, ["run", "--", "true"], **{stream: file}).returncode == 0


# ---- 44: other processes


@pytest.mark.parametrize("request_", {"attach": 16, "seize": 0x4206}.items())
def test_init_is_not_traced(confined: Confined, request_: tuple[str, int]) -> None:
    """44: pid 1 is out of a tracer's reach; a child of one's own is within it."""
    confined.refused("trace", 1, request_[1], beside=[("trace", 0, request_[1])])


@pytest.mark.parametrize("by", ["process_vm_readv", "process_vm_writev"])
def test_the_memory_of_init_is_not_reached(confined: Confined, by: str) -> None:
    """44: neither read nor written; a child's is."""
    confined.refused("look_into", 1, by, beside=[("look_into", 0, by)])


@pytest.mark.parametrize(
    "name",
    ["mem", "maps", "environ", "auxv", "exe", "cwd/etc", "root/etc", "syscall", "stack", "io", "map_files"],
)
def test_init_can_not_be_looked_into(confined: Confined, name: str) -> None:
    """44: what /proc shows of a process to its equals is closed at pid 1, a fork of the supervisor."""
    act = ("names",) if name.endswith(("etc", "files")) else ("write",)
    flags = () if act == ("names",) else ("", os.O_RDONLY)
    confined.refused(*act, f"/proc/1/{name}", *flags, beside=[("do", "open", "/proc/self/maps", 0)])


def test_pid_1_says_nothing_of_the_host(confined: Confined) -> None:
    """44: its arguments are those of no command line of the host."""
    assert confined.tries(("read", "/proc/1/cmdline"))[0].strip("\0") == "mvm-init"


SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGCHLD)


@pytest.mark.parametrize("signum", SIGNALS)
def test_init_survives_every_signal(confined: Confined, signum: signal.Signals) -> None:
    """44: the sandbox answers as before; a process of one's own dies of it."""
    confined.tries(("do", "kill", 1, int(signum)))
    assert confined.tries(("do", "kill", 0, 0)) == ["ok"]


def test_no_process_of_the_host_is_seen_or_met(confined: Confined) -> None:
    """44: only those of the sandbox are in /proc; a pid of the host's is nobody, by signal or descriptor."""
    (found,) = confined.tries(("processes",))
    assert "mvm-init" in found.split()
    assert len(found.split()) == 4, found  # init, what is told, what tries, and its child
    inside = set(confined.tries(("names", "/proc"))[0].split())
    hosts = [pid for pid in (os.getpid(), os.getppid()) if str(pid) not in inside and pid > 1]
    assert hosts
    for pid in hosts:
        nobody = frozenset({"ESRCH", "ENOENT"})
        for act in (
            ("do", "kill", pid, 9),
            ("do", "killpg", pid, 9),
            ("by_handle", pid),
            ("trace", pid),
            ("look_into", pid, "process_vm_readv"),
            ("read", f"/proc/{pid}/status"),
            ("do", "sched_getaffinity", pid),
            ("do", "getpriority", 0, pid),
        ):
            confined.refused(*act, by=nobody, beside=[("by_handle", 1)])


def test_a_signal_to_all_stays_inside(mvmctl: Mvmctl) -> None:
    """44: kill(-1) ends commands of the sandbox, and nothing of the host or of another sandbox."""
    mvmctl("up", "-d", "--name", "other").expect(0)
    running = mvmctl.start("run", "--", "python3", "-c", "import os; os.kill(-1, 9)")
    running.finish()
    mvmctl("exec", "other", "true").expect(0)
    mvmctl("down", "other").expect(0)
