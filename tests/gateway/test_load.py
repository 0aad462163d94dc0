"""Many flows, much data, slow peers on both sides: bounded, fair, and nothing left behind."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.gateway import clients
from tests.gateway.doorway import policy
from tests.support.worked import worked_s

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import MakeDoorway
    from tests.gateway.doorway import Talk

pytestmark = pytest.mark.kernel

ECHO, SSH, API, BAD = "echo.example.test", "ssh.example.test", "api.example.test", "bad.example.test"

_PROMPTLY_S = 0.2
"""Of the gateway's own work: what it waits for a processor is not its doing."""


def test_a_thousand_connections_at_once(doorway: MakeDoorway) -> None:
    """Each is answered with its own word, all of them stand together, and all are gone afterwards."""
    count = 1000
    door = doorway(policy(f"{ECHO}:7"))
    before = door.ask("descriptors")

    def act(talk: Talk) -> bool:
        socks = clients.open_many(ECHO, 7, count)
        answered = clients.converse(socks) == [b"%d\n" % at for at in range(count)]
        talk.say("open")
        talk.hear()
        for sock in socks:
            sock.close()
        return answered

    running = door.start(act)
    assert running.talk.hear() == "open"
    assert door.ask("totals")[:2] == (count, count)
    running.talk.say()
    assert running.result()
    door.await_end_of_flows()
    # One wake-up for the resolver's threads, and the pipes of flows that wait for no other.
    assert door.ask("descriptors") <= before + 1
    assert len(door.records("flow.closed")) == count


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_hundred_megabytes_arrive_whole(doorway: MakeDoorway, direction: str) -> None:
    """What arrives is what was sent, and the sums say the same."""
    size = 100_000_000
    door = doorway(policy(f"{BAD}:1006", f"{API}:80"))

    def up() -> int:
        with clients.connect(BAD, 1006) as sock:
            chunk = bytes(1 << 20)
            for _ in range(size // len(chunk)):
                sock.sendall(chunk)
            sock.sendall(bytes(size % len(chunk)))
            sock.shutdown(socket.SHUT_WR)
            return int(clients.read_all(sock).removeprefix(b"received "))

    def down() -> int:
        with clients.connect(API, 80) as sock:
            sock.sendall(f"GET /bytes/{size} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(1 << 10)
            got, into = len(head) - head.index(b"\r\n\r\n") - 4, bytearray(1 << 20)
            while count := sock.recv_into(into):
                got += count
            return got

    assert door.inside(up if direction == "up" else down) == size
    door.await_end_of_flows()
    (flow,) = door.ask("flows")
    least = {"up": size, "down": size}[direction]
    assert least <= flow[direction] < least + 1000


@pytest.mark.slow
def test_thousands_one_after_the_other_leave_nothing(doorway: MakeDoorway, ca_file: Path) -> None:
    """Descriptors and memory are after 5,000 connections what they were after the first hundred."""
    door = doorway(policy(f"{ECHO}:7", f"{API}:443"))
    assert "hello from" in door.inside(lambda: clients.get_https(API, 443, ca_file))

    def act(count: int) -> int:
        address = clients.address_of(ECHO)
        good = 0
        for _ in range(count):
            with clients.connect(address, 7) as sock:
                sock.sendall(b"x\n")
                good += sock.recv(10) == b"x\n"
        return good

    assert door.inside(lambda: act(100)) == 100
    door.await_end_of_flows()
    before = door.ask("descriptors"), door.ask("memory")
    assert door.inside(lambda: act(5000)) == 5000
    door.await_end_of_flows()
    assert door.ask("descriptors") == before[0]
    assert door.ask("memory") < before[1] * 1.1
    assert door.ask("totals")[0] == 5101


def test_a_busy_flow_leaves_others_their_turn(doorway: MakeDoorway) -> None:
    """While four flows carry all they can, a fifth is answered promptly, each of 50 times in a row."""
    door = doorway(policy(f"{ECHO}:19", f"{ECHO}:7"))

    def drain(talk: Talk) -> None:
        with clients.connect(ECHO, 19) as sock:
            talk.say(len(sock.recv(1000)))
            while sock.recv(1 << 20):
                pass

    busy = [door.start(drain) for _ in range(4)]
    assert all(each.talk.hear() for each in busy)

    def act() -> float:
        slowest = 0.0
        with clients.connect(ECHO, 7) as sock:
            for _ in range(50):
                began = worked_s(door.pid)
                sock.sendall(b"x\n")
                assert sock.recv(10) == b"x\n"
                slowest = max(slowest, worked_s(door.pid) - began)
        return slowest

    before = worked_s(door.pid)
    assert door.inside(act) < _PROMPTLY_S
    assert worked_s(door.pid) > before


@pytest.mark.parametrize("side", ["workload", "host"])
def test_what_is_not_taken_is_not_taken_in(doorway: MakeDoorway, side: str) -> None:
    """A peer that stops reading stops the sender: the gateway holds little, and serves others meanwhile."""
    door = doorway(policy(f"{ECHO}:19", f"{BAD}:1003", f"{SSH}:22"))

    def stop_reading(talk: Talk) -> None:
        with clients.connect(ECHO, 19) as sock:
            sock.recv(1)
            talk.say("stopped")
            talk.hear()

    def send_to_deaf(talk: Talk) -> int:
        sent = 0
        with clients.connect(BAD, 1003) as sock:
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while True:
                    sent += sock.send(bytes(1 << 16))
            talk.say("stopped")
            talk.hear()
            return sent

    running = door.start(stop_reading if side == "workload" else send_to_deaf)
    assert running.talk.hear() == "stopped"
    assert door.inside(lambda: clients.connect(SSH, 22).recv(5)) == b"SSH-2"
    carried: list[int] = []
    while len(carried) < 2 or carried[-1] != carried[-2]:
        carried.append(sum(flow["up"] + flow["down"] for flow in door.ask("flows") if flow["host"] != SSH))
        assert door.inside(lambda: clients.connect(SSH, 22).recv(5)) == b"SSH-2"
        assert len(carried) < 50
    assert door.ask("memory") < 40_000_000
    running.talk.say()
    running.result()


def test_a_client_that_resets_while_the_host_is_deaf_is_let_go(doorway: MakeDoorway) -> None:
    """A flow whose bytes nobody takes ends when its sender is gone, not when the host wakes up."""
    door = doorway(policy(f"{BAD}:1003"))

    def act() -> None:
        with clients.connect(BAD, 1003) as sock:
            sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while True:
                    sock.send(bytes(1 << 16))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    door.inside(act)
    door.await_end_of_flows()
    assert [line["cause"] for line in door.records("flow.closed")] == ["guest"]


@pytest.mark.parametrize("service", [1004, 1005])
def test_a_host_that_resets_is_a_failure_of_the_network(doorway: MakeDoorway, service: int) -> None:
    """The reset reaches the workload, and is recorded as what it is."""
    door = doorway(policy(f"{BAD}:{service}"))

    def act() -> None:
        with clients.connect(BAD, service) as sock:
            sock.sendall(b"x\n")
            assert clients.was_reset(sock)

    assert door.inside(lambda: clients.attempt(act)).what in {"ok None", "reset"}
    door.await_end_of_flows()
    assert door.denials == []
    assert [(line["cause"], line["error"]) for line in door.records("flow.closed")] == [
        ("transport", "connection-reset")
    ]


# ---- names over TCP


def test_replies_reach_a_client_that_says_no_more(doorway: MakeDoorway) -> None:
    """Questions sent over TCP before the client's FIN are all answered (RFC 7766 section 6.2.4)."""
    door = doorway(policy(f"{API}:443"))

    def act() -> list[int]:
        with clients.connect("9.9.9.9", 53) as sock:
            for at in range(50):
                query = clients.name_query(API if at % 2 else "other.example.test", clients.A, at)
                sock.sendall(len(query).to_bytes(2, "big") + query)
            sock.shutdown(socket.SHUT_WR)
            data, numbers = clients.read_all(sock), []
            while data:
                size = int.from_bytes(data[:2], "big")
                numbers.append(int.from_bytes(data[2:4], "big"))
                data = data[2 + size :]
            return numbers

    assert door.inside(act) == list(range(50))


@pytest.mark.slow
def test_one_who_reads_late_gets_every_reply(local_doorway: MakeDoorway) -> None:
    """While replies wait to be taken no more questions are taken in, and none is lost by that."""
    door = local_doorway(policy(f"{API}:443"))

    def act() -> tuple[int, int]:
        query = clients.name_query("other.example.test", clients.A)
        framed = len(query).to_bytes(2, "big") + query
        batch, asked, got = framed * 1000, 0, 0
        with clients.connect("9.9.9.9", 53) as sock:
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                while asked < 300_000 * len(framed):
                    asked += sock.send(batch[asked % len(framed) :])
            sock.settimeout(clients.WAIT_S)
            while asked % len(framed) or got < (asked // len(framed)) * _REPLY_BYTES:
                data = sock.recv(1 << 20)
                assert data
                got += len(data)
                if asked % len(framed):
                    rest = framed[asked % len(framed) :]
                    sock.sendall(rest)
                    asked += len(rest)
        return asked // len(framed), got

    asked, got = door.inside(act)
    assert asked > 10_000
    assert got == asked * _REPLY_BYTES


_REPLY_BYTES = (
    2
    + 12
    + 24
    + 11
    + 6
    + len("not granted by policy; try: mvmctl run --network-allow other.example.test:443")
)


def test_one_who_asks_and_does_not_read_is_cut_off(doorway: MakeDoorway) -> None:
    """Questions without end over TCP are taken in only as far as replies are taken; others are answered."""
    door = doorway(policy(f"{API}:443"))

    def flood(talk: Talk) -> int:
        query = clients.name_query("other.example.test", clients.A)
        framed = (len(query).to_bytes(2, "big") + query) * 200
        sent = 0
        with clients.connect("9.9.9.9", 53) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(1)
            with contextlib.suppress(TimeoutError, ConnectionError):
                while sent < 50_000_000:
                    sent += sock.send(framed)
            talk.say("stuck")
            talk.hear()
        return sent

    running = door.start(flood)
    assert running.talk.hear() == "stuck"
    assert door.inside(lambda: clients.ask_name(API)).code == 0
    assert door.ask("memory") < 40_000_000
    running.talk.say()
    assert running.result() < 50_000_000
