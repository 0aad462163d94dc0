"""From an `Allowed` to a connected socket, or to why not.

    resolve (now, on the host) → class every address → record → connect, exactly those (RFC 8305)

Owns sockets that are not connected yet. Its parameter type is the lock: nothing but an `Allowed`
is dialled, and nothing before the record of it is written.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from mvm.gateway.loop import ERROR, HANGUP, WRITE
from mvm.gateway.relay import EVENTS
from mvm.gateway.resolve import Failure
from mvm.kernel.rtnetlink import own_addresses
from mvm.policy.addresses import AddressClass, classify
from mvm.policy.decide import Denied, admit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.loop import Loop, Timer
    from mvm.gateway.resolve import HostResolver
    from mvm.policy.decide import Allowed
    from mvm.terms import Address

    Done = Callable[["socket.socket | Failure | Denied", int], None]

_ATTEMPT_DELAY = 0.25
_CONNECT_SECONDS = 30.0
_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "connection timed out",
    errno.ECONNRESET: "connection reset",
}


def find(allowed: Allowed, resolver: HostResolver, done: Callable[[tuple[Address, ...] | Failure | Denied], None]) -> None:
    """The addresses that an allowed flow may be dialled at, classed after they were resolved."""

    def classed(found: tuple[Address, ...] | Failure) -> None:
        done(found if isinstance(found, Failure) else admit(allowed, found, _own(found)))

    if isinstance(allowed.host, str):
        resolver.resolve(allowed.host, classed)
    else:
        classed((allowed.host,))


def _own(candidates: tuple[Address, ...]) -> frozenset[Address]:
    """Those of the candidates that are this host's own; only public ones need the question."""
    public = [address for address in candidates if classify(address) is AddressClass.PUBLIC]
    return own_addresses(public) if public else frozenset()


class Dial:
    """One flow being dialled.

    Args:
        loop: where attempts are watched.
        allowed: the leave.
        resolver: who resolves its name.
        record: writes the decision, with the addresses, before the first attempt; if it raises,
            nothing is dialled.
        done: called once, with a connected socket, a `Failure` of the network, or a `Denied`; and
            with the events that the socket has signalled. The socket is non-blocking and watched,
            edge-triggered, with `relay.EVENTS`: give it a handler by `Loop.handle`.
    """

    def __init__(
        self,
        loop: Loop,
        allowed: Allowed,
        resolver: HostResolver,
        record: Callable[[tuple[Address, ...]], None],
        done: Done,
    ) -> None:
        self._loop, self._allowed, self._record = loop, allowed, record
        self._done: Done | None = done
        self._queue: list[Address] = []
        self._attempts: dict[int, socket.socket] = {}
        self._next: Timer | None = None
        self._deadline: Timer | None = None
        self._failure = Failure("no address")
        find(allowed, resolver, self._found)

    def cancel(self) -> None:
        """Nobody waits any more: close every attempt, call nobody."""
        self._done = None
        self._clear()

    def _found(self, found: tuple[Address, ...] | Failure | Denied) -> None:
        if self._done is None:
            return
        if isinstance(found, Failure | Denied):
            self._finish(found)
            return
        self._queue = _interleaved(found)
        self._record(tuple(self._queue))
        self._deadline = self._loop.after(_CONNECT_SECONDS, self._too_late)
        self._attempt()

    def _attempt(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self._queue:
            if not self._attempts:
                self._finish(self._failure)
            return
        address = self._queue.pop(0)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            self._finish(Failure(os.strerror(error.errno or 0)))
            return
        code = sock.connect_ex((str(address), self._allowed.port))
        if code not in {0, errno.EINPROGRESS}:
            sock.close()
            self._failed(code)
            return
        self._attempts[sock.fileno()] = sock
        self._loop.watch(sock.fileno(), EVENTS, partial(self._on_attempt, sock))
        if self._queue:
            self._next = self._loop.after(_ATTEMPT_DELAY, self._attempt)

    def _on_attempt(self, sock: socket.socket, events: int) -> None:
        if not events & (WRITE | ERROR | HANGUP):
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & (ERROR | HANGUP) else 0
        del self._attempts[sock.fileno()]
        self._loop.forget(sock.fileno())
        if code:
            sock.close()
            self._failed(code)
        else:
            self._finish(sock, events)

    def _failed(self, code: int) -> None:
        self._failure = Failure(_WORDS.get(code, os.strerror(code).lower()))
        self._attempt()

    def _too_late(self) -> None:
        self._finish(Failure(_WORDS[errno.ETIMEDOUT]))

    def _finish(self, result: socket.socket | Failure | Denied, events: int = 0) -> None:
        done, self._done = self._done, None
        self._clear()
        if done is not None:
            done(result, events)

    def _clear(self) -> None:
        for timer in (self._next, self._deadline):
            if timer is not None:
                timer.cancel()
        for fd, sock in self._attempts.items():
            self._loop.forget(fd)
            sock.close()
        self._attempts = {}
        self._queue = []


def _interleaved(addresses: tuple[Address, ...]) -> list[Address]:
    """Families by turns, the one that the resolver put first in front (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = [a for a in addresses if a.version == addresses[0].version]
    other = [a for a in addresses if a.version != addresses[0].version]
    turns = [a for pair in zip(first, other, strict=False) for a in pair]
    short = min(len(first), len(other))
    return turns + first[short:] + other[short:]
