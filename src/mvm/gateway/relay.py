"""Bytes of one open flow, both ways, until both ends are through.

Owns two sockets and the pipes between them. A direction moves its first 64 KiB, and whatever comes in
small pieces, by recv and send; the rest by splice(2) through a pooled pipe that is held only while it
holds bytes (a plain user gets few large pipes). Edge-triggered: a short read means drained, unless the
sender has hung up. Half-close carries on: the answer comes back after the client's FIN. Must never open
anything, look at a byte, or take in more while the target has not taken what is there (back-pressure).
"""

from __future__ import annotations

import fcntl
import os
import socket
from typing import TYPE_CHECKING

from mvm.gateway.failure import failure_of
from mvm.gateway.loop import EDGE, ERROR, HANGUP, PEER_CLOSED, READ, WRITE
from mvm.kernel.sockets import is_among_last, reset_on_close
from mvm.terms import Layer, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.loop import Loop
    from mvm.kernel.sockets import Socket
    from mvm.policy.decide import Tally

    Pipe = tuple[int, int]

EVENTS = READ | WRITE | PEER_CLOSED | EDGE
COPY_BYTES = 1 << 16
_PROMOTE_AFTER = 1 << 16
_SMALL = (
    1 << 12
)  # copied sooner than spliced: a short recv tells that nothing is left, a short splice does not
_PIPE_BYTES = 1 << 18
_ROUNDS_A_TURN = 32
_POOLED_PIPES = 32
_SPLICE_FLAGS = 1 | 2  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK
_OVER = HANGUP | PEER_CLOSED | ERROR
_INCOMING = READ | _OVER

RESET_BY_CLIENT = "reset by the client"
"""Why a relay ended where it was the client that broke it off; any other text is the upstream's error."""


class Refusal(Exception):
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
        if is_among_last(pipe[1]):
            self.discard(pipe)
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
        source: where bytes come from.
        target: where they go.
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
        "_last",
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

    def __init__(self, source: Socket, target: Socket, pipes: Pipes, tally: Tally) -> None:
        self.source, self.target = source, target
        self._pipes, self._tally = pipes, tally
        self._pending: bytes | memoryview = b""
        self._pipe: Pipe | None = None
        self._filled = self._last = 0
        self.carried = 0
        self.drained = self.ended = self.hung_up = False

    @property
    def blocked(self) -> bool:
        """Whether bytes wait for the target to take them."""
        return bool(self._pending) or self._filled > 0

    def put(self, data: bytes) -> None:
        """Take bytes that were read and looked at by somebody else, where none are pending.

        Raises:
            Refusal: they are more than the budget allows; none of them is passed on.
        """
        limit = self._tally.limit
        if limit is not None and self._tally.carried + len(data) > limit:
            raise Refusal(Reason.BUDGET_EXCEEDED, Layer.QUOTA)
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
        if self._last > _SMALL and self.carried >= _PROMOTE_AFTER:
            return self.fill(_PIPE_BYTES)
        return self._copy(COPY_BYTES)

    def fill(self, most: int) -> bool:
        """Take up to `most` bytes in without looking at them; as `read`."""
        if self._pipe is None:
            self._pipe = self._pipes.take()
        if self._pipe is None:
            return self._copy(min(most, COPY_BYTES))
        size = min(most, self._room(_PIPE_BYTES))
        self._filled = os.splice(self.source.fileno(), self._pipe[1], size, flags=_SPLICE_FLAGS)
        self._count(self._filled)
        return self._filled > 0

    def _copy(self, most: int) -> bool:
        size = self._room(most)
        self._pending = data = self.source.recv(size)
        self.drained = 0 < len(data) < size and not self.hung_up
        self._count(len(data))
        return bool(data)

    def _count(self, size: int) -> None:
        self._last = size
        self.carried += size
        self._tally.carried += size

    def _room(self, most: int) -> int:
        """How many bytes may be read, at least one: the one past the budget is seen, and never passed on."""
        limit = self._tally.limit
        if limit is None:
            return most
        left = limit - self._tally.carried
        if left <= 0 and self.source.recv(1, socket.MSG_PEEK):
            raise Refusal(Reason.BUDGET_EXCEEDED, Layer.QUOTA)
        return max(1, min(most, left))

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
        up: from the client to the upstream.
        down: back.
        over: called once at the end, with None for a clean one, `RESET_BY_CLIENT`, the error of the
            upstream, or the refusal.
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
        """Events of the client's end."""
        self._on_events(events, self.up, self.down)

    def on_upstream(self, events: int) -> None:
        """Events of the upstream's end."""
        self._on_events(events, self.down, self.up)

    def _on_events(self, events: int, incoming: Half, outgoing: Half) -> None:
        if events & _INCOMING and not incoming.ended:
            if events & _OVER:
                incoming.hung_up = True
            self.pump(incoming)
            if self._over is None:
                return
        if events & ERROR:
            # What it had still to say was passed on, as far as the other end would have it.
            self._break(incoming.source, "connection reset")
            return
        if events & WRITE and outgoing.blocked:
            self.pump(outgoing)

    def pump(self, half: Half) -> None:
        """Move bytes one way until something would block."""
        acting = half.target
        try:
            for _ in range(_ROUNDS_A_TURN):
                acting = half.target
                half.flush()
                if half.drained:
                    half.drained = False
                    half.rest()
                    return
                acting = half.source
                if not half.read():
                    acting = half.target
                    self._end(half)
                    return
            self._loop.soon(lambda: self.resume(half))
        except BlockingIOError:
            half.rest()
        except Refusal as refusal:
            self.close(refusal)
        except OSError as error:
            self._break(acting, failure_of(error).text)

    def resume(self, half: Half) -> None:
        """Go on with a direction, unless it has ended meanwhile."""
        if self._over is not None and not half.ended:
            self.pump(half)

    def _end(self, half: Half) -> None:
        half.ended = True
        half.rest()
        if self.up.ended and self.down.ended:
            self.close(None)
        else:
            half.target.shutdown(socket.SHUT_WR)

    def _break(self, culprit: Socket, error: str) -> None:
        self.close(RESET_BY_CLIENT if culprit is self.up.source else error)

    def close(self, why: str | Refusal | None) -> None:
        """End the flow now: by FIN where it ended cleanly, else by RST on both sides.

        After a `Refusal` the client's socket is left to `over`, which may still say why.
        """
        over, self._over = self._over, None
        if over is None:
            return
        client, upstream = self.up.source, self.down.source
        self.up.drop()
        self.down.drop()
        self._loop.forget(upstream.fileno())
        if why is not None:
            reset_on_close(upstream)
        upstream.close()
        if not isinstance(why, Refusal):
            self._loop.forget(client.fileno())
            if why is not None:
                reset_on_close(client)
            client.close()
        over(why)
