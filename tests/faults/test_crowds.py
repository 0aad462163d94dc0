"""Many of everything at once: sandboxes, starts of one name, flows, edits, and pipes that are used up.

`MVM_FLOWS` and `MVM_SANDBOXES` say how many; `docs/explanation/faults.md` tells of the last long run.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import resource
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.policy.edit import grant_less, grant_more
from mvm.policy.parse import parse_grant
from mvm.supervisor.client import Client
from mvm.supervisor.edit import edit
from tests.faults.memory import expect_same_memory_after, same_memory
from tests.support.worked import worked_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.errors import Finding
    from mvm.policy.model import Policy
    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

ECHO, OTHER = "echo.example.test", "other.example.test"
_ROOT = os.geteuid() == 0
_FLOWS = int(os.environ.get("MVM_FLOWS", "20000"))
_CROWD = int(os.environ.get("MVM_SANDBOXES", "100"))
_FEWEST = 10
_EDITS = 1440
_WARM = 2000
_CLOSED_WITHIN_S = 5.0
_NUMBERS = itertools.count(1)

_FLOWER = """
import socket, sys, threading

def some(count, good):
    for _ in range(count):
        with socket.create_connection((address, 7), timeout=20) as sock:
            sock.sendall(b"x")
            good.append(sock.recv(1) == b"x")

