"""Resolving a granted name on the host's side, when a connection is about to be dialled.

Owns the question and its time-out; the sandbox's DNS policy says who is asked. Must never decide
whether an address may be dialled (`policy.decide.admit`), and a failure is never an address.
Answers are kept for one second, so that a burst of connections asks once.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from mvm.gateway.loop import READ
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from mvm.gateway.loop import Loop, Timer
    from mvm.policy.model import Dns
    from mvm.terms import Address, HostName

    Done = Callable[["tuple[Address, ...] | Failure"], None]

_KEEP_SECONDS = 1.0
_KEEP_NAMES = 1024
_THREADS = 8
_TRIES = 3
_TRY_SECONDS = 2.0
_TYPE_A, _TYPE_AAAA = 1, 28
_NAME_ERROR = 3
_MAX_ANSWER = 65535


class Failure(NamedTuple):
    """Why a host could not be reached; `text` is for people, and never says policy."""

    text: str

    @property
    def word(self) -> str:
        """The same as one word, for the record."""
        return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in self.text.lower()).split())[:64]


class HostResolver:
    """Asks by one sandbox's DNS policy.

    Args:
        loop: where answers are delivered.
        dns: who is asked.
        system: the threads that ask the system's resolver, shared by all sandboxes of a process.
    """

    def __init__(self, loop: Loop, dns: Dns, system: SystemThreads) -> None:
        self._loop, self._dns, self._system = loop, dns, system
        self._static = dict(dns.static)
        self._kept: dict[HostName, tuple[float, tuple[Address, ...]]] = {}
        self._waiting: dict[HostName, list[Done]] = {}

    def resolve(self, name: HostName, done: Done) -> None:
        """Find the addresses of a name and call `done` with them or a `Failure`, now or later."""
        fixed = self._static.get(name)
        if fixed is not None:
            done(fixed)
            return
        kept = self._kept.get(name)
        if kept is not None and kept[0] > monotonic():
            done(kept[1])
            return
        waiting = self._waiting.setdefault(name, [])
        waiting.append(done)
        if len(waiting) == 1:
            self._ask(name)

    def _ask(self, name: HostName) -> None:
        answered = partial(self._answered, name)
        if self._dns.mode is DnsMode.SYSTEM:
            self._system.ask(self._loop, name, answered)
        elif self._dns.mode is DnsMode.RESOLVER and self._dns.resolver is not None:
            _Question(self._loop, self._dns.resolver, name, answered)
        else:
            answered(Failure("the policy's DNS has no answer for it (dns = none)"))

    def _answered(self, name: HostName, result: tuple[Address, ...] | Failure) -> None:
        if not isinstance(result, Failure):
            if len(self._kept) >= _KEEP_NAMES:
                self._kept.clear()
            self._kept[name] = (monotonic() + _KEEP_SECONDS, result)
        for done in self._waiting.pop(name, ()):
            done(result)


class SystemThreads:
    """getaddrinfo(3) in a few threads: it blocks, and only it knows all that the system asks."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Loop, HostName, Done]] = deque()
        self._ready: Condition | None = None
        self._threads = 0
        self._idle = 0

    def ask(self, loop: Loop, name: HostName, done: Done) -> None:
        """Resolve in a thread and call `done` in the loop's."""
        import threading

        if self._ready is None:
            self._ready = threading.Condition()
        loop.accept_threads()
        with self._ready:
            self._jobs.append((loop, name, done))
            if self._idle >= len(self._jobs) or self._threads >= _THREADS:
                self._ready.notify()
            else:
                self._threads += 1
                threading.Thread(target=self._work, args=(self._ready,), daemon=True).start()

    def _work(self, ready: Condition) -> None:
        while True:
            with ready:
                self._idle += 1
                while not self._jobs:
                    ready.wait()
                self._idle -= 1
                loop, name, done = self._jobs.popleft()
            loop.call_from_thread(partial(done, _getaddrinfo(name)))


def _getaddrinfo(name: HostName) -> tuple[Address, ...] | Failure:
    from mvm.policy.addresses import ip_address

    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return Failure(f"no such host ({error.strerror})" if error.errno == socket.EAI_NONAME else str(error.strerror))
    except OSError as error:
        return Failure(os.strerror(error.errno or 0))
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ip_address(text) for text in texts)


