"""Name servers that are silent, lie, change their mind or say too much: no address is made of it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.memory import expect_same_memory_after
from tests.support import addresses
from tests.support.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.conftest import Aftermath
    from tests.support.answers import Manner
    from tests.support.cast import Host
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.faults

_CLIENT = r"""
import socket, sys, threading, time

def connect(name, number):
    began = time.monotonic()
    try:
        with socket.create_connection((name, 7), timeout=30) as s:
            s.sendall(b"x"); said = s.recv(1)
    except OSError as problem:
        said = type(problem).__name__
    when = "late" if time.monotonic() - began > 20 else "soon"
    print(f"{said} {when}|{number}\n", end="", flush=True)

for line in sys.stdin:
    threading.Thread(target=connect, args=line.split()).start()
"""
_SERVER = f"--dns=resolver={addresses.NAME_SERVERS[0]}"
_FALSE: tuple[Manner, ...] = ("silent", "wrong-id", "wrong-question", "garbage", "cut", "no-tcp", "loop")


class Asked:
    """A run that may reach some hosts, all of which serve echo, and whose name server behaves as told."""

    def __init__(
        self, mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, *, dns: tuple[str, ...], count: int
    ) -> None:
        """Start it, with so many hosts."""
        self.hosts = tuple(internet.serve("echo", port=7) for _ in range(count))
        aftermath.grant(*self.hosts)
        grants = (f"--network-allow={host.name}:7" for host in self.hosts)
        self.running: Running = mvmctl.start("run", *grants, *dns, "--", "/usr/bin/python3", "-c", _CLIENT)
        self._numbers = itertools.count(1)

    def connect(self, *hosts: Host) -> list[str]:
        """Connect to all of them at once, by name, and tell what came of each."""
        numbers = [next(self._numbers) for _ in hosts]
        for host, number in zip(hosts, numbers, strict=True):
            self.running.send(f"{host.name} {number}\n".encode())
        return [self._said(f"|{number}") for number in numbers]

    def _said(self, mark: str) -> str:
        lines = self.running.until(f"{mark}\n", timeout_s=60).splitlines()
        (line,) = (line for line in lines if line.endswith(mark))
        return line.removesuffix(mark)

    @property
    def pid(self) -> int:
        """The process that holds the gateway."""
        return self.running.process.pid


@pytest.fixture
def asked(mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath) -> Iterator[Asked]:
    """A run with two hosts whose names one given server resolves: the second is met when all is warm."""
    made = Asked(mvmctl, internet, aftermath, dns=(_SERVER,), count=2)
    yield made
    made.running.finish().expect(0)


def _true(host: Host, manner: Manner) -> Answer:
    return Answer(a=(host.v4,), aaaa=(host.v6,), manner=manner)


@pytest.mark.slow
def test_a_server_that_is_silent_or_lies_makes_no_address(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath
) -> None:
    """Silence, forgeries, garbage, half an answer: each connection fails in its time and reaches nobody."""
    asked = Asked(mvmctl, internet, aftermath, dns=(_SERVER,), count=len(_FALSE))
    for host, manner in zip(asked.hosts, _FALSE, strict=True):
        internet.answer(host.name, _true(host, manner))

    def fault() -> None:
        for manner, said in zip(_FALSE, asked.connect(*asked.hosts), strict=True):
            assert said.endswith("Error soon"), (manner, said)

    with internet.watch() as outside:
        expect_same_memory_after(asked.pid, fault)
        asked.running.finish().expect(0)
    assert outside.besides_names == {}


@pytest.mark.parametrize("manner", ["plain", "wrong-then-right", "truncated", "foreign"])
def test_a_true_answer_is_found_among_others(asked: Asked, internet: Internet, manner: Manner) -> None:
    """The twin: behind a forgery, by TCP where it was cut, beside records of a name that wasn't asked."""
    hosts = iter(asked.hosts)

    def fault() -> None:
        host = next(hosts)
        internet.answer(host.name, _true(host, manner))
        assert asked.connect(host) == ["b'x' soon"]
        by_tcp = [each for each in internet.questions(host.name) if each.transport == "tcp"]
        assert bool(by_tcp) is (manner == "truncated")

    expect_same_memory_after(asked.pid, fault)


def test_four_thousand_records_are_read_and_a_few_dialled(
    asked: Asked, internet: Internet, aftermath: Aftermath
) -> None:
    """The answer comes over TCP; of its addresses sixteen at most are met, and the first of them answers."""
    many = tuple(f"93.184.{at >> 8}.{at & 255}" for at in range(1, 4000))
    aftermath.granted.update(many)
    hosts = iter(asked.hosts)

    def fault() -> None:
        host = next(hosts)
        internet.answer(host.name, Answer(a=(host.v4, *many)))
        with internet.watch() as outside:
            assert asked.connect(host) == ["b'x' soon"]
        met = {packet.address for packet in outside.besides_names}
        assert met <= {host.v4, *many}
        assert len(met) <= 16

    expect_same_memory_after(asked.pid, fault)


def test_one_private_address_among_four_thousand_refuses_them_all(asked: Asked, internet: Internet) -> None:
    """Wherever it stands among them."""
    many = tuple(f"93.184.{at >> 8}.{at & 255}" for at in range(1, 4000))
    hosts = iter(asked.hosts)

    def fault() -> None:
        host = next(hosts)
        internet.answer(host.name, Answer(a=(*many, "10.1.2.3", host.v4)))
        with internet.watch() as outside:
            assert asked.connect(host) == ["ConnectionResetError soon"]
        assert outside.besides_names == {}

    expect_same_memory_after(asked.pid, fault)


@pytest.mark.parametrize("dns", [(), (_SERVER,)], ids=["system", "resolver"])
def test_a_name_that_is_rebound_between_two_answers_reaches_nothing_private(
    mvmctl: Mvmctl, internet: Internet, aftermath: Aftermath, dns: tuple[str, ...]
) -> None:
    """First its own address, then one of this network's: the second connection is denied, and recorded so."""
    asked = Asked(mvmctl, internet, aftermath, dns=dns, count=2)
    private = internet.host("private")
    hosts = iter(asked.hosts)

    def fault() -> None:
        host = next(hosts)
        internet.answer(host.name, Answer(a=(host.v4,)), Answer(a=(private.v4,)))
        with internet.watch() as outside:
            assert asked.connect(host) == ["b'x' soon"]
            deadline = time.monotonic() + 20.0  # what was answered first is kept for a second
            while (said := asked.connect(host)) == ["b'x' soon"]:
                assert time.monotonic() < deadline
            assert said == ["ConnectionResetError soon"]
        assert {packet.address for packet in outside.besides_names} == {host.v4}

    expect_same_memory_after(asked.pid, fault)
    asked.running.finish().expect(0)
    denials = mvmctl("audit", "show", "--json").expect(0).stdout
    assert "private-address" in denials
