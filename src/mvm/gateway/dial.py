"""From an `Allowed` to a connected socket, or to why not.

    resolve (now, on the host) → judge every address → record → connect, exactly those (RFC 8305)

Owns sockets that are not connected yet. Its parameter type is the lock: nothing but an `Allowed`
is dialled, and nothing before the record of it is written.
"""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING

from mvm.gateway.failure import Failure, failure_of, failure_of_code
from mvm.gateway.loop import ERROR, HANGUP, WRITE
from mvm.gateway.relay import EVENTS
from mvm.kernel.sockets import upstream_socket
from mvm.policy.decide import Denied, admit

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.deadlines import Deadlines
    from mvm.gateway.loop import Loop, Timer
    from mvm.gateway.resolve import Found, HostResolver
    from mvm.kernel.sockets import Socket
    from mvm.policy.decide import Allowed, Candidate

    Dialled = Socket | Failure | Denied
    Done = Callable[[Dialled, int, str | None], None]

_ATTEMPT_DELAY = 0.25
_MOST_ADDRESSES = 16


def judge(allowed: Allowed, found: Found) -> tuple[Candidate, ...] | Failure | Denied:
    """What of a resolver's answer may be dialled: of very many addresses the first sixteen."""
    if isinstance(found, Failure):
        return found
    admitted = admit(allowed, found)
    return admitted if isinstance(admitted, Denied) else admitted[:_MOST_ADDRESSES]


class Dial:
    """One flow being dialled.

    Args:
        loop: where attempts are watched.
        deadlines: of all dials; it lists itself.
        allowed: the leave.
        record: writes the decision, with the addresses, before the first attempt, and says whether
            that was possible; if not, nothing is dialled and nobody is called.
        done: called once, with a connected socket, a `Failure` of the network, or a `Denied`; with
            the events that the socket has signalled; and its address. The socket is non-blocking
            and watched, edge-triggered, with `relay.EVENTS`: give it a handler by `Loop.handle`.
    """

    __slots__ = (
        "_allowed",
        "_attempts",
        "_deadlines",
        "_done",
        "_failure",
        "_loop",
        "_next",
        "_queue",
        "_record",
    )

    def __init__(
        self,
        loop: Loop,
        deadlines: Deadlines[Dial],
        allowed: Allowed,
        record: Callable[[list[str]], bool],
        done: Done,
    ) -> None:
        self._loop, self._deadlines, self._allowed, self._record = loop, deadlines, allowed, record
        self._done: Done | None = done
        self._queue: list[str] = []
        self._attempts: dict[int, Socket] = {}
        self._next: Timer | None = None
        self._failure = Failure("no address")

    def begin(self, resolver: HostResolver) -> None:
        """Resolve, and go on from there; `done` may have been called when this returns."""
        self._deadlines.add(self)
        resolver.resolve(self._allowed.host, self._found)

    def cancel(self) -> None:
        """Nobody waits any more: close every attempt, call nobody."""
        self._done = None
        self._clear()

    def too_late(self) -> None:
        """No attempt came to anything in time."""
        self._finish(failure_of_code(errno.ETIMEDOUT))

    def _found(self, found: Found) -> None:
        if self._done is None:
            return
        judged = judge(self._allowed, found)
        if isinstance(judged, Failure | Denied):
            self._finish(judged)
            return
        self._queue = [str(candidate.address) for candidate in judged]
        if self._record(self._queue):
            self._attempt()
        else:
            self.cancel()

    def _attempt(self) -> None:
        """Connect to the next address, and to the one after it if that takes long."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        while self._queue and self._done is not None:
            if self._connect(self._queue.pop(0)):
                if self._queue:
                    self._next = self._loop.after(_ATTEMPT_DELAY, self._attempt)
                return
        if not self._attempts:
            self._finish(self._failure)

    def _connect(self, address: str) -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = upstream_socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._failure = failure_of(error)
            return False
        code = sock.connect_ex((address, self._allowed.port))
        if code not in {0, errno.EINPROGRESS}:
            sock.close()
            self._failure = failure_of_code(code)
            return False
        self._attempts[sock.fileno()] = sock
        self._loop.watch(sock.fileno(), EVENTS, partial(self._on_attempt, sock, address))
        return True

    def _on_attempt(self, sock: Socket, address: str, events: int) -> None:
        if not events & (WRITE | ERROR | HANGUP):
            return
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & (ERROR | HANGUP) else 0
        del self._attempts[sock.fileno()]
        if not code:
            self._finish(sock, events, address)
            return
        self._loop.forget(sock.fileno())
        sock.close()
        self._failure = failure_of_code(code)
        self._attempt()

    def _finish(self, result: Dialled, events: int = 0, address: str | None = None) -> None:
        done, self._done = self._done, None
        self._clear()
        if done is not None:
            done(result, events, address)

    def _clear(self) -> None:
        self._deadlines.drop(self)
        if self._next is not None:
            self._next.cancel()
        for fd, sock in self._attempts.items():
            self._loop.forget(fd)
            sock.close()
        self._attempts = {}
        self._queue = []
