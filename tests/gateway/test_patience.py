"""What has to come in time, and within bounds: first bytes, requests, hosts; and what may take its time."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.gateway.doorway import Talk
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

ECHO, API = "echo.example.test", "api.example.test"
ALERT = b"\x15\x03\x01\0\x02\x02\x31"


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """Half a second instead of tens for all that has to come in time, in gateways made from now on."""
    for name in ("FIRST_FLIGHT_SECONDS", "CONNECT_SECONDS", "QUESTION_SECONDS"):
        monkeypatch.setattr(f"mvm.gateway.gateway.{name}", 0.5)
    return 0.5


@pytest.mark.parametrize(
    ("port", "opening", "end"),
    [
        (443, b"", b""),
        (443, b"\x16\x03\x01\x02\0\x01\0", ALERT),
        (80, b"", b""),
        (80, b"GET / HTTP/1.1\r\nHost: ", b"HTTP/1.1 403"),
        (8443, b"\x16\x03\x01\x02\0\x01\0", ALERT),
        (8443, b"GET / HTTP/1.1\r\n", b"HTTP/1.1 403"),
    ],
)
def test_first_bytes_that_do_not_come_in_time_end_the_flow(  # noqa: PLR0917
    doorway: MakeDoorway, internet: Internet, short_patience: float, port: int, opening: bytes, end: bytes
) -> None:
    """A connection that says nothing where it must, or never ends its hello or head, is refused in time."""
    door = doorway(policy(f"{API}:443", f"{API}:80", f"{ECHO}:8443"))
    host = ECHO if port == 8443 else API
    before = internet.arrivals(host).bytes

    def act() -> tuple[bytes, float]:
        began = time.monotonic()
        with clients.connect(host, port) as sock:
            sock.sendall(opening)
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = clients.read_all(sock)
            return data, time.monotonic() - began

    data, seconds = door.inside(act)
    assert data.startswith(end)
    assert bool(data) is bool(end)
    assert short_patience - 0.1 < seconds < short_patience + 5
    assert [(denial["reason"], denial["host"]) for denial in door.denials] == [("malformed", host)]
    assert internet.arrivals(host).bytes == before


def test_a_hello_that_goes_on_and_on_is_ended_in_time(
    local_doorway: MakeDoorway, internet: Internet, short_patience: float
) -> None:
    """A byte now and then buys no time: the flow ends as if nothing more had come, and nothing is dialled."""
    door = local_doorway(policy(f"{API}:443"))

    def act() -> bytes:
        with clients.connect(API, 443) as sock:
            sock.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
            end = time.monotonic() + 8 * short_patience
            while time.monotonic() < end:
                if select.select([sock], [], [], 0.1)[0]:
                    return sock.recv(100)
                with contextlib.suppress(ConnectionError):
                    sock.send(b"x")
        return b"it still goes on"

    with internet.watch() as outside:
        assert door.inside(act) == ALERT
    assert not outside.packets
    assert [denial["reason"] for denial in door.denials] == ["malformed"]


def test_where_a_server_may_speak_first_silence_is_no_fault(
    local_doorway: MakeDoorway, short_patience: float
) -> None:
    """A connection on any other port may be silent for longer than one that has to speak."""
    door = local_doorway(policy(f"{ECHO}:7", f"{API}:443"))

    def act() -> tuple[bool, bytes]:
        with clients.connect(ECHO, 7) as sock, clients.connect(API, 443) as other:
            was_reset = clients.was_reset(other)
            sock.sendall(b"at last\n")
            return was_reset, sock.recv(100)

    assert short_patience
    assert door.inside(act) == (True, b"at last\n")


@pytest.mark.parametrize(
    ("place", "opening"),
    [
        (("9.9.9.9", 53), b""),
        (("9.9.9.9", 53), b"\0\x30half a question"),
        (("policy.mvm.internal", 80), b""),
        (("policy.mvm.internal", 80), b"GET / HTTP/1.1\r\nHost: "),
    ],
)
def test_who_visits_and_asks_nothing_is_sent_away(
    doorway: MakeDoorway, short_patience: float, place: tuple[str, int], opening: bytes
) -> None:
    """A connection for names or for the policy's page that asks nothing whole is reset in time."""
    door = doorway(policy(f"{API}:443"))

    def act() -> tuple[bool, float]:
        with clients.connect(*place) as sock:
            began = time.monotonic()
            sock.sendall(opening)
            return clients.was_reset(sock), time.monotonic() - began

    was_reset, seconds = door.inside(act)
    assert was_reset
    assert seconds < short_patience + 5