class _Question:
    """A and AAAA asked of one server by UDP, with retries, and by TCP where the answer is cut."""

    def __init__(self, loop: Loop, server: tuple[Address, int], name: HostName, done: Done) -> None:
        self._loop, self._server, self._name, self._done = loop, server, name, done
        self._tries = 0
        self._timer: Timer | None = None
        self._sockets: dict[int, socket.socket] = {}
        self._addresses: list[Address] = []
        self._left: set[int] = set()
        self._failure = Failure("the name server did not answer in time")
        self._try()

    def _try(self) -> None:
        self._close_sockets()
        if self._tries == _TRIES:
            self._finish()
            return
        self._tries += 1
        self._timer = self._loop.after(_TRY_SECONDS, self._try)
        self._addresses = []
        self._left = {_TYPE_A, _TYPE_AAAA}
        for kind in tuple(self._left):
            self._send(kind, socket.SOCK_DGRAM)

    def _send(self, kind: int, transport: socket.SocketKind) -> None:
        from mvm.wire.dns_message import build_query

        ident = int.from_bytes(os.urandom(2), "big")
        query = build_query(ident, self._name, kind)
        family = socket.AF_INET if self._server[0].version == 4 else socket.AF_INET6
        sock = socket.socket(family, transport | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect_ex((str(self._server[0]), self._server[1]))
            if transport is socket.SOCK_DGRAM:
                sock.send(query)
        except OSError as error:
            sock.close()
            self._failure = Failure(f"the name server: {error.strerror}")
            return
        self._sockets[sock.fileno()] = sock
        if transport is socket.SOCK_DGRAM:
            self._loop.watch(sock.fileno(), READ, partial(self._on_datagram, sock, ident, kind))
        else:
            _StreamQuestion(self._loop, sock, query, partial(self._take, sock, ident, kind))

    def _on_datagram(self, sock: socket.socket, ident: int, kind: int, _events: int) -> None:
        try:
            data = sock.recv(_MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError as error:
            self._failure = Failure(f"the name server: {error.strerror}")
            self._drop(sock)
            return
        self._take(sock, ident, kind, data)

    def _take(self, sock: socket.socket, ident: int, kind: int, data: bytes | None) -> None:
        from mvm.wire.dns_message import read_answer
        from mvm.wire.outcome import Malformed

        if data is None:
            self._drop(sock)
            return
        try:
            answer = read_answer(data, ident, self._name, kind)
        except Malformed:
            return  # not the answer to this question, perhaps forged: go on waiting for it
        self._drop(sock)
        if answer.truncated:
            self._send(kind, socket.SOCK_STREAM)
            return
        self._left.discard(kind)
        self._addresses += answer.addresses
        if answer.rcode:
            text = "no such host" if answer.rcode == _NAME_ERROR else f"the name server answered rcode {answer.rcode}"
            self._failure = Failure(text)
        elif not answer.addresses:
            self._failure = Failure("the name has no address")
        if not self._left:
            self._finish()

    def _drop(self, sock: socket.socket) -> None:
        if self._sockets.pop(sock.fileno(), None) is not None:
            self._loop.forget(sock.fileno())
            sock.close()

    def _close_sockets(self) -> None:
        for sock in tuple(self._sockets.values()):
            self._drop(sock)

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._close_sockets()
        self._done(tuple(self._addresses) if self._addresses else self._failure)


class _StreamQuestion:
    """One question over TCP (RFC 7766): framed by a length, the answer likewise."""

    def __init__(
        self, loop: Loop, sock: socket.socket, query: bytes, done: Callable[[bytes | None], None]
    ) -> None:
        from mvm.gateway.loop import WRITE

        self._sock, self._done, self._data = sock, done, b""
        self._query: bytes | None = len(query).to_bytes(2, "big") + query
        self._loop = loop
        loop.watch(sock.fileno(), READ | WRITE, self._on_events)

    def _on_events(self, _events: int) -> None:
        try:
            if self._query is not None:
                self._sock.send(self._query)
                self._query = None
                self._loop.change(self._sock.fileno(), READ, self._on_events)
                return
            more = self._sock.recv(_MAX_ANSWER)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        self._data += more
        size = int.from_bytes(self._data[:2], "big")
        if len(self._data) >= 2 + size > 2:
            self._done(self._data[2 : 2 + size])
        elif not more:
            self._done(None)
