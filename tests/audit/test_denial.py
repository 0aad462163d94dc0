"""Denials: the object of the specification, equal ones merged, no count lost, no memory without bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.audit.denial import MOST_DISTINCT, Act, DenialLedger
from mvm.audit.record import make_record
from mvm.policy.explain import Remedy
from mvm.terms import Layer, Protocol, Reason, RemedyKind

if TYPE_CHECKING:
    from mvm.audit.denial import Denial

TIME = "2025-01-31T23:59:59.000001Z"
LATER = "2025-02-01T00:00:00.000000Z"
FLAG = "--network-allow api.example:443"
ALLOW = Remedy(kind=RemedyKind.ALLOW_HOST, text="grant api.example on port 443", flag=FLAG)
NEVER = Remedy(kind=RemedyKind.NEVER, text="a metadata address is never reachable")


def deny(ledger: DenialLedger, port: int = 443, *, time: str = TIME, count: int = 1) -> tuple[Denial, bool]:
    """Deny a connection to api.example."""
    act = Act(Layer.TCP, Reason.HOST_NOT_GRANTED, "api.example", None, port, Protocol.TCP)
    return ledger.add(act, count, lambda: (time, ALLOW))


def test_the_object_of_the_specification() -> None:
    """A denial is written with exactly the fields of SPEC section 2, in its order."""
    denial, _ = deny(DenialLedger())
    assert list(denial.to_json().items()) == [
        ("seq", 1),
        ("time", TIME),
        ("layer", "tcp"),
        ("host", "api.example"),
        ("address", None),
        ("port", 443),
        ("protocol", "tcp"),
        ("reason", "host-not-granted"),
        ("count", 1),
        ("remedy", {"kind": "allow-host", "text": "grant api.example on port 443", "flag": FLAG}),
    ]


def test_equal_denials_are_merged() -> None:
    """An equal denial is counted and not new; another port is new."""
    ledger = DenialLedger()
    assert deny(ledger)[1]
    denial, new = deny(ledger, time=LATER, count=4)
    assert (denial.count, denial.time, denial.seq, new) == (5, TIME, 1, False)
    other, new = deny(ledger, 80)
    assert (other.seq, new) == (2, True)
    assert [found.count for found in ledger.denials] == [5, 1]
    assert ledger.total == 6


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.booleans(), st.booleans())))
def test_recorded_counts_add_up(acts: list[tuple[int, int, bool, bool]]) -> None:
    """New ones recorded or put off, repeats taken at any moment: the records add up to the ledger."""
    ledger, recorded = DenialLedger(), dict.fromkeys(range(1, 5), 0)
    for port, count, put_off, take in acts:
        denial, new = deny(ledger, port, count=count)
        if new and put_off:
            ledger.count_again(denial)
        elif new:
            recorded[port] += count
        for taken, repeats in ledger.take_repeats() if take else ():
            assert taken.act.port is not None
            recorded[taken.act.port] += repeats
    for taken, repeats in ledger.take_repeats():
        assert taken.act.port is not None
        recorded[taken.act.port] += repeats
    assert ledger.take_repeats() == ()
    assert {denial.act.port: denial.count for denial in ledger.denials} == {
        p: n for p, n in recorded.items() if n
    }
    assert ledger.total == sum(count for _, count, _, _ in acts)


def test_a_scan_does_not_fill_the_memory() -> None:
    """Beyond a bound, different denials are merged per layer and reason, and still all counted."""
    ledger = DenialLedger()
    for port in range(1, MOST_DISTINCT + 100):
        _, new = deny(ledger, port)
        assert new == (port <= MOST_DISTINCT + 1)
    denial, _ = deny(ledger, MOST_DISTINCT + 100)
    assert (len(ledger.denials), ledger.total) == (MOST_DISTINCT + 1, MOST_DISTINCT + 100)
    assert (denial.act.host, denial.act.port, denial.count) == (None, None, 100)
    known, new = deny(ledger, 7)
    assert (known.act.port, known.count, new) == (7, 2, False)


def test_only_a_new_denial_is_described() -> None:
    """Time and remedy are asked for the first time only: repeats of a denied act cost a count."""
    ledger, asked = DenialLedger(), []

    def describe() -> tuple[str, Remedy]:
        asked.append(True)
        return TIME, ALLOW

    for _ in range(3):
        ledger.add(Act(Layer.TCP, Reason.REVOKED, "api.example"), 1, describe)
    assert (len(asked), ledger.total) == (1, 3)


def test_flags_are_given_once_and_never_for_never() -> None:
    """The flags that would have allowed the denied acts come once each; what is never allowed has none."""
    ledger = DenialLedger()
    deny(ledger)
    ledger.add(Act(Layer.DNS, Reason.HOST_NOT_GRANTED, "api.example"), 1, lambda: (TIME, ALLOW))
    metadata = Act(Layer.TCP, Reason.PRIVATE_ADDRESS, address="169.254.169.254")
    ledger.add(metadata, 1, lambda: (TIME, NEVER))
    assert ledger.flags == (FLAG,)
    with pytest.raises(ValueError, match="never"):
        Remedy(kind=RemedyKind.NEVER, text="", flag=FLAG)


@pytest.mark.parametrize("layer", Layer)
def test_every_denial_can_be_recorded(layer: Layer) -> None:
    """Any layer's denial is a record that the table takes: a name's dns.denied, others flow.denied."""
    act = Act(layer, Reason.MALFORMED, "a.example", "2001:db8::1", 1)
    denial, _ = DenialLedger().add(act, 1, lambda: (TIME, NEVER))
    kind, fields = denial.to_record(3)
    record = make_record(kind, fields, seq=1, time=TIME, run="0" * 26)
    assert record["kind"] == ("dns.denied" if layer is Layer.DNS else "flow.denied")
    assert (record["count"], record["reason"], "remedy" in record) == (3, "malformed", False)
