"""The recorded runs of the whole suite, as root and as an ordinary user: what the page of evidence tells.

Owns `docs/explanation/evidence-*.json`: what `python3 dev.py test --evidence FILE` wrote, cut down to the
tests that the page shows. Must never hold an outcome that no run had.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mvm.claims import FAILED, NOT_RUN, PASSED, Evidence, outcome_of, read_evidence, write_evidence
from tests.support.evidence import BACKEND
from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PLACE = ROOT / "docs" / "explanation"


def recorded() -> list[Evidence]:
    """The runs that are kept, root's first."""
    return [read_evidence(path.read_text("utf-8")) for path in sorted(_PLACE.glob("evidence-*.json"))]


def keep(file: str, shown: frozenset[str]) -> None:
    """Let the run of a file be the recorded one of its user.

    Raises:
        OSError, ValueError: there is no such file, or it is no evidence.
    """
    found = read_evidence(Path(file).read_text("utf-8"))
    tests = {name: outcome for name, outcome in found.tests.items() if name in shown}
    (_PLACE / f"evidence-{user(found)}.json").write_text(write_evidence(found._replace(tests=tests)), "utf-8")


def user(run: Evidence) -> str:
    """Whose run it was."""
    return "root" if run.uid == 0 else "user"


def held(tests: Iterable[str], runs: Sequence[Evidence]) -> str:
    """As whom tests passed; what failed as anybody, or was run by nobody, stands out."""
    names = list(tests)
    found = {user(run): {outcome_of(test, BACKEND, [run]) for test in names} for run in runs}
    if failed := [who for who, outcomes in found.items() if FAILED in outcomes]:
        return f"**failed** as {', '.join(failed)}"
    missed = [test for test in names if outcome_of(test, BACKEND, runs) == NOT_RUN]
    passed = [who for who, outcomes in found.items() if PASSED in outcomes]
    if not passed:
        return "**not run**"
    return ", ".join(passed) + (f"; {len(missed)} newer" if missed else "")
