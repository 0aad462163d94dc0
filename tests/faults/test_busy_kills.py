"""Each process of a busy run killed at random moments: nothing is left, the record verifies, nobody is met.

    `mvmctl run`     supervisor ── keeper ── init ── workload
    `mvmctl up -d`   daemon ── …
    the library      a program ── helper ── …
    `mvmctl exec`    exec client, beside a sandbox that stays

`MVM_KILLS` says how many of each, `MVM_KILLS_SEED` by which seed their moments are chosen;
docs/explanation/faults.md tells of the last long run.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.faults.processes import children, processes
from tests.support.leftovers import Leftovers
from tests.support.mvmctl import Running

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.faults

ECHO = "echo.example.test"
_KILLS = int(os.environ.get("MVM_KILLS", "10"))
_SEED = int(os.environ.get("MVM_KILLS_SEED", "20261125"))
_LATEST_S = 0.15
_KILLED, _TOLD_AS_KILLED = -signal.SIGKILL, 128 + signal.SIGKILL
_NAMED = ("--name", "victim")
_GRANT = f"--network-allow={ECHO}:7"
_BUSY = """
import socket, subprocess, threading

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
_WORK = ("/usr/bin/python3", "-c", _BUSY)
_PROGRAM = f"""
import sys, mvm

grants = mvm.egress([mvm.host_port({ECHO!r}, 7)])
network = mvm.network(mode="bridge", egress=grants, dns=mvm.dns_system())
for line in sys.stdin:
    with mvm.Sandbox(network=network, name="victim") as sandbox, sandbox.popen({list(_WORK)!r}) as process:
        print(process.stdout.readline().decode().strip(), line, flush=True)
        print("ended", process.wait(), line, flush=True)
"""


class Scene(Protocol):
    """Where a victim is found, again and again; `close` ends what stands between two kills."""

    def __init__(self, mvmctl: Mvmctl, internet: Internet, victim: str) -> None:
        """Start what stands."""

    def start(self) -> int:
        """Have something busy; returns the victim's process id."""

    def killed(self) -> None:
        """Wait for what its end has to bring. Raises AssertionError, TimeoutError."""

    def close(self) -> None:
        """End what stood, in the ordinary way."""


class InTheForeground:
    """`mvmctl run`: all of its processes are killed here, but the workload's children."""

    def __init__(self, mvmctl: Mvmctl, _: Internet, victim: str) -> None:
        """Nothing stands."""
        self._mvmctl, self._victim = mvmctl, victim

    def start(self) -> int:
        """Start a run."""
        self._running = self._mvmctl.start("run", *_NAMED, _GRANT, "--", *_WORK)
        self._running.until("busy\n")
        found = processes(self._running.process.pid)
        (workload,) = children(found.init)
        return workload if self._victim == "workload" else int(getattr(found, self._victim))

    def killed(self) -> None:
        """`mvmctl` is dead, or says that the workload is."""
        expected = _KILLED if self._victim == "supervisor" else _TOLD_AS_KILLED
        self._running.finish(closes_stdin=False).expect(expected)
        self._running.close()

    def close(self) -> None:
        """Nothing stands."""


class Detached:
    """`mvmctl up -d`: its supervisor has no caller."""

    def __init__(self, mvmctl: Mvmctl, internet: Internet, _: str) -> None:
        """Nothing stands."""
        self._mvmctl, self._internet = mvmctl, internet

    def start(self) -> int:
        """Start a sandbox, and wait until it has reached its host."""
        before = self._internet.arrivals(ECHO).connections
        self._mvmctl("up", "-d", *_NAMED, _GRANT, "--", *_WORK).expect(0)
        self._internet.wait_for_arrivals(ECHO, connections=before + 1, timeout_s=30)
        (listed,) = self._mvmctl("ls", "--json").expect(0).json["sandboxes"]
        return int(listed["pid"])

    def killed(self) -> None:
        """It has nobody to tell."""

    def close(self) -> None:
        """Nothing stands."""


class OfAProgram:
    """The Python library: a program, whose helper is killed, and which then starts another."""

    def __init__(self, mvmctl: Mvmctl, _: Internet, __: str) -> None:
        """Start the program."""
        self._program = Running([sys.executable, "-c", _PROGRAM], env=mvmctl.environment(), cwd=None)
        self._number = 0

    def start(self) -> int:
        """Have it start a sandbox and a command in it."""
        self._number += 1
        self._program.send(f"{self._number}\n".encode())
        self._program.until(f"busy {self._number}\n")
        (helper,) = children(self._program.process.pid)
        return helper

    def killed(self) -> None:
        """The program is told that the command was killed."""
        self._program.until(f"ended {_TOLD_AS_KILLED} {self._number}\n")

    def close(self) -> None:
        """It ends by itself, without a word of complaint."""
        ended = self._program.finish().expect(0)
        self._program.close()
        assert not ended.stderr


class Executing:
    """`mvmctl exec`: its command ends with it, the sandbox stays."""

    def __init__(self, mvmctl: Mvmctl, _: Internet, __: str) -> None:
        """Start the sandbox."""
        self._mvmctl = mvmctl
        mvmctl("up", "-d", *_NAMED, _GRANT).expect(0)

    def start(self) -> int:
        """Start a command in it."""
        self._running = self._mvmctl.start("exec", "victim", "--", *_WORK)
        self._running.until("busy\n")
        return self._running.process.pid

    def killed(self) -> None:
        """Only the client is dead."""
        self._running.finish(closes_stdin=False).expect(_KILLED)
        self._running.close()

    def close(self) -> None:
        """The sandbox has been there all the time."""
        self._mvmctl("exec", "victim", "--", "true").expect(0)
        self._mvmctl("down", "victim").expect(0)


_SCENES: dict[str, Callable[[Mvmctl, Internet, str], Scene]] = {
    "supervisor": InTheForeground,
    "keeper": InTheForeground,
    "init": InTheForeground,
    "workload": InTheForeground,
    "daemon": Detached,
    "helper": OfAProgram,
    "exec client": Executing,
}
_SEALS = frozenset({"supervisor", "daemon", "helper"})
"""Those that would have sealed the record."""


@pytest.mark.slow
@pytest.mark.parametrize("victim", _SCENES)
def test_each_process_of_a_busy_run_killed_at_random_moments(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, victim: str
) -> None:
    """Amid flows, questions and commands: each time nothing is left, the log verifies, nobody else is met."""
    aftermath.grant(internet.host("echo"))
    aftermath.is_sealed = victim not in _SEALS
    chance = random.Random(f"{_SEED} {victim}")
    scene = _SCENES[victim](mvmctl, internet, victim)
    leftovers = Leftovers([mvmctl.runtime, mvmctl.temporary])
    for number in range(1, _KILLS + 1):
        moment = chance.uniform(0.0, _LATEST_S)
        try:
            _kill(scene.start(), after_s=moment)
            scene.killed()
            leftovers.expect_none(within_s=10.0)
        except (AssertionError, OSError, ValueError) as problem:
            told = (
                f"{victim}, kill {number} of {_KILLS}, seed {_SEED}, {moment * 1000:.1f} ms after it was busy"
            )
            raise AssertionError(f"{told}: {problem}") from problem
    scene.close()
    print(f"{victim}: killed at {_KILLS} moments, seed {_SEED}")  # noqa: T201  what a long run is read for


def _kill(pid: int, *, after_s: float) -> None:
    until = time.monotonic() + after_s
    while time.monotonic() < until:
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)
