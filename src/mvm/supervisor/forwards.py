"""Inbound ports: from an address of the host to a port inside the sandbox, and never the other way.

Owns the listening sockets on the host. Each connection gets a socket that was made inside the door; an
open port gives no way out, since all that is dialled from here is the sandbox's own loopback.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from mvm.errors import UsageError
from mvm.gateway.loop import ERROR, HANGUP, READ, WRITE
from mvm.gateway.relay import EVENTS, Half, Relay
from mvm.kernel.sockets import reset_on_close
from mvm.policy.decide import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mvm.backends.interface import Machine
    from mvm.gateway.relay import Refusal
    from mvm.policy.model import Forward
    from mvm.supervisor.process import Supervisor

_BACKLOG = 128
_SPARE = 4
_MOST_WAITING = 256


class Forwards:
    """The inbound ports of one sandbox.

    Args:
        supervisor: whose loop and pipes are used.
        forwards: what leads where.
        machine: gives sockets inside.

    Raises:
        UsageError: a port can't be had; none stays open.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        forwards: Sequence[Forward],
        machine: Machine,
    ) -> None:
        self._supervisor, self._machine, self._listeners = supervisor, machine, _listen(forwards)
        self._spare: deque[socket.socket] = deque()
        self._waiting: deque[tuple[socket.socket, int]] = deque()
        self._open: set[Inbound] = set()
        for forward, listener in zip(forwards, self._listeners, strict=True):
            supervisor.loop.watch(listener.fileno(), READ, _Accepting(self, listener, forward.guest_port))
        machine.make_sockets(_SPARE)

    def accept(self, listener: socket.socket, port: int) -> None:
        """Take one connection from outside."""
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it has gone again, or no descriptor is left: the caller sees its connection wait or end
        client.setblocking(False)
        if len(self._waiting) >= _MOST_WAITING:
            reset_on_close(client)
            client.close()
            return
        self._waiting.append((client, port))
        self._machine.make_sockets(1)
        self._pair()

    def supply(self, descriptors: Sequence[int]) -> None:
        """Sockets from inside have come."""
        for descriptor in descriptors:
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            self._spare.append(sock)
        self._pair()

    def _pair(self) -> None:
        while self._waiting and self._spare:
            client, port = self._waiting.popleft()
            inbound = Inbound(self._supervisor, client, self._spare.popleft(), self._open.discard)
            self._open.add(inbound)
            inbound.dial(port)

    def close(self) -> None:
        """End every connection and listen no more."""
        loop = self._supervisor.loop
        for listener in self._listeners:
            loop.forget(listener.fileno())
            listener.close()
        for client, _ in self._waiting:
            client.close()
        for sock in self._spare:
            sock.close()
        self._waiting.clear()
        self._spare.clear()
        for inbound in tuple(self._open):
            inbound.close()


def _listen(forwards: Sequence[Forward]) -> list[socket.socket]:
    """Open the host's side.

    Raises:
        UsageError: a port can't be had; none stays open.
    """
    made: list[socket.socket] = []
    for forward in forwards:
        family = socket.AF_INET if forward.address.version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        made.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(forward.address), forward.host_port))
            sock.listen(_BACKLOG)
        except OSError as error:
            for opened in made:
                opened.close()
            msg = f"port {forward.host_port} of {forward.address} can't be opened: {error.strerror}"
            raise UsageError(msg, hint="choose another HOSTPORT for --port") from error
    return made


class _Accepting:
    """What the loop calls for one listening socket."""

    def __init__(self, forwards: Forwards, listener: socket.socket, port: int) -> None:
        self._forwards, self._listener, self._port = forwards, listener, port

    def __call__(self, _events: int) -> None:
        """A connection has come."""
        self._forwards.accept(self._listener, self._port)


class Inbound:
    """One connection from outside to a server inside."""

    def __init__(
        self,
        supervisor: Supervisor,
        client: socket.socket,
        inside: socket.socket,
        over: Callable[[Inbound], None],
    ) -> None:
        self._loop, self._client, self._inside = supervisor.loop, client, inside
        self._pipes, self._over = supervisor.pipes, over
        self._relay: Relay | None = None

    def dial(self, port: int) -> None:
        """Connect to the port inside."""
        try:
            self._inside.connect(("127.0.0.1", port))
        except BlockingIOError:
            pass  # the usual answer: it is told when it is over
        except OSError:
            self.close()
            return
        self._loop.watch(self._inside.fileno(), EVENTS, self._on_dialled)

    def _on_dialled(self, events: int) -> None:
        if not events & (WRITE | ERROR | HANGUP):
            return
        if self._inside.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close()
            return
        for sock in (self._client, self._inside):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tally = Tally(None)
        relay = self._relay = Relay(
            self._loop,
            Half(self._client, self._inside, self._pipes, tally),
            Half(self._inside, self._client, self._pipes, tally),
            self._ended,
        )
        self._loop.watch(self._client.fileno(), EVENTS, relay.on_client)
        self._loop.handle(self._inside.fileno(), relay.on_upstream)
        if events & ~WRITE:
            relay.on_upstream(events)

    def _ended(self, _why: str | Refusal | None) -> None:
        self._over(self)

    def close(self) -> None:
        """End it: with RST, as a port that nobody serves answers."""
        if self._relay is not None:
            self._relay.close("the sandbox ended")
            return
        for sock in (self._client, self._inside):
            self._loop.forget(sock.fileno())
            reset_on_close(sock)
            sock.close()
        self._over(self)
