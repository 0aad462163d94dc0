"""The fake internet as tests see it: start it, ask it what arrived, tell it how to behave.

Owns the process behind the wire and the conversation with it. Every number is read after everything sent
before has been counted, so a test never waits a while and hopes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support import addresses, namespaces
from tests.support.answers import Answer
from tests.support.cast import CAST, Host, Served, Transport, own_addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.world import World

_ROOT = Path(__file__).parents[2]
_FIRST_FREE, _LAST_FREE = 100, 254
_REPLY_S = 60.0
_DNS_PORTS = frozenset(addresses.NAME_SERVER_PORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What arrived for one host since the session began."""

    connections: int
    open: int
    """Connections that have not ended."""
    resets: int
    """Connections that the other side ended with RST."""
    datagrams: int
    bytes: int
    """Payload of TCP (under TLS: of the records, handshake included) and UDP, as far as it was read."""
    names: tuple[str, ...]
    """Each SNI and each Host header, in order of the connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question the name server was asked."""

    name: str
    type: int
    transport: str
    server: str
    udp_size: int | None


class Packet(NamedTuple):
    """Where something tried to go; `protocol` is tcp, udp, icmp or ip-NUMBER, `port` may be 0."""

    protocol: str
    address: str
    port: int


class Outside:
    """What came over the wire during a `watch`; complete once the watch has ended."""

    def __init__(self) -> None:
        """Start empty."""
        self.packets: Counter[Packet] = Counter()
        """All of it: openings of TCP connections, every packet of other protocols."""

    @property
    def besides_names(self) -> Counter[Packet]:
        """The same without questions to the name servers."""
        servers = {*addresses.NAME_SERVERS, *addresses.OTHER_NAME_SERVERS}
        return Counter(
            {
                packet: count
                for packet, count in self.packets.items()
                if packet.port not in _DNS_PORTS or packet.address not in servers
            }
        )


