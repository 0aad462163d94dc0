"""The only epoll: events, times and threads, and no event for one who came after."""

from __future__ import annotations

import os
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mvm.gateway.deadlines import Deadlines
from mvm.gateway.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop, closed afterwards."""
    made = Loop()
    yield made
    made.close()


def test_events_come_to_their_handler_until_it_is_forgotten(loop: Loop) -> None:
    """Watched, changed, handed over, unwatched: each time the right one is called, or nobody."""
    heard: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.watch(ours.fileno(), READ, lambda _: heard.append("first"))

        def hand_over() -> None:
            loop.handle(ours.fileno(), second)

        def second(_events: int) -> None:
            heard.append("second")
            ours.recv(1)

        loop.soon(hand_over)
        loop.after(0.02, loop.stop)
        loop.run()
        assert heard[-1:] == ["second"]

        def write(_events: int) -> None:
            heard.append("write")
            loop.stop()

        loop.change(ours.fileno(), WRITE, write)
        loop.run()
        assert heard[-1] == "write"
        loop.unwatch(ours.fileno())
        loop.after(0.02, loop.stop)
        before = len(heard)
        loop.run()
        assert len(heard) == before


def test_an_event_is_not_given_to_who_came_after(loop: Loop) -> None:
    """A descriptor closed and opened again under the same number in one turn: its old events are nobody's."""
    pairs = [socket.socketpair() for _ in range(2)]
    successor: list[socket.socket] = []
    heard: list[str] = []

    def replace_other(at: int, _events: int) -> None:
        other = pairs[1 - at][0]
        if other.fileno() < 0 or successor:
            return
        number = other.fileno()
        loop.forget(number)
        other.close()
        fresh, far = socket.socketpair()
        successor.extend((fresh, far))
        assert fresh.fileno() == number
        loop.watch(number, READ, lambda _: heard.append("stale"))

    for at, (near, far) in enumerate(pairs):
        far.send(b"x")
        loop.watch(near.fileno(), READ, partial(replace_other, at))
    loop.after(0.02, loop.stop)
    loop.run()
    assert heard == []
    assert successor
    for sock in [*(each for pair in pairs for each in pair), *successor]:
        sock.close()


def test_times_come_in_their_order_and_not_when_cancelled(loop: Loop) -> None:
    """Whatever the order they were asked for; a cancelled one never."""
    heard: list[str] = []
    loop.after(0.02, lambda: heard.append("late"))
    loop.after(0.01, lambda: heard.append("early"))
    loop.after(0.01, lambda: heard.append("never")).cancel()
    loop.after(0.03, loop.stop)
    loop.run()
    assert heard == ["early", "late"]


def test_a_call_from_a_thread_is_made_by_the_loops(loop: Loop) -> None:
    """At once, though nothing else happens; after the loop is closed it goes nowhere."""
    made_by: list[int] = []
    loop.accept_threads()

    def note() -> None:
        made_by.append(threading.get_ident())
        loop.stop()

    def call() -> None:
        loop.call_from_thread(note)

    thread = threading.Thread(target=call)
    began = time.monotonic()
    thread.start()
    loop.after(5, loop.stop)
    loop.run()
    thread.join()
    assert made_by == [threading.get_ident()]
    assert time.monotonic() - began < 2
    loop.close()
    before = os.open("/dev/null", os.O_RDONLY)
    loop.call_from_thread(lambda: made_by.append(0))
    os.close(before)
    assert made_by == [threading.get_ident()]


def test_who_is_late_is_called_once_and_who_is_done_is_not(loop: Loop) -> None:
    """Of many things with one deadline, those that are still listed are told, in order."""
    late: list[str] = []
    deadlines: Deadlines[str] = Deadlines(loop, 0.05, late.append)
    for name in ("a", "b", "c"):
        deadlines.add(name)
    deadlines.drop("b")
    assert (len(deadlines), deadlines.first) == (2, "a")
    loop.after(0.02, lambda: deadlines.add("a"))
    loop.after(0.08, lambda: late.append("|"))
    loop.after(1.0, loop.stop)
    loop.run()
    assert late == ["c", "|", "a"]
    deadlines.add("d")
    assert deadlines.take_all() == ("d",)
    loop.after(0.1, loop.stop)
    loop.run()
    assert late == ["c", "|", "a"]


def test_no_timer_stands_for_nothing(loop: Loop) -> None:
    """With nothing listed the loop does not wake to look."""
    deadlines: Deadlines[int] = Deadlines(loop, 0.01, lambda _: None)
    for at in range(1000):
        deadlines.add(at)
        deadlines.drop(at)
    patience: list[float] = []
    loop.after(0.6, lambda: patience.append(loop._patience()))  # noqa: SLF001  how long it would sleep
    loop.after(1.6, loop.stop)
    loop.run()
    assert len(patience) == 1
    assert patience[0] > 0.05
