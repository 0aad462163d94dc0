"""Run ids sort by time, are safe file names, and timestamps sort as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.audit.run_id import is_run_id, make_run_id
from mvm.audit.timestamp import rfc3339

LAST = 2**48 - 1


def test_known_ids() -> None:
    """The example of the ULID specification, and both ends of the range."""
    assert make_run_id(1_469_918_176_385, bytes(10))[:10] == "01ARYZ6S41"
    assert make_run_id(0, bytes(10)) == "0" * 26
    assert make_run_id(LAST, b"\xff" * 10) == "7" + "Z" * 25


@given(st.integers(0, LAST), st.integers(0, LAST), st.binary(min_size=10, max_size=10))
def test_order_is_time(one: int, other: int, randomness: bytes) -> None:
    """Ids of different milliseconds sort as the milliseconds do, and every id is one."""
    ids = [make_run_id(moment, randomness) for moment in (one, other)]
    assert all(map(is_run_id, ids))
    assert (ids[0] < ids[1]) == (one < other)


@pytest.mark.parametrize(("moment", "size"), [(-1, 10), (LAST + 1, 10), (0, 9), (0, 11)])
def test_arguments_out_of_range(moment: int, size: int) -> None:
    """What does not fit 48 and 80 bits is refused."""
    with pytest.raises(ValueError, match="48 bits"):
        make_run_id(moment, bytes(size))


@pytest.mark.parametrize(
    "text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "O" * 26, "../" + "0" * 23, "0" * 26 + "\n"]
)
def test_what_is_no_run_id(text: str) -> None:
    """Other lengths, letters and a number beyond 128 bits are no run ids."""
    assert not is_run_id(text)
    assert is_run_id("0" * 26)


@given(st.integers(0, 253_402_300_799_999_999_999))
def test_timestamps_are_those_of_datetime(nanoseconds: int) -> None:
    """Every moment to the end of 9999 is spelled as `datetime` spells it, cut to microseconds."""
    moment = datetime.fromtimestamp(nanoseconds // 10**9, UTC).replace(
        microsecond=nanoseconds // 1000 % 10**6
    )
    assert rfc3339(nanoseconds) == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
