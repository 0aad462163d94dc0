"""The two directions of a flow whose bytes are looked at: until they are judged, or, in plain HTTP, always.

Owns the meeting of `relay.Half` with the pure `flow.FirstFlight` and `wire.http_stream`. Bodies
of known length are spliced past the check. A WebSocket upgrade is asked for by a connection's
first request or not at all, and opens the stream only when the host has answered 101.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.gateway.flow import check_requests
from mvm.gateway.relay import COPY_BYTES, Half, Refusal
from mvm.policy.decide import Denied
from mvm.terms import Layer, Reason
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from mvm.gateway.flow import Cleared, FirstFlight
    from mvm.gateway.relay import Pipes
    from mvm.policy.decide import Allowed
    from mvm.wire.http_stream import RequestStream

_SWITCHING, _FINAL = 101, 200
_LONG_BODY = 1 << 16


class RequestHalf(Half):
    """From the workload: nothing passes that was not cleared.

    Args:
        first: the first bytes' judge, where they are not judged yet, else None.
        answers: the other direction, told when an upgrade is asked for.
    """

    __slots__ = ("_allowed", "_answers", "_first", "_stream")

    def __init__(  # noqa: PLR0913  the parts of a direction
        self,
        source: socket.socket,
        target: socket.socket,
        pipes: Pipes,
        allowed: Allowed,
        *,
        first: FirstFlight | None,
        answers: AnswerHalf,
    ) -> None:
        super().__init__(source, target, pipes, allowed.usage.up)
        self._allowed, self._first, self._answers = allowed, first, answers
        self._stream: RequestStream | None = None

    def clear(self, cleared: Cleared) -> None:
        """The first bytes are judged: they may pass, and the stream checks what follows."""
        self._first, self._stream = None, cleared.stream
        self.put(cleared.data)
        if cleared.stream is not None and cleared.stream.awaiting_upgrade:
            self._answers.await_upgrade(cleared.stream)

    def read(self) -> bool:
        """Take in and check more; False at the end of the source.

        Raises:
            BlockingIOError: nothing is there, or the host has not answered an upgrade yet.
            Refusal: the bytes are not what the grant allows.
        """
        if self._first is not None:
            return self._read_first(self._first)
        if self._stream is None or self._stream.opaque:
            return super().read()
        return self._read_checked(self._stream)

    def _read_first(self, first: FirstFlight) -> bool:
        data = self.source.recv(COPY_BYTES)
        if not data:
            # A half-close with nothing said: the host may still have its say.
            if first.begun:
                raise Refusal(Reason.MALFORMED, Layer.TCP)
            return False
        verdict = first.feed(data)
        if isinstance(verdict, Denied):
            raise Refusal(verdict.reason, verdict.layer, verdict.host)
        if verdict is not None:
            self.clear(verdict)
        return True

    def _read_checked(self, stream: RequestStream) -> bool:
        if stream.awaiting_upgrade:
            raise BlockingIOError
        if stream.blind >= _LONG_BODY:
            before = self.carried
            alive = self.fill(stream.blind)
            stream.skip(self.carried - before)
            return alive
        data = self.source.recv(COPY_BYTES)
        cleared = check_requests(stream, data, self._allowed) if data else b""
        if isinstance(cleared, Denied):
            raise Refusal(cleared.reason, cleared.layer, cleared.host)
        if stream.awaiting_upgrade:
            raise Refusal(Reason.PROTOCOL_NOT_GRANTED, Layer.HTTP)
        self.put(cleared)
        return bool(data)


class AnswerHalf(Half):
    """From the host; looked at only where the first request asked for an upgrade.

    Args:
        decided: called when the host has answered it, so that the other direction goes on.
    """

    __slots__ = ("_decided", "_head", "_stream")

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        pipes: Pipes,
        allowed: Allowed,
        decided: Callable[[], None],
    ) -> None:
        super().__init__(source, target, pipes, allowed.usage.down)
        self._decided = decided
        self._stream: RequestStream | None = None
        self._head = b""

    def await_upgrade(self, stream: RequestStream) -> None:
        """Look for the answer to an upgrade from now on."""
        self._stream = stream

    def read(self) -> bool:
        """Take in more; False at the end of the source.

        Raises:
            BlockingIOError: nothing is there.
            Refusal: the answer to an upgrade is not HTTP.
        """
        if self._stream is None:
            return super().read()
        data = self.source.recv(COPY_BYTES)
        self.put(data)
        self._head += data
        try:
            self._find_answer(self._stream)
        except Malformed as error:
            raise Refusal(Reason.MALFORMED, Layer.HTTP) from error
        return bool(data)

    def _find_answer(self, stream: RequestStream) -> None:
        from mvm.wire.http_head import read_response_head

        while (answer := read_response_head(self._head)) is not None:
            self._head = self._head[answer.size :]
            if answer.status == _SWITCHING or answer.status >= _FINAL:
                stream.upgraded(answer.status == _SWITCHING)
                self._stream, self._head = None, b""
                self._decided()
                return
