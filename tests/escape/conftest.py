"""What the tests of escapes share: sandboxes whose workload does what it is told, a service of the host."""

from __future__ import annotations

import contextlib
import platform
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.escape.confinement import Confined
from tests.escape.inside import Inside
from tests.support.mvmctl import Mvmctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.escape.inside import Start
    from tests.support.internet import Internet
    from tests.support.world import World

GRANTED = "api.example.test"


@pytest.fixture
def sandbox(mvmctl: Mvmctl, internet: Internet) -> Start:
    """Start a sandbox for the length of a `with` block: grants by position, other options in `options`."""

    def prepare(*grants: str, options: tuple[str, ...] = ()) -> Inside:
        allows = tuple(word for grant in grants for word in ("--network-allow", grant))
        return Inside(mvmctl, internet, (*allows, *options))

    return prepare


class HostService:
    """A listener on the host itself: on every address that it has, loopback too, at a port of its own."""

    def __init__(self) -> None:
        """Listen. Raises OSError."""
        self._sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self._sock.setblocking(False)
        self.port: int = self._sock.getsockname()[1]

    def arrived(self) -> int:
        """How many connections have come since this was last asked."""
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sock.accept()[0].close()
                found += 1
        return found

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


@pytest.fixture(scope="session")
def host_service(world: World) -> Iterator[HostService]:
    """A service of the host that no workload was meant to see."""
    assert world.directory.is_dir()
    made = HostService()
    yield made
    made.close()


@pytest.fixture(scope="module")
def foreign_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C program that calls by the entries of other machines; skips where there are none."""
    compiler = shutil.which("cc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no C compiler, or a machine without these entries")
    program = tmp_path_factory.mktemp("foreign") / "foreign_calls"
    source = Path(__file__).parents[1] / "kernel/foreign_calls.c"
    subprocess.run([compiler, "-o", program, source], check=True)
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def _confined(world: World, internet: Internet, shown: Path, *options: str) -> Iterator[Confined]:
    """One sandbox for many tries; at its end its granted host answers, and nothing was denied."""
    mvmctl = Mvmctl(Path(tempfile.mkdtemp(prefix="c", dir=world.directory)))
    shown.chmod(0o755)
    words = ("--network-allow", f"{GRANTED}:443", "-v", f"{shown}:/shown:ro", *options)
    try:
        with Inside(mvmctl, internet, words) as inside:
            made = Confined(inside, mvmctl, shown)
            yield made
            said = inside.allowed("tls", at=internet.host("api"), host=GRANTED, name=GRANTED)
            assert said.outcome == "answered"
        assert {denial["reason"] for denial in inside.result["denials"]} == made.reasons
    finally:
        mvmctl.close()


@pytest.fixture(scope="module")
def confined(
    world: World, internet: Internet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Confined]:
    """One sandbox for all tries of a module."""
    with _confined(world, internet, tmp_path_factory.mktemp("shown")) as made:
        yield made


@pytest.fixture(scope="module")
def limited(world: World, internet: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    """The same with limits, and so in a cgroup of its own where this user can make one."""
    options = ("--memory", "1GB", "--pids", "100")
    with _confined(world, internet, tmp_path_factory.mktemp("shown"), *options) as made:
        yield made
