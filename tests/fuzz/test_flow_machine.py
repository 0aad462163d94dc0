"""Flows, edits, expiry, budgets and a failing record in any order, against a model of what may be open."""

from __future__ import annotations

import json
import ssl
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mvm.audit.chain import verify_lines
from mvm.audit.keys import public_key, signing_key
from mvm.errors import AuditError
from tests.fuzz.gatehouse import HOSTS, Gatehouse, reset

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from mvm.policy.model import Grant

_STRANGER = "stranger.example"
_BUDGET = 3 << 10
_WORDS = (
    "tls=off",
    "tls=require",
    "tls=off,expires=5s",
    "tls=require,expires=5s",
    "tls=auto,max-up=3KiB",
    "tls=off,expires=5s,max-up=3KiB,max-down=3KiB",
)
_JUDGED = 0
"""The host that is never granted with `tls=off`."""
_hosts = st.integers(0, 1)


@cache
def hello(name: str) -> bytes:
    """The hello of a real client that asks for a name."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def request(host: str) -> bytes:
    """A whole request for a host."""
    return b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode()


@dataclass(eq=False)
class _Standing:
    """A grant as the model has it; several in time may be the same to a flow."""

    words: str
    since: float
    over: bool = False

    def ends_at(self) -> float:
        return self.since + 5 if "expires" in self.words else float("inf")


@dataclass(eq=False)
class _Flow:
    """A connection of the workload's."""

    sock: socket.socket
    host: int
    grant: _Standing
    sent: bytearray = field(default_factory=bytearray)
    first: str = ""
    asked: bool = False
    may_be_open: bool = True


