"""What the tests of the Python API say to reach a host of the fake internet, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mvm

if TYPE_CHECKING:
    from mvm.declare.network import Network


def closed() -> Network:
    """A network with nothing in it."""
    return mvm.network(mode="none")


def open_to(*places: str) -> Network:
    """A network that is open to each `HOST:PORT`, by name."""
    grants = []
    for place in places:
        host, _, port = place.rpartition(":")
        grants.append(mvm.host_port(host, int(port)))
    return mvm.network(mode="bridge", egress=mvm.egress(grants), dns=mvm.dns_system())


def get(host: str) -> list[str]:
    """A command that fetches a page over plain HTTP and prints it; its status is not 0 if it can't."""
    return ["curl", "-sS", "--fail", "--max-time", "10", f"http://{host}/"]


def python(code: str) -> list[str]:
    """A command that runs Python code."""
    from tests.escape.inside import interpreter

    return [interpreter(), "-I", "-S", "-u", "-c", code]
