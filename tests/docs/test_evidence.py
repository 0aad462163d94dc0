"""What the recorded runs found of every way out and every fault: none is said to hold that did not."""

from __future__ import annotations

import pytest

from mvm.claims import FAILED, PASSED, SKIPPED, Evidence
from tests.docs.evidence_page import covering, faults
from tests.docs.recorded import held, recorded, user
from tests.support.evidence import BACKEND

RUNS = recorded()
TRIED = {f"way out {number}": tests for number, tests in sorted(covering().items())} | {
    test: [test] for test in faults()
}


def _run(uid: int, **tests: str) -> Evidence:
    return Evidence("c0ffee", "2026-01-01T00:00:00Z", "Linux", "3.11", uid, BACKEND, tests)


def test_both_users_have_a_recorded_run() -> None:
    """Each whole: with outcomes for hundreds of tests, none of them a failure."""
    assert [user(run) for run in RUNS] == ["root", "user"]
    assert all(len(run.tests) > 200 for run in RUNS)
    assert [test for run in RUNS for test, outcome in run.tests.items() if outcome == FAILED] == []


@pytest.mark.parametrize("tests", TRIED.values(), ids=TRIED)
def test_what_was_tried_held(tests: list[str]) -> None:
    """As root or as an ordinary user at least, where one of its tests is newer than the runs too."""
    assert held(tests, RUNS).split(",")[0].split(";")[0] in {"root", "user"}


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([_run(0, a=PASSED, b=PASSED), _run(1, a=PASSED, b=PASSED)], "root, user"),
        ([_run(0, a=PASSED, b=PASSED), _run(1, a=SKIPPED, b=SKIPPED)], "root"),
        ([_run(0, a=PASSED, b=PASSED), _run(1, a=PASSED, b=FAILED)], "**failed** as user"),
        ([_run(0, a=PASSED)], "root; 1 newer"),
        ([_run(0, a=SKIPPED, b=SKIPPED)], "**not run**"),
        ([], "**not run**"),
    ],
)
def test_a_failure_and_a_gap_stand_out(runs: list[Evidence], told: str) -> None:
    """One failed case of one user is told, and that nobody ran it; a skip is no pass."""
    assert held(["a", "b"], runs) == told
