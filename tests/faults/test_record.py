"""Without a record nothing runs, and nothing more is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.disk import fill, forbidden, read_only, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.faults.conftest import Aftermath
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


def test_a_full_disk_starts_nothing(mvmctl: Mvmctl, small: Path, leftovers: Leftovers) -> None:
    """54: exit 74, nothing ran, nothing is left; the same command with room for its record runs."""
    leftovers.begin()
    filling = fill(small)
    ended = mvmctl("run", "--", "echo", "ran").expect(74)
    assert ended.stdout == ""
    leftovers.expect_none()
    filling.unlink()
    assert mvmctl("run", "--", "echo", "ran").expect(0).stdout == "ran\n"


@pytest.mark.parametrize(
    "withheld",
    [pytest.param(read_only, id="mount"), pytest.param(forbidden, id="mode", marks=pytest.mark.user_only)],
)
@pytest.mark.parametrize("has_run", [False, True], ids=["fresh", "used"])
def test_a_state_directory_that_cannot_be_written_starts_nothing(
    mvmctl: Mvmctl,
    leftovers: Leftovers,
    withheld: Callable[[Path], AbstractContextManager[None]],
    has_run: bool,
) -> None:
    """Mounted read-only, or of mode 0500: exit 74, nothing ran, nothing is left; writable again, it runs."""
    if has_run:
        mvmctl("run", "--", "true").expect(0)
    with withheld(mvmctl.state):
        before = sorted(mvmctl.state.rglob("*"))
        ended = mvmctl("run", "--", "echo", "ran").expect(74)
        assert ended.stdout == ""
        assert str(mvmctl.state) in ended.stderr
        assert sorted(mvmctl.state.rglob("*")) == before
    leftovers.expect_none()
    assert mvmctl("run", "--", "echo", "ran").expect(0).stdout == "ran\n"


def test_a_record_that_cannot_go_on_opens_nothing_more(
    mvmctl: Mvmctl, small: Path, internet: Internet, aftermath: Aftermath
) -> None:
    """54: what was recorded before stands; once the disk is full nothing opens, and the run ends with 74."""
    aftermath.grant(internet.host("echo"))
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
    mvmctl("audit", "verify", "--all").expect(0)