class Internet:
    """The servers behind the wire, and the name server; the standing hosts are `cast.CAST`."""

    def __init__(self, world: World) -> None:
        """Start the servers and lay the wire. Raises OSError, RuntimeError where they do not start."""
        self._lock = threading.Lock()
        self._numbers = itertools.count(_FIRST_FREE)
        self._marks = 0
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_REPLY_S)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, sys.path)])}
        words = [sys.executable, "-m", "tests.support.upstream", str(theirs.fileno()), str(world.directory)]
        with theirs, namespaces.inherited_capabilities():
            self._process = subprocess.Popen(
                words, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, cwd=_ROOT
            )
        self._replies = self._control.makefile("rb")
        pid = self._replies.readline()
        if not pid:
            raise RuntimeError("the servers of the fake internet did not start; their error is above")
        world.lay_wire(int(pid))
        self._control.sendall(b"\n")
        self._marker_sockets = [
            socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            for address in addresses.MARK_ADDRESSES
        ]
        self.ca_file = Path(self._ask("ca-file"))
        """The test authority's certificate, PEM."""
        self._serve(CAST)

    @property
    def pid(self) -> int:
        """The process that holds the servers and their namespace."""
        return self._process.pid

    def close(self) -> None:
        """End the servers and wait for them."""
        self._replies.close()
        self._control.close()
        for sock in self._marker_sockets:
            sock.close()
        self._process.wait(timeout=10)

    def host(self, name: str) -> Host:
        """The host of the standing cast called `name`, with or without `.example.test`. Raises KeyError."""
        for host in CAST:
            if host.name in {name, f"{name}.example.test"}:
                return host
        raise KeyError(name)

    def serve(
        self,
        service: str,
        *,
        port: int = 443,
        transport: Transport = "tcp",
        alpn: tuple[str, ...] = (),
        name: str | None = None,
        addresses: tuple[str, ...] | None = None,
    ) -> Host:
        """A new host with one service of `upstream/services.py`, resolvable at once.

        Without `name` it gets a name of its own, without `addresses` an IPv4 and an IPv6 address of its own
        (155 hosts a session). Raises RuntimeError where the place is taken.
        """
        number = next(self._numbers) if name is None or addresses is None else 0
        if number > _LAST_FREE:
            raise RuntimeError("the fake internet has no address left")
        host = Host(
            name=name or f"h{number}.example.test",
            addresses=addresses or own_addresses(number),
            serves=(Served(service=service, port=port, transport=transport, alpn=alpn),),
        )
        self._serve([host])
        return host

    def withdraw(self, name: str) -> None:
        """Stop listening for `name`; its open connections go on, its name still resolves."""
        self._ask("withdraw", name=name)

    def cut(self, name: str) -> None:
        """Reset every open connection at the places of `name`, from the servers' side."""
        self._ask("cut", name=name)

    def answer(self, name: str, *turns: Answer) -> None:
        """From now on `name` gets the n-th answer for the n-th question of each type; the last one stays.

        Without answers the name does not exist (NXDOMAIN).
        """
        self._ask("answers", names={name: [turn.as_json() for turn in turns]})

    def questions(self, name: str | None = None) -> tuple[Question, ...]:
        """What the name server was asked since the session began, all or for `name` (lower case)."""
        asked = (Question(**words) for words in self._ask("questions"))
        return tuple(question for question in asked if name in {None, question.name})

    def arrivals(self, name: str) -> Arrivals:
        """What arrived for the host `name`; at a shared address, only what asked for it by SNI or Host."""
        return _arrivals(self._ask("arrivals", name=name))

    def wait_for_arrivals(
        self,
        name: str,
        *,
        connections: int = 0,
        datagrams: int = 0,
        bytes: int = 0,  # noqa: A002  (the word of Arrivals)
        resets: int = 0,
        open_at_most: int | None = None,
        timeout_s: float = 5.0,
    ) -> Arrivals:
        """Wait until at least that much has arrived for `name`. Raises TimeoutError with what did."""
        least = {"connections": connections, "datagrams": datagrams, "bytes": bytes, "resets": resets}
        if open_at_most is not None:
            least["open_at_most"] = open_at_most
        reply = self._ask("await", name=name, least=least, timeout_s=timeout_s)
        if not reply["reached"]:
            raise TimeoutError(f"{name}: waited {timeout_s} s for {least}, arrived {reply['arrivals']}")
        return _arrivals(reply["arrivals"])

    @contextlib.contextmanager
    def watch(self) -> Iterator[Outside]:
        """Count every attempt that reaches the other end of the wire, served or not, while the block runs.

        Raises TimeoutError where the counting itself doesn't work, RuntimeError where packets went uncounted.
        """
        outside = Outside()
        before = self._count_packets()
        yield outside
        outside.packets = self._count_packets() - before

    def _count_packets(self) -> Counter[Packet]:
        self._marks += 1
        for sock, address in zip(self._marker_sockets, addresses.MARK_ADDRESSES, strict=True):
            sock.sendto(b"mark", (address, addresses.MARK_PORT))
        seen = self._ask("packets", marks=self._marks)
        if seen["missed"]:
            raise RuntimeError(f"{seen['missed']} packets came too fast to be counted")
        return Counter({Packet(*place): count for *place, count in seen["packets"]})

    def _serve(self, hosts: tuple[Host, ...] | list[Host]) -> None:
        words = [
            {"name": host.name, "addresses": host.addresses, **asdict(served)}
            for host in hosts
            for served in host.serves
        ]
        self._ask("serve", hosts=words)
        zones = {host.name: [_true_answer(host).as_json()] for host in hosts}
        self._ask("answers", names=zones)

    def _ask(self, word: str, **details: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
        line = json.dumps({"ask": word, **details}).encode() + b"\n"
        with self._lock:
            self._control.sendall(line)
            reply = self._replies.readline()
        if not reply:
            raise RuntimeError(f"the servers of the fake internet ended during `{word}`")
        answer = json.loads(reply)
        if "problem" in answer:
            raise RuntimeError(answer["problem"])
        return answer["ok"]


def _true_answer(host: Host) -> Answer:
    return Answer(
        a=tuple(address for address in host.addresses if ":" not in address),
        aaaa=tuple(address for address in host.addresses if ":" in address),
    )


def _arrivals(words: dict[str, Any]) -> Arrivals:
    return Arrivals(**{**words, "names": tuple(words["names"])})
