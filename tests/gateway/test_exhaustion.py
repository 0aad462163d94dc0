"""Where means run out, or the gateway itself ends: refused at once, never let through, and back again."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy

if TYPE_CHECKING:
    from tests.gateway.conftest import MakeDoorway
    from tests.gateway.doorway import Talk
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

ECHO = "echo.example.test"


def test_without_descriptors_flows_are_refused_and_come_back(doorway: MakeDoorway) -> None:
    """Beyond the last descriptor connections are reset at once, open ones go on, later all is as before."""
    door = doorway(policy(f"{ECHO}:7"))
    assert door.inside(lambda: clients.converse(clients.open_many(ECHO, 7, 1))) == [b"0\n"]

    def hold(talk: Talk) -> bytes:
        with clients.connect(ECHO, 7) as sock:
            sock.sendall(b"x\n")
            talk.say(sock.recv(10))
            talk.hear()
            sock.sendall(b"still here\n")
            return sock.recv(100)

    held = door.start(hold)
    assert held.talk.hear()
    door.ask("leave_descriptors", 10)

    def crowd() -> tuple[int, int, float]:
        began = time.monotonic()
        heard = clients.converse(clients.open_many(ECHO, 7, 60))
        return sum(word == b"reset\n" for word in heard), heard.count(b""), time.monotonic() - began

    refused, hung, seconds = door.inside(crowd)
    assert refused > 40
    assert hung == 0
    assert seconds < 5
    held.talk.say()
    assert held.result() == b"still here\n"
    door.ask("restore_descriptors")
    assert door.inside(lambda: clients.converse(clients.open_many(ECHO, 7, 60))) == [
        b"%d\n" % at for at in range(60)
    ]


def test_with_no_descriptor_left_the_one_that_is_kept_refuses(local_doorway: MakeDoorway) -> None:
    """Where not one could be had, the next connection is reset at once all the same, and the one after it."""
    door = local_doorway(policy(f"{ECHO}:7"))
    address = door.inside(lambda: clients.address_of(ECHO))

    def act() -> bytes:
        with clients.connect(address, 7) as sock:
            sock.settimeout(3)
            sock.sendall(b"x\n")
            return sock.recv(10)

    assert door.inside(act) == b"x\n"
    door.await_end_of_flows()
    door.ask("use_up_descriptors")
    for _ in range(2):
        assert door.inside(lambda: clients.attempt(act)).what == "reset"
    door.ask("restore_descriptors")
    assert door.inside(act) == b"x\n"


def test_even_the_last_descriptor_may_be_lost(doorway: MakeDoorway) -> None:
    """Where the one kept for refusing can't be had again, connections wait, and are served when it can."""
    door = doorway(policy(f"{ECHO}:7"))
    assert door.inside(lambda: clients.converse(clients.open_many(ECHO, 7, 1))) == [b"0\n"]
    door.ask("leave_descriptors", -1)

    def wait(talk: Talk) -> list[bytes]:
        socks = clients.open_many(ECHO, 7, 5)
        talk.say("begun")
        return clients.converse(socks)

    waiting = door.start(wait)
    assert waiting.talk.hear() == "begun"
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert door.ask("ready")  # it looks again and again, and does not end
    door.ask("restore_descriptors")
    heard = waiting.result()
    assert all(word in {b"%d\n" % at, b"reset\n"} for at, word in enumerate(heard))
    assert door.inside(lambda: clients.converse(clients.open_many(ECHO, 7, 3))) == [b"0\n", b"1\n", b"2\n"]


# ---- where the gateway itself ends


def test_when_the_gateway_is_killed_nothing_passes(doorway: MakeDoorway, internet: Internet) -> None:
    """Open flows are reset, and every attempt afterwards is refused at once."""
    door = doorway(policy(f"{ECHO}:7", f"{ECHO}:7/udp"))
    address = door.inside(lambda: clients.address_of(ECHO))

    def hold(talk: Talk) -> bool:
        with clients.connect(ECHO, 7) as sock:
            sock.sendall(b"x\n")
            talk.say(sock.recv(10))
            return clients.was_reset(sock)

    held = door.start(hold)
    assert held.talk.hear()
    door.kill()
    held.result()
    with internet.watch() as outside:
        for act in (
            lambda: clients.connect(address, 7),
            lambda: clients.ask_udp(address, 7, b"x"),
            lambda: clients.ask_name(ECHO),
            lambda: clients.connect(internet.host("echo").v4, 7),
        ):
            seen = door.inside(partial(clients.attempt, act))
            assert seen.what == "refused"
            assert seen.seconds < 1
    assert not outside.packets