@pytest.mark.parametrize("http", [False, True])
def test_a_host_that_never_answers_is_given_up(
    doorway: MakeDoorway, short_patience: float, http: bool
) -> None:
    """A dial that comes to nothing in time is a failure of the network: RST, or 502 to a browser."""
    port = 80 if http else 22
    door = doorway(policy(f"silent.example.test:{port}"))
    act = partial(clients.get_http if http else clients.hear, "silent.example.test", port)
    seen = door.inside(lambda: clients.attempt(act))
    assert seen.what.startswith("ok 'HTTP/1.1 502" if http else "reset")
    assert seen.seconds < short_patience + 5
    assert door.denials == []
    assert [failure["error"] for failure in door.ask("failures")] == ["timed out"]
    assert [line["error"] for line in door.records("flow.closed")] == ["timed-out"]


def test_a_udp_flow_ends_when_nothing_moves(doorway: MakeDoorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded as ended, and the next datagram opens another."""
    monkeypatch.setattr("mvm.gateway.udp.IDLE_SECONDS", 0.3)
    door = doorway(policy(f"{ECHO}:7/udp"))
    for at in range(2):
        assert door.inside(lambda: clients.ask_udp(ECHO, 7, b"x")) == b"x"
        door.await_end_of_flows()
        assert len(door.records("flow.closed")) == at + 1


@pytest.mark.parametrize(
    ("port", "opening", "end"),
    [
        (443, b"\x16\x03\x01\x40\0\x01\0\x40\0" + bytes(20000), ALERT),
        (443, (b"\x16\x03\x01\0\x01" + b"\x01") + (b"\x16\x03\x01\0\x01" + b"\0") * 100, ALERT),
        (80, b"GET / HTTP/1.1\r\nX: " + b"x" * 20000, b"HTTP/1.1 403"),
    ],
)
def test_a_first_flight_is_bounded(
    doorway: MakeDoorway, internet: Internet, port: int, opening: bytes, end: bytes
) -> None:
    """More than 16 KiB, or too many records, is refused at once, and nothing is dialled."""
    door = doorway(policy(f"{API}:443", f"{API}:80"))

    def act() -> bytes:
        with clients.connect(API, port) as sock:
            with contextlib.suppress(ConnectionError):
                sock.sendall(opening)
            return sock.recv(100)

    with internet.watch() as outside:
        assert door.inside(act).startswith(end)
    assert not outside.packets
    assert [denial["reason"] for denial in door.denials] == ["malformed"]


def test_thousands_that_say_nothing_do_not_hinder_one_that_does(
    local_doorway: MakeDoorway, ca_file: Path, short_patience: float
) -> None:
    """Silent connections to a TLS port cost no more than their descriptors, and end in time."""
    door = local_doorway(policy(f"{API}:443"))
    before = door.ask("memory")

    def hold(talk: Talk) -> int:
        socks = clients.open_many(API, 443, 2000)
        talk.say("open")
        talk.hear()
        reset = 0
        for sock in socks:
            sock.settimeout(clients.WAIT_S)
            reset += clients.was_reset(sock)
        return reset

    held = door.start(hold)
    assert held.talk.hear() == "open"
    assert "hello from" in door.inside(lambda: clients.get_https(API, 443, ca_file))
    assert door.ask("memory") < before + 20_000_000
    held.talk.say()
    assert held.result() == 2000
    assert short_patience
    assert [(denial["reason"], denial["count"]) for denial in door.denials] == [("malformed", 2000)]


def test_a_denial_is_read_even_by_one_who_goes_on_sending(doorway: MakeDoorway) -> None:
    """A client that sends megabytes behind a refused head still gets to read why."""
    door = doorway(policy(f"{API}:80"))

    def act() -> bytes:
        with clients.connect(API, 80) as sock:
            head = b"POST / HTTP/1.1\r\nHost: other.example.test\r\nContent-Length: 200000\r\n\r\n"
            sock.sendall(head + bytes(100_000))
            sock.recv(1, socket.MSG_PEEK)  # it has been answered; a slow reader comes to that only later
            sock.sendall(bytes(100_000))
            return sock.recv(12)

    assert door.inside(act) == b"HTTP/1.1 403"
