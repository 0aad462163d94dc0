"""Crash reports: no process of a sandbox leaves one, nor starts the host's program that writes them."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.escape import processes
from tests.sandbox.reaching import python

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

_NOTHING = "00000000"


def _limit(pid: int) -> tuple[str, ...]:
    """The soft and the hard limit of core files."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return tuple(next(line for line in lines if line.startswith("Max core file size")).split()[4:6])


def _filter(pid: int) -> str:
    """Of which kinds of memory a crash report tells (core(5))."""
    path = Path(f"/proc/{pid}/coredump_filter")
    if not path.exists():
        pytest.skip("this kernel leaves no cores at all")
    return path.read_text().strip()


@pytest.fixture
def _with_cores() -> Iterator[None]:
    """Cores are wanted by whoever starts mvmctl, as far as this machine lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("_with_cores")
@pytest.mark.parametrize("most", ["unlimited", "0"])
def test_no_process_of_a_sandbox_leaves_an_image(mvmctl: Mvmctl, most: str) -> None:
    """44: supervisor, keeper, init and command: a limit of 1, at which a piped core_pattern starts nothing.

    Where the caller's hard limit is 0, which an ordinary user can't raise, no memory would be told of.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if most == "unlimited" and hard != resource.RLIM_INFINITY:
        pytest.skip("this machine's own hard limit of core files is not unlimited")
    wanted = "0" if most == "0" else "1"
    mvmctl.command = ["sh", "-c", f'ulimit -c {most} && exec "$@"', "sh", *mvmctl.command]
    running = mvmctl.start("run", "--", "sh", "-c", "echo ready; exec sleep 600")
    running.until("ready\n")
    pids = processes.below(running.process.pid)
    assert len(pids) == 4
    assert {_limit(pid)[0] for pid in pids} == {wanted}
    assert {_filter(pid) for pid in pids} == {_NOTHING}
    inside = processes.inside(running.process.pid)
    assert {_limit(pid) for pid in inside} == {(wanted, wanted)}
    assert len(inside) == 2
    assert _filter(os.getpid()) != _NOTHING


def test_a_joined_terminal_is_in_no_image(mvmctl: Mvmctl) -> None:
    """44: `exec`, through which what is typed and shown may pass, leaves none either."""
    mvmctl("up", "-d", "--name", "agent").expect(0)
    running = mvmctl.start("exec", "agent", "sh", "-c", "echo ready; exec sleep 600")
    running.until("ready\n")
    assert _filter(running.process.pid) == _NOTHING
    assert _limit(running.process.pid)[0] in {"0", "1"}
    mvmctl("down", "agent").expect(0)


_SETTING = """
import ctypes, resource as r
CORE, FILES = r.RLIMIT_CORE, r.RLIMIT_NOFILE
libc = ctypes.CDLL(None, use_errno=True)
pair = (ctypes.c_ulong * 2)(0, 0)
most = r.getrlimit(CORE)[1]
said = [libc.setrlimit(CORE, pair), libc.prlimit(0, CORE, pair, None), libc.prlimit(0, CORE, pair, pair)]
r.setrlimit(FILES, (64, 64))
print(most, said, r.getrlimit(CORE) == (most, most), r.getrlimit(FILES))
"""


def test_a_workload_keeps_the_limit_of_cores(mvmctl: Mvmctl) -> None:
    """44: it is told that it lowered it, and has not: at 0 its crash could start a program of the host's.

    Any other limit it lowers as ever.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    most = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    said = mvmctl("run", "--", *python(_SETTING)).expect(0).stdout
    assert said == f"{most} [0, 0, 0] True (64, 64)\n"
