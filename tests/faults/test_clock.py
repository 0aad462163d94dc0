"""The wall clock set forward or back by days: no time limit ends sooner or later, and nothing is renewed."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import addresses
from tests.support.answers import Answer
from tests.support.clock import DAY_S, SteppingClock

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.faults

ECHO, API, SILENT = "echo.example.test", "api.example.test", "silent.example.test"
_SERVER = f"--dns=resolver={addresses.NAME_SERVERS[0]}"
_HALF_A_HELLO = b"\x16\x03\x01"
_PATIENCE_S = 15.0
"""How much later than it should a time limit may end here: a machine may be slow, days are longer."""
_CLIENT = r"""
import socket, sys, threading, time

def attempt(host, port, data, number):
    began = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), timeout=90) as sock:
            sock.sendall(bytes.fromhex(data))
            print(f"begun {number}\n", end="", flush=True)
            said = "open" if sock.recv(1) else "end"
    except OSError as problem:
        said = type(problem).__name__
    print(f"{said} {time.monotonic() - began} ended {number}\n", end="", flush=True)

print("up", flush=True)
for line in sys.stdin:
    threading.Thread(target=attempt, args=line.split()).start()
"""
_BACK, _FORWARD = -9 * DAY_S, 9 * DAY_S
_STEPS = pytest.mark.parametrize("step_s", [_BACK, _FORWARD], ids=["back", "forward"])


class Timed:
    """A run that goes by a clock of its own."""

    def __init__(self, mvmctl: Mvmctl, directory: Path, *words: str) -> None:
        """Start it; the clock's files go to `directory`."""
        self.clock = SteppingClock(directory)
        command = ("--", "/usr/bin/python3", "-c", _CLIENT)
        self.running = mvmctl.start("run", *words, *command, env=self.clock.env)
        self.running.until("up\n")
        self._numbers = itertools.count(1)

    def begin(self, host: str, port: int, data: bytes = b"x") -> int:
        """Connect to a host and send it something; the number by which to ask what came of it."""
        number = next(self._numbers)
        self.running.send(f"{host} {port} {data.hex()} {number}\n".encode())
        return number

    def expect_begun(self, number: int) -> None:
        """Wait until an attempt has a connection, as far as the workload can tell."""
        self.running.until(f"begun {number}\n")

    def ended(self, number: int) -> tuple[str, float]:
        """What came of an attempt, and after how many seconds."""
        mark = f" ended {number}"
        lines = self.running.until(f"{mark}\n", timeout_s=100).splitlines()
        (line,) = (line for line in lines if line.endswith(mark))
        said, seconds = line.removesuffix(mark).split()
        return said, float(seconds)

    def finish(self) -> Ended:
        """Wait for its end."""
        return self.running.finish()


def _expect_steps(mvmctl: Mvmctl) -> None:
    """By its record, each run did see the clock step."""
    for log in mvmctl.state.glob("runs/*/log.jsonl"):
        days = {line.partition('"time":"')[2][:10] for line in log.read_text().splitlines()}
        assert len(days) >= 2, days


@_STEPS
def test_a_step_of_the_clock_moves_no_time_to_live(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, tmp_path: Path, step_s: int
) -> None:
    """Set back, a sandbox of six seconds ends in time; set forward, one of an hour goes on."""
    aftermath.grant(internet.host("echo"))
    lives = "6s" if step_s < 0 else "1h"
    timed = Timed(mvmctl, tmp_path, f"--ttl={lives}", f"--network-allow={ECHO}:7")
    timed.clock.step(step_s)
    if step_s < 0:
        timed.running.finish(closes_stdin=False).expect(124)
    else:
        assert timed.ended(timed.begin(ECHO, 7))[0] == "open"
        timed.finish().expect(0)
    _expect_steps(mvmctl)


@_STEPS
def test_a_step_of_the_clock_renews_no_budget_and_keeps_no_answer(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, tmp_path: Path, step_s: int
) -> None:
    """What was used up stays so; a name is asked for again after a second, and its private address denied."""
    host, private = internet.serve("echo", port=7), internet.host("private")
    aftermath.grant(internet.host("echo"), host)
    internet.answer(host.name, Answer(a=(host.v4,)), Answer(a=(private.v4,)))
    grants = (f"--network-allow={ECHO}:7,max-up=10", f"--network-allow={host.name}:7")
    timed = Timed(mvmctl, tmp_path, *grants, _SERVER)
    assert timed.ended(timed.begin(ECHO, 7, b"ten bytes."))[0] == "open"
    assert timed.ended(timed.begin(host.name, 7))[0] == "open"
    timed.clock.step(step_s)
    assert timed.ended(timed.begin(ECHO, 7))[0] == "ConnectionResetError"
    deadline = time.monotonic() + 20.0
    while (said := timed.ended(timed.begin(host.name, 7))[0]) == "open":
        assert time.monotonic() < deadline
    assert said == "ConnectionResetError"
    ended = timed.finish().expect(0)
    assert "budget-exceeded" in ended.stderr
    assert "private-address" in ended.stderr
    _expect_steps(mvmctl)


@pytest.mark.slow
def test_a_step_of_the_clock_moves_no_deadline(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, tmp_path: Path
) -> None:
    """To reach a host, to be asked for it whole, to have its name answered: as long as ever, both ways."""
    unanswered = internet.serve("echo", port=7)
    internet.answer(unanswered.name, Answer(manner="silent"))
    aftermath.grant(*map(internet.host, ("echo", "api", "silent")), unanswered)
    places = ((SILENT, 7), (API, 443), (unanswered.name, 7), (ECHO, 7))
    grants = [f"--network-allow={host}:{port}" for host, port in places]
    begun: list[tuple[Timed, dict[int, float]]] = []
    for step_s in (_BACK, _FORWARD):
        directory = tmp_path / str(step_s)
        directory.mkdir()
        timed = Timed(mvmctl, directory, *grants, _SERVER)
        lasts = {
            timed.begin(SILENT, 7): 30.0,
            timed.begin(API, 443, _HALF_A_HELLO): 10.0,
            timed.begin(unanswered.name, 7): 6.0,
        }
        for number in lasts:
            timed.expect_begun(number)
        assert timed.ended(timed.begin(ECHO, 7))[0] == "open"
        timed.clock.step(step_s)
        assert timed.ended(timed.begin(ECHO, 7))[0] == "open", "it has looked at its clock since"
        begun.append((timed, lasts))
    for timed, lasts in begun:
        for number, seconds in lasts.items():
            _, took = timed.ended(number)
            assert seconds <= took < seconds + _PATIENCE_S
        timed.finish().expect(0)
    _expect_steps(mvmctl)
