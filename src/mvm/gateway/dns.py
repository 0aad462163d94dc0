"""The sandbox's questions about names, by UDP and by TCP, to whatever server it believes in.

Owns the edge around the pure `gateway.resolver`. No question ever leaves: answers are the
gateway's own addresses, or a refusal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mvm.gateway import resolver
from mvm.gateway.farewell import reset
from mvm.gateway.loop import PEER_CLOSED, READ, WRITE
from mvm.policy.decide import Denied
from mvm.terms import DnsMode, HostName, Layer, Reason
from mvm.wire.dns_stream import MessageStream, frame
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from mvm.gateway.gateway import Gateway
    from mvm.gateway.resolver import Known
    from mvm.gateway.standing import Standing
    from mvm.kernel.sockets import Socket

_MOST_BYTES = 4096
_READ_BYTES = 1 << 14
_MOST_UNSENT = 1 << 16


def answer(gateway: Gateway, query: bytes, *, over_tcp: bool) -> bytes | None:
    """One exchange: the reply's bytes, or None where nothing can be said; a denial is reported."""
    policy = gateway.standing.authority.policy
    allowed = policy.dns.mode is not DnsMode.NONE or bool(policy.dns.static) or policy.unrestricted
    lookup = partial(_lookup, gateway.standing)
    exchange = resolver.answer(query, lookup, dns_allowed=allowed, over_tcp=over_tcp)
    if exchange.denied is not None:
        gateway.refusals.add(_denied(exchange.denied, exchange.name or None))
    return exchange.reply


def _lookup(standing: Standing, name: str) -> Known | Reason:
    found = standing.lookup(HostName(name))
    return found if isinstance(found, Reason) else (found[0].packed, found[1].packed)


def _denied(reason: Reason, name: str | None) -> Denied:
    return Denied(reason=reason, layer=Layer.DNS, host=name, address=None, port=0, protocol=None)


class DnsStream:
    """DNS over TCP: one connection of the workload's to port 53 of any address (RFC 7766).

    Nothing more is read while replies wait to be taken. A client that says no more gets its replies still.
    """

    __slots__ = ("_client", "_ended", "_gateway", "_stream", "_unsent")

    def __init__(self, gateway: Gateway, client: Socket) -> None:
        self._gateway, self._client = gateway, client
        self._stream = MessageStream(limit=_MOST_BYTES)
        self._unsent = b""
        self._ended = False
        gateway.streams.add(self)
        gateway.loop.watch(client.fileno(), READ | PEER_CLOSED, self._on_events)

    def _on_events(self, _events: int) -> None:
        try:
            if not self._unsent:
                self._read()
            if self._unsent:
                self._unsent = self._unsent[self._client.send(self._unsent) :]
        except BlockingIOError:
            pass  # the next event goes on
        except Malformed:
            self._gateway.refusals.add(_denied(Reason.MALFORMED, None))
            self.cut()
            return
        except OSError:
            self.cut()
            return
        if self._unsent:
            self._gateway.loop.change(self._client.fileno(), WRITE, self._on_events)
        elif self._ended:
            self._close()
        else:
            self._gateway.loop.change(self._client.fileno(), READ | PEER_CLOSED, self._on_events)

    def _read(self) -> None:
        data = self._client.recv(_READ_BYTES)
        self._ended = not data
        self._gateway.streams.add(self)  # its time begins anew
        for query in self._stream.feed(data):
            reply = answer(self._gateway, query, over_tcp=True)
            self._unsent += b"" if reply is None else frame(reply)
        if len(self._unsent) > _MOST_UNSENT:
            raise OSError(0, "more asked for at once than is answered")

    def cut(self) -> None:
        """It has been idle for too long, or the sandbox ends: close it by RST."""
        if self._let_go():
            reset(self._client)

    def _close(self) -> None:
        if self._let_go():
            self._client.close()

    def _let_go(self) -> bool:
        if self._client.fileno() < 0:
            return False
        self._gateway.streams.drop(self)
        self._gateway.loop.forget(self._client.fileno())
        return True
