"""Times by which many things must be over, all the same time after they began: one timer for all of them.

Owns the waiting list. An entry costs two dictionary operations, as most things are over long before.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.loop import Loop, Timer

FIRST_FLIGHT_SECONDS = 10.0
"""For the first bytes of a flow, or a visitor's request, to be whole."""

CONNECT_SECONDS = 30.0
"""For a granted host to be reached."""

QUESTION_SECONDS = 30.0
"""For the next question on a connection for DNS."""

_GRAIN_SECONDS = 0.5

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Things of one kind.

    Args:
        loop: who waits.
        seconds: how long each has; up to half a second more may pass.
        late: called with each thing that is still listed then.
    """

    __slots__ = ("_entries", "_late", "_loop", "_seconds", "_timer")

    def __init__(self, loop: Loop, seconds: float, late: Callable[[T], None]) -> None:
        self._loop, self._seconds, self._late = loop, seconds, late
        self._entries: dict[T, float] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, thing: T) -> None:
        """Give it its time, from now; one that is listed already has it anew."""
        self._entries.pop(thing, None)
        self._entries[thing] = when = monotonic() + self._seconds
        if self._timer is None:
            self._timer = self._loop.at(when, self._look)

    def drop(self, thing: T) -> None:
        """It is over."""
        self._entries.pop(thing, None)

    @property
    def first(self) -> T:
        """The one whose time ends first; there must be one."""
        return next(iter(self._entries))

    def take_all(self) -> tuple[T, ...]:
        """All that are listed; none is any more."""
        things = tuple(self._entries)
        self.close()
        return things

    def _look(self) -> None:
        now = monotonic()
        self._timer = None
        for thing, when in self._due(now):
            if self._entries.get(thing) == when:
                del self._entries[thing]
                self._late(thing)
        if self._entries and self._timer is None:
            ends = next(iter(self._entries.values()))
            self._timer = self._loop.at(max(ends, now + _GRAIN_SECONDS), self._look)

    def _due(self, now: float) -> list[tuple[T, float]]:
        due = []
        for thing, when in self._entries.items():
            if when > now:
                break
            due.append((thing, when))
        return due

    def close(self) -> None:
        """Call nobody any more."""
        self._entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
