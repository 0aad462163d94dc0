"""Granted hosts that stay silent, drip, reset, end early or lie: the run goes on and leaves nothing."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest

from tests.faults.memory import expect_same_memory_after
from tests.support.upstream.services import LIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.conftest import Aftermath
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

BAD, ECHO, OTHER = "bad.example.test", "echo.example.test", "other.example.test"
_KINDS = ("drip", "mute", "stuck", "reset", "reset-at-once", "half-close", "end-first", "reset-midway")
_PORTS = {kind: port for port, kind in enumerate(_KINDS, 1001)}
_BUFFERS = 1 << 20
"""More than the sockets of a flow hold, and what `reset-midway` reads."""
_RESETS = {("ConnectionResetError", 0), ("BrokenPipeError", 0)}
_NUMBERS = itertools.count(1)
_CLIENT = r"""
import json, socket, sys

def talk(host, port, data, waits, ends, seconds, most):
    came, sock = b"", socket.create_connection((host, port), timeout=20)
    with sock:
        sock.settimeout(seconds)
        try:
            while waits and (part := sock.recv(1 << 16)):
                came += part
            sock.sendall(data)
            if ends:
                sock.shutdown(socket.SHUT_WR)
            while len(came) < most and (part := sock.recv(1 << 16)):
                came += part
            how = "enough" if len(came) >= most else "end"
        except TimeoutError:
            how = "silence"
        except ConnectionError as problem:
            how = type(problem).__name__
    return how, len(came), came[:4000].decode("latin-1")

for line in sys.stdin:
    *words, number = json.loads(line)
    try:
        said = talk(words[0], words[1], words[2].encode("latin-1"), *words[3:])
    except OSError as problem:
        said = type(problem).__name__, 0, ""
    print(json.dumps(said), number, sep="|", flush=True)
"""


class Talker:
    """A workload that talks to hosts as it is told."""

    def __init__(self, running: Running) -> None:
        """It has been started."""
        self.running = running

    def talk(
        self,
        host: str,
        port: int,
        data: bytes = b"hello\n",
        *,
        waits: bool = False,
        ends: bool = False,
        seconds: float = 10.0,
        most: int = 1 << 20,
    ) -> tuple[str, int, bytes]:
        """Send something and read: how that ended, how many bytes came, and the first 4,000 of them.

        With `waits` it sends once the host has said its last, with `ends` it says its own before it reads.
        """
        number = next(_NUMBERS)
        words = [host, port, data.decode("latin-1"), waits, ends, seconds, most, number]
        self.running.send(json.dumps(words).encode() + b"\n")
        said = self.running.until(f"|{number}\n", timeout_s=60).splitlines()[-1]
        how, size, came = json.loads(said.rpartition("|")[0])
        return how, size, came.encode("latin-1")

    def expect_same_memory_after(self, fault: Callable[[], object], *, times: int = 1) -> None:
        """As `memory.expect_same_memory_after`, of this run's gateway."""
        expect_same_memory_after(self.running.process.pid, fault, times=times)


@pytest.fixture
def talker(mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath) -> Iterator[Talker]:
    """A run that may reach the bad hosts, and whose others are served and denied as ever at its end."""
    aftermath.grant(internet.host("bad"), internet.host("echo"))
    grants = [f"--network-allow={BAD}:{port}" for port in _PORTS.values()]
    grants.append(f"--network-allow={ECHO}:7")
    running = mvmctl.start("run", "--name", "victim", *grants, "--", "/usr/bin/python3", "-c", _CLIENT)
    talker = Talker(running)
    assert talker.talk(ECHO, 7, most=6) == ("enough", 6, b"hello\n")
    yield talker
    assert talker.talk(OTHER, 443)[0] == "gaierror", "what is not granted stays denied beside it"
    assert talker.talk(ECHO, 7, most=6) == ("enough", 6, b"hello\n"), "others are served beside it"
    running.finish().expect(0)


