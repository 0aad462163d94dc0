"""The only epoll: descriptors, times, and calls from threads, each answered by a plain callable.

Owns waiting. Must never know what is waited for. One thread runs it; `call_from_thread` is the
only method another thread may use.

Known hole: a child that has just been forked, and has not closed its copies yet, keeps what is closed here in
the epoll; in that moment an event of it could reach who was given the same number.
"""

from __future__ import annotations

import heapq
import os
import select
from collections import deque
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Lock

    Handler = Callable[[int], None]
    Call = Callable[[], None]

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
ERROR = select.EPOLLERR
HANGUP = select.EPOLLHUP
PEER_CLOSED = select.EPOLLRDHUP
EDGE = select.EPOLLET
_EVENTS_A_TURN = 256


class Timer:
    """A call that will be made at a time, unless it is cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        """Don't call, whatever comes."""
        self.call = None


class Loop:
    """Waits and calls until told to stop. Close it after use."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._fresh: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._soon: deque[Call] = deque()
        self._from_threads: deque[Call] = deque()
        self._wake: int | None = None
        self._waking: Lock | None = None
        self._stopping = False

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call `handler(events)` when something of `events` happens on a descriptor."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler
        self._fresh.add(fd)

    def change(self, fd: int, events: int, handler: Handler) -> None:
        """Watch a descriptor that is watched already for something else."""
        self._handlers[fd] = handler
        self._epoll.modify(fd, events)

    def take_over(self, fd: int, events: int, handler: Handler) -> None:
        """Watch a descriptor, whether or not it is watched already."""
        if fd in self._handlers:
            self.change(fd, events, handler)
        else:
            self.watch(fd, events, handler)

    def handle(self, fd: int, handler: Handler) -> None:
        """Give a descriptor that is watched already another handler, for the same events."""
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor that is about to be closed; closing takes it out of the epoll."""
        self._handlers.pop(fd, None)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, when: float, call: Call) -> Timer:
        """Make a call at a time of the monotonic clock."""
        timer = Timer(call)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def after(self, seconds: float, call: Call) -> Timer:
        """Make a call so many seconds from now."""
        return self.at(monotonic() + seconds, call)

    def soon(self, call: Call) -> None:
        """Make a call after what is ready now."""
        self._soon.append(call)

    def call_from_thread(self, call: Call) -> None:
        """Have the loop's thread make a call; safe from any thread, once `accept_threads` was called."""
        self._from_threads.append(call)
        assert self._waking is not None, "accept_threads comes first"
        with self._waking:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def accept_threads(self) -> None:
        """Be ready for `call_from_thread`: called before a thread starts."""
        if self._waking is None:
            from threading import Lock

            self._waking = Lock()
            self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.watch(self._wake, READ, self._woken)

    def _woken(self, _events: int) -> None:
        if self._wake is not None:
            os.eventfd_read(self._wake)
        while self._from_threads:
            self._from_threads.popleft()()

    def stop(self) -> None:
        """End `run` after the present turn."""
        self._stopping = True

    def run(self) -> None:
        """Wait and call until `stop`."""
        handlers, poll, fresh = self._handlers, self._epoll.poll, self._fresh
        self._stopping = False
        while not self._stopping:
            ready = poll(self._patience(), _EVENTS_A_TURN)
            fresh.clear()
            for fd, events in ready:
                # A number that was closed and given away again in this turn: the event was its predecessor's.
                if fd in fresh:
                    continue
                handler = handlers.get(fd)
                if handler is not None:
                    handler(events)
            if self._timers:
                self._ring()
            if self._soon:
                for _ in range(len(self._soon)):
                    self._soon.popleft()()

    def _patience(self) -> float:
        if self._soon or self._stopping:
            return 0
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - monotonic()) if self._timers else -1

    def _ring(self) -> None:
        now = monotonic()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()

    def close(self) -> None:
        """Give up the descriptors; what was watched stays open and is its owner's."""
        self._handlers.clear()
        self._epoll.close()
        if self._waking is not None:
            with self._waking:  # a thread that comes later must not write to a number given away again
                wake, self._wake = self._wake, None
            if wake is not None:
                os.close(wake)