class FlowMachine(RuleBasedStateMachine):
    """What is opened, by whom it was allowed, and that it ends with its leave."""

    @initialize()
    def begin(self) -> None:
        """Nothing is granted."""
        self.directory = tempfile.TemporaryDirectory(prefix="mvm-fuzz-")
        self.house = Gatehouse(f"{self.directory.name}/state")
        self.grants: dict[int, _Standing] = {}
        self.flows: list[_Flow] = []
        self.asked_for = [0, 0]
        self.recorded = True

    # ---- what the owner does

    @rule(host=_hosts, words=st.sampled_from(_WORDS), anew=st.booleans())
    def allow(self, host: int, words: str, anew: bool) -> None:
        """Grant one host, beside whatever is granted of the other."""
        words = words.replace("off", "auto") if host == _JUDGED else words
        wanted = {at: standing.words for at, standing in self.grants.items()} | {host: words}
        self._replace(wanted, anew=host if anew else None)

    @rule(host=_hosts)
    def revoke(self, host: int) -> None:
        """Take one host away."""
        self._replace({at: standing.words for at, standing in self.grants.items() if at != host})

    def _replace(self, wanted: dict[int, str], anew: int | None = None) -> None:
        grants = {at: self.house.grant(at, words) for at, words in wanted.items()}
        fresh: list[Grant] = [] if anew is None else [grants[anew]]
        try:
            self.house.gateway.replace(self.house.policy(list(grants.values())), by="fuzz", anew=fresh)
        except AuditError:
            assert not self.recorded
        self._model(wanted, anew)
        self.house.settle()

    def _model(self, wanted: dict[int, str], anew: int | None) -> None:
        for at, standing in list(self.grants.items()):
            words = wanted.get(at)
            if words is None or words.split(",")[0] != standing.words.split(",")[0]:
                self._end(standing)
                del self.grants[at]
        if not self.recorded:
            return  # nothing new is granted without a record
        for at, words in wanted.items():
            before = self.grants.get(at)
            if before is None:
                self.grants[at] = _Standing(words, self.house.now)
            elif before.words != words or anew == at:
                before.words, before.since, before.over = words, self.house.now, False

    def _end(self, standing: _Standing) -> None:
        for flow in self.flows:
            if flow.grant is standing:
                flow.may_be_open = False

    @rule(seconds=st.sampled_from([2.0, 6.0]))
    def wait(self, seconds: float) -> None:
        """Time passes; what has expired by then takes its flows along."""
        self.house.now += seconds
        self.house.settle()
        for standing in self.grants.values():
            if self.house.now >= standing.ends_at():
                standing.over = True
                self._end(standing)

    @precondition(lambda self: self.recorded and len(self.flows) > 2)
    @rule(chance=st.integers(0, 5))
    def lose_the_record(self, chance: int) -> None:
        """The log can't be written any more."""
        if not chance:
            self.house.log.close()
            self.recorded = False

    # ---- what the workload does

    @rule(host=_hosts)
    def connect(self, host: int) -> None:
        """Open a connection to one of the hosts."""
        standing = self.grants.get(host)
        sock = self.house.connect(host)
        self.house.settle()
        if sock is None:
            assert standing is None or self._spent(host) or not self.recorded, (
                "a grant that stands was denied"
            )
            return
        assert standing is not None, "allowed without a grant"
        assert not standing.over, "allowed after its end"
        flow = _Flow(sock, host, standing)
        self.flows.append(flow)
        if "require" not in standing.words:
            self._asks(flow)

    def _asks(self, flow: _Flow) -> None:
        flow.asked = True
        self.asked_for[flow.host] += flow.may_be_open

    @rule(host=_hosts, off=st.sampled_from([-1, 1]))
    def connect_beside(self, host: int, off: int) -> None:
        """Another port of a granted host is as closed as another host."""
        assert self.house.connect(host, self.house.upstreams[host].port + off) is None

    def _spent(self, host: int) -> bool:
        book = self.house.gateway.authority
        return any(u.spent(self.house.now) for g, u in book.grants if g.host == HOSTS[host])

    @precondition(lambda self: self.flows)
    @rule(
        chosen=st.integers(0, 1000), kind=st.sampled_from(["hello", "request", "stranger", "strange", "junk"])
    )
    def send(self, chosen: int, kind: str) -> None:
        """A hello or a request for the host, or for a stranger, or bytes that are neither."""
        flow = self.flows[chosen % len(self.flows)]
        own = HOSTS[flow.host]
        port = self.house.upstreams[flow.host].port
        data = {
            "hello": hello(own),
            "request": request(f"{own}:{port}"),
            "stranger": hello(_STRANGER),
            "strange": request(_STRANGER),
            "junk": b"\x00junk" * 100,
        }[kind]
        try:
            sent = flow.sock.send(data)
        except OSError:
            return
        if "require" in flow.grant.words and not flow.first and kind == "hello":
            self._asks(flow)
        flow.first = flow.first or kind
        flow.sent += data[:sent]
        self.house.settle()

    @rule(host=_hosts, size=st.sampled_from([10, 2000]))
    def answer(self, host: int, size: int) -> None:
        """The host says something on every connection."""
        self.house.upstreams[host].say(b"x" * size)
        self.house.settle()

    @precondition(lambda self: self.flows)
    @rule(chosen=st.integers(0, 1000), by_reset=st.booleans())
    def hang_up(self, chosen: int, by_reset: bool) -> None:
        """The workload closes one of its connections."""
        flow = self.flows.pop(chosen % len(self.flows))
        if by_reset:
            reset(flow.sock)
        else:
            flow.sock.close()
        self.house.settle()

    # ---- what must hold

    @invariant()
    def nothing_is_open_without_leave(self) -> None:
        """Ever opened: no more than were asked for under a grant. Open now: no more than may be."""
        if not hasattr(self, "house"):
            return
        assert self.house.settle_until(lambda: not self._open_without_leave()), self._open_without_leave()

    def _open_without_leave(self) -> str:
        """What is wrong with what is open; nothing is an empty word."""
        for at, upstream in enumerate(self.house.upstreams):
            if len(upstream.came) > self.asked_for[at]:
                return "opened without an Allowed"
            standing = self.grants.get(at)
            if upstream.open and (standing is None or standing.over):
                return "open after its grant has ended"
            if upstream.open and self._spent(at):
                return "open after its budget is used up"
            if upstream.open > sum(flow.asked and flow.may_be_open for flow in self.flows if flow.host == at):
                return "open after its flow has ended"
        return ""

    @invariant()
    def nothing_passes_for_a_stranger(self) -> None:
        """Where first bytes are judged, no flow that begins as TLS or HTTP ever asks for another name."""
        if not hasattr(self, "house"):
            return
        for came in self.house.upstreams[_JUDGED].heard_first:
            if came.startswith(b"GET"):
                assert _STRANGER.encode() not in came
            elif came.startswith(b"\x16"):
                named = len(came) >= len(hello(HOSTS[_JUDGED]))  # a budget may cut it short
                assert _STRANGER.encode() not in came[:600]
                assert not named or HOSTS[_JUDGED].encode() in came
            else:
                assert b"\x00junk".startswith(came[:5])

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        """What a grant has carried is never more than its budget."""
        if not hasattr(self, "house"):
            return
        for _, usage in self.house.gateway.authority.grants:
            for tally in (usage.up, usage.down):
                assert tally.limit is None or tally.carried <= tally.limit == _BUDGET

    @invariant()
    def each_opening_is_recorded_before_it_is_made(self) -> None:
        """The log on disk has as many openings as the hosts have met, or more."""
        if not hasattr(self, "house"):
            return
        opened = [
            json.loads(line)["host"]
            for line in Path(self.house.log.path).read_bytes().splitlines()
            if b'"flow.opened"' in line
        ]
        for host, upstream in zip(HOSTS, self.house.upstreams, strict=True):
            assert opened.count(host) >= len(upstream.came)

    def teardown(self) -> None:
        """The record verifies, whatever happened; sealed where it could be."""
        if not hasattr(self, "house"):
            return
        for flow in self.flows:
            flow.sock.close()
        self.house.gateway.close()
        self.house.settle()
        assert self.house.settle_until(lambda: not any(upstream.open for upstream in self.house.upstreams)), (
            "open after the end"
        )
        state = f"{self.directory.name}/state"
        if self.recorded:
            self.house.log.seal(signing_key(state))
        with Path(self.house.log.path).open("rb") as lines:
            verdict = verify_lines(lines, public_key(state))
        assert verdict.sound, verdict
        assert verdict.sealed is self.recorded
        self.house.close()
        self.directory.cleanup()


