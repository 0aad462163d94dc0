"""One name asked of one name server: A and AAAA, by UDP, and by TCP where an answer is cut.

Owns the sockets and times of the asking. Each try has ports and numbers of its own (RFC 5452). A forged or
broken answer is passed over; a server that is not there is tried again at once, a silent one after two
seconds. Addresses of one family wait for those of the other a moment only (RFC 8305 section 3).
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from mvm.gateway.failure import Failure, failure_of
from mvm.gateway.loop import READ, WRITE
from mvm.kernel.sockets import upstream_socket
from mvm.wire.dns_message import AAAA, UDP_SIZE, A, Rcode, build_query, read_answer
from mvm.wire.dns_stream import MessageStream, frame
from mvm.wire.outcome import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.loop import Loop, Timer
    from mvm.kernel.sockets import Socket
    from mvm.terms import Address, HostName
    from mvm.wire.dns_message import Answer

_TRIES = 3
_TRY_SECONDS = 2.0
_OTHER_FAMILY_SECONDS = 0.05
_MAX_ANSWER = 65535


class Question:
    """What is asked of the server, until one answer is given.

    Args:
        loop: who waits.
        server: address and port.
        name: what is asked for.
        told: called once, with addresses or a `Failure`, never before `ask` has returned.
    """

    def __init__(
        self,
        loop: Loop,
        server: tuple[Address, int],
        name: HostName,
        told: Callable[[tuple[Address, ...] | Failure], None],
    ) -> None:
        self._loop, self._server, self._name, self._told = loop, server, name, told
        self._tries = 0
        self._timer: Timer | None = None
        self._asked: dict[int, _Asked] = {}
        self._addresses: dict[int, tuple[Address, ...]] = {}
        self._edns: int | None = UDP_SIZE
        self._failure = Failure("the name server did not answer in time")

    def ask(self) -> None:
        """Begin."""
        self._tries += 1
        self._timer = self._loop.after(_TRY_SECONDS, self._next)
        for kind in (AAAA, A):
            if kind not in self._addresses:
                self._send(kind, socket.SOCK_DGRAM)

    def _next(self) -> None:
        """This try is over: once more, or with what there is."""
        self._clear()
        if self._tries < _TRIES and not any(self._addresses.values()):
            self.ask()
        else:
            self._finish()

    def _send(self, kind: int, transport: socket.SocketKind) -> None:
        address, port = self._server
        number = int.from_bytes(os.urandom(2), "big")
        query = build_query(number, self._name, kind, udp_size=self._edns)
        framed = query if transport is socket.SOCK_DGRAM else frame(query)
        asked = _Asked(self._loop, number, kind, framed, with_edns=self._edns is not None)
        self._asked[id(asked)] = asked
        asked.begin(address, port, transport, partial(self._take, asked))

    def _take(self, asked: _Asked, data: bytes | Failure) -> None:
        if isinstance(data, Failure):
            self._drop(asked)
            self._failure = data
            self._over()
            return
        try:
            answer = read_answer(data, asked.number, self._name, asked.kind)
        except Malformed:
            return  # not the answer to this question, perhaps forged: go on waiting for it
        self._drop(asked)
        if answer.truncated:
            self._send(asked.kind, socket.SOCK_STREAM)
        elif answer.rcode in {Rcode.FORMERR, Rcode.NOTIMP} and asked.with_edns:
            self._edns = None  # a server from before EDNS (RFC 6891 section 7)
            self._send(asked.kind, socket.SOCK_DGRAM)
        else:
            self._note(asked.kind, answer)

    def _note(self, kind: int, answer: Answer) -> None:
        self._addresses[kind] = answer.addresses
        if answer.rcode:
            said = f"the name server answered with code {answer.rcode}"
            self._failure = Failure("no such host" if answer.rcode == Rcode.NXDOMAIN else said)
        elif not answer.addresses:
            self._failure = Failure("the name has no address")
        self._over()

    def _over(self) -> None:
        """One family's question is over: see whether that is all."""
        if not self._asked:
            self._clear()
            # Not from within `ask`, whose second question has still to be sent.
            self._timer = self._loop.after(0, self._finish if len(self._addresses) == 2 else self._next)
        elif any(self._addresses.values()) and self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.after(_OTHER_FAMILY_SECONDS, self._finish)

    def _drop(self, asked: _Asked) -> None:
        del self._asked[id(asked)]
        asked.close()

    def _clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for asked in tuple(self._asked.values()):
            self._drop(asked)

    def _finish(self) -> None:
        self._clear()
        found = self._addresses.get(AAAA, ()) + self._addresses.get(A, ())
        self._told(found or self._failure)


class _Asked:
    """One question on one socket."""

    def __init__(self, loop: Loop, number: int, kind: int, query: bytes, *, with_edns: bool) -> None:
        self._loop, self.number, self.kind, self._query = loop, number, kind, query
        self.with_edns = with_edns
        self._socket: Socket | None = None
        self._stream: MessageStream | None = None
        self._came: Callable[[bytes | Failure], None] = _nobody

    def begin(
        self,
        address: Address,
        port: int,
        transport: socket.SocketKind,
        came: Callable[[bytes | Failure], None],
    ) -> None:
        """Ask; `came` gets every answer, and at most one failure."""
        self._came = came
        if transport is socket.SOCK_STREAM:
            self._stream = MessageStream(limit=_MAX_ANSWER)
        try:
            family = socket.AF_INET if address.version == 4 else socket.AF_INET6
            sock = self._socket = upstream_socket(family, transport)
            sock.connect_ex((str(address), port))
            self._loop.watch(sock.fileno(), READ | WRITE, self._on_events)
        except OSError as error:
            came(failure_of(error))

    def _on_events(self, _events: int) -> None:
        sock = self._socket
        assert sock is not None, "events come of a socket"
        try:
            if self._query:
                self._query = self._query[sock.send(self._query) :]
                self._loop.change(sock.fileno(), WRITE if self._query else READ, self._on_events)
                return
            data = sock.recv(_MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError as error:
            self._came(Failure(f"the name server: {failure_of(error).text}"))
            return
        if self._stream is None:
            self._came(data)
        else:
            self._read(self._stream, data)

    def _read(self, stream: MessageStream, data: bytes) -> None:
        try:
            messages = stream.feed(data)
        except Malformed:
            messages, data = [], b""
        if messages:
            self._came(messages[0])
        elif not data:
            self._came(Failure("the name server: connection closed"))

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()


def _nobody(_data: bytes | Failure) -> None:
    """Before the question is asked."""
