"""The process that holds the gateway frozen, killed, or out of means: nothing passes (ATTACKS 53)."""

from __future__ import annotations

import itertools
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.memory import expect_same_memory_after

if TYPE_CHECKING:
    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

ECHO, OTHER = "echo.example.test", "other.example.test"
_NUMBERS = itertools.count(1)
_TALKER = """
import socket, sys, time

def attempt(place, port, again=True):
    began = time.monotonic()
    try:
        sock = socket.create_connection((place, port), timeout=20)
        sock.settimeout(20)
        sock.sendall(b"x")
        said = "open" if sock.recv(1) else "ended"
    except OSError as problem:
        sock, said = None, type(problem).__name__
    if time.monotonic() - began < 1:
        return sock, f"{said} at once"
    if again:  # others share this machine
        later, said_later = attempt(place, port, again=False)
        if said_later == f"{said} at once":
            return later, said_later
    return sock, f"{said} late"

held = []
for line in sys.stdin:
    word, place, port, count, number = line.split()
    said = []
    for _ in range(int(count)):
        sock, what = attempt(place, int(port))
        said.append(what)
        if word == "hold" and sock is not None:
            held.append(sock)
        elif sock is not None:
            sock.close()
    if word == "let-go":
        while held:
            held.pop().close()
    print("said", place, *sorted(set(said)), number, sep="|", flush=True)
"""


@pytest.fixture
def running(mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath) -> Running:
    """A run that has reached the one host it is granted."""
    aftermath.grant(internet.host("echo"))
    running = mvmctl.start(
        "run", "--name", "victim", "--network-allow", f"{ECHO}:7", "--", "/usr/bin/python3", "-c", _TALKER
    )
    assert _ask(running, "try", ECHO) == ["open at once"]
    return running


def _ask(running: Running, word: str, place: str, *, port: int = 7, count: int = 1) -> list[str]:
    """Have the workload attempt something `count` times; the distinct answers it got."""
    number = next(_NUMBERS)
    running.send(f"{word} {place} {port} {count} {number}\n".encode())
    said = running.until(f"|{number}\n", timeout_s=60).splitlines()[-1]
    return said.split("|")[2:-1]


def test_what_is_denied_is_denied_by_a_stopped_gateway_too(running: Running, internet: Internet) -> None:
    """53: the kernel refuses at once what no grant opens, whoever stands still; it is counted afterwards."""
    other = internet.host("other")

    def fault() -> None:
        with internet.watch() as outside:
            os.kill(running.process.pid, signal.SIGSTOP)
            for address in (other.v4, other.v6):
                assert _ask(running, "try", address, port=443) == ["ConnectionRefusedError at once"]
        assert outside.packets == {}
        os.kill(running.process.pid, signal.SIGCONT)
        assert _ask(running, "try", ECHO) == ["open at once"]

    expect_same_memory_after(running.process.pid, fault, times=2)
    ended = running.finish().expect(0)
    assert other.v4 in ended.stderr
    assert "[address-literal]" in ended.stderr


def test_a_stopped_gateway_that_is_killed_leaves_nothing(
    mvmctl: Mvmctl, running: Running, internet: Internet, aftermath: Aftermath
) -> None:
    """53: stopped amid an open flow, then killed: the workload is gone, the flow is closed at its host."""
    aftermath.is_sealed = False
    open_before = internet.wait_for_arrivals(ECHO, open_at_most=0).open
    assert _ask(running, "hold", ECHO) == ["open at once"]
    assert internet.arrivals(ECHO).open == open_before + 1
    os.kill(running.process.pid, signal.SIGSTOP)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    internet.wait_for_arrivals(ECHO, open_at_most=open_before)
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_out_of_descriptors_the_gateway_refuses_and_comes_back(running: Running, internet: Internet) -> None:
    """53: granted connections beyond the last descriptor are refused at once, denied ones stay denied."""
    pid = running.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)

    def fault() -> None:
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 20, hard))
        crowd = _ask(running, "hold", ECHO, count=40)
        assert "open at once" in crowd
        assert {"ConnectionResetError at once", "ended at once"} & set(crowd)
        assert not [each for each in crowd if each.endswith("late")]
        with internet.watch() as outside:
            refused = _ask(running, "try", internet.host("other").v4, port=443)
            assert refused == ["ConnectionRefusedError at once"]
            assert _ask(running, "try", OTHER, port=443) == ["gaierror at once"]
        assert outside.packets == {}
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert _ask(running, "let-go", ECHO)
        assert _ask(running, "try", ECHO, count=20) == ["open at once"]

    expect_same_memory_after(pid, fault)
    running.finish().expect(0)


def test_out_of_memory_nothing_passes_that_is_not_granted(
    running: Running, internet: Internet, aftermath: Aftermath
) -> None:
    """53: whatever it can still do without memory, it opens nothing that is denied."""
    aftermath.is_sealed = False
    pid = running.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
    other = internet.host("other")
    for place in (other.v4, OTHER):
        running.send(f"try {place} 443 300 0\n".encode())
    running.send(f"hold {ECHO} 7 300 0\n".encode())
    ended = running.finish(timeout_s=60)
    assert f"said|{other.v4}|open" not in ended.stdout
    assert f"said|{OTHER}|open" not in ended.stdout
