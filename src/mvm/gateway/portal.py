"""`http://policy.mvm.internal/`: what the workload may reach and what it was denied, as JSON.

So that an agent can say what it lacks. It reads nothing but the request's head and can widen
nothing.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway.flow import FIRST_FLIGHT_BYTES, FIRST_FLIGHT_SECONDS, response
from mvm.gateway.loop import PEER_CLOSED, READ
from mvm.wire.http_head import read_request_head
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    import socket

    from mvm.gateway.gateway import Gateway

PORT = 80


class PortalVisit:
    """One connection to the portal."""

    def __init__(self, gateway: Gateway, client: socket.socket) -> None:
        self._gateway, self._client = gateway, client
        self._data = b""
        self.deadline = monotonic() + FIRST_FLIGHT_SECONDS
        gateway.loop.watch(client.fileno(), READ | PEER_CLOSED, self._on_events)

    @property
    def overdue(self) -> bool:
        """Whether the visitor is still there at the deadline."""
        return self._client.fileno() >= 0

    def too_late(self) -> None:
        """The request did not come in time."""
        self.end("idle")

    def _on_events(self, _events: int) -> None:
        try:
            data = self._client.recv(FIRST_FLIGHT_BYTES)
            self._data += data
            head = read_request_head(self._data)
        except BlockingIOError:
            return
        except (OSError, Malformed):
            self.end("malformed")
            return
        if head is not None:
            self._answer(is_read=head.method in {b"GET", b"HEAD"})
        elif not data:
            self.end("closed")

    def _answer(self, *, is_read: bool) -> None:
        import json

        body = json.dumps(self._gateway.describe(), indent=2).encode() + b"\n" if is_read else b"{}\n"
        page = response(b"200 OK" if is_read else b"405 Method Not Allowed", body, b"")
        try:
            self._client.setblocking(True)
            self._client.settimeout(1.0)
            self._client.sendall(page)
        except OSError:
            pass  # a visitor that does not read its page gets none
        self.end("answered")

    def end(self, _why: str) -> None:
        """Close the connection."""
        if self._client.fileno() >= 0:
            self._gateway.loop.forget(self._client.fileno())
            self._client.close()
            self._gateway.ended(self)
