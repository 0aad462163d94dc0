"""What the tests of escapes share: `sandbox`, whose workload does what it is told, and `host_service`."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.escape.inside import Inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.escape.inside import Start
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl
    from tests.support.world import World


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
