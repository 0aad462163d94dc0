"""The hosts of the fake internet: which service listens at which address and port, and for which names.

Owns the listeners and the open connections. Several names may share an address and port: TLS picks the
certificate by SNI, and everything that arrived is told apart by the names it asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

from tests.support.upstream import web
from tests.support.upstream.flow import Flow, TlsFlow
from tests.support.upstream.services import DATAGRAM_SERVICES, SERVICES
from tests.support.upstream.sockets import DatagramSocket, bind

if TYPE_CHECKING:
    from tests.support.upstream.authority import Authority
    from tests.support.upstream.flow import Stream
    from tests.support.upstream.ledger import Arrived, Ledger
    from tests.support.upstream.sockets import Peer

_BACKLOG = 4096
_STUCK_BUFFER = 4096

Place = tuple[str, str, int]
"""Transport, address and port."""


class Endpoint:
    """One TCP listener with the names it serves."""

    def __init__(self, address: str, port: int, *, service: str, ledger: Ledger) -> None:
        """Listen at once. Raises OSError."""
        self.service = service
        self.contexts: dict[str, ssl.SSLContext] = {}
        self._place = (address, port)
        self._ledger = ledger
        self._greeting: dict[int, Arrived] = {}
        self._flows: dict[asyncio.Task[None], Flow] = {}
        self._listener = bind(socket.SOCK_STREAM, address, port)
        if service == "stuck":
            # Small, so that the sender soon feels that nobody reads.
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _STUCK_BUFFER)
        self._listener.listen(_BACKLOG)
        self._accepting = asyncio.ensure_future(self._accept())

    def add_context(self, name: str, context: ssl.SSLContext) -> None:
        """Serve TLS for `name`; the first one added also serves clients that send no name."""
        context.sni_callback = self._choose
        self.contexts[name] = context

    def close(self) -> None:
        """Stop listening; open connections go on."""
        self._accepting.cancel()
        self._listener.close()

    def cut(self) -> None:
        """Reset every open connection."""
        for task, flow in list(self._flows.items()):
            flow.record.ending = flow.record.ending or "cut"
            flow.reset()
            task.cancel()

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        self._greeting[id(tls)].names.append(name)
        self._ledger.changed()
        if name in self.contexts:
            tls.context = self.contexts[name]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        address, port = self._place
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            record = self._ledger.open(transport="tcp", address=address, port=port)
            flow = Flow(sock, record, self._ledger)
            task = asyncio.ensure_future(self._serve(flow))
            self._flows[task] = flow
            task.add_done_callback(self._flows.pop)

    async def _serve(self, flow: Flow) -> None:
        # A peer may end at any moment and in any manner; that is what the record is for.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if self.contexts:
                await self._serve_tls(flow)
            else:
                await SERVICES[self.service](flow)
        flow.close()

    async def _serve_tls(self, flow: Flow) -> None:
        stream = TlsFlow(flow, next(iter(self.contexts.values())))
        self._greeting[id(stream.tls)] = flow.record
        try:
            await stream.greet()
        finally:
            del self._greeting[id(stream.tls)]
        serve = SERVICES[self.service]
        if stream.tls.selected_alpn_protocol() == "h2":
            serve = web.serve_http2
        plain: Stream = stream
        await serve(plain)
        await stream.say_goodbye()


class Hosts:
    """All endpoints, by place and by name."""

    def __init__(self, ledger: Ledger, authority: Authority) -> None:
        """Start with none."""
        self._ledger = ledger
        self._authority = authority
        self._endpoints: dict[Place, Endpoint] = {}
        self._datagrams: dict[Place, DatagramSocket] = {}
        self._names: dict[str, list[Place]] = {}

    def serve(self, words: dict[str, Any]) -> None:
        """Serve `name` at each of `addresses` and `port`: `service`, `transport` (tcp, tls, udp), `alpn`.

        Raises OSError where the place is taken, ValueError where another service has it.
        """
        for address in words["addresses"]:
            transport = "udp" if words["transport"] == "udp" else "tcp"
            place = (transport, address, words["port"])
            if transport == "udp":
                self._serve_datagrams(place, words["service"])
            else:
                self._serve_flows(place, words)
            self._names.setdefault(words["name"], []).append(place)

    def withdraw(self, name: str) -> None:
        """Stop listening wherever only `name` is served."""
        for place in self._names.pop(name, []):
            if any(place in places for places in self._names.values()):
                continue
            if place in self._endpoints:
                self._endpoints.pop(place).close()
            if place in self._datagrams:
                self._datagrams.pop(place).close()

    def cut(self, name: str) -> None:
        """Reset every open connection at the places of `name`."""
        for place in self._names.get(name, []):
            if place in self._endpoints:
                self._endpoints[place].cut()

    def arrivals(self, name: str) -> dict[str, Any]:
        """What arrived for `name`: where it shares its place, only what asked for it by name."""
        places = self._names.get(name, [])
        others = {place for other, held in self._names.items() if other != name for place in held}
        shared = any(place in others for place in places)
        return self._ledger.summary(places, name=name if shared else None)

    def _serve_flows(self, place: Place, words: dict[str, Any]) -> None:
        _, address, port = place
        endpoint = self._endpoints.get(place)
        if endpoint is None:
            endpoint = Endpoint(address, port, service=words["service"], ledger=self._ledger)
            self._endpoints[place] = endpoint
        elif (endpoint.service, bool(endpoint.contexts)) != (words["service"], words["transport"] == "tls"):
            raise ValueError(f"{address}:{port} already serves {endpoint.service}")
        if words["transport"] == "tls":
            name = words["name"]
            endpoint.add_context(name, self._authority.context(name, alpn=words["alpn"]))

    def _serve_datagrams(self, place: Place, service: str) -> None:
        transport, address, port = place
        record = self._ledger.open(transport=transport, address=address, port=port)
        serve = DATAGRAM_SERVICES[service]

        def received(sock: DatagramSocket, data: bytes, peer: Peer) -> None:
            record.datagrams += 1
            record.bytes += len(data)
            self._ledger.changed()
            serve(sock, data, peer)

        self._datagrams[place] = DatagramSocket(address, port, received)
