"""Many flows, much data, slow and hostile peers on both sides: bounded, fair, and nothing left behind."""

from __future__ import annotations

import contextlib
import selectors
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
    from tests.gateway.doorway import Doorway, Talk
    from tests.support.internet import Internet

pytestmark = pytest.mark.kernel

ECHO, SSH, API, BAD = "echo.example.test", "ssh.example.test", "api.example.test", "bad.example.test"
ALERT = b"\x15\x03\x01\0\x02\x02\x31"


def open_many(host: str, port: int, count: int) -> list[socket.socket]:
    """Begin many connections at once, without waiting for any."""
    kind, _, _, _, place = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
    socks = []
    for _ in range(count):
        sock = socket.socket(kind, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex(place)
        socks.append(sock)
    return socks


def converse(socks: list[socket.socket]) -> list[bytes]:
    """Say a word of its own on each, all at once, and hear what each is answered."""
    heard = [b""] * len(socks)
    with selectors.DefaultSelector() as selector:
        for at, sock in enumerate(socks):
            selector.register(sock, selectors.EVENT_WRITE, at)
        end = time.monotonic() + 30
        while selector.get_map() and time.monotonic() < end:
            for key, events in selector.select(1):
                at = key.data
                try:
                    if events & selectors.EVENT_WRITE:
                        socks[at].send(b"%d\n" % at)
                        selector.modify(key.fileobj, selectors.EVENT_READ, at)
                    else:
                        heard[at] += socks[at].recv(100)
                except ConnectionResetError:
                    heard[at] = b"reset\n"
                if heard[at].endswith(b"\n"):
                    selector.unregister(key.fileobj)
    return heard


def test_a_thousand_connections_at_once(doorway: MakeDoorway) -> None:
    """Each is answered with its own word, all of them stand together, and all are gone afterwards."""
    count = 1000
    door = doorway(policy(f"{ECHO}:7"))
    before = door.ask("descriptors")

    def act(talk: Talk) -> bool:
        socks = open_many(ECHO, 7, count)
        answered = converse(socks) == [b"%d\n" % at for at in range(count)]
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
    wait_for_end(door)
    # One wake-up for the resolver's threads, and the pipes of flows that wait for no other.
    assert door.ask("descriptors") <= before + 1
    assert len(door.records("flow.closed")) == count


def wait_for_end(door: Doorway) -> None:
    """Wait until no flow stands; each answer of the gateway's process lets it do what is due first."""
    end = time.monotonic() + 10
    while door.ask("totals")[1]:
        assert time.monotonic() < end


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
    wait_for_end(door)
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
    wait_for_end(door)
    before = door.ask("descriptors"), door.ask("memory")
    assert door.inside(lambda: act(5000)) == 5000
    wait_for_end(door)
    assert door.ask("descriptors") == before[0]
    assert door.ask("memory") < before[1] * 1.1
    assert door.ask("totals")[0] == 5101


def test_a_busy_flow_leaves_others_their_turn(doorway: MakeDoorway) -> None:
    """While four flows carry all they can, a fifth is answered promptly."""
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
                began = time.monotonic()
                sock.sendall(b"x\n")
                assert sock.recv(10) == b"x\n"
                slowest = max(slowest, time.monotonic() - began)
        return slowest

    assert door.inside(act) < 0.5


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
    wait_for_end(door)
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
    wait_for_end(door)
    assert door.denials == []
    assert [(line["cause"], line["error"]) for line in door.records("flow.closed")] == [
        ("transport", "connection-reset")
    ]


# ---- first flights


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
        with clients.connect(host, port) as sock:
            began = time.monotonic()
            sock.sendall(opening)
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = clients.read_all(sock)
            return data, time.monotonic() - began

    data, seconds = door.inside(act)
    assert data.startswith(end)
    assert bool(data) is bool(end)
    assert short_patience - 0.1 < seconds < short_patience + 2
    assert [(denial["reason"], denial["host"]) for denial in door.denials] == [("malformed", host)]
    assert internet.arrivals(host).bytes == before


def test_where_a_server_may_speak_first_silence_is_no_fault(
    local_doorway: MakeDoorway, short_patience: float
) -> None:
    """A connection on any other port may be silent for as long as both ends like."""
    door = local_doorway(policy(f"{ECHO}:7"))

    def act() -> bytes:
        with clients.connect(ECHO, 7) as sock:
            time.sleep(short_patience + 1.2)  # longer than the time that others have
            sock.sendall(b"at last\n")
            return sock.recv(100)

    assert door.inside(act) == b"at last\n"


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
    assert seconds < short_patience + 2


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
    assert seen.seconds < short_patience + 2
    assert door.denials == []
    assert [failure["error"] for failure in door.ask("failures")] == ["timed out"]
    assert [line["error"] for line in door.records("flow.closed")] == ["timed-out"]


def test_a_udp_flow_ends_when_nothing_moves(doorway: MakeDoorway, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded as ended, and the next datagram opens another."""
    monkeypatch.setattr("mvm.gateway.udp.IDLE_SECONDS", 0.3)
    door = doorway(policy(f"{ECHO}:7/udp"))
    for at in range(2):
        assert door.inside(lambda: clients.ask_udp(ECHO, 7, b"x")) == b"x"
        wait_for_end(door)
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
        socks = open_many(API, 443, 2000)
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
            time.sleep(0.2)  # by now it has been answered; a client that is slow to read comes only then
            sock.sendall(bytes(100_000))
            return sock.recv(12)

    assert door.inside(act) == b"HTTP/1.1 403"


# ---- names


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


# ---- where there are no descriptors


def test_without_descriptors_flows_are_refused_and_come_back(doorway: MakeDoorway) -> None:
    """Beyond the last descriptor connections are reset at once, open ones go on, later all is as before."""
    door = doorway(policy(f"{ECHO}:7"))
    assert door.inside(lambda: converse(open_many(ECHO, 7, 1))) == [b"0\n"]

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
        heard = converse(open_many(ECHO, 7, 60))
        return sum(word == b"reset\n" for word in heard), heard.count(b""), time.monotonic() - began

    refused, hung, seconds = door.inside(crowd)
    assert refused > 40
    assert hung == 0
    assert seconds < 5
    held.talk.say()
    assert held.result() == b"still here\n"
    door.ask("restore_descriptors")
    assert door.inside(lambda: converse(open_many(ECHO, 7, 60))) == [b"%d\n" % at for at in range(60)]


def test_even_the_last_descriptor_may_be_lost(doorway: MakeDoorway) -> None:
    """Where the one kept for refusing can't be had again, connections wait, and are served when it can."""
    door = doorway(policy(f"{ECHO}:7"))
    assert door.inside(lambda: converse(open_many(ECHO, 7, 1))) == [b"0\n"]
    door.ask("leave_descriptors", -1)

    def wait(talk: Talk) -> list[bytes]:
        socks = open_many(ECHO, 7, 5)
        talk.say("begun")
        return converse(socks)

    waiting = door.start(wait)
    assert waiting.talk.hear() == "begun"
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert door.ask("ready")  # it looks again and again, and does not end
    door.ask("restore_descriptors")
    heard = waiting.result()
    assert all(word in {b"%d\n" % at, b"reset\n"} for at, word in enumerate(heard))
    assert door.inside(lambda: converse(open_many(ECHO, 7, 3))) == [b"0\n", b"1\n", b"2\n"]


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
