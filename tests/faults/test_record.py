"""Without a record nothing runs, and nothing more is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.disk import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.faults

_TALK = (
    "import socket, sys\n"
    "def talk():\n"
    "    try:\n"
    "        s = socket.create_connection(('echo.example.test', 7)); s.sendall(b'x'); return s.recv(1)\n"
    "    except OSError as error:\n"
    "        return error\n"
    "print(talk(), flush=True)\n"
    "sys.stdin.readline()\n"
    "for _ in range(60): print(talk(), flush=True)\n"
)


@pytest.fixture
def small(mvmctl: Mvmctl) -> Iterator[Path]:
    """The state directory on a file system of 256 KiB."""
    with small_disk(mvmctl.state) as made:
        yield made


def test_a_state_directory_that_cannot_be_written_starts_nothing(
    mvmctl: Mvmctl, small: Path, leftovers: Leftovers
) -> None:
    """54: exit 74, nothing ran, nothing is left; the same command with room for its record runs."""
    filling = fill(small)
    ended = mvmctl("run", "--", "echo", "ran").expect(74)
    assert ended.stdout == ""
    leftovers.expect_none()
    filling.unlink()
    assert mvmctl("run", "--", "echo", "ran").expect(0).stdout == "ran\n"


def test_a_record_that_cannot_go_on_opens_nothing_more(
    mvmctl: Mvmctl, small: Path, internet: Internet, leftovers: Leftovers
) -> None:
    """54: what was recorded before stands; once the disk is full nothing opens, and the run ends with 74."""
    before = internet.arrivals("echo.example.test").connections
    running = mvmctl.start(
        "run", "--network-allow", "echo.example.test:7", "--", "/usr/bin/python3", "-c", _TALK
    )
    running.until("b'x'")
    fill(small)
    running.send(b"\n")
    running.finish().expect(74)
    # What is left of the last page of the log has room for a few lines more; then there is nothing.
    assert internet.arrivals("echo.example.test").connections - before < 20
    leftovers.expect_none()
    mvmctl("audit", "verify", "--all").expect(0)
