"""Bytes of one open flow, both ways, until both ends are through.

Owns two sockets and the pipes between them. A direction moves its first 64 KiB by recv and send,
then by splice(2) through a pooled pipe that is held only while it holds bytes (a plain user gets
few large pipes). Edge-triggered: a short read means drained, unless the sender has hung up.
Half-close carries on: the answer comes back after the client's FIN. Must never open anything,
nor look at a byte.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from mvm.gateway.loop import EDGE, ERROR, HANGUP, PEER_CLOSED, READ, WRITE
from mvm.kernel.sockets import reset_on_close
from mvm.terms import Layer, Reason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from mvm.gateway.loop import Loop
    from mvm.policy.decide import Tally

EVENTS = READ | WRITE | PEER_CLOSED | EDGE
COPY_BYTES = 1 << 16
_PROMOTE_AFTER = 1 << 16
_PIPE_BYTES = 1 << 18
_ROUNDS_A_TURN = 32
_POOLED_PIPES = 32
_SPLICE_FLAGS = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
_OVER = HANGUP | PEER_CLOSED | ERROR
_INCOMING = READ | _OVER
_SHUT_WRITE = 1
_MSG_PEEK = 2

Pipe = tuple[int, int]


class Refusal(Exception):  # noqa: N818  it is a verdict on its way to the edge, not a failure
    """Found while relaying: the flow must end, for this reason; `host` is what it asked for instead."""

    def __init__(self, reason: Reason, layer: Layer, host: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.layer = layer
        self.host = host


class Pipes:
    """Empty pipes, kept for the next direction that needs one."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []

    def take(self) -> Pipe | None:
        """A pipe, or None when the process has no descriptors left (the caller copies instead)."""
        if self._free:
            return self._free.pop()
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except PermissionError:
            # Over the user's pipe pages (pipe(7)): the smaller pipe works as well, only slower.
            return pipe
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Return an empty pipe."""
        if len(self._free) < _POOLED_PIPES:
            self._free.append(pipe)
        else:
            self.discard(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Close a pipe, with whatever is in it."""
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        """Close all that are free."""
        while self._free:
            self.discard(self._free.pop())


class Half:
    """One direction.

    Args:
        source, target: where bytes come from and go to.
        pipes: where pipes come from.
        tally: counts what is carried, and says how much may still be.

    Attributes:
        carried: bytes read from the source so far.
        drained: nothing was left to read a moment ago.
        ended: the source has said its last and the target was told.
        hung_up: the source's end may be near: a short read no longer means drained.
    """

    __slots__ = (
        "_filled",
        "_pending",
        "_pipe",
        "_pipes",
        "_tally",
        "carried",
        "drained",
        "ended",
        "hung_up",
        "source",
        "target",
    )

    def __init__(self, source: socket.socket, target: socket.socket, pipes: Pipes, tally: Tally) -> None:
        self.source, self.target = source, target
        self._pipes, self._tally = pipes, tally
        self._pending: bytes | memoryview = b""
        self._pipe: Pipe | None = None
        self._filled = 0
        self.carried = 0
        self.drained = self.ended = self.hung_up = False

    @property
    def blocked(self) -> bool:
        """Whether bytes wait for the target to take them."""
        return bool(self._pending) or self._filled > 0

    def put(self, data: bytes) -> None:
        """Bytes read before the flow was open."""
        self._pending = data
        self._count(len(data))

    def flush(self) -> None:
        """Pass on what was read.

        Raises:
            BlockingIOError: the target takes no more now.
            OSError: the target is gone.
        """
        while self._pending:
            data = self._pending
            sent = self.target.send(data)
            self._pending = b"" if sent == len(data) else memoryview(data)[sent:]
        while self._filled and self._pipe is not None:
            self._filled -= os.splice(self._pipe[0], self.target.fileno(), self._filled, flags=_SPLICE_FLAGS)

    def read(self) -> bool:
        """Take in more; False at the end of the source.

        Raises:
            BlockingIOError: nothing is there.
            Refusal: the budget is used up.
            OSError: the source is gone.
        """
        if self.carried >= _PROMOTE_AFTER and self._has_pipe():
            return self.fill(_PIPE_BYTES)
        self._pending = data = self.source.recv(min(COPY_BYTES, self._left()))
        self.drained = len(data) < COPY_BYTES and not self.hung_up
        self._count(len(data))
        return bool(data)

    def fill(self, size: int) -> bool:
        """Take up to `size` bytes in without looking at them; False at the end of the source."""
        if not self._has_pipe() or self._pipe is None:
            self._pending = data = self.source.recv(min(COPY_BYTES, size, self._left()))
            self._count(len(data))
            return bool(data)
        self._filled = os.splice(
            self.source.fileno(), self._pipe[1], min(size, self._left()), flags=_SPLICE_FLAGS
        )
        self.drained = False
        self._count(self._filled)
        return bool(self._filled)

    def _has_pipe(self) -> bool:
        if self._pipe is None:
            self._pipe = self._pipes.take()
        return self._pipe is not None

    def _count(self, size: int) -> None:
        self.carried += size
        self._tally.carried += size

    def _left(self) -> int:
        """How many bytes the budget still allows; the one past it is seen, and never passed on."""
        limit = self._tally.limit
        if limit is None:
            return _PIPE_BYTES
        if self._tally.carried >= limit and self.source.recv(1, _MSG_PEEK):
            raise Refusal(Reason.BUDGET_EXCEEDED, Layer.QUOTA)
        return max(1, limit - self._tally.carried)

    def rest(self) -> None:
        """Nothing moves now: let go of the pipe if it is empty."""
        if self._pipe is not None and not self._filled:
            self._pipes.give_back(self._pipe)
            self._pipe = None

    def drop(self) -> None:
        """The flow is over: let go of the pipe, whatever is in it."""
        self.rest()
        if self._pipe is not None:
            self._pipes.discard(self._pipe)
            self._pipe = None


