"""One door with its gateway, in the fake internet, and a place inside to try things from.

    pytest ──fork──► opener: new user and network namespace, `door.open_door`, sends all of it, ends
       │
       ├──fork──► gateway: holds the sockets, without any capability where the user is an ordinary one
       └──fork──► inside: enters the namespaces, gives up every capability, acts, says what came of it

Owns these processes to their end. Both layouts: in `wire` the workload is in a namespace of its own behind a
veth. Must never decide what is right: tests do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mvm.audit.run_id import make_run_id
from mvm.gateway import door
from mvm.gateway.door import Layout
from mvm.gateway.names import POOLS
from mvm.kernel import syscalls
from mvm.policy.model import Dns, Policy
from mvm.policy.parse import parse_dns, parse_grant
from mvm.terms import DnsMode, Preset
from tests.gateway import clients
from tests.gateway.holder import hold_gateway, receive, send, take_all_descriptors
from tests.support import namespaces
from tests.support.children import in_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.policy.model import Grant
    from mvm.terms import Address, HostName
    from tests.support.internet import Internet, Outside

T = TypeVar("T")

_LIMIT_S = 60
_SOCKETS = len(door.DoorSockets._fields)
WORKLOAD_LINK = "eth0"
AT_ONCE_S = 1.0
"""Far more than it takes, on a machine that does much else: no retry of anything is as short."""


def policy(
    *grants: str | Grant,
    dns: str = "system",
    static: tuple[tuple[HostName, tuple[Address, ...]], ...] = (),
    unrestricted: bool = False,
) -> Policy:
    """A policy of these grants, each as a command line has it."""
    parsed = tuple(parse_grant(grant) if isinstance(grant, str) else grant for grant in grants)
    said = parse_dns(dns)
    return Policy(
        grants=parsed,
        dns=Dns(mode=said.mode, resolver=said.resolver, static=static),
        preset=Preset.UNRESTRICTED if unrestricted else Preset.NONE,
        unrestricted=unrestricted,
        forwards=(),
        ttl=None,
    )


NO_DNS = Dns(mode=DnsMode.NONE)


class Doorway:
    """A door and its gateway.

    Args:
        granted: the policy in force from the start.
        state: a directory for the record; made if it is not there.
        layout: where the workload is.
    """

    def __init__(self, granted: Policy, state: Path, layout: Layout = Layout.LOCAL) -> None:
        self.layout, self.policy = layout, granted
        run = make_run_id(time.time_ns() // 1_000_000, os.urandom(10))
        self.record = Path(state, "runs", run, "log.jsonl")
        self._running: list[Running] = []
        sockets, self._namespaces = _open_door(granted, layout)
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_LIMIT_S)
        self._gateway = os.fork()
        if self._gateway == 0:
            self._control.close()
            hold_gateway(theirs, sockets, granted, str(state), run)
        theirs.close()
        for sock in sockets:
            sock.close()
        assert self.ask("ready")

    def like(self) -> Doorway:
        """Another one, that has only begun."""
        return Doorway(self.policy, self.record.parents[2], self.layout)

    def close(self) -> None:
        """End the gateway and what still goes on inside, and let go of the namespaces."""
        self.kill()
        for running in self._running:
            running.close()
        self._control.close()
        for descriptor in self._namespaces:
            os.close(descriptor)

    # ---- outside

    def ask(self, what: str, *words: object) -> Any:  # noqa: ANN401  whatever the gateway answers
        """Have the gateway's process do one of `holder.Holder`'s acts. Raises what that raised."""
        send(self._control, (what, words))
        answer, failure = receive(self._control)
        if failure is not None:
            raise failure
        return answer

    def ask_after_pause(self, act: Callable[[], object], what: str) -> Any:  # noqa: ANN401
        """Ask something that waits for the gateway's process when it wakes, having slept through an act."""
        os.kill(self._gateway, signal.SIGSTOP)
        try:
            act()
            send(self._control, (what, ()))
        finally:
            os.kill(self._gateway, signal.SIGCONT)
        answer, _failure = receive(self._control)
        return answer

    @property
    def denials(self) -> list[dict[str, Any]]:
        """What was denied so far, each as `mvm.denial/1` without time, remedy and number."""
        found = self.ask("denials")
        return [{k: v for k, v in each.items() if k not in {"seq", "time", "remedy"}} for each in found]

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the record says, all or of one kind."""
        lines = [json.loads(line) for line in self.record.read_bytes().splitlines()]
        return [line for line in lines if kind in {None, line["kind"]}]

    def await_end_of_flows(self) -> None:
        """Wait until no flow stands; each question to the gateway's process lets it do what is due first."""
        end = time.monotonic() + _LIMIT_S
        while self.ask("totals")[1]:
            assert time.monotonic() < end

    def await_record(self, kind: str) -> dict[str, Any]:
        """Wait until the record has a line of a kind, and return the last of them."""
        end = time.monotonic() + _LIMIT_S
        while not (found := self.records(kind)):
            assert self.ask("ready")
            assert time.monotonic() < end
        return found[-1]

    def kill(self) -> None:
        """End the gateway's process by SIGKILL; the namespaces stay."""
        if self._gateway:
            os.kill(self._gateway, signal.SIGKILL)
            os.waitpid(self._gateway, 0)
            self._gateway = 0

    @property
    def pid(self) -> int:
        """The gateway's process."""
        return self._gateway

    # ---- inside

    def inside(self, act: Callable[[], T], *, privileged: bool = False, limit_s: int = _LIMIT_S) -> T:
        """Do something where the workload is; `privileged`: with every capability over its namespace.

        Raises what `act` raised, or Ended if it did not end in time.
        """
        return in_child(lambda: self._act(act, privileged, limit_s))

    def at_door(self, act: Callable[[], T]) -> T:
        """Do something in the door's own namespace, with every capability over it."""

        def enter() -> T:
            syscalls.enter(self._namespaces[1])
            return act()

        return self.inside(enter, privileged=True)

    def start(self, act: Callable[[Talk], T]) -> Running:
        """Begin something where the workload is, and talk with it meanwhile."""
        self._running.append(Running(lambda talk: self._act(lambda: act(talk), False, _LIMIT_S)))
        return self._running[-1]

    def _act(self, act: Callable[[], T], privileged: bool, limit_s: int) -> T:
        signal.alarm(limit_s)
        take_all_descriptors()
        self._control.close()
        user, _door, workload = self._namespaces
        for namespace in (user, workload):
            syscalls.enter(namespace)
        if not privileged:
            namespaces.enter_user_namespace()
            syscalls.drop_capabilities()
        return act()


