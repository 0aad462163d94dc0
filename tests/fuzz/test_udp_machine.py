"""Datagrams, edits, expiry, budgets, silence and a failing record in any order, and a model of UDP flows."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
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
from tests.fuzz.datagram_house import ADDRESSES, DatagramHouse
from tests.fuzz.gatehouse import HOSTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.policy.model import Grant

_BUDGET = 3 << 10
_LIFE_S, _SILENCE_S = 5.0, 130.0
_WORDS = ("", ",expires=5s", ",max-up=3KiB", ",max-down=3KiB", ",expires=5s,max-up=3KiB,max-down=3KiB")
_SIZES = st.sampled_from([10, 2000])
_hosts = st.integers(0, 1)
_clients = st.integers(0, 2)

Ends = tuple[int, int, int]
"""A flow: the workload's socket, the host, and the family of the address it sent to."""


@dataclass(eq=False)
class _Standing:
    """A grant as the model has it.

    Attributes:
        over: whether it has ended by itself, with all of its flows.
        up, down: bytes that were seen to pass.
    """

    words: str
    since: float
    over: bool = False
    up: int = 0
    down: int = 0

    def fits(self, way: str, size: int) -> bool:
        """Whether so many bytes more are within its budget."""
        return f"max-{way}" not in self.words or getattr(self, way) + size <= _BUDGET

    @property
    def opens(self) -> bool:
        """Whether a new flow may begin."""
        return not self.over and self.fits("up", 1) and self.fits("down", 1)


class UdpMachine(RuleBasedStateMachine):
    """What goes to a host and what comes from it, datagram by datagram."""

    @initialize()
    def begin(self) -> None:
        """Nothing is granted."""
        self.directory = tempfile.TemporaryDirectory(prefix="mvm-fuzz-")
        self.house = DatagramHouse(f"{self.directory.name}/state")
        self.grants: dict[int, _Standing] = {}
        self.flows: dict[Ends, int] = {}
        """The port by which a host knows each flow, the last one."""
        self.may_be_open: set[Ends] = set()
        self.recorded = True
        self.sent = 0

    # ---- what the owner does

    @rule(host=_hosts, words=st.sampled_from(_WORDS), anew=st.booleans())
    def allow(self, host: int, words: str, anew: bool) -> None:
        """Grant one host, beside whatever is granted of the other."""
        wanted = {at: standing.words for at, standing in self.grants.items()} | {host: words}
        self._replace(wanted, host if anew else None)

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
        for at in set(self.grants) - set(wanted):
            self._end(at)
            del self.grants[at]
        for at, words in wanted.items() if self.recorded else ():
            before = self.grants.get(at)
            if before is None or before.words != words or anew == at:
                self.grants[at] = _Standing(words, self.house.now)
        self.house.settle()

    def _end(self, host: int) -> None:
        self.may_be_open = {ends for ends in self.may_be_open if ends[1] != host}

    @rule(seconds=st.sampled_from([2.0, 6.0, _SILENCE_S]))
    def wait(self, seconds: float) -> None:
        """Time passes: what has expired by then takes its flows along, and so does silence."""
        self.house.now += seconds
        self.house.settle()
        for host, standing in self.grants.items():
            if "expires" in standing.words and self.house.now - standing.since >= _LIFE_S:
                standing.over = True
                self._end(host)
        if seconds == _SILENCE_S:
            self.may_be_open.clear()

    @precondition(lambda self: self.recorded and self.flows)
    @rule(chance=st.integers(0, 3))
    def lose_the_record(self, chance: int) -> None:
        """The log can't be written any more."""
        if not chance:
            self.house.log.close()
            self.recorded = False

    # ---- what is sent

    def _data(self, size: int) -> bytes:
        self.sent += 1
        return b"%d " % self.sent + b"x" * (size - len(b"%d " % self.sent))

    @rule(client=_clients, host=_hosts, family=st.integers(0, 1), size=_SIZES)
    def send(self, client: int, host: int, family: int, size: int) -> None:
        """A datagram of the workload's reaches its host under a grant, or is answered by an error."""
        ends, data = (client, host, family), self._data(size)
        sender, target = self.house.client(client), self.house.place(host, family)
        passes = self._may_pass(ends, size)
        self.house.send(sender, target, data)
        came = self.house.came(host, int(passes))
        assert [each for each, _ in came] == ([data] if passes else []), "a datagram without an Allowed"
        errors = {(error.source, error.target) for error in self.house.unreachable()}
        if passes:
            port = came[0][1][1]
            self.flows = {each: known for each, known in self.flows.items() if known != port} | {ends: port}
            self.may_be_open.add(ends)
            self.grants[host].up += size
        else:
            assert (target, sender) in errors, "refused and not told"

    def _may_pass(self, ends: Ends, size: int) -> bool:
        host = ends[1]
        standing = self.grants.get(host)
        is_open = self.flows.get(ends) in self.house.open(host) and ends in self.may_be_open
        if standing is None or not (is_open or (self.recorded and standing.opens)):
            return False
        if standing.fits("up", size):
            return True
        standing.over = True
        self._end(host)
        return False

    @rule(client=_clients, host=_hosts, off=st.sampled_from([-1, 1]))
    def send_beside(self, client: int, host: int, off: int) -> None:
        """Another port of a granted host is as closed as another host."""
        made = self.house.made
        self.house.send(self.house.client(client), self.house.place(host, 0, off), self._data(10))
        assert self.house.made == made, "opened without an Allowed"
        assert self.house.unreachable()

    @precondition(lambda self: self.flows)
    @rule(chosen=st.integers(0, 1000), size=_SIZES)
    def answer(self, chosen: int, size: int) -> None:
        """A host's datagram comes in by the flow it was asked on, while that is open, and by no other."""
        ends = sorted(self.flows)[chosen % len(self.flows)]
        client, host, family = ends
        port, standing, data = self.flows[ends], self.grants.get(host), self._data(size)
        is_open = port in self.house.open(host) and ends in self.may_be_open
        self.house.hosts[host].sendto(data, ("127.0.0.1", port))
        self.house.settle()
        passes = is_open and standing is not None and standing.fits("down", size)
        expected = [(self.house.place(host, family), self.house.client(client), data)] if passes else []
        assert self.house.answers(len(expected)) == expected
        if passes and standing is not None:
            standing.down += size
        elif is_open and standing is not None:
            self.house.settle_until(lambda: port not in self.house.open(host))
            standing.over = True
            self._end(host)
        self.house.unreachable()

    @precondition(lambda self: self.flows)
    @rule(chosen=st.integers(0, 1000), other_host=st.booleans())
    def intrude(self, chosen: int, other_host: bool) -> None:
        """Nobody but the host that a flow leads to is heard on it, another granted host neither."""
        ends = sorted(self.flows)[chosen % len(self.flows)]
        sender = self.house.hosts[1 - ends[1]] if other_host else self.house.stranger
        sender.sendto(self._data(10), ("127.0.0.1", self.flows[ends]))
        self.house.settle()
        assert self.house.answers() == [], "somebody else was heard"

    # ---- what must hold

    @invariant()
    def nothing_is_open_without_leave(self) -> None:
        """A socket that leads to a host belongs to a flow whose grant stands; more there are not."""
        if not hasattr(self, "house"):
            return
        for host in range(len(ADDRESSES)):
            standing, is_open = self.grants.get(host), self.house.open(host)
            if standing is None or standing.over:
                assert not is_open, "open after its grant has ended"
            known = {
                port for ends, port in self.flows.items() if ends in self.may_be_open and ends[1] == host
            }
            assert is_open <= known, "open after its flow has ended"

    @invariant()
    def nothing_else_has_moved(self) -> None:
        """No datagram has come to a host or to the workload but those that the rules have looked at."""
        if not hasattr(self, "house"):
            return
        assert [self.house.came(host) for host in range(len(ADDRESSES))] == [[], []]
        assert self.house.answers() == []

    @invariant()
    def each_opening_is_recorded_before_it_is_made(self) -> None:
        """The house looks when a socket is asked for; and no grant carries beyond its budget."""
        if not hasattr(self, "house"):
            return
        assert len(self.house.recorded()) >= self.house.made
        for _, usage in self.house.gateway.authority.grants:
            for tally in (usage.up, usage.down):
                assert tally.limit is None or tally.carried <= tally.limit == _BUDGET

    def teardown(self) -> None:
        """All is closed at the end, and the record verifies, sealed where it could be."""
        if not hasattr(self, "house"):
            return
        self.house.gateway.close()
        self.house.settle()
        assert not any(self.house.open(host) for host in range(len(ADDRESSES))), "open after the end"
        state = f"{self.directory.name}/state"
        if self.recorded:
            self.house.log.seal(signing_key(state))
        with Path(self.house.log.path).open("rb") as lines:
            verdict = verify_lines(lines, public_key(state))
        assert (verdict.sound, verdict.sealed) == (True, self.recorded), verdict
        self.house.close()
        self.directory.cleanup()


