"""The sandbox's questions about names, by UDP and by TCP, to whatever server it believes in.

Owns the edge around the pure `gateway.resolver`. No question ever leaves: answers are the
gateway's own addresses, or a refusal.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway import resolver
from mvm.gateway.loop import ERROR, HANGUP, PEER_CLOSED, READ
from mvm.policy.decide import Denied
from mvm.terms import DnsMode, HostName, Layer, Reason
from mvm.wire.dns_stream import MessageStream, frame
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    import socket

    from mvm.gateway.gateway import Gateway

_MOST_BYTES = 4096
_READ_BYTES = 1 << 16
_MOST_UNSENT = 1 << 16
_IDLE_SECONDS = 30.0


def answer(gateway: Gateway, query: bytes, *, over_tcp: bool) -> bytes | None:
    """One exchange: the reply's bytes, or None where nothing can be said; a denial is reported."""
    dns = gateway.authority.policy.dns
    allowed = dns.mode is not DnsMode.NONE or bool(dns.static) or gateway.authority.policy.unrestricted
    exchange = resolver.answer(query, gateway.lookup, dns_allowed=allowed, over_tcp=over_tcp)
    if exchange.denied is not None:
        name = exchange.name or None
        gateway.deny(
            Denied(reason=exchange.denied, layer=Layer.DNS, host=name, address=None, port=0, protocol=None)
        )
    elif exchange.name is not None:
        gateway.record_answered(HostName(exchange.name))
    return exchange.reply


class DnsStream:
    """DNS over TCP: one connection of the workload's to port 53 of any address."""

    def __init__(self, gateway: Gateway, client: socket.socket) -> None:
        self._gateway, self._client = gateway, client
        self._stream = MessageStream(limit=_MOST_BYTES)
        self._unsent = b""
        self.deadline = monotonic() + _IDLE_SECONDS
        gateway.loop.watch(client.fileno(), READ | PEER_CLOSED, self._on_events)

    @property
    def overdue(self) -> bool:
        """Whether the connection is still there at its deadline."""
        return self._client.fileno() >= 0

    def too_late(self) -> None:
        """Idle for too long."""
        self.end("idle")

    def _on_events(self, events: int) -> None:
        try:
            if self._unsent:
                self._send()
                return
            data = self._client.recv(_READ_BYTES)
            for query in self._stream.feed(data):
                reply = answer(self._gateway, query, over_tcp=True)
                self._unsent += b"" if reply is None else frame(reply)
            if self._unsent:
                self._send()
        except BlockingIOError:
            return
        except Malformed:
            self._gateway.deny(
                Denied(
                    reason=Reason.MALFORMED, layer=Layer.DNS, host=None, address=None, port=53, protocol="tcp"
                )
            )
            data = b""
        except OSError:
            data = b""
        if not data or events & (ERROR | HANGUP) or len(self._unsent) > _MOST_UNSENT:
            self.end("closed")

    def _send(self) -> None:
        from mvm.gateway.loop import WRITE

        sent = self._client.send(self._unsent)
        self._unsent = self._unsent[sent:]
        events = WRITE if self._unsent else READ | PEER_CLOSED
        self._gateway.loop.change(self._client.fileno(), events, self._on_events)

    def end(self, _why: str) -> None:
        """Close the connection."""
        if self._client.fileno() >= 0:
            self._gateway.loop.forget(self._client.fileno())
            self._client.close()
            self._gateway.ended(self)
