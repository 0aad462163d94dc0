"""Where every host is granted: any public one, checked and recorded as ever, and nothing that is not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy, try_at_once

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

API, OTHER = "api.example.test", "other.example.test"


def test_unrestricted_means_any_public_host_and_port(
    doorway: MakeDoorway, internet: Internet, ca_file: Path
) -> None:
    """Any name resolves, and any public address and port is reached, TLS checked as ever, all recorded."""
    door = doorway(policy(unrestricted=True))
    assert "hello from" in door.inside(lambda: clients.get_https(OTHER, 443, ca_file))
    host = internet.host("ssh")
    for address in host.addresses:
        assert door.inside(partial(clients.hear, address, 22)) == b"SSH-2.0-test\r\n"
    assert door.inside(lambda: clients.ask_udp("echo.example.test", 7, b"x")) == b"x"
    assert {flow["host"] for flow in door.ask("flows")} == {OTHER, *host.addresses, "echo.example.test"}

    def wrong() -> None:
        with clients.connect(OTHER, 443) as plain, clients.speak_tls(plain, ca_file, API):
            pass

    assert door.inside(lambda: clients.attempt(wrong)).what == "alert 49"


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.7",
        "192.0.2.1",
        "198.18.77.7",
        "fd00::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:db8::1",
    ],
)
@pytest.mark.parametrize("layer", ["tcp", "udp"])
def test_unrestricted_keeps_closed_what_is_not_public(
    doorway: MakeDoorway, internet: Internet, address: str, layer: str
) -> None:
    """Private, metadata and documentation addresses stay closed in every spelling, refused at once."""
    door = doorway(policy(unrestricted=True))
    if layer == "tcp":
        what, outside = try_at_once(door, internet, lambda: clients.connect(address, 80).recv(10))
        assert what in {"refused", "reset"}
    else:
        what, outside = try_at_once(door, internet, lambda: clients.ask_udp(address, 80, b"x"))
        assert what in {"refused", "EPERM"}
    assert not outside.packets
    (denied,) = door.denials
    assert (denied["layer"], denied["reason"], denied["count"]) == (layer, "private-address", 1)
