"""A page for the workload: what it may reach and what it lacks, to be read and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy

if TYPE_CHECKING:
    from tests.gateway.conftest import MakeDoorway

pytestmark = pytest.mark.kernel

API, OTHER = "api.example.test", "other.example.test"


def test_the_workload_can_read_what_it_may_and_what_it_was_denied(doorway: MakeDoorway) -> None:
    """http://policy.mvm.internal/ has the grants with what is left of them, and the denials so far."""
    door = doorway(policy(f'{API}:443,max-down=1000,expires=10m,reason="it asks, and pays"'))
    door.inside(lambda: clients.ask_name(OTHER))
    page = door.inside(clients.read_portal)
    (grant,) = page["grants"]
    assert (grant["host"], grant["port"], grant["reason"]) == (API, 443, "it asks, and pays")
    assert (grant["down_left"], grant["up_left"], grant["ended"]) == (1000, None, None)
    assert 590 < grant["expires_in_s"] <= 600
    (denied,) = page["denials"]
    assert (denied["host"], denied["remedy"]["flag"]) == (OTHER, f"--network-allow {OTHER}:443")


@pytest.mark.parametrize("method", ["POST", "DELETE", "BREW"])
def test_the_page_can_only_be_read(doorway: MakeDoorway, method: str) -> None:
    """Other methods are refused, and nothing is changed by them."""
    door = doorway(policy(f"{API}:443"))
    before = door.ask("digest")

    def act() -> str:
        with clients.connect("policy.mvm.internal", 80) as sock:
            sock.sendall(f"{method} / HTTP/1.1\r\nHost: policy.mvm.internal\r\n\r\n".encode())
            return clients.read_http(sock)

    assert door.inside(act).startswith("HTTP/1.1 405 ")
    assert door.ask("digest") == before
