"""One TCP flow, from the workload's connect to the end: the edge around `flow`, `dial` and `relay`.

    accepted ─decide─► Denied: RST
        │ Allowed
        ├─ TLS, HTTP expected: first bytes ─judged─► Denied: alert or 403 · Cleared ─► dial ─► relay
        └─ ANY, RAW: dial at once (a server may speak first); the relay judges the first bytes

Owns the workload's socket until the relay, or the farewell, does. Every end of what was opened is recorded.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway import flow as table
from mvm.gateway.book import BY_GUEST, CLEAN, UNRECORDED, End
from mvm.gateway.checked import AnswerHalf, RequestHalf
from mvm.gateway.dial import Dial
from mvm.gateway.failure import Failure
from mvm.gateway.flow import Expect
from mvm.gateway.loop import ERROR, HANGUP, READ, WRITE
from mvm.gateway.relay import EVENTS, RESET_BY_CLIENT, Half, Refusal, Relay
from mvm.policy.decide import Denied
from mvm.terms import Layer, Reason

if TYPE_CHECKING:
    from mvm.gateway.flow import Cleared
    from mvm.gateway.gateway import Gateway
    from mvm.kernel.sockets import Socket
    from mvm.policy.decide import Allowed

_READ_BYTES = 1 << 16
_NAMED_FIRST = (Expect.TLS, Expect.HTTP)
_SPEAKS = {Expect.TLS: "tls", Expect.HTTP: "http"}


class TcpFlow:
    """One allowed connection.

    Args:
        gateway: whose it is.
        client: the accepted socket, non-blocking, not watched yet.
        allowed: the leave.

    Attributes: those of `book.Flow`.
    """

    __slots__ = (
        "_cleared",
        "_client",
        "_dial",
        "_end",
        "_first",
        "_gateway",
        "_missed",
        "_relay",
        "address",
        "allowed",
        "began",
        "number",
        "recorded",
    )

    def __init__(self, gateway: Gateway, client: Socket, allowed: Allowed) -> None:
        self._gateway, self._client, self.allowed = gateway, client, allowed
        self._first = table.FirstFlight(allowed)
        self._cleared: Cleared | None = None
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._end: End | None = None
        self._missed = 0
        self.number = 0
        self.began = monotonic()
        self.address: str | None = None
        self.recorded = False

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from and to the workload so far."""
        relay = self._relay
        return (0, 0) if relay is None else (relay.up.carried, relay.down.carried)

    # ---- until it is open

    def begin(self) -> None:
        """Read what is there, dial what need not wait."""
        self._gateway.book.begin(self)
        if self._first.expect in _NAMED_FIRST:
            self._gateway.first_flights.add(self)
            self._read_first()
        else:
            self._start_dial()
        if self._end is None and self._relay is None:
            self._gateway.loop.watch(self._client.fileno(), EVENTS, self._on_early)

    def _on_early(self, events: int) -> None:
        """Events of the workload's end until the relay has it."""
        self._missed |= events
        if events & (ERROR | HANGUP):
            self.end(BY_GUEST)
        elif events & READ and not self._first.judged and self._first.expect in _NAMED_FIRST:
            self._read_first()

    def _read_first(self) -> None:
        first = self._first
        while not first.judged and self._end is None:
            try:
                data = self._client.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.end(BY_GUEST)
                return
            if len(data) < _READ_BYTES:
                self._missed &= ~READ  # drained: whatever comes now is another event
            if data:
                self._judged(first.feed(data))
            elif first.begun:
                self.refuse(first.cut_short())
            else:
                self.end(BY_GUEST)

    def _judged(self, verdict: Cleared | Denied | None) -> None:
        if isinstance(verdict, Denied):
            self.refuse(verdict)
        elif verdict is not None:
            self._cleared = verdict
            self._start_dial()

    def too_late(self) -> None:
        """The first bytes did not come, or were not whole, in time."""
        if not self._first.judged:
            self.refuse(self._first.cut_short())

    def _start_dial(self) -> None:
        gateway = self._gateway
        gateway.first_flights.drop(self)
        self._dial = dial = Dial(gateway.loop, gateway.dials, self.allowed, self._record, self._dialled)
        dial.begin(gateway.resolver)

    def _record(self, addresses: list[str]) -> bool:
        speaks = _SPEAKS.get(self._first.spoken)
        if self._gateway.book.open(self, addresses, speaks):
            return True
        self.end(UNRECORDED)
        return False

    def _dialled(self, result: Socket | Failure | Denied, events: int, address: str | None) -> None:
        self._dial = None
        self.address = address
        if isinstance(result, Denied):
            self.refuse(result)
        elif isinstance(result, Failure):
            words = table.words_of_failure(result.text, self._first.spoken)
            self._finish(self._gateway.book.fail(self.allowed, result), words)
        else:
            self._open(result, events)

    # ---- while it is open

    def _open(self, upstream: Socket, events: int) -> None:
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client, loop = self._client, self._gateway.loop
        relay = self._relay = self._make_relay(upstream)
        loop.handle(client.fileno(), relay.on_client)
        loop.handle(upstream.fileno(), relay.on_upstream)
        try:
            self._hand_over(relay.up)
        except Refusal as refusal:
            relay.close(refusal)
            return
        if self._missed & ~WRITE:
            relay.on_client(self._missed)
        elif relay.up.blocked:
            relay.up.drained = True
            relay.pump(relay.up)
        if relay.open and events & ~WRITE:
            relay.on_upstream(events)

    def _make_relay(self, upstream: Socket) -> Relay:
        client, allowed, pipes, first = self._client, self.allowed, self._gateway.pipes, self._first
        if first.expect is Expect.RAW or first.spoken is Expect.TLS:
            up = Half(client, upstream, pipes, allowed.usage.up)
            down = Half(upstream, client, pipes, allowed.usage.down)
            return Relay(self._gateway.loop, up, down, self._over)
        answers = AnswerHalf(upstream, client, pipes, allowed, self._go_on)
        judge = None if first.judged else first
        requests = RequestHalf(client, upstream, pipes, allowed, answers, judge, self._on_first_bytes)
        return Relay(self._gateway.loop, requests, answers, self._over)

    def _hand_over(self, up: Half) -> None:
        """Give the first bytes, where they are judged already, to the direction that they go in."""
        cleared, self._cleared = self._cleared, None
        if cleared is None:
            return
        if isinstance(up, RequestHalf):
            up.clear(cleared)
        else:
            up.put(cleared.data)

    def _on_first_bytes(self) -> None:
        """The first bytes of a flow that may speak anything: once they begin, they have to end in time."""
        if self._first.judged:
            self._gateway.first_flights.drop(self)
        else:
            self._gateway.first_flights.add(self)

    def _go_on(self) -> None:
        """The host has spoken: what the workload's bytes waited for, they wait for no longer."""
        if self._relay is not None:
            relay = self._relay
            self._gateway.loop.soon(lambda: relay.resume(relay.up))

    # ---- its end

    def refuse(self, denied: Denied) -> None:
        """End the flow as a denial: recorded, and told to the workload in what it speaks."""
        if self._relay is not None:
            self._relay.close(Refusal(denied.reason, denied.layer, denied.host))
        elif self._end is None:
            self._gateway.refusals.add(denied)
            self._finish(End("policy", denied.reason), table.words_of_denial(denied, self._first.spoken))

    def revoke(self, reason: Reason) -> None:
        """The grant no longer stands: reset the flow now."""
        layer = Layer.QUOTA if reason in {Reason.EXPIRED, Reason.BUDGET_EXCEEDED} else Layer.TCP
        denied = table.refused(self.allowed, reason, layer)
        self.end(End("policy", reason))
        self._gateway.refusals.add(denied)

    def end(self, end: End) -> None:
        """Reset the flow now."""
        if self._relay is None:
            self._finish(end, b"")
        elif self._end is None:
            self._end = end
            self._relay.close(RESET_BY_CLIENT)

    def _finish(self, end: End, words: bytes) -> None:
        """End it before it was open."""
        if self._end is not None:
            return
        self._end = end
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        self._gateway.first_flights.drop(self)
        self._gateway.farewells.say(self._client, words)
        self._gateway.book.close(self, end)

    def _over(self, why: str | Refusal | None) -> None:
        """The relay is over, by itself or by `end`."""
        gateway = self._gateway
        gateway.first_flights.drop(self)
        self._end = end = self._end or self._end_of(why)
        gateway.book.close(self, end)
        self._relay = None  # it knows us: a circle would wait for the collector, a kilobyte a flow
        if end.word == Reason.BUDGET_EXCEEDED:
            gateway.standing.use_up(self.allowed.usage)

    def _end_of(self, why: str | Refusal | None) -> End:
        if why is None:
            return CLEAN
        if why == RESET_BY_CLIENT:
            return BY_GUEST
        if isinstance(why, Refusal):
            denied = table.refused(self.allowed, why.reason, why.layer, why.host)
            self._gateway.refusals.add(denied)
            self._gateway.farewells.say(self._client, self._words(denied))
            return End("policy", denied.reason)
        failure = Failure(why)
        relay = self._relay
        if relay is not None and relay.up.ended:
            return End("transport", failure.word)  # the workload had said its last: nothing failed for it
        return self._gateway.book.fail(self.allowed, failure)

    def _words(self, denied: Denied) -> bytes:
        """What can still be said to a workload that has got some answer, or none."""
        down = self._relay.down if self._relay is not None else None
        if down is not None and (down.blocked or (down.carried and denied.layer is not Layer.HTTP)):
            return b""
        return table.words_of_denial(denied, self._first.spoken)