def try_at_once(door: Doorway, internet: Internet, act: Callable[[], object]) -> tuple[str, Outside]:
    """What a client sees of an act, which must be at once, and what left meanwhile.

    Others share this machine: where it was late, it is in time, and the same, at another door of the policy.
    """
    with internet.watch() as outside:
        seen = door.inside(lambda: clients.attempt(act))
    if seen.seconds >= AT_ONCE_S:
        with contextlib.closing(door.like()) as another:
            again = another.inside(lambda: clients.attempt(act))
        assert again.seconds < AT_ONCE_S, (seen, again)
        assert again.what == seen.what
    return seen.what, outside


class Talk:
    """Words between a test and what it started inside."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.settimeout(_LIMIT_S)

    def say(self, word: object = None) -> None:
        """Send a word."""
        send(self._socket, word)

    def hear(self) -> Any:  # noqa: ANN401  whatever was said
        """Wait for the other's next word."""
        return receive(self._socket)

    def close(self) -> None:
        """Talk no more."""
        self._socket.close()


class Running:
    """Something that goes on inside."""

    def __init__(self, act: Callable[[Talk], object]) -> None:
        ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            status = 1
            try:
                talk = Talk(theirs)
                try:
                    talk.say(("result", act(talk)))
                except BaseException as failure:  # noqa: BLE001  carried to the test, which raises it
                    talk.say(("failure", failure))
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        self.talk = Talk(ours)

    def result(self) -> Any:  # noqa: ANN401  whatever the act returns
        """Wait for its end. Raises what it raised."""
        kind, value = self.talk.hear()
        self.close()
        if kind == "failure":
            raise value
        return value

    def close(self) -> None:
        """End it, if it goes on still."""
        if self._pid:
            self.talk.close()
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


# ---- the opener


def _open_door(granted: Policy, layout: Layout) -> tuple[door.DoorSockets, tuple[int, int, int]]:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            _be_opener(theirs, granted, layout)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    said, descriptors, _flags, _ = socket.recv_fds(ours, 4096, _SOCKETS + 3)
    ours.close()
    os.waitpid(pid, 0)
    if len(descriptors) != _SOCKETS + 3:
        raise RuntimeError(f"no door: {said.decode()}")
    user, network, workload = descriptors[_SOCKETS:]
    sockets = door.DoorSockets(*(socket.socket(fileno=fd) for fd in descriptors[:_SOCKETS]))
    return sockets, (user, network, workload)


def _be_opener(tell: socket.socket, granted: Policy, layout: Layout) -> None:
    try:
        namespaces.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNET)
        network = workload = os.open("/proc/self/ns/net", os.O_RDONLY)
        sockets = door.open_door(layout, POOLS, unrestricted=granted.unrestricted)
        if layout is Layout.WIRE:
            namespaces.unshare(namespaces.CLONE_NEWNET)
            workload = os.open("/proc/self/ns/net", os.O_RDONLY)
            syscalls.enter(network)
            door.lay_wire(POOLS, "wire", workload, WORKLOAD_LINK)
            wrong = door.verify(layout)
            syscalls.enter(workload)
            door.join_wire(POOLS, WORKLOAD_LINK)
            syscalls.enter(network)
            door.await_wire("wire")
        else:
            wrong = door.verify(layout)
        if wrong is not None:
            raise OSError(0, wrong)
    except BaseException as failure:
        tell.send(repr(failure).encode())
        raise
    user = os.open("/proc/self/ns/user", os.O_RDONLY)
    given = [*(sock.fileno() for sock in sockets), user, network, workload]
    socket.send_fds(tell, [b"door"], given)
