"""Bytes of one flow over socket pairs: whole, in order, both ways, and within the budget."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvm.gateway.checked import AnswerHalf, RequestHalf
from mvm.gateway.flow import Cleared, FirstFlight
from mvm.gateway.loop import Loop
from mvm.gateway.relay import EVENTS, RESET_BY_CLIENT, Half, Pipes, Refusal, Relay
from mvm.policy.decide import Tally
from mvm.terms import Reason
from tests.gateway.test_flow import API, OTHER, allowed, request

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bench:
    """A relay between two socket pairs: `client` and `host` are the far ends."""

    def __init__(self, *, most_up: int | None = None, request_half: bool = False) -> None:
        self.loop, self.pipes = Loop(), Pipes()
        self.client, near = socket.socketpair()
        self.host, far = socket.socketpair()
        for sock in (self.client, near, self.host, far):
            sock.setblocking(False)
        self.ends: list[str | Refusal | None] = []
        up, down = Tally(most_up), Tally(None)
        self.near = near
        if request_half:
            leave = allowed(f"{API}:80")
            answers = AnswerHalf(far, near, self.pipes, leave, self._go_on)
            self.flight = FirstFlight(leave)
            requests = RequestHalf(near, far, self.pipes, leave, answers, None, lambda: None)
            self.relay = Relay(self.loop, requests, answers, self.ends.append)
        else:
            self.relay = Relay(
                self.loop,
                Half(near, far, self.pipes, up),
                Half(far, near, self.pipes, down),
                self.ends.append,
            )
        self.loop.watch(near.fileno(), EVENTS, self.relay.on_client)
        self.loop.watch(far.fileno(), EVENTS, self.relay.on_upstream)

    def _go_on(self) -> None:
        self.loop.soon(lambda: self.relay.resume(self.relay.up))

    def open_with(self, data: bytes) -> None:
        """Hand over what the client opened with, judged as the flow does."""
        verdict = self.flight.feed(data)
        assert isinstance(verdict, Cleared)
        assert isinstance(self.relay.up, RequestHalf)
        self.relay.up.clear(verdict)
        self.relay.pump(self.relay.up)

    def turn(self) -> None:
        """Do all that can be done now."""
        self.loop.after(0, self.loop.stop)
        self.loop.run()
        self.loop.after(0, self.loop.stop)
        self.loop.run()

    def close(self) -> None:
        """Let go of everything."""
        self.relay.close("the test is over")
        for sock in (self.client, self.host, self.near):
            sock.close()
        self.pipes.close()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A relay without a budget."""
    made = Bench()
    yield made
    made.close()


def read_now(sock: socket.socket) -> bytes:
    """Everything that is there."""
    data = b""
    try:
        while more := sock.recv(1 << 20):
            data += more
    except (BlockingIOError, ConnectionResetError):
        return data
    return data


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 200_000)), max_size=8), st.booleans())
def test_both_directions_carry_what_came(acts: list[tuple[bool, int]], late_reader: bool) -> None:
    """Any pieces both ways, small by copy and large by splice, with a reader that comes late or not."""
    bench = Bench()
    try:
        sent = {True: b"", False: b""}
        got = {True: b"", False: b""}
        queues = {True: b"", False: b""}
        for at, (upward, size) in enumerate(acts):
            queues[upward] += bytes([at + 1]) * size
        sources = {True: bench.client, False: bench.host}
        for _ in range(400):
            for upward, sock in sources.items():
                if queues[upward]:
                    try:
                        count = sock.send(queues[upward])
                    except BlockingIOError:
                        count = 0
                    sent[upward] += queues[upward][:count]
                    queues[upward] = queues[upward][count:]
            bench.turn()
            if not late_reader or not any(queues.values()) or _ % 5 == 4:
                for upward, sock in ((True, bench.host), (False, bench.client)):
                    got[upward] += read_now(sock)
            if not any(queues.values()) and got == sent:
                break
        assert got == sent
        assert (bench.relay.up.carried, bench.relay.down.carried) == (len(sent[True]), len(sent[False]))
    finally:
        bench.close()


