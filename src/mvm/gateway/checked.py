"""The two directions of a flow whose bytes are looked at: until they are judged, or, in plain HTTP, always.

Owns the meeting of `relay.Half` with the pure `flow.FirstFlight` and `wire.http_stream`. Bodies
of known length are spliced past the check. A WebSocket upgrade is asked for by a connection's
first request or not at all, and opens the stream only when the host has answered 101.
"""

from __future__ import annotations

from errno import EPROTO
from typing import TYPE_CHECKING, TypeVar

from mvm.gateway.flow import Expect, check_requests
from mvm.gateway.relay import COPY_BYTES, Half, Refusal
from mvm.policy.decide import Denied
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.flow import Cleared, FirstFlight
    from mvm.gateway.relay import Pipes
    from mvm.kernel.sockets import Socket
    from mvm.policy.decide import Allowed
    from mvm.wire.http_stream import RequestStream

W = TypeVar("W")

_SWITCHING, _FINAL = 101, 200
_LONG_BODY = 1 << 16


class RequestHalf(Half):
    """From the workload: nothing passes that was not cleared.

    Args:
        allowed: what the flow may be.
        answers: the other direction, told when an upgrade is asked for.
        first: the first bytes' judge, where they are not judged yet, else None.
        begun: called when the first bytes show what they begin, and again when they are judged.
    """

    __slots__ = ("_allowed", "_answers", "_begun", "_first", "_held", "_stream")

    def __init__(  # noqa: PLR0917  the parts of a direction
        self,
        source: Socket,
        target: Socket,
        pipes: Pipes,
        allowed: Allowed,
        answers: AnswerHalf,
        first: FirstFlight | None,
        begun: Callable[[], None],
    ) -> None:
        super().__init__(source, target, pipes, allowed.usage.up)
        self._allowed, self._answers, self._first, self._begun = allowed, answers, first, begun
        self._stream: RequestStream | None = None
        self._held = b""
        answers.awaited = first is not None

    def clear(self, cleared: Cleared) -> None:
        """The first bytes are judged: they may pass, and the stream checks what follows.

        Raises:
            Refusal: they are more than the budget allows.
        """
        self._first, self._stream = None, cleared.stream
        self._answers.awaited = False
        if cleared.stream is not None and cleared.stream.awaiting_upgrade:
            self._answers.await_upgrade(self)
        self.put(cleared.data)

    def answered(self, *, accepted: bool) -> None:
        """The host has answered the upgrade: what came meanwhile is read as what it now is.

        Raises:
            Refusal: it is not what the grant allows.
        """
        assert self._stream is not None, "only a stream awaits an answer"
        self._held = self._checked(self._stream.upgraded, accepted)

    def read(self) -> bool:
        """Take in and check more; False at the end of the source.

        Raises:
            BlockingIOError: nothing is there, or the host has not answered an upgrade yet.
            Refusal: the bytes are not what the grant allows.
        """
        if self._first is not None:
            if not self._answers.carried:
                return self._read_first(self._first)
            self.clear(self._first.settle())
            self._begun()
            return True
        if self._stream is None:
            return super().read()
        if self._stream.awaiting_upgrade:
            raise BlockingIOError
        if self._held:
            held, self._held = self._held, b""
            self.put(held)
            return True
        return super().read() if self._stream.opaque else self._read_checked(self._stream)

    def _read_first(self, first: FirstFlight) -> bool:
        data = self.source.recv(COPY_BYTES)
        self.drained = 0 < len(data) < COPY_BYTES and not self.hung_up
        if not data:
            # A half-close with nothing said, or nothing that is a request: the host may still have its say.
            if first.begun and first.expect is not Expect.ANY:
                raise _refusal(first.cut_short())
            self.clear(first.settle())
            return False
        before = first.expect
        verdict = first.feed(data)
        if verdict is not None or first.expect is not before:
            self._begun()
        if isinstance(verdict, Denied):
            raise _refusal(verdict)
        if verdict is not None:
            self.clear(verdict)
        else:
            self.put(first.release())
        return True

    def _read_checked(self, stream: RequestStream) -> bool:
        if stream.blind >= _LONG_BODY:
            before = self.carried
            alive = self.fill(stream.blind)
            stream.skip(self.carried - before)
            return alive
        data = self.source.recv(COPY_BYTES)
        if data:
            self.put(self._checked(stream.feed, data))
        return bool(data)

    def _checked(self, step: Callable[[W], bytes], word: W) -> bytes:
        verdict = check_requests(step, word, self._allowed)
        if isinstance(verdict, Denied):
            raise _refusal(verdict)
        return verdict


def _refusal(denied: Denied) -> Refusal:
    return Refusal(denied.reason, denied.layer, denied.host)


class AnswerHalf(Half):
    """From the host; looked at only where the first request asked for an upgrade.

    Args:
        allowed: what the flow may be.
        decided: called when the host has first spoken while that was awaited, and when it has answered an
            upgrade: then the other direction may go on.

    Attributes:
        awaited: whether the other direction can be judged only once the host has spoken.
    """

    __slots__ = ("_asking", "_decided", "_head", "awaited")

    def __init__(
        self, source: Socket, target: Socket, pipes: Pipes, allowed: Allowed, decided: Callable[[], None]
    ) -> None:
        super().__init__(source, target, pipes, allowed.usage.down)
        self._decided = decided
        self._asking: RequestHalf | None = None
        self._head = b""
        self.awaited = False

    def await_upgrade(self, asking: RequestHalf) -> None:
        """Look for the answer to an upgrade from now on."""
        self._asking = asking

    def read(self) -> bool:
        """Take in more; False at the end of the source.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the answer to an upgrade is not HTTP.
        """
        if self._asking is None:
            alive = super().read()
            if self.awaited:
                self.awaited = False
                self._decided()
            return alive
        data = self.source.recv(COPY_BYTES)
        self.put(data)
        self._head += data
        try:
            self._find_answer(self._asking)
        except Malformed as error:
            raise OSError(EPROTO, "no HTTP answer to an upgrade") from error
        return bool(data)

    def _find_answer(self, asking: RequestHalf) -> None:
        from mvm.wire.http_head import read_response_head

        while (answer := read_response_head(self._head)) is not None:
            self._head = self._head[answer.size :]
            if answer.status == _SWITCHING or answer.status >= _FINAL:
                self._asking, self._head = None, b""
                asking.answered(accepted=answer.status == _SWITCHING)
                self._decided()
                return
