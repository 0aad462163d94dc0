"""What tests ask of the fake internet: one JSON object a line, one answer a line, in order.

Owns the vocabulary of requests. Each is `{"ask": WORD, …}`; the answer is `{"ok": VALUE}` or `{"problem":
TEXT}`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
from typing import TYPE_CHECKING, Any

from tests.support import addresses
from tests.support.answers import Answer
from tests.support.upstream.authority import Authority
from tests.support.upstream.flow import Flow
from tests.support.upstream.hosts import Hosts
from tests.support.upstream.ledger import Ledger
from tests.support.upstream.names import Names, serve_names
from tests.support.upstream.packets import Packets
from tests.support.upstream.sockets import DatagramSocket, bind

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.support.upstream.sockets import Peer

_LINE_BYTES = 16 << 20


class Control:
    """Everything in the namespace "up", and the words that steer it."""

    def __init__(self, directory: Path) -> None:
        """Make the authority in `directory` and listen for packets; the wire must be up. Raises OSError."""
        self._ledger = Ledger()
        self._authority = Authority(directory)
        self._hosts = Hosts(self._ledger, self._authority)
        self._names = Names()
        self._packets = Packets(addresses.LINK_NAME)
        self._tasks: set[asyncio.Task[None]] = set()

    async def obey(self, sock: socket.socket) -> None:
        """Serve requests from `sock` until it is closed. Raises OSError where port 53 is taken."""
        loop = asyncio.get_running_loop()
        self._packets.watch(loop.add_reader)
        self._listen_for_questions()
        reader, writer = await asyncio.open_connection(sock=sock, limit=_LINE_BYTES)
        while line := await reader.readline():
            request = json.loads(line)
            try:
                reply = {"ok": await self._do(request)}
            # Whatever a request does wrong belongs to the test that sent it, not to this process.
            except Exception as problem:  # noqa: BLE001
                reply = {"problem": f"{request.get('ask')}: {type(problem).__name__}: {problem}"}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()

    async def _do(self, request: dict[str, Any]) -> Any:  # noqa: ANN401  (whatever JSON holds)
        match request:
            case {"ask": "ca-file"}:
                return str(self._authority.ca_file)
            case {"ask": "serve", "hosts": [*hosts]}:
                for words in hosts:
                    self._hosts.serve(words)
            case {"ask": "withdraw", "name": str(name)}:
                self._hosts.withdraw(name)
            case {"ask": "cut", "name": str(name)}:
                self._hosts.cut(name)
            case {"ask": "arrivals", "name": str(name)}:
                return self._hosts.arrivals(name)
            case {"ask": "await", "name": str(name), "least": dict(least), "timeout_s": timeout_s}:
                return await self._await(name, least, timeout_s)
            case {"ask": "answers", "names": dict(zones)}:
                for name, turns in zones.items():
                    self._names.set(name, tuple(Answer.from_json(turn) for turn in turns))
            case {"ask": "questions"}:
                return self._names.log
            case {"ask": "packets", "marks": int(marks)}:
                return await self._count_packets(marks)
            case _:
                raise ValueError("no such request")
        return None

    async def _await(self, name: str, least: dict[str, int], timeout_s: float) -> dict[str, Any]:
        def reached() -> bool:
            seen = self._hosts.arrivals(name)
            if "open_at_most" in least and seen["open"] > least["open_at_most"]:
                return False
            return all(seen[key] >= value for key, value in least.items() if key != "open_at_most")

        done = await self._ledger.until(reached, timeout_s=timeout_s)
        return {"reached": done, "arrivals": self._hosts.arrivals(name)}

    async def _count_packets(self, marks: int) -> dict[str, Any]:
        """The counts, once the `marks`-th pair of marks came by: what was sent before has been seen."""
        counts = self._packets.counts
        places = [("udp", address, addresses.MARK_PORT) for address in addresses.MARK_ADDRESSES]
        deadline = asyncio.get_running_loop().time() + 5
        self._packets.drain()
        while any(counts[place] < marks for place in places):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("the sink does not see the wire")
            # The event loop drains the sockets as they become readable.
            await asyncio.sleep(0.001)
        seen = [[*place, count] for place, count in counts.items() if place not in places]
        return {"packets": seen, "missed": self._packets.missed}

    def _listen_for_questions(self) -> None:
        for address in (*addresses.NAME_SERVERS, *addresses.OTHER_NAME_SERVERS):
            for port in addresses.NAME_SERVER_PORTS:
                DatagramSocket(address, port, functools.partial(self._question_received, address))
                listener = bind(socket.SOCK_STREAM, address, port)
                listener.listen()
                self._start(self._accept_questions(listener, address, port))

    def _question_received(self, server: str, sock: DatagramSocket, query: bytes, peer: Peer) -> None:
        self._start(self._answer_datagram(server, sock, query, peer))

    async def _answer_datagram(self, server: str, sock: DatagramSocket, query: bytes, peer: Peer) -> None:
        for message in await self._names.answer(query, server=server, transport="udp") or []:
            sock.send(message, peer)

    async def _accept_questions(self, listener: socket.socket, address: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            record = self._ledger.open(transport="tcp", address=address, port=port)
            flow = Flow(sock, record, self._ledger)
            self._start(serve_names(flow, self._names, server=address))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
