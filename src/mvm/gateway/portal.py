"""`http://policy.mvm.internal/`: what the workload may reach and what it was denied, as JSON.

So that an agent can say what it lacks. It reads nothing but the request's head and can widen
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.gateway.farewell import reset
from mvm.gateway.flow import response
from mvm.gateway.loop import PEER_CLOSED, READ
from mvm.wire.http_head import read_request_head
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from mvm.gateway.gateway import Gateway
    from mvm.kernel.sockets import Socket

_READ_BYTES = 1 << 14
_READING = (b"GET", b"HEAD")


class PortalVisit:
    """One connection to the portal."""

    __slots__ = ("_client", "_data", "_gateway")

    def __init__(self, gateway: Gateway, client: Socket) -> None:
        self._gateway, self._client = gateway, client
        self._data = b""
        gateway.visits.add(self)
        gateway.loop.watch(client.fileno(), READ | PEER_CLOSED, self._on_events)

    def _on_events(self, _events: int) -> None:
        try:
            data = self._client.recv(_READ_BYTES)
            self._data += data
            head = read_request_head(self._data)
        except BlockingIOError:
            return
        except Malformed:
            self._say(response(b"400 Bad Request", {}))
            return
        except OSError:
            self.cut()
            return
        if head is not None:
            self._answer(head.method)
        elif not data:
            self.cut()

    def _answer(self, method: bytes) -> None:
        if method not in _READING:
            self._say(response(b"405 Method Not Allowed", {}, b"Allow: GET, HEAD\r\n"))
            return
        page = response(b"200 OK", self._gateway.describe())
        self._say(page if method == b"GET" else page[: page.index(b"\r\n\r\n") + 4])

    def _say(self, page: bytes) -> None:
        self._gateway.visits.drop(self)
        self._gateway.farewells.say(self._client, page)

    def cut(self) -> None:
        """The request did not come in time, or the sandbox ends: close it by RST."""
        self._gateway.visits.drop(self)
        self._gateway.loop.forget(self._client.fileno())
        reset(self._client)
