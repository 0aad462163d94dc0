"""The names of a sandbox and its record, in any order of events, against models of a few lines."""

from __future__ import annotations

import tempfile
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mvm.audit.chain import verify_lines
from mvm.audit.keys import public_key, signing_key
from mvm.audit.log import Log
from mvm.audit.record import FIELDS, Kind
from mvm.audit.run_id import make_run_id
from mvm.errors import AuditError
from mvm.gateway.names import Names, Pools
from mvm.terms import PORTAL, HostName

_SMALL = Pools(IPv4Network("198.18.0.0/23"), IPv6Network("100::/64"))
"""Room for 255 names, so that it is used up now and then."""

_name = st.integers(0, 400).map(lambda number: HostName(f"h{number}.example.test"))
_addresses = st.one_of(
    st.integers(0, 600).map(lambda offset: str(_SMALL.v4.network_address + offset)),
    st.integers(0, 600).map(lambda offset: f"::ffff:{_SMALL.v4.network_address + offset}"),
    st.integers(0, 600).map(lambda offset: str(_SMALL.v6.network_address + offset)),
    st.ip_addresses().map(str),
    st.sampled_from(["", ":", "::", "1.2.3", "1.2.3.4.5", "a.b.c.d", "::ffff:", "fe80::1%lo", "256.1.1.1"]),
)


class NamesMachine(RuleBasedStateMachine):
    """Each name its own address for good, and no address for two names."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.names = Names(_SMALL)
        self.given: dict[HostName, tuple[str, str]] = {}

    @rule(first=st.integers(0, 400), count=st.sampled_from([1, 1, 20, 120]))
    def ask(self, first: int, count: int) -> None:
        """Names are looked up."""
        for number in range(first, first + count):
            name = HostName(f"h{number}.example.test")
            pair = self.names.pair(name)
            if pair is None:
                assert name not in self.given
                assert len(self.given) == 255
                continue
            made = (str(pair[0]), str(pair[1]))
            assert self.given.setdefault(name, made) == made, "a name that has changed its address"
            assert pair[0] in _SMALL.v4
            assert pair[1] in _SMALL.v6

    @rule(address=_addresses)
    def connect(self, address: str) -> None:
        """An address leads to the name that it was given out for, or to none."""
        meant = {one: name for name, pair in self.given.items() for one in pair}
        meant |= dict.fromkeys(map(str, self.names.pair(PORTAL) or ()), PORTAL)
        assert self.names.host(address) == meant.get(address.removeprefix("::ffff:"))

    @invariant()
    def no_address_is_given_twice(self) -> None:
        """Not to two names, nor any of the resolver's, the workload's and the portal's."""
        taken = [one for pair in self.given.values() for one in pair]
        taken += [str(one) for pair in (_SMALL.resolver, _SMALL.workload) for one in pair]
        taken += map(str, self.names.pair(PORTAL) or ())
        assert len(set(taken)) == len(taken)
        assert set(self.names.given) == set(self.given)


_TEXTS = st.text(max_size=600) | st.sampled_from(
    ["a.example", "tcp", "host-not-granted", "198.18.1.0", "é\u2028"]
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**54),
    st.floats(),
    _TEXTS,
    st.lists(_TEXTS, max_size=3),
    st.binary(max_size=3),
)
_FIELDS = sorted({name for shapes in FIELDS.values() for name in shapes})
_SEALED = Kind.AUDIT_SEALED


class RecordMachine(RuleBasedStateMachine):
    """Whatever is appended, and whatever is refused, what is on disk verifies after each step."""

    @initialize()
    def begin(self) -> None:
        """A log of a run."""
        self.directory = tempfile.TemporaryDirectory(prefix="mvm-fuzz-")
        self.state = f"{self.directory.name}/state"
        self.key = signing_key(self.state)
        self.now = 0
        run = make_run_id(1_750_000_000_000, bytes(range(10)))
        self.log = Log.create(self.state, run, clock=lambda: self.now)
        self.written, self.is_over, self.sealed = 0, False, False

    @rule(
        kind=st.sampled_from([str(kind) for kind in Kind if kind is not _SEALED] + ["no.kind"]),
        fields=st.dictionaries(st.sampled_from(_FIELDS) | st.text(max_size=9), _VALUES, max_size=4),
    )
    def append(self, kind: str, fields: dict[str, object]) -> None:
        """Written whole, or refused whole: never a line that the reader would refuse."""
        fields.pop("kind", None)
        try:
            self.log.append(kind, **fields)
        except ValueError:
            return
        except AuditError:
            assert self.is_over
            return
        assert not self.is_over
        self.written += 1

    @rule(seconds=st.integers(-(10**9), 10**9))
    def turn_the_clock(self, seconds: int) -> None:
        """The clock of the wall goes both ways; the chain does not hang on it."""
        self.now = max(0, self.now + seconds * 10**9)

    @precondition(lambda self: not self.is_over and self.written > 3)
    @rule()
    def seal(self) -> None:
        """Sealed once, and nothing after it."""
        self.log.seal(self.key)
        self.written += 1
        self.is_over = self.sealed = True

    @precondition(lambda self: self.written > 5)
    @rule()
    def close(self) -> None:
        """Closed, and nothing after it."""
        self.log.close()
        self.is_over = True

    @invariant()
    def what_is_on_disk_verifies(self) -> None:
        """Every line that was taken, no other, and the seal where there is one."""
        if not hasattr(self, "log"):
            return
        with Path(self.log.path).open("rb") as lines:
            verdict = verify_lines(lines, public_key(self.state), run=self.log.run)
        assert (verdict.sound, verdict.torn, verdict.sealed) == (True, 0, self.sealed), verdict
        assert verdict.records == self.written

    def teardown(self) -> None:
        """Let go of it."""
        if hasattr(self, "log"):
            self.log.close()
            self.directory.cleanup()


_QUICK = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestNamesMachine = NamesMachine.TestCase
TestNamesMachine.settings = _QUICK
TestRecordMachine = RecordMachine.TestCase
TestRecordMachine.settings = _QUICK