address = socket.gethostbyname("echo.example.test")
for line in sys.stdin:
    good = []
    threads = [threading.Thread(target=some, args=(int(line) // 4, good)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print("good", sum(good), flush=True)
"""

_ECHOED = f"""
import socket, sys, threading

data = b"0123456789abcde\\n" * 125_000
sock = socket.create_connection(("{ECHO}", 7), timeout=60)
sock.sendall(b"x"); assert sock.recv(1) == b"x"
print("up", flush=True)
for line in sys.stdin:
    threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
    came = bytearray()
    while len(came) < len(data): came += sock.recv(1 << 16)
    print(came == data, line, end="", flush=True)
"""


def _ask(running: Running, count: int) -> None:
    """Have the workload make so many flows, each answered; only then is `good` said, once each time."""
    running.send(f"{count}\n".encode())
    running.until(f"good {count}\n", timeout_s=600)


@pytest.mark.slow
def test_many_flows_through_one_sandbox_leave_its_gateway_as_it_was(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath
) -> None:
    """Each answered; descriptors the same, memory within five per cent of what it was after 2,000."""
    aftermath.grant(internet.host("echo"))
    grant = f"--network-allow={ECHO}:7"
    running = mvmctl.start("run", grant, "--", "/usr/bin/python3", "-c", _FLOWER)
    pid = running.process.pid
    _ask(running, _WARM)
    internet.wait_for_arrivals(ECHO, open_at_most=0)
    before = len(os.listdir(f"/proc/{pid}/fd"))
    with internet.watch() as outside, same_memory(pid):
        _ask(running, _FLOWS)
        internet.wait_for_arrivals(ECHO, open_at_most=0)
    assert sum(outside.besides_names.values()) == _FLOWS
    deadline = time.monotonic() + _CLOSED_WITHIN_S
    while len(os.listdir(f"/proc/{pid}/fd")) > before:  # its hosts may see the last ends a moment before it
        assert time.monotonic() < deadline
    running.finish(timeout_s=60).expect(0)


@pytest.mark.slow
def test_a_days_worth_of_edits_in_a_minute(mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath) -> None:
    """A host granted and taken back 720 times, with a flow of another open, which feels none of it."""
    aftermath.grant(internet.host("echo"))
    code = (
        "import socket, sys\n"
        f"kept = socket.create_connection(('{ECHO}', 7), timeout=20)\n"
        "for line in sys.stdin:\n"
        "    kept.sendall(line.encode()); print('kept', kept.recv(99).decode(), end='', flush=True)\n"
    )
    running = mvmctl.start(
        *("run", "--name", "edited", f"--network-allow={ECHO}:7"), "--", "/usr/bin/python3", "-c", code
    )
    running.send(b"first\n")
    running.until("kept first\n")
    grant = parse_grant(f"{OTHER}:443")

    def allow(policy: Policy) -> tuple[Policy, tuple[Finding, ...]]:
        return grant_more(policy, [grant])

    def revoke(policy: Policy) -> tuple[Policy, tuple[Finding, ...]]:
        return grant_less(policy, [grant]), ()

    pid = running.process.pid
    began = time.process_time() + worked_s(pid)
    with internet.watch() as outside, Client("edited", mvmctl.environment(), timeout=30.0) as client:
        for at in range(_EDITS // 4):
            edit(client, revoke if at % 2 else allow, by="test")
        with same_memory(pid):
            for at in range(_EDITS // 4, _EDITS):
                edit(client, revoke if at % 2 else allow, by="test")
    assert time.process_time() + worked_s(pid) - began < 60, "of work: others share this machine"
    running.send(b"last\n")
    running.until("kept last\n")
    assert outside.besides_names == {}
    running.finish().expect(0)
    log = next(mvmctl.state.glob("runs/*/log.jsonl")).read_bytes()
    assert log.count(b'"kind":"policy.changed"') == _EDITS


def _crowd() -> int:
    """How many sandboxes this user can have: each has a keyring, and an ordinary user's are counted."""
    if _ROOT:
        return _CROWD
    most = int(Path("/proc/sys/kernel/keys/maxkeys").read_text())
    lines = [line.split() for line in Path("/proc/key-users").read_text().splitlines()]
    used = next((int(line[3].partition("/")[0]) for line in lines if line[0] == f"{os.geteuid()}:"), 0)
    count = min(_CROWD, most - used - _FEWEST)
    if count < _FEWEST:
        pytest.skip(f"other processes of this user hold {used} of its {most} keys (keyrings(7))")
    return count


@pytest.mark.slow
def test_many_sandboxes_at_once_each_reach_what_is_theirs(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath
) -> None:
    """All stand together before the first ends; half are granted a host and reach it, the others nothing."""
    aftermath.grant(internet.host("echo"))
    code = (
        "import socket, sys\n"
        "print('up', flush=True); sys.stdin.readline()\n"
        "try:\n"
        f"    s = socket.create_connection(('{ECHO}', 7), timeout=30); s.sendall(b'x'); print(s.recv(1))\n"
        "except OSError as problem: print(type(problem).__name__)\n"
    )
    count = _crowd()
    before = internet.arrivals(ECHO).connections
    with _many_descriptors():
        crowd = []
        for at in range(count):
            grant = [f"--network-allow={ECHO}:7"] if at % 2 else []
            words = ("run", "--name", f"n{at}", *grant, "--", "/usr/bin/python3", "-c", code)
            crowd.append(mvmctl.start(*words))
        for one in crowd:
            one.until("up\n", timeout_s=300)
        assert len(mvmctl("ls", "--json").expect(0).json["sandboxes"]) == count
        for one in crowd:
            one.send(b"\n")
        said = [one.finish(timeout_s=300).expect(0).stdout.splitlines()[-1] for one in crowd]
    assert set(said[1::2]) == {"b'x'"}
    assert set(said[0::2]) == {"gaierror"}
    assert internet.arrivals(ECHO).connections - before == count // 2


@pytest.mark.slow
def test_one_name_started_and_stopped_by_two_at_once_is_ever_one_sandbox(
    mvmctl: Mvmctl, aftermath: Aftermath
) -> None:
    """Each start succeeds or says that the name is taken, each stop that it stopped one or found none."""
    aftermath.is_sealed = False
    codes: list[tuple[str, int]] = []

    def insist() -> None:
        for _ in range(25):
            for words in (("up", "-d", "--name", "fought", "--", "sleep", "60"), ("down", "fought")):
                ended = mvmctl(*words, timeout_s=60)
                codes.append((words[0], ended.exit_code))
                assert "Traceback" not in ended.stderr

    both = [threading.Thread(target=insist) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    mvmctl("down", "fought")
    assert set(codes) <= {("up", 0), ("up", 64), ("down", 0), ("down", 64)}, set(codes)
    assert codes.count(("up", 0)) >= 25
    assert len(codes) == 100


@contextlib.contextmanager
def _many_descriptors() -> Iterator[None]:
    """Have as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _hoarded_pipes() -> Iterator[int]:
    """Take as many pipes as this user may have whole; yields the bytes that a further one gets."""
    held: list[int] = []
    pages = int(Path("/proc/sys/fs/pipe-user-pages-soft").read_text())
    with _many_descriptors():
        try:
            size = 1 << 16
            while len(held) < 2 * (pages // 16 + 8):
                held += os.pipe2(os.O_CLOEXEC)
                size = fcntl.fcntl(held[-1], fcntl.F_GETPIPE_SZ)
                if size < 1 << 16:
                    break
            yield size
        finally:
            for descriptor in held:
                os.close(descriptor)


@contextlib.contextmanager
def _no_descriptor(pid: int) -> Iterator[None]:
    """A process gets no further descriptor: each number below its limit is taken (getrlimit(2))."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(taken) + 1)) - taken), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _pipe_ends(pid: int) -> int:
    links = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
    return sum(link.startswith("pipe:") for link in links)


@pytest.fixture
def echoing(mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath) -> Iterator[Running]:
    """A run with a flow open that sends two million bytes for each line it is told, and reads them back."""
    aftermath.grant(internet.host("echo"))
    running = mvmctl.start("run", f"--network-allow={ECHO}:7", "--", "/usr/bin/python3", "-c", _ECHOED)
    running.until("up\n")
    yield running
    running.finish().expect(0)


def _everything_arrives(running: Running) -> None:
    def fault() -> None:
        number = next(_NUMBERS)
        running.send(f"{number}\n".encode())
        running.until(f"True {number}\n", timeout_s=60)

    expect_same_memory_after(running.process.pid, fault, times=3)


def test_with_no_memory_for_pipes_everything_still_arrives(echoing: Running) -> None:
    """A user who has used up their pipes gets small ones or none (pipe(7)): slower, and no byte less."""
    with _hoarded_pipes() as room:
        if not _ROOT:
            assert room < 1 << 16, "there were pipes left"
        _everything_arrives(echoing)


def test_with_no_descriptor_for_a_pipe_everything_still_arrives(echoing: Running) -> None:
    """Each pipe that the gateway asks for is refused it (EMFILE), and no byte is less; the twin gets some."""
    pid = echoing.process.pid
    before = _pipe_ends(pid)
    with _no_descriptor(pid):
        _everything_arrives(echoing)
        assert _pipe_ends(pid) == before
    _everything_arrives(echoing)
    assert _pipe_ends(pid) > before
