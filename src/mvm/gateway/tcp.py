"""One TCP flow, from the workload's connect to the end: the edge around `flow`, `dial` and `relay`.

    accepted ─decide─► Denied: RST
        │ Allowed
        ├─ TLS, HTTP expected: first bytes ─judged─► Denied: alert or 403 · Cleared ─► dial ─► relay
        └─ ANY, RAW: dial at once (a server may speak first); the relay judges the first bytes

Owns the workload's socket until the relay does. Every end of what was opened is recorded.
"""

from __future__ import annotations

import socket
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway import flow as table
from mvm.gateway.checked import AnswerHalf, RequestHalf
from mvm.gateway.dial import Dial
from mvm.gateway.loop import ERROR, HANGUP, READ, WRITE
from mvm.gateway.relay import EVENTS, Half, Refusal, Relay
from mvm.gateway.resolve import Failure
from mvm.kernel.sockets import reset_on_close
from mvm.policy.decide import Denied
from mvm.terms import Layer, Reason

if TYPE_CHECKING:
    from mvm.gateway.gateway import Gateway
    from mvm.policy.decide import Allowed
    from mvm.terms import Address

_READ_BYTES = 1 << 16
_NAMED_FIRST = (table.Expect.TLS, table.Expect.HTTP)


class TcpFlow:
    """One allowed connection.

    Args:
        gateway: whose it is.
        client: the accepted socket, non-blocking, not watched yet.
        allowed: the leave.
        number: its number in the record.
    """

    __slots__ = (
        "_client",
        "_cleared",
        "_dial",
        "_first",
        "_gateway",
        "_missed",
        "_relay",
        "allowed",
        "number",
        "opened",
        "recorded",
    )

    def __init__(self, gateway: Gateway, client: socket.socket, allowed: Allowed, number: int) -> None:
        self._gateway, self._client, self.allowed, self.number = gateway, client, allowed, number
        self._first = table.FirstFlight(allowed)
        self._cleared: table.Cleared | None = None
        self._dial: Dial | None = None
        self._relay: Relay | None = None
        self._missed = 0
        self.opened = monotonic()
        self.recorded = False

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from and to the workload so far."""
        relay = self._relay
        return (0, 0) if relay is None else (relay.up.carried, relay.down.carried)

    @property
    def overdue(self) -> bool:
        """Whether its first bytes should have come by now and have not."""
        first = self._first
        if first.judged or self._client.fileno() < 0:
            return False
        return first.begun or first.expect in _NAMED_FIRST

    def start(self) -> None:
        """Begin: read what is there, dial what need not wait."""
        if self._first.expect in _NAMED_FIRST:
            self._read_first()
        else:
            self._start_dial()
        if self._client.fileno() >= 0 and self._relay is None:
            self._gateway.loop.watch(self._client.fileno(), EVENTS, self._on_early)

    def _on_early(self, events: int) -> None:
        """Events of the workload's end until the relay has it."""
        self._missed |= events
        if events & (ERROR | HANGUP):
            self._end("closed by the workload")
        elif self._dial is None and events & READ:
            self._read_first()

    def _read_first(self) -> None:
        while self._cleared is None:
            try:
                data = self._client.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end("closed before its first bytes were whole")
                return
            verdict = self._first.feed(data)
            if isinstance(verdict, Denied):
                self.refuse(verdict)
                return
            if verdict is not None:
                self._cleared = verdict
                self._start_dial()

    def _start_dial(self) -> None:
        gateway = self._gateway
        # The dialler may answer before it is assigned here; then it is over already.
        dial = Dial(gateway.loop, self.allowed, gateway.resolver, self._record, self._dialled)
        self._dial = dial if self._client.fileno() >= 0 and self._relay is None else None

    def _record(self, addresses: tuple[Address, ...]) -> None:
        self._gateway.record_opened(self, addresses)
        self.recorded = True

    def _dialled(self, result: socket.socket | Failure | Denied, events: int) -> None:
        self._dial = None
        if isinstance(result, Denied):
            self.refuse(result)
        elif isinstance(result, Failure):
            self._fail(result)
        else:
            self._open(result, events)

    def _open(self, upstream: socket.socket, events: int) -> None:
        client, gateway = self._client, self._gateway
        for sock in (client, upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        relay = self._relay = self._make_relay(upstream)
        gateway.loop.handle(client.fileno(), relay.on_client)
        gateway.loop.handle(upstream.fileno(), relay.on_upstream)
        if self._missed & ~WRITE:
            relay.on_client(self._missed)
        else:
            relay.up.drained = True
            relay.pump(relay.up)
        if relay.open and events & ~WRITE:
            relay.on_upstream(events)

    def _make_relay(self, upstream: socket.socket) -> Relay:
        client, allowed, pipes, cleared = self._client, self.allowed, self._gateway.pipes, self._cleared
        up: Half
        down: Half
        if cleared is not None and cleared.stream is None:
            up = Half(client, upstream, pipes, allowed.usage.up)
            down = Half(upstream, client, pipes, allowed.usage.down)
            up.put(cleared.data)
        else:
            down = AnswerHalf(upstream, client, pipes, allowed, self._go_on)
            first = self._first if cleared is None else None
            up = RequestHalf(client, upstream, pipes, allowed, first=first, answers=down)
            if cleared is not None:
                up.clear(cleared)
        return Relay(self._gateway.loop, up, down, self._over)

    def _go_on(self) -> None:
        """The host has answered an upgrade: the workload's bytes may be read again."""
        self._gateway.loop.soon(self._pump_up)

    def _pump_up(self) -> None:
        if self._relay is not None and self._relay.open:
            self._relay.pump(self._relay.up)

    def refuse(self, denied: Denied) -> None:
        """End the flow as a denial: recorded, and told to the workload in what it speaks."""
        self._gateway.deny(denied)
        self._end(denied.reason, _last_words(denied))

    def revoke(self, reason: Reason) -> None:
        """The grant no longer stands: reset the flow now."""
        layer = Layer.QUOTA if reason in {Reason.EXPIRED, Reason.BUDGET_EXCEEDED} else Layer.TCP
        self._gateway.deny(table.refused(self.allowed, reason, layer))
        self._end(reason)

    def too_late(self) -> None:
        """The first bytes did not come in time."""
        self.refuse(self._first.too_late())

    def _fail(self, failure: Failure) -> None:
        """The host could not be reached: for the workload a broken network, never a denial."""
        self._gateway.record_failed(self, failure)
        spoken_http = self._cleared is not None and self._cleared.stream is not None
        self._end(failure.word, table.failure_page(failure.text) if spoken_http else b"")

    def end(self, why: str) -> None:
        """End the flow because the sandbox ends."""
        self._end(why)

    def _over(self, why: str | Refusal | None) -> None:
        """The relay has closed both sockets."""
        if isinstance(why, Refusal):
            denied = table.refused(self.allowed, why.reason, why.layer, why.host)
            self._gateway.deny(denied)
            say_and_close(self._client, _last_words(denied))
            why = str(why.reason)
        self._gateway.record_closed(self, why)

    def _end(self, why: str, last_words: bytes = b"") -> None:
        if self._relay is not None and self._relay.open:
            self._relay.close(why)
            return
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        client = self._client
        if client.fileno() >= 0:
            self._gateway.loop.forget(client.fileno())
            say_and_close(client, last_words)
            self._gateway.record_closed(self, why)


def _last_words(denied: Denied) -> bytes:
    match denied.layer:
        case Layer.TLS:
            return table.ALERT_ACCESS_DENIED
        case Layer.HTTP:
            return table.denial_page(denied)
        case _:
            return b""


def say_and_close(client: socket.socket, last_words: bytes) -> None:
    """Close the workload's end: with last words and FIN, or without any by RST."""
    try:
        if last_words:
            client.send(last_words)
            client.shutdown(socket.SHUT_WR)
        else:
            reset_on_close(client)
    except OSError:
        pass  # the workload has gone already; nobody is left to tell
    client.close()
