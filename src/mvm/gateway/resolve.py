"""Resolving a granted name on the host's side, when a connection is about to be dialled.

Owns the question and who is asked: the sandbox's DNS policy says. Must never decide whether an
address may be dialled (`policy.decide.admit`), and a failure is never an address. Answers are kept
for one second, so that a burst of connections asks once; so is what is known of the addresses.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from mvm.gateway.failure import Failure, failure_of
from mvm.kernel.rtnetlink import own_addresses
from mvm.policy.addresses import AddressClass, classify
from mvm.policy.decide import candidates
from mvm.terms import DnsMode

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from mvm.gateway.loop import Loop
    from mvm.policy.decide import Candidate
    from mvm.policy.model import Dns
    from mvm.terms import Address, Host, HostName

    Found = tuple[Candidate, ...] | Failure
    Done = Callable[[Found], None]
    Told = Callable[[tuple[Address, ...] | Failure], None]

_KEEP_SECONDS = 1.0
_KEEP_NAMES = 1024
_THREADS = 8


class HostResolver:
    """Asks by one sandbox's DNS policy.

    Args:
        loop: where answers are delivered.
        dns: who is asked.
        system: the threads that ask the system's resolver, shared by all sandboxes of a process.
    """

    def __init__(self, loop: Loop, dns: Dns, system: SystemThreads) -> None:
        self._loop, self._system = loop, system
        self._kept: dict[Host, tuple[float, tuple[Candidate, ...]]] = {}
        self._waiting: dict[Host, list[Done]] = {}
        self.use(dns)

    def use(self, dns: Dns) -> None:
        """Ask by another policy from now on; what was answered by the one before is forgotten."""
        self._dns = dns
        self._static = dict(dns.static)
        self._kept.clear()

    def resolve(self, host: Host, done: Done) -> None:
        """Find the addresses of a host and call `done` with them or a `Failure`, now or later."""
        kept = self._kept.get(host)
        if kept is not None and kept[0] > monotonic():
            done(kept[1])
        elif not isinstance(host, str):
            done(self._keep(host, (host,)))
        elif host in self._static:
            done(self._keep(host, self._static[host]))
        else:
            waiting = self._waiting.setdefault(host, [])
            waiting.append(done)
            if len(waiting) == 1:
                self._ask(host)

    def _ask(self, name: HostName) -> None:
        answered = partial(self._answered, name, self._dns)
        if self._dns.mode is DnsMode.SYSTEM:
            self._system.ask(self._loop, name, answered)
        elif self._dns.mode is DnsMode.RESOLVER and self._dns.resolver is not None:
            from mvm.gateway.question import Question

            Question(self._loop, self._dns.resolver, name, answered).ask()
        else:
            answered(Failure("no name is resolved by this policy"))

    def _answered(self, name: HostName, asked: Dns, result: tuple[Address, ...] | Failure) -> None:
        waiting = self._waiting.pop(name, [])
        if asked is not self._dns:
            # The policy has changed since: who waits is answered by the one in force.
            for done in waiting:
                self.resolve(name, done)
            return
        found = result if isinstance(result, Failure) else self._keep(name, result)
        for done in waiting:
            done(found)

    def _keep(self, host: Host, addresses: tuple[Address, ...]) -> Found:
        """Class the addresses, put them in the order in which they are dialled, and keep that."""
        public = [address for address in addresses if classify(address) is AddressClass.PUBLIC]
        try:
            own = own_addresses(public) if public else ()
        except OSError as error:
            return failure_of(error)  # what can't be told from this machine's own is not dialled
        found = candidates(interleaved(addresses), own)
        if len(self._kept) >= _KEEP_NAMES:
            self._kept.clear()
        self._kept[host] = (monotonic() + _KEEP_SECONDS, found)
        return found


def interleaved(addresses: tuple[Address, ...]) -> list[Address]:
    """Families by turns, the one that the resolver put first in front (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = [address for address in addresses if address.version == addresses[0].version]
    other = [address for address in addresses if address.version != addresses[0].version]
    turns = [address for pair in zip(first, other, strict=False) for address in pair]
    short = min(len(first), len(other))
    return turns + first[short:] + other[short:]


class SystemThreads:
    """getaddrinfo(3) in a few threads: it blocks, and only it knows all that the system asks."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Loop, HostName, Told]] = deque()
        self._ready: Condition | None = None
        self._threads = 0
        self._idle = 0

    def ask(self, loop: Loop, name: HostName, told: Told) -> None:
        """Resolve in a thread and call `told` in the loop's."""
        import threading

        if self._ready is None:
            self._ready = threading.Condition()
        loop.accept_threads()
        with self._ready:
            self._jobs.append((loop, name, told))
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
                loop, name, told = self._jobs.popleft()
            loop.call_from_thread(partial(told, _getaddrinfo(name)))


def _getaddrinfo(name: HostName) -> tuple[Address, ...] | Failure:
    from mvm.policy.addresses import ip_address

    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return Failure("no such host" if error.errno in _NO_SUCH_HOST else str(error.strerror).lower())
    except OSError as error:
        return Failure(os.strerror(error.errno or 0).lower())
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return tuple(ip_address(text) for text in texts)


_NO_SUCH_HOST = (socket.EAI_NONAME, socket.EAI_NODATA)
