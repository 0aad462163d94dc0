"""What the gateway costs, counted in system calls and not timed: a connection, an exchange on it, a megabyte.

Owns these counts, of a real sandbox's gateway under strace(1). They hold the gains of
`docs/explanation/performance.md`: whoever adds a call to each connection changes a number here.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.reaching import python

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

_API, _ECHO = "api.example.test", "echo.example.test"
_COUNTS = 3
_MOST_FOR_NOTHING = 300
_CONNECTIONS = 200
_MOST_FOR_A_CONNECTION = 25.5
"""accept, getsockname twice, ioctl, socket, connect, epoll_ctl twice, setsockopt, four recv, two send, close
twice, shutdown, prlimit twice; its beginning and its end in the record; an accept that finds no other: 23.
And an answer that comes in two parts now and then.
"""
_GRANTS = (f"--network-allow={_API}:80", f"--network-allow={_ECHO}:7")
_EXCHANGES, _PIECE = 2000, 100
_MOST_FOR_AN_EXCHANGE = 4.5
"""A recv and a send each way, after the first 64 KiB too: a splice would have to ask whether there is more.
A piece that comes in two parts now and then.
"""
_MEGABYTES = 64
_MOST_FOR_A_MEGABYTE = 20
"""Eight splices of 256 KiB, four in and four out, if every one is full; half of that at the worst."""
_VISIT = f"""
import socket
address = socket.getaddrinfo("{_API}", 80, socket.AF_INET)[0][4]
for _ in range({_CONNECTIONS}):
    with socket.create_connection(address) as sock:
        sock.sendall(b"GET / HTTP/1.1\\r\\nHost: {_API}\\r\\nConnection: close\\r\\n\\r\\n")
        while sock.recv(65536):
            pass
"""
_CHAT = f"""
import socket
with socket.create_connection(("{_ECHO}", 7)) as sock:
    for _ in range({_EXCHANGES}):
        sock.sendall(b"x" * {_PIECE})
        got = 0
        while got < {_PIECE}:
            got += len(sock.recv(65536))
"""
_FETCH = f"""
import socket
with socket.create_connection(("{_API}", 80)) as sock:
    path = "/bytes/{_MEGABYTES << 20}"
    sock.sendall(f"GET {{path}} HTTP/1.1\\r\\nHost: {_API}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    room = bytearray(1 << 20)
    while sock.recv_into(room):
        pass
"""


@pytest.fixture
def counted(mvmctl: Mvmctl, internet: Internet, tmp_path: Path) -> Counted:
    """A sandbox whose gateway is watched by strace while something runs in it."""
    assert internet is not None
    mvmctl("up", "-d", "--name", "counted", *_GRANTS).expect(0)
    return Counted(mvmctl, tmp_path / "calls")


class Counted:
    """The system calls of one gateway."""

    def __init__(self, mvmctl: Mvmctl, report: Path) -> None:
        """Find its process."""
        self._mvmctl, self._report = mvmctl, report
        (listed,) = mvmctl("ls", "--json").expect(0).json["sandboxes"]
        self._pid = int(listed["pid"])
        self._run("pass")

    def _run(self, code: str) -> None:
        self._mvmctl("exec", "counted", "--", *python(code), timeout_s=60).expect(0)

    def calls(self, code: str) -> int:
        """How many the gateway makes while a program runs inside, the waiting for events apart.

        How often it waits hangs on how many events come together.
        """
        words = ["strace", "-f", "-c", "-o", str(self._report), "-p", str(self._pid)]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            if b"attached" not in strace.stderr.readline():
                pytest.skip("strace may not attach to processes here")
            self._run(code)
            strace.terminate()
        rows = [line.split() for line in self._report.read_text().splitlines()]
        counts = {row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit()}
        return counts["total"] - counts.get("epoll_wait", 0)

    def each(self, code: str, times: int, most: float) -> float:
        """How many for each of the things that a program does so many of: the fewest of up to three counts.

        In how many parts an answer comes hangs on what else this machine does.
        """
        idle = self.calls("pass")
        assert idle < _MOST_FOR_NOTHING
        found = [(self.calls(code) - idle) / times]
        while found[-1] > most and len(found) < _COUNTS:
            found.append((self.calls(code) - idle) / times)
        return min(found)


def test_a_connection_costs_so_many_calls(counted: Counted) -> None:
    """A whole connection, recorded, takes no more calls than it has steps; doing nothing takes few."""
    assert 10 < counted.each(_VISIT, _CONNECTIONS, _MOST_FOR_A_CONNECTION) <= _MOST_FOR_A_CONNECTION


def test_an_exchange_costs_so_many_calls(counted: Counted) -> None:
    """What is said in small pieces on a long connection takes no more calls than the first of it."""
    assert 3 < counted.each(_CHAT, _EXCHANGES, _MOST_FOR_AN_EXCHANGE) <= _MOST_FOR_AN_EXCHANGE


def test_a_megabyte_costs_so_many_calls(counted: Counted) -> None:
    """Bytes that are under way are spliced in large pieces."""
    assert counted.each(_FETCH, _MEGABYTES, _MOST_FOR_A_MEGABYTE) <= _MOST_FOR_A_MEGABYTE