def test_a_host_that_accepts_and_never_speaks_is_waited_for(talker: Talker) -> None:
    """The workload decides how long; the flow ends with its patience, and is closed at the host."""

    def fault() -> None:
        assert talker.talk(BAD, _PORTS["mute"], seconds=0.5) == ("silence", 0, b"")

    talker.expect_same_memory_after(fault)


def test_a_host_that_sends_a_byte_a_second_is_read_byte_by_byte(talker: Talker) -> None:
    """Nothing is gathered up: each byte comes as it is sent."""

    def fault() -> None:
        assert talker.talk(BAD, _PORTS["drip"], most=2) == ("enough", 2, b"..")

    talker.expect_same_memory_after(fault)


def test_a_host_that_does_not_read_holds_up_nobody_else(talker: Talker) -> None:
    """Megabytes to one that takes none: that flow stands still, alone, and they are not taken in."""

    def fault() -> None:
        assert talker.talk(BAD, _PORTS["stuck"], b"x\n" * (2 << 20), seconds=0.5)[:2] == ("silence", 0)

    talker.expect_same_memory_after(fault)


@pytest.mark.parametrize("when", ["reset", "reset-at-once"])
def test_a_host_that_resets_is_a_reset_inside(talker: Talker, when: str) -> None:
    """After the first bytes or before them: never a clean end, never silence."""

    def fault() -> None:
        assert talker.talk(BAD, _PORTS[when])[:2] in _RESETS

    talker.expect_same_memory_after(fault, times=20)


def test_a_host_that_resets_amid_an_upload_is_a_reset_inside(talker: Talker, internet: Internet) -> None:
    """After a megabyte of eight: the workload is told, and the rest is sent to nobody."""
    data = b"x\n" * (4 * _BUFFERS)

    def fault() -> None:
        before = internet.arrivals(BAD).bytes
        assert talker.talk(BAD, _PORTS["reset-midway"], data)[:2] in _RESETS
        assert _BUFFERS <= internet.arrivals(BAD).bytes - before < len(data)

    talker.expect_same_memory_after(fault)


def test_a_host_that_says_its_last_first_is_told_everything(talker: Talker, internet: Internet) -> None:
    """The workload reads the end, and what it sends then arrives, to the byte."""
    data = b"x\n" * _BUFFERS

    def fault() -> None:
        before = internet.arrivals(BAD).bytes
        said = talker.talk(BAD, _PORTS["end-first"], data, waits=True, ends=True)
        assert said == ("end", 0, b"")
        arrived = internet.wait_for_arrivals(BAD, bytes=before + len(data), timeout_s=30)
        assert arrived.bytes - before == len(data)

    talker.expect_same_memory_after(fault)


def test_a_half_closed_flow_is_answered(talker: Talker) -> None:
    """The host speaks once the workload has said its last."""
    data = b"x\n" * 50_000

    def fault() -> None:
        assert talker.talk(BAD, _PORTS["half-close"], data, ends=True)[2] == b"received 100000\n"

    talker.expect_same_memory_after(fault, times=10)


@pytest.mark.parametrize("lie", LIES)
def test_a_host_that_lies_about_lengths_lies_to_the_workload_alone(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, lie: str
) -> None:
    """What it sends arrives unchanged, then the end, and the end is the end."""
    port, request = 80, b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n"
    host = internet.serve(lie, port=port)
    aftermath.grant(host, internet.host("echo"))
    words = [f"--network-allow={host.name}:{port}", f"--network-allow={ECHO}:7"]
    running = mvmctl.start("run", "--name", "victim", *words, "--", "/usr/bin/python3", "-c", _CLIENT)
    talker = Talker(running)

    def fault() -> None:
        how, size, came = talker.talk(host.name, port, request % host.name.encode())
        assert (how, size, came) == ("end", len(LIES[lie]), LIES[lie][:4000])

    talker.expect_same_memory_after(fault, times=5)
    assert talker.talk(ECHO, 7, most=6) == ("enough", 6, b"hello\n")
    running.finish().expect(0)
