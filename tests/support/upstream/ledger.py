"""What arrived: every connection and datagram, with its bytes and the names it asked for.

Owns the account. Must never forget: a number only grows, except `open`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Arrived:
    """One connection, or all datagrams at one UDP endpoint."""

    __slots__ = ("address", "bytes", "datagrams", "ending", "names", "port", "transport")

    def __init__(self, *, transport: str, address: str, port: int) -> None:
        """Begin the account of something that arrived at `address` and `port`."""
        self.transport = transport
        self.address = address
        self.port = port
        self.bytes = 0
        self.datagrams = 0
        self.names: list[str] = []
        self.ending: str | None = None


class Ledger:
    """All that arrived since the process started."""

    def __init__(self) -> None:
        """Start empty."""
        self._records: list[Arrived] = []
        self._waiting: asyncio.Future[None] | None = None

    def open(self, *, transport: str, address: str, port: int) -> Arrived:
        """Begin a record."""
        record = Arrived(transport=transport, address=address, port=port)
        self._records.append(record)
        self.changed()
        return record

    def changed(self) -> None:
        """Wake whoever waits for a number; to be called after each change to a record."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def summary(self, at: Iterable[tuple[str, str, int]], *, name: str | None) -> dict[str, Any]:
        """The sums over the endpoints `at`; with `name`, only of what asked for that name."""
        wanted = set(at)
        chosen = [each for each in self._records if (each.transport, each.address, each.port) in wanted]
        if name is not None:
            chosen = [each for each in chosen if name in each.names]
        flows = [each for each in chosen if each.transport == "tcp"]
        return {
            "connections": len(flows),
            "open": sum(each.ending is None for each in flows),
            "resets": sum(each.ending == "reset" for each in flows),
            "datagrams": sum(each.datagrams for each in chosen),
            "bytes": sum(each.bytes for each in chosen),
            "names": [seen for each in chosen for seen in each.names],
        }

    async def until(self, reached: Callable[[], bool], *, timeout_s: float) -> bool:
        """Wait until `reached` is true, at most `timeout_s` seconds; returns whether it is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not reached():
            self._waiting = loop.create_future()
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.wait([self._waiting], timeout=left)
        return True