class Relay:
    """An open flow.

    Args:
        loop: where both sockets are watched by the caller, edge-triggered, with `EVENTS`.
        up: from the workload to the granted host.
        down: back.
        over: called once at the end, with None for a clean one, an error text, or the refusal.
    """

    __slots__ = ("_loop", "_over", "down", "up")

    def __init__(
        self, loop: Loop, up: Half, down: Half, over: Callable[[str | Refusal | None], None]
    ) -> None:
        self._loop = loop
        self._over: Callable[[str | Refusal | None], None] | None = over
        self.up, self.down = up, down

    @property
    def open(self) -> bool:
        """Whether the flow still stands."""
        return self._over is not None

    def on_client(self, events: int) -> None:
        """Events of the workload's end."""
        self._on_events(events, self.up, self.down)

    def on_upstream(self, events: int) -> None:
        """Events of the granted host's end."""
        self._on_events(events, self.down, self.up)

    def _on_events(self, events: int, incoming: Half, outgoing: Half) -> None:
        if events & _INCOMING and not incoming.ended:
            incoming.hung_up = incoming.hung_up or bool(events & _OVER)
            self.pump(incoming)
            if self._over is None:
                return
        elif events & ERROR:
            self.close("connection reset")
            return
        if events & WRITE and outgoing.blocked:
            self.pump(outgoing)

    def pump(self, half: Half) -> None:
        """Move bytes one way until something would block."""
        try:
            for _ in range(_ROUNDS_A_TURN):
                half.flush()
                if half.drained:
                    half.drained = False
                    half.rest()
                    return
                if not half.read():
                    self._end(half)
                    return
            self._loop.soon(lambda: self._resume(half))
        except BlockingIOError:
            half.rest()
        except Refusal as refusal:
            self.close(refusal)
        except OSError as error:
            self.close(error.strerror or str(error))

    def _resume(self, half: Half) -> None:
        """A turn's rounds were used up: go on, unless it ended meanwhile."""
        if self._over is not None and not half.ended:
            self.pump(half)

    def _end(self, half: Half) -> None:
        half.ended = True
        half.rest()
        if self.up.ended and self.down.ended:
            self.close(None)
        else:
            half.target.shutdown(_SHUT_WRITE)

    def close(self, why: str | Refusal | None) -> None:
        """End the flow now: by FIN where it ended cleanly, else by RST on both sides.

        After a `Refusal` the workload's socket is left to `over`, which may still say why.
        """
        over, self._over = self._over, None
        if over is None:
            return
        for half in (self.up, self.down):
            half.drop()
            self._loop.forget(half.source.fileno())
            if why is not None:
                reset_on_close(half.source)
        self.down.source.close()
        if not isinstance(why, Refusal):
            self.up.source.close()
        over(why)