_QUICK = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_no_order_of_events_passes_a_datagram_without_leave() -> None:
    """Whatever comes after what: each datagram that passes, either way, does so under a grant that stands."""
    run_state_machine_as_test(UdpMachine, settings=_QUICK)


@pytest.fixture
def machine() -> Iterator[UdpMachine]:
    """A machine to be led by hand: what chance finds only sometimes is walked through every time."""
    made = UdpMachine()
    made.begin()
    yield made
    made.teardown()


@pytest.mark.parametrize(
    "end", ["expired", "used up", "used up by answers", "revoked", "silence", "unrecorded"]
)
def test_each_end_closes_a_flow_and_refuses_the_next(machine: UdpMachine, end: str) -> None:
    """Open before, closed after, and the next datagram refused; after silence alone another flow begins."""
    machine.allow(host=1, words=_WORDS[-1] if end != "silence" else "", anew=False)
    for client in (0, 1):
        machine.send(client=client, host=1, family=client, size=10)
    machine.answer(chosen=0, size=10)
    machine.intrude(chosen=0, other_host=False)
    assert len(machine.house.open(1)) == 2
    match end:
        case "expired":
            machine.wait(seconds=6.0)
        case "silence":
            machine.wait(seconds=_SILENCE_S)
        case "used up":
            for _ in range(3):
                machine.send(client=0, host=1, family=0, size=2000)
        case "used up by answers":
            for _ in range(3):
                machine.answer(chosen=0, size=2000)
        case "revoked":
            machine.revoke(host=1)
        case _:
            machine.house.log.close()
            machine.recorded = False
            machine.revoke(host=1)
    assert machine.house.open(1) == set()
    made = machine.house.made
    machine.send(client=2, host=1, family=0, size=10)
    assert machine.house.made - made == (end == "silence")
    machine.nothing_is_open_without_leave()
    machine.nothing_else_has_moved()


def test_what_can_not_be_recorded_is_not_opened(machine: UdpMachine) -> None:
    """The grant stands and still nobody is met; a flow that was recorded before goes on."""
    machine.allow(host=0, words="", anew=False)
    machine.send(client=0, host=0, family=0, size=10)
    machine.house.log.close()
    machine.recorded = False
    machine.send(client=1, host=0, family=0, size=10)
    machine.send(client=0, host=0, family=0, size=10)
    assert len(machine.house.open(0)) == machine.house.made == 1
    assert machine.house.recorded() == [HOSTS[0]]