_QUICK = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_no_order_of_events_opens_an_upstream_without_leave() -> None:
    """Whatever comes after what: nothing is open that may not be, or may be no longer."""
    run_state_machine_as_test(FlowMachine, settings=_QUICK)


@pytest.fixture
def machine() -> Iterator[FlowMachine]:
    """A machine to be led by hand: what chance finds only sometimes is walked through every time."""
    made = FlowMachine()
    made.begin()
    yield made
    made.teardown()


@pytest.mark.parametrize("end", ["expired", "used up", "revoked", "other tls", "unrecorded"])
def test_each_end_of_a_grant_closes_its_flow_and_refuses_the_next(machine: FlowMachine, end: str) -> None:
    """Open before, closed after, and the next attempt denied or, under another `tls`, judged anew."""
    host, upstream = 1, machine.house.upstreams[1]
    machine.allow(host=host, words="tls=off,expires=5s,max-up=3KiB,max-down=3KiB", anew=False)
    machine.connect(host=host)
    machine.send(chosen=0, kind="junk")
    assert machine.house.settle_until(lambda: [upstream.open, *map(len, upstream.came)] == [1, 500])
    match end:
        case "expired":
            machine.wait(seconds=6.0)
        case "used up":
            for _ in range(8):
                machine.send(chosen=0, kind="junk")
        case "revoked":
            machine.revoke(host=host)
        case "other tls":
            machine.allow(host=host, words="tls=require", anew=False)
        case _:
            machine.house.log.close()
            machine.recorded = False
            machine.revoke(host=host)
    assert machine.house.settle_until(lambda: upstream.open == 0)
    machine.connect(host=host)
    assert machine.house.settle_until(lambda: (upstream.open, len(upstream.came)) == (0, 1))
    assert sum(map(len, upstream.came)) <= _BUDGET
    machine.nothing_is_open_without_leave()
    machine.each_opening_is_recorded_before_it_is_made()


def test_a_grant_said_anew_keeps_its_flow_and_begins_again(machine: FlowMachine) -> None:
    """The twin: nothing is closed, and the time runs from the edit on."""
    words, upstream = "tls=off,expires=5s", machine.house.upstreams[1]
    machine.allow(host=1, words=words, anew=False)
    machine.connect(host=1)
    machine.wait(seconds=4.0)
    machine.allow(host=1, words=words, anew=True)
    machine.wait(seconds=4.0)
    assert machine.house.settle_until(lambda: upstream.open == 1)
    machine.wait(seconds=2.0)
    assert machine.house.settle_until(lambda: upstream.open == 0)


@pytest.mark.parametrize(
    ("words", "kind", "passes"),
    [
        ("tls=require", "hello", True),
        ("tls=require", "stranger", False),
        ("tls=require", "request", False),
        ("tls=require", "junk", False),
        ("tls=auto", "hello", True),
        ("tls=auto", "stranger", False),
        ("tls=auto", "request", True),
        ("tls=auto", "strange", False),
        ("tls=auto", "junk", True),
    ],
)
def test_first_bytes_pass_under_the_granted_name_alone(
    machine: FlowMachine, words: str, kind: str, passes: bool
) -> None:
    """Of what asks for a stranger, or is no TLS where TLS is required, no byte arrives."""
    machine.allow(host=_JUDGED, words=words, anew=False)
    machine.connect(host=_JUDGED)
    machine.send(chosen=0, kind=kind)
    upstream, sent = machine.house.upstreams[_JUDGED], bytes(machine.flows[0].sent)
    assert machine.house.settle_until(lambda: b"".join(upstream.came) == (sent if passes else b""))
    assert machine.house.settle_until(lambda: upstream.open == passes)
    machine.nothing_passes_for_a_stranger()


def test_what_can_not_be_recorded_is_not_opened(machine: FlowMachine) -> None:
    """The grant stands, and still nobody is met; before the record failed, the same flow was opened."""
    machine.allow(host=1, words="tls=off", anew=False)
    machine.connect(host=1)
    machine.house.log.close()
    machine.recorded = False
    machine.connect(host=1)
    assert machine.house.settle_until(lambda: len(machine.house.upstreams[1].came) == 1)
    machine.each_opening_is_recorded_before_it_is_made()
