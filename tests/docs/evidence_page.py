"""The page of evidence: claims, ways out and faults with their tests, defences with the tests that miss them.

Owns the text of `docs/explanation/evidence.md`. Must never say more than the files that it is made from.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

from mvm.claims import BACKENDS, read_claims
from tests.docs.recorded import held, recorded, user
from tests.mutations.defences import DEFENCES
from tests.support.source import PRODUCT, ROOT, modules, name_of, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mvm.claims import Evidence

PAGE = ROOT / "docs" / "explanation" / "evidence.md"
ATTACKS = ROOT / "tests" / "escape" / "ATTACKS.md"
_OF_DEFENCES = "tests/mutations/test_defences.py::test_without_a_defence_the_tests_that_meet_it_fail"
_WHERE = ("tests/escape/test_", "tests/faults/test_")
_NUMBERED = re.compile(r"([0-9]+(?:-[0-9]+)?(?:, [0-9]+(?:-[0-9]+)?)*)(?:, the twin)?:")
_HEAD = """\
# Evidence

Written by `python3 dev.py reference` from `src/mvm/claims.toml`, from the numbers at the head of the tests in
`tests/escape` and `tests/faults`, from `tests/mutations/defences`, and from what two runs of the whole
suite found. Such a run (`python3 dev.py test --evidence FILE`) fails where a claim's test was skipped or red;
`.ci/run DIRECTORY` keeps both files, `python3 dev.py reference FILE…` writes them into this page, and
`mvmctl claims --evidence FILE` shows them with the claims.
"""


def attacks() -> dict[int, str]:
    """The ways out, by number."""
    found = re.findall(r"^(\d+)\. (.+)$", ATTACKS.read_text("utf-8"), re.MULTILINE)
    return {int(number): text for number, text in found}


def covering() -> dict[int, list[str]]:
    """The tests that try each way out: those whose docstring begins with its number."""
    found: dict[int, list[str]] = {}
    for path in modules():
        if name_of(path).startswith(_WHERE):
            for node in tree(path).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    for number in numbers(ast.get_docstring(node) or ""):
                        found.setdefault(number, []).append(f"{name_of(path)}::{node.name}")
    return found


def numbers(docstring: str) -> Iterator[int]:
    """The numbers that a docstring begins with: `1:`, `36, 38:`, `1-3, 7:`, `20, the twin:`."""
    head = _NUMBERED.match(docstring)
    for part in head[1].split(", ") if head else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def write_evidence_page() -> str:
    """The text of the page."""
    runs = recorded()
    return "\n".join([_HEAD, *_runs(runs), *_claims(runs), *_attacks(runs), *_faults(runs), *_defences(runs)])


def faults() -> dict[str, str]:
    """The tests of faults, each with the sentence that it states."""
    return {
        f"{name_of(path)}::{node.name}": " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
        for path in modules()
        if name_of(path).startswith("tests/faults/test_")
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def shown() -> frozenset[str]:
    """Every test of whose outcome the page tells."""
    claims = read_claims((PRODUCT / "claims.toml").read_text("utf-8"))
    of_claims = {test for claim in claims for test in claim.tests}
    return frozenset(
        of_claims | {each for found in covering().values() for each in found} | {_OF_DEFENCES, *faults()}
    )


def _runs(runs: Sequence[Evidence]) -> Iterator[str]:
    yield "## The runs\n"
    if not runs:
        yield "None is recorded.\n"
        return
    yield "| as | commit | ended | kernel | Python | backend | tests of this page |"
    yield "|---|---|---|---|---|---|---|"
    for run in runs:
        counted = Counter(run.tests.values())
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items()))
        facts = (user(run), f"`{run.commit[:12]}`", run.time, run.kernel, run.python, run.backend, outcomes)
        yield f"| {' | '.join(facts)} |"
    yield ""


def _claims(runs: Sequence[Evidence]) -> Iterator[str]:
    claims = read_claims((PRODUCT / "claims.toml").read_text("utf-8"))
    yield "## Claims\n"
    for backend in BACKENDS:
        counted = Counter(claim.status_on(backend) for claim in claims)
        yield f"- `{backend}`: {', '.join(f'{count} {status}' for status, count in sorted(counted.items()))}"
    yield "\n| claim | status | sentence | tests | held as |\n|---|---|---|---|---|"
    for claim in claims:
        where = ", ".join(f"`{backend}`" for backend in claim.backends)
        status = f"{claim.status} on {where}" if where else claim.status
        limit = f" *Not shown: {claim.limit}.*" if claim.limit else ""
        cell = held(claim.tests, runs) if claim.tests else ""
        yield f"| {claim.id} | {status} | {claim.sentence}{limit} | {len(claim.tests)} | {cell} |"
    yield ""


def _attacks(runs: Sequence[Evidence]) -> Iterator[str]:
    tests = covering()
    known = attacks()
    open_ones = [number for number in known if number not in tests]
    yield "## Ways out that were found in systems like this one\n"
    yield (
        f"{len(known)} ways out, {len(known) - len(open_ones)} of them tried by "
        f"{len({test for found in tests.values() for test in found})} tests, most of which have many cases; "
        "the allowed twin stands in or beside each.\n"
    )
    yield f"Without a test yet: {', '.join(map(str, open_ones)) or 'none'}.\n"
    yield "| | way out | held as | tests |\n|---|---|---|---|"
    for number, text in known.items():
        named = "<br>".join(f"`{_short(test)}`" for test in tests.get(number, ())) or "**open**"
        yield f"| {number} | {text} | {held(tests.get(number, ()), runs)} | {named} |"
    yield ""


def _faults(runs: Sequence[Evidence]) -> Iterator[str]:
    yield "## Faults\n"
    yield "After each, nothing is left that was not there before, and the record verifies.\n"
    yield "| fault | what holds | held as |\n|---|---|---|"
    for test, sentence in faults().items():
        text = _NUMBERED.sub("", sentence).strip().replace("|", "\\|")
        yield f"| `{_short(test)}` | {text} | {held([test], runs)} |"
    yield ""


def _defences(runs: Sequence[Evidence]) -> Iterator[str]:
    yield "## Defences, and the tests that fail without them\n"
    yield (
        "Each defence is taken out of a private copy of the source by `tests/mutations`, and the tests named "
        "here must then fail; in a whole copy they must pass. Where they need a sandbox, one must still "
        "start in the copy and reach its granted host, unless it is said why it can't. "
        f"So it was for every one of them as: {held([_OF_DEFENCES], runs)}.\n"
    )
    yield "| defence | taken out in | fails | holds even so |\n|---|---|---|---|"
    for name, defence in DEFENCES.items():
        files = ", ".join(f"`{file}`" for file in dict.fromkeys(edit.file for edit in defence.edits))
        red, green = (
            "<br>".join(f"`{_short(test.partition('[')[0])}`" for test in tests)
            for tests in (defence.red, defence.green)
        )
        even_so = "<br>".join(
            filter(None, (green, defence.lifeless and f"no host is reached: {defence.lifeless}"))
        )
        yield f"| {name} | {files} | {red} | {even_so} |"
    yield ""


def _short(test: str) -> str:
    file, _, function = test.removeprefix("tests/").partition("::")
    return f"{file.removesuffix('.py')}: {function}"
