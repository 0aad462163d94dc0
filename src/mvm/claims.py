"""What is claimed of mvm, by which tests, and what a run of the tests found. Pure.

    claims.toml ─► Claim: sentence, backends, tests ┐
    evidence ─► Evidence: commit, kernel, outcomes  ┴─► judge ─► holds · fails · not run

Owns the reading of both texts and the verdict. A claim is `proven` only on the backends that it lists; on
every other one it is pending. Must never take a test that was not run, or was skipped, for one that passed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BACKENDS = ("namespace", "oci", "qemu", "firecracker")
PROVEN, PARTIAL, PENDING = "proven", "partial", "pending"
STATUSES = (PROVEN, PARTIAL, PENDING)
SCHEMA = "mvm.evidence/1"

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
NOT_RUN = "not run"


class Claim(NamedTuple):
    """One sentence that is claimed.

    Attributes:
        id: a word that pages name it by.
        sentence: what holds.
        status: `proven`, `partial` (`limit` says what is missing) or `pending`, on the backends it lists.
        backends: those on which its tests run.
        tests: names of tests, `FILE::FUNCTION`, all cases of which are meant.
        limit: what the tests do not show, where the status is `partial` or `pending`.
    """

    id: str
    sentence: str
    status: str
    backends: tuple[str, ...]
    tests: tuple[str, ...]
    limit: str

    def status_on(self, backend: str) -> str:
        """Say its status on one backend: pending where its tests do not run."""
        return self.status if backend in self.backends else PENDING


class Evidence(NamedTuple):
    """What one run of the tests found.

    Attributes:
        commit: of the source, or an empty string where that was not known.
        time: when it ended, as RFC 3339 writes it.
        kernel: as uname(2) has it: system, release, machine.
        python: the version.
        uid: of the user that ran it.
        backend: what the sandboxes were made by.
        tests: the outcome of each test by its name without parameters.
    """

    commit: str
    time: str
    kernel: str
    python: str
    uid: int
    backend: str
    tests: Mapping[str, str]


def read_claims(text: str) -> tuple[Claim, ...]:
    """Read `claims.toml`.

    Raises:
        ValueError: it is not TOML, or a claim lacks something, says something unknown, or stands twice.
    """
    import tomllib

    claims = tuple(_read_claim(words) for words in tomllib.loads(text)["claim"])
    if len({claim.id for claim in claims}) < len(claims):
        raise ValueError("two claims have the same id")
    return claims


def _read_claim(words: Mapping[str, Any]) -> Claim:
    name = str(words.get("id"))
    unknown = set(words) - set(Claim._fields)
    lacking = {"id", "sentence", "status", "backends", "tests"} - set(words)
    if unknown or lacking:
        raise ValueError(f"claim {name}: unknown {sorted(unknown)}, lacking {sorted(lacking)}")
    claim = Claim(
        name,
        str(words["sentence"]),
        str(words["status"]),
        tuple(words["backends"]),
        tuple(words["tests"]),
        str(words.get("limit", "")),
    )
    if claim.status not in STATUSES or not set(claim.backends) <= set(BACKENDS):
        raise ValueError(f"claim {name}: no such status or backend")
    if claim.status == PENDING and claim.backends:
        raise ValueError(f"claim {name}: pending, so its tests run on no backend")
    if claim.status != PENDING and not (claim.backends and claim.tests):
        raise ValueError(f"claim {name}: {claim.status}, and no test or backend shows it")
    if (claim.status == PROVEN) == bool(claim.limit):
        raise ValueError(f"claim {name}: a limit is said where, and only where, it is not wholly proven")
    return claim


def read_evidence(text: str) -> Evidence:
    """Read what `write_evidence` wrote.

    Raises:
        ValueError: it is something else.
    """
    words = json.loads(text)
    if not isinstance(words, dict) or words.pop("schema", None) != SCHEMA:
        raise ValueError(f"it is not {SCHEMA}")
    if set(words) != set(Evidence._fields) or not isinstance(words["tests"], dict):
        raise ValueError("members are missing, or are unknown")
    return Evidence(**words)


def write_evidence(evidence: Evidence) -> str:
    """Write it as JSON, for `read_evidence`."""
    return json.dumps({"schema": SCHEMA, **evidence._asdict()}, indent=1) + "\n"


def outcome_of(test: str, backend: str, evidence: Iterable[Evidence]) -> str:
    """Say what several runs found of one test: failed in any, else passed in any, else skipped or not run."""
    found = {each.tests.get(test, NOT_RUN) for each in evidence if each.backend == backend}
    return next((outcome for outcome in (FAILED, PASSED, SKIPPED) if outcome in found), NOT_RUN)


def unmet(
    claims: Iterable[Claim], backend: str, evidence: Sequence[Evidence]
) -> list[tuple[Claim, str, str]]:
    """Give each claim, test and outcome by which a claim does not hold on a backend."""
    return [
        (claim, test, outcome)
        for claim in claims
        if claim.status_on(backend) != PENDING
        for test in claim.tests
        if (outcome := outcome_of(test, backend, evidence)) != PASSED
    ]
