"""Last words to the workload: a page, an alert, or RST, and the close that lets them be read.

A socket that is closed while bytes of the workload's are unread sends RST, which may overtake the words.
So what still comes is read and dropped, within bounds, until the workload has closed too (RFC 9112
section 9.6 says the same of HTTP). Owns these sockets to their end. Must never pass anything on.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from mvm.gateway.deadlines import Deadlines
from mvm.gateway.loop import PEER_CLOSED, READ, WRITE
from mvm.kernel.sockets import reset_on_close

if TYPE_CHECKING:
    from mvm.gateway.loop import Loop
    from mvm.kernel.sockets import Socket

_SECONDS = 5.0
_MOST_AT_ONCE = 512
_DROPPED_BYTES = 1 << 18
_READ_BYTES = 1 << 16


def reset(client: Socket) -> None:
    """Close a connection by RST."""
    with suppress(OSError):  # it has gone already
        reset_on_close(client)
    client.close()


class Farewells:
    """The connections of one sandbox that are being told why they end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._open: Deadlines[Farewell] = Deadlines(loop, _SECONDS, Farewell.cut)

    def say(self, client: Socket, words: bytes) -> None:
        """Take over a socket, say the words and close it; without words, by RST."""
        if not words:
            self._loop.forget(client.fileno())
            reset(client)
            return
        if len(self._open) >= _MOST_AT_ONCE:
            self._open.first.cut()
        Farewell(self._loop, client, words, self._open)

    def close(self) -> None:
        """End them all now."""
        for farewell in self._open.take_all():
            farewell.cut()


class Farewell:
    """One connection."""

    __slots__ = ("_client", "_dropped", "_heard_end", "_loop", "_open", "_words")

    def __init__(self, loop: Loop, client: Socket, words: bytes, listed: Deadlines[Farewell]) -> None:
        self._loop, self._client, self._words, self._open = loop, client, memoryview(words), listed
        self._dropped = 0
        self._heard_end = False
        listed.add(self)
        self._on_events(WRITE)

    def _on_events(self, events: int) -> None:
        try:
            if self._words and events & WRITE:
                self._say()
            if events & ~WRITE:
                self._drop()
        except BlockingIOError:
            pass  # the other end is slow: the next event, or the deadline, goes on
        except OSError:
            self.cut()
            return
        if self._dropped > _DROPPED_BYTES:
            self.cut()
        elif self._heard_end and not self._words:
            self._close()
        else:
            wanted = (WRITE if self._words else 0) | (0 if self._heard_end else READ | PEER_CLOSED)
            self._loop.take_over(self._client.fileno(), wanted, self._on_events)

    def _say(self) -> None:
        self._words = self._words[self._client.send(self._words) :]
        if not self._words:
            self._client.shutdown(socket.SHUT_WR)

    def _drop(self) -> None:
        data = self._client.recv(_READ_BYTES)
        self._dropped += len(data)
        self._heard_end = not data

    def cut(self) -> None:
        """It has had its time, or its share: close it by RST."""
        self._let_go()
        reset(self._client)

    def _close(self) -> None:
        self._let_go()
        self._client.close()

    def _let_go(self) -> None:
        self._open.drop(self)
        self._loop.forget(self._client.fileno())
