"""Killed at any moment, any one process takes the rest along: nothing is left, and the record verifies."""

from __future__ import annotations

import os
import random
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.memory import expect_same_memory_after
from tests.faults.processes import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

_CHANCE = random.Random(20261124)
_MOMENTS = sorted(_CHANCE.uniform(0.0, 0.5) for _ in range(24))
_RUN = ("run", "--name", "victim", "--", "sleep", "30")


@pytest.fixture
def running(mvmctl: Mvmctl) -> Iterator[Running]:
    """A sandbox whose command has said that it runs."""
    started = mvmctl.start("run", "--name", "victim", "--", "sh", "-c", "echo up; exec sleep 30")
    started.until("up\n")
    yield started
    started.kill()


@pytest.mark.parametrize("moment", _MOMENTS, ids=lambda moment: f"{moment * 1000:.0f}ms")
def test_mvmctl_killed_at_any_moment_leaves_nothing(
    mvmctl: Mvmctl, aftermath: Aftermath, moment: float
) -> None:
    """Not a process, a namespace, a mount, a socket or a file in the runtime directory."""
    aftermath.is_sealed = False
    running = mvmctl.start(*_RUN)
    deadline = time.monotonic() + moment
    while time.monotonic() < deadline and running.process.poll() is None:
        os.sched_yield()
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()


@pytest.mark.parametrize("victim", ["keeper", "init"])
def test_each_other_process_killed_ends_the_run_and_leaves_nothing(
    mvmctl: Mvmctl, running: Running, leftovers: Leftovers, victim: str
) -> None:
    """The run ends as killed, its record is sealed, and the name is free again."""
    found = processes(running.process.pid)
    os.kill(found.keeper if victim == "keeper" else found.init, signal.SIGKILL)
    assert running.finish().exit_code == 137
    leftovers.expect_none()
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_an_init_that_stands_still_ends_with_its_supervisor(running: Running, aftermath: Aftermath) -> None:
    """Stopped, it sees no channel close: the keeper ends it, and clears away."""
    aftermath.is_sealed = False
    supervisor, _, init = processes(running.process.pid)
    os.kill(init, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)


def test_an_init_that_stands_still_ends_with_both_of_its_guards(
    mvmctl: Mvmctl, running: Running, aftermath: Aftermath
) -> None:
    """Supervisor and keeper killed in the same instant: the kernel ends init, and all in it with that.

    The name stays behind until somebody meets it: it is free, and then it is gone too.
    """
    aftermath.is_sealed = False
    supervisor, keeper, init = processes(running.process.pid)
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
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_a_detached_sandbox_killed_leaves_nothing(
    mvmctl: Mvmctl, leftovers: Leftovers, aftermath: Aftermath
) -> None:
    """`up -d` too, with everything that runs in it, and its name is free again."""
    aftermath.is_sealed = False
    mvmctl("up", "-d", "--name", "victim", "--", "sleep", "30").expect(0)
    (listed,) = mvmctl("ls", "--json").expect(0).json["sandboxes"]
    os.kill(listed["pid"], signal.SIGKILL)
    leftovers.expect_none()
    mvmctl("run", "--name", "victim", "--", "true").expect(0)


def test_a_stopped_gateway_lets_nothing_pass(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath
) -> None:
    """While the supervisor is stopped, a granted host is not reached; when it goes on, it is."""
    aftermath.grant(internet.host("echo"))
    code = (
        "import socket, sys\n"
        "print('up', flush=True)\n"
        "for line in sys.stdin:\n"
        "    with socket.create_connection(('echo.example.test', 7)) as s:\n"
        "        s.sendall(line.encode()); print('said', s.recv(9).decode(), end='', flush=True)\n"
    )
    running = mvmctl.start(
        "run", "--network-allow", "echo.example.test:7", "--", "/usr/bin/python3", "-c", code
    )
    running.until("up\n")
    words = iter(("first", "second"))

    def fault() -> None:
        word = next(words)
        with internet.watch() as outside:
            os.kill(running.process.pid, signal.SIGSTOP)
            running.send(f"{word}\n".encode())
            with pytest.raises(TimeoutError):
                running.until(f"said {word}\n", timeout_s=0.4)
        assert outside.packets == {}
        os.kill(running.process.pid, signal.SIGCONT)
        running.until(f"said {word}\n")

    expect_same_memory_after(running.process.pid, fault)
    running.finish().expect(0)


def test_many_at_once_come_and_go(mvmctl: Mvmctl) -> None:
    """Thirty sandboxes side by side each do their work, and nothing of them remains."""
    running = [mvmctl.start("run", "--", "sh", "-c", f"echo {number}") for number in range(30)]
    for number, one in enumerate(running):
        assert one.finish(timeout_s=90).expect(0).stdout == f"{number}\n"
