"""Killed at any moment, any one process takes the rest along: nothing is left, and the record verifies."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

_CHANCE = random.Random(20261124)
_MOMENTS = sorted(_CHANCE.uniform(0.0, 0.5) for _ in range(24))
_RUN = ("run", "--name", "victim", "--", "sleep", "30")


def _children(pid: int) -> list[int]:
    with_children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in with_children.read_text().split()] if with_children.exists() else []


def _processes(running: Running) -> tuple[int, int, int]:
    """The supervisor, the keeper and init of a sandbox that stands."""
    supervisor = running.process.pid
    (keeper,) = _children(supervisor)
    (init,) = _children(keeper)
    return supervisor, keeper, init


@pytest.fixture
def running(mvmctl: Mvmctl) -> Iterator[Running]:
    """A sandbox whose command has said that it runs."""
    started = mvmctl.start("run", "--name", "victim", "--", "sh", "-c", "echo up; exec sleep 30")
    started.until("up\n")
    yield started
    started.kill()


def _verifies(mvmctl: Mvmctl) -> None:
    mvmctl("audit", "verify", "--all").expect(0)


@pytest.mark.parametrize("moment", _MOMENTS, ids=lambda moment: f"{moment * 1000:.0f}ms")
def test_mvmctl_killed_at_any_moment_leaves_nothing(
    mvmctl: Mvmctl, leftovers: Leftovers, moment: float
) -> None:
    """Not a process, a namespace, a mount, a socket or a file in the runtime directory."""
    running = mvmctl.start(*_RUN)
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline and running.process.poll() is None:
        os.sched_yield()
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    leftovers.expect_none(within_s=5.0)
    _verifies(mvmctl)


@pytest.mark.parametrize("victim", ["keeper", "init"])
def test_each_other_process_killed_ends_the_run_and_leaves_nothing(
    mvmctl: Mvmctl, running: Running, leftovers: Leftovers, victim: str
) -> None:
    """The run ends as killed, its record is sealed, and the name is free again."""
    _, keeper, init = _processes(running)
    os.kill(keeper if victim == "keeper" else init, signal.SIGKILL)
    assert running.finish().exit_code == 137
    leftovers.expect_none(within_s=5.0)
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_an_init_that_stands_still_ends_with_its_supervisor(
    mvmctl: Mvmctl, running: Running, leftovers: Leftovers
) -> None:
    """Stopped, it sees no channel close: the keeper ends it, and clears away."""
    supervisor, _, init = _processes(running)
    os.kill(init, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    leftovers.expect_none(within_s=5.0)
    _verifies(mvmctl)


def test_an_init_that_stands_still_ends_with_both_of_its_guards(running: Running) -> None:
    """Supervisor and keeper killed in the same instant: the kernel ends init, and all in it with that."""
    supervisor, keeper, init = _processes(running)
    ended = os.pidfd_open(init)
    os.kill(init, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGSTOP)  # neither can say or see a word of the other's end
    os.kill(keeper, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    is_over, _, _ = select.select([ended], [], [], 5.0)
    os.close(ended)
    if not is_over:
        os.kill(init, signal.SIGKILL)
    assert is_over


def test_a_detached_sandbox_killed_leaves_nothing(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """`up -d` too, with everything that runs in it, and its name is free again."""
    mvmctl("up", "-d", "--name", "victim", "--", "sleep", "30").expect(0)
    (listed,) = mvmctl("ls", "--json").expect(0).json["sandboxes"]
    os.kill(listed["pid"], signal.SIGKILL)
    leftovers.expect_none(within_s=5.0)
    _verifies(mvmctl)
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_a_stopped_gateway_lets_nothing_pass(mvmctl: Mvmctl, internet: Internet) -> None:
    """While the supervisor is stopped, a granted host is not reached; when it goes on, it is."""
    code = (
        "import socket; print('up', flush=True); input(); "
        "s = socket.create_connection(('echo.example.test', 7)); s.sendall(b'x'); print(s.recv(1))"
    )
    running = mvmctl.start(
        "run", "--network-allow", "echo.example.test:7", "--", "/usr/bin/python3", "-c", code
    )
    running.until("up\n")
    with internet.watch() as outside:
        os.kill(running.process.pid, signal.SIGSTOP)
        running.send(b"\n")
        with pytest.raises(TimeoutError):
            running.until("b'x'", timeout_s=0.7)
    assert outside.packets == {}
    os.kill(running.process.pid, signal.SIGCONT)
    running.until("b'x'")
    running.finish().expect(0)


def test_many_at_once_come_and_go(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Thirty sandboxes side by side each do their work, and nothing of them remains."""
    running = [mvmctl.start("run", "--", "sh", "-c", f"echo {number}") for number in range(30)]
    for number, one in enumerate(running):
        assert one.finish(timeout_s=90).expect(0).stdout == f"{number}\n"
    leftovers.expect_none(within_s=5.0)
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)


_BUSY = """
import os, socket, subprocess, sys, threading

def talk():
    while True:
        try:
            with socket.create_connection(("echo.example.test", 7), timeout=5) as sock:
                sock.sendall(b"x"); sock.recv(1)
        except OSError:
            pass

def ask():
    while True:
        try:
            socket.getaddrinfo("other.example.test", 443)
        except OSError:
            pass

for act in (talk, talk, ask):
    threading.Thread(target=act, daemon=True).start()
print("busy", flush=True)
while True:
    subprocess.run(["/bin/true"])
"""


@pytest.mark.slow
def test_each_process_of_a_busy_run_killed_at_two_hundred_moments(
    mvmctl: Mvmctl, internet: Internet, leftovers: Leftovers
) -> None:
    """Amid flows, questions and commands: each time nothing is left, the log verifies, nobody else is met.

    Two hundred, or as many as two minutes have room for, and no fewer than forty.
    """
    chance, moments, deadline = random.Random(20261125), 0, time.monotonic() + 120.0
    granted = set(internet.host("echo").addresses)
    while moments < 200 and (moments < 40 or time.monotonic() < deadline):
        words = ("run", "--name", "victim", "--network-allow", "echo.example.test:7")
        with internet.watch() as outside:
            running = mvmctl.start(*words, "--", "/usr/bin/python3", "-c", _BUSY)
            running.until("busy\n")
            victim = chance.choice(_processes(running))
            until = time.monotonic() + chance.uniform(0.0, 0.15)
            while time.monotonic() < until:
                os.sched_yield()
            os.kill(victim, signal.SIGKILL)
            running.finish(closes_stdin=False)
            leftovers.expect_none(within_s=5.0)
        # An answer whose asker is dead makes the host's kernel tell the name server so, by ICMP.
        met = {packet.address for packet in outside.besides_names if packet.protocol in {"tcp", "udp"}}
        assert met <= granted
        running.close()
        moments += 1
        if moments % 20 == 0:
            _verifies(mvmctl)
    _verifies(mvmctl)
    print(f"killed at {moments} moments")  # noqa: T201  how many there was time for
