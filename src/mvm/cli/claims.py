"""`mvmctl claims`: what is claimed of each backend, the tests that show it, and what their last run found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mvm.claims import BACKENDS, NOT_RUN, PASSED, PROVEN, outcome_of, read_claims, read_evidence
from mvm.cli.printing import out, print_json, printable, styled
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.claims import Claim, Evidence

_HERE = os.path.dirname(os.path.dirname(__file__))


@click.command(
    "claims",
    context_settings=HELP,
    epilog=examples("mvmctl claims", "mvmctl claims --backend namespace --json"),
)
@click.option("--backend", type=click.Choice(BACKENDS), default="namespace", help="Of which backend.")
@click.option(
    "--evidence", "files", metavar="FILE", multiple=True, help="What a run of the tests found (repeatable)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the claims as JSON.")
def command(*, backend: str, files: tuple[str, ...], as_json: bool) -> int:
    """Say what is claimed, and the evidence for it.

    Without --evidence the one that was packed with this version counts, if any was. A claim is proven on a
    backend only if its tests run on it.
    """
    with open(os.path.join(_HERE, "claims.toml"), encoding="utf-8") as file:
        claims = read_claims(file.read())
    evidence = [_read(name) for name in files or _packed()]
    shown = [_describe(claim, backend, evidence) for claim in claims]
    if as_json:
        runs = [{**each._asdict(), "tests": len(each.tests)} for each in evidence]
        print_json({"schema": "mvm.claims/1", "backend": backend, "evidence": runs, "claims": shown})
    else:
        _print(claims, backend, evidence)
    return 0


def _packed() -> list[str]:
    names = sorted(os.listdir(_HERE))
    return [os.path.join(_HERE, n) for n in names if n.startswith("evidence") and n.endswith(".json")]


def _read(name: str) -> Evidence:
    try:
        with open(name, encoding="utf-8") as file:
            return read_evidence(file.read())
    except (OSError, ValueError) as problem:
        raise UsageError(
            f"--evidence {name!r}: {problem}", hint="name a file that `pytest --evidence FILE` wrote"
        ) from problem


def _describe(claim: Claim, backend: str, evidence: Sequence[Evidence]) -> dict[str, object]:
    tests = [{"test": test, "outcome": outcome_of(test, backend, evidence)} for test in claim.tests]
    status = claim.status_on(backend)
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "status": status,
        "limit": claim.limit,
        "tests": tests,
    }


def _print(claims: Sequence[Claim], backend: str, evidence: Sequence[Evidence]) -> None:
    counted: dict[str, int] = {}
    for claim in claims:
        status = claim.status_on(backend)
        counted[status] = counted.get(status, 0) + 1
        out(f"{styled(status, 'green' if status == PROVEN else 'yellow')}  {claim.id}: {claim.sentence}")
        if claim.limit:
            out(f"    not shown: {claim.limit}")
        for test in claim.tests if backend in claim.backends else ():
            outcome = outcome_of(test, backend, evidence)
            out(f"    {test}{'' if outcome == NOT_RUN else '  ' + _coloured(outcome)}")
    out()
    out(f"{backend}: {', '.join(f'{number} {status}' for status, number in sorted(counted.items()))}")
    for each in evidence:
        known = f"commit {each.commit[:12]}" if each.commit else "an unknown commit"
        text = f"{known} on {each.kernel}, Python {each.python}, user {each.uid}, {each.time}"
        out(f"evidence ({each.backend}): {printable(text)}")
    if not evidence:
        out("evidence: none is packed with this version; --evidence FILE names one")


def _coloured(outcome: str) -> str:
    return styled(outcome, "green" if outcome == PASSED else "red")