def test_the_answer_comes_back_after_the_end_of_the_question(bench: Bench) -> None:
    """Half-close: the host hears the end, answers megabytes, and both ends close cleanly."""
    bench.client.send(b"question")
    bench.client.shutdown(socket.SHUT_WR)
    bench.turn()
    assert (bench.host.recv(100), bench.host.recv(100)) == (b"question", b"")
    answer, got = os.urandom(3_000_000), b""
    rest = answer
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            rest = rest[bench.host.send(rest) :] if rest else rest
        bench.turn()
        got += read_now(bench.client)
        if got == answer:
            break
    assert got == answer
    bench.host.close()
    bench.turn()
    assert bench.client.recv(1) == b""
    assert bench.ends == [None]


@pytest.mark.parametrize("side", ["client", "host"])
def test_an_end_that_is_gone_ends_the_flow(bench: Bench, side: str) -> None:
    """Closed with bytes unread, a peer resets: the other end is told, and who it was is known."""
    near, far = (bench.client, bench.host) if side == "client" else (bench.host, bench.client)
    far.send(b"unread")
    bench.turn()
    near.close()
    far.send(b"more")
    bench.turn()
    far.setblocking(True)
    far.settimeout(5)
    assert read_now(far) == b""
    (why,) = bench.ends
    assert why == (RESET_BY_CLIENT if side == "client" else "connection reset")


def test_a_blocked_flow_holds_little(bench: Bench) -> None:
    """Nothing is taken in while the target takes nothing: what is held is one pipe at most."""
    taken = 0
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            taken += bench.client.send(bytes(1 << 16))
        bench.turn()
    in_kernel = len(read_now(bench.host)) and bench.relay.up.carried
    assert bench.relay.up.carried <= taken
    assert in_kernel < 4_000_000


@pytest.mark.parametrize("most", [1, 1000, 65536, 65537, 300_000])
@pytest.mark.parametrize("extra", [0, 1, 100_000])
def test_a_budget_is_kept_to_the_byte(most: int, extra: int) -> None:
    """Exactly as many bytes pass as it allows; the flow is refused at the next one, and only then."""
    bench = Bench(most_up=most)
    try:
        rest, got = bytes(most + extra), b""
        for _ in range(400):
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                rest = rest[bench.client.send(rest) :] if rest and not bench.ends else rest
            bench.turn()
            got += read_now(bench.host)
            if bench.ends or (not rest and len(got) == most):
                break
        assert len(got) <= most
        if not extra:
            assert (len(got), bench.ends) == (most, [])
            bench.client.shutdown(socket.SHUT_WR)
            bench.host.shutdown(socket.SHUT_WR)
            bench.turn()
            assert bench.ends == [None]
        else:
            (why,) = bench.ends
            assert isinstance(why, Refusal)
            assert why.reason is Reason.BUDGET_EXCEEDED
    finally:
        bench.close()


def test_pipes_are_given_back(bench: Bench) -> None:
    """A direction holds a pipe only while it holds bytes; one that ends with bytes in it is thrown away."""
    for _ in range(10):
        bench.client.send(bytes(50_000))
        bench.turn()
        assert read_now(bench.host)
    assert len(bench.pipes._free) == 1  # noqa: SLF001  what the pool holds
    while True:
        try:
            bench.client.send(bytes(1 << 16))
        except BlockingIOError:
            break
        bench.turn()
    bench.relay.close("enough")
    assert bench.pipes._free == []  # noqa: SLF001
    assert bench.ends == ["enough"]


