"""`mvmctl claims`: each claim with its status, its tests, and what a run found of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mvm.claims import Evidence, write_evidence

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said

_TEST = "tests/kernel/test_door.py::test_without_any_rule_still_nothing_leaves"


@pytest.fixture
def evidence(tmp_path: Path) -> str:
    """What a run found: one of the tests passed."""
    made = Evidence(
        "c0ffee" * 6, "2026-01-01T00:00:00Z", "Linux 6.1", "3.11.2", 0, "namespace", {_TEST: "passed"}
    )
    (tmp_path / "found.json").write_text(write_evidence(made))
    return str(tmp_path / "found.json")


def test_claims_are_told_with_their_tests_and_evidence(type_in: Callable[..., Said], evidence: str) -> None:
    """For people: status, sentence, tests with their outcome; then the counts, and of which run that is."""
    said = type_in("claims", "--evidence", evidence)
    assert said.status == 0
    assert "proven  rules-are-not-the-boundary: With every rule" in said.output
    assert f"    {_TEST}  passed\n" in said.output
    assert "evidence (namespace): commit c0ffeec0ffee on Linux 6.1, Python 3.11.2, user 0" in said.output


def test_elsewhere_everything_is_pending(type_in: Callable[..., Said], evidence: str) -> None:
    """A backend on which the tests do not run proves nothing, and shows no test."""
    said = type_in("claims", "--backend", "qemu", "--evidence", evidence)
    assert said.status == 0
    assert "proven" not in said.output.replace("is proven", "")
    assert _TEST not in said.output


def test_claims_as_json(type_in: Callable[..., Said], evidence: str) -> None:
    """`mvm.claims/1`: all of it, for programs."""
    told = json.loads(type_in("claims", "--json", "--evidence", evidence).output)
    assert (told["schema"], told["backend"]) == ("mvm.claims/1", "namespace")
    assert [run["uid"] for run in told["evidence"]] == [0]
    (claim,) = [each for each in told["claims"] if each["id"] == "rules-are-not-the-boundary"]
    assert claim["status"] == "proven"
    assert {"test": _TEST, "outcome": "passed"} in claim["tests"]
    assert "not run" in {test["outcome"] for test in claim["tests"]}


@pytest.mark.parametrize("text", [None, "", "{}", "[]"])
def test_what_is_no_evidence_is_usage(type_in: Callable[..., Said], tmp_path: Path, text: str | None) -> None:
    """A file that is not there, or is something else: 64, and what would be evidence is told."""
    if text is not None:
        (tmp_path / "x").write_text(text)
    said = type_in("claims", "--evidence", str(tmp_path / "x"))
    assert said.status == 64
    assert "--evidence FILE" in said.errors