def test_without_descriptors_bytes_are_copied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no pipe can be had, everything goes on through memory."""

    def no_pipe(_flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", no_pipe)
    data, got = os.urandom(1_000_000), b""
    rest = data
    for _ in range(500):
        with contextlib.suppress(BlockingIOError):
            rest = rest[bench.client.send(rest) :] if rest else rest
        bench.turn()
        got += read_now(bench.host)
        if got == data:
            break
    assert got == data


# ---- HTTP


UPGRADE = f"GET /chat HTTP/1.1\r\nHost: {API}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode()


@pytest.fixture
def checked() -> Iterator[Bench]:
    """A relay that checks every request."""
    made = Bench(request_half=True)
    yield made
    made.close()


def test_frames_wait_for_the_hosts_word(checked: Bench) -> None:
    """What is sent behind an upgrade goes on when the host has said 101, and not before."""
    checked.open_with(UPGRADE + b"\x81\x00early")
    checked.turn()
    assert read_now(checked.host) == UPGRADE
    checked.client.send(b"\x81\x00later")
    checked.turn()
    assert read_now(checked.host) == b""
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00frame"
    checked.host.send(answer)
    checked.turn()
    checked.turn()
    assert read_now(checked.client) == answer
    assert read_now(checked.host) == b"\x81\x00early\x81\x00later"
    checked.client.send(request(OTHER))
    checked.turn()
    assert read_now(checked.host) == request(OTHER)


def test_many_frames_may_wait(checked: Bench) -> None:
    """More than is held behind an upgrade waits in the client's own socket, and none of it is lost."""
    early = os.urandom(100_000)
    checked.open_with(UPGRADE)
    rest, got = early, b""
    for at in range(50):
        with contextlib.suppress(BlockingIOError):
            rest = rest[checked.client.send(rest) :] if rest else rest
        checked.turn()
        got += read_now(checked.host)
        if at == 10:
            assert got == UPGRADE
            checked.host.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    assert got == UPGRADE + early
    assert checked.ends == []


@pytest.mark.parametrize("second", [API, OTHER])
def test_a_declined_upgrade_leaves_requests_that_are_checked(checked: Bench, second: str) -> None:
    """What was held is read as HTTP after all: for the granted host it goes on, else it ends the flow."""
    checked.open_with(UPGRADE + request(second))
    checked.turn()
    assert read_now(checked.host) == UPGRADE
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    checked.host.send(answer)
    checked.turn()
    checked.turn()
    if second == API:
        assert read_now(checked.host) == request(API)
        assert read_now(checked.client) == answer
        assert checked.ends == []
    else:
        (why,) = checked.ends
        assert isinstance(why, Refusal)
        assert (why.reason, why.host) == (Reason.HOST_HEADER_MISMATCH, OTHER)
        assert read_now(checked.host) == b""


def test_a_101_that_was_not_asked_for_opens_nothing(checked: Bench) -> None:
    """A host that answers a plain request so does not make the workload's next ones pass unchecked."""
    checked.open_with(request(API))
    checked.turn()
    checked.host.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    checked.turn()
    checked.client.send(request(OTHER))
    checked.turn()
    assert read_now(checked.host) == request(API)
    (why,) = checked.ends
    assert isinstance(why, Refusal)
    assert (why.reason, why.host) == (Reason.HOST_HEADER_MISMATCH, OTHER)


def test_an_answer_to_an_upgrade_that_is_no_http_is_the_hosts_fault(checked: Bench) -> None:
    """Nothing is opened by it, and it is no denial."""
    checked.open_with(UPGRADE)
    checked.turn()
    checked.host.send(b"\x81\x00not http\r\n\r\n")
    checked.turn()
    (why,) = checked.ends
    assert isinstance(why, str)
    assert why != RESET_BY_CLIENT


def test_an_upgrade_later_than_the_first_request_is_refused(checked: Bench) -> None:
    """Behind other requests the answer to it could not be told from theirs."""
    checked.open_with(request(API))
    checked.turn()
    checked.client.send(UPGRADE)
    checked.turn()
    (why,) = checked.ends
    assert isinstance(why, Refusal)
    assert why.reason is Reason.PROTOCOL_NOT_GRANTED


def test_a_long_body_is_passed_unread_and_what_follows_is_read(checked: Bench) -> None:
    """A body of megabytes goes by splice; the head behind it is checked like the first."""
    body = os.urandom(2_000_000)
    data = request(API, body) + request(API) + request(OTHER)
    checked.open_with(data[:100])
    rest, got = data[100:], b""
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            rest = rest[checked.client.send(rest) :] if rest and not checked.ends else rest
        checked.turn()
        got += read_now(checked.host)
        if checked.ends:
            break
    got += read_now(checked.host)
    assert (request(API, body) + request(API)).startswith(got)
    assert len(got) > len(body) - (
        1 << 17
    )  # what came in one piece with the wrong request is dropped with it
    (why,) = checked.ends
    assert isinstance(why, Refusal)
