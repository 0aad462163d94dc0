"""The page of evidence: claims, ways out with the tests that try them, defences with those that miss them.

Owns the text of `docs/explanation/evidence.md`. Must never say more than the files that it is made from.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

from mvm.claims import BACKENDS, read_claims
from tests.mutations.defences import DEFENCES
from tests.support.source import PRODUCT, ROOT, modules, name_of, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "explanation" / "evidence.md"
ATTACKS = ROOT / "tests" / "escape" / "ATTACKS.md"
_WHERE = ("tests/escape/test_", "tests/faults/test_")
_NUMBERED = re.compile(r"([0-9]+(?:-[0-9]+)?(?:, [0-9]+(?:-[0-9]+)?)*)(?:, the twin)?:")
_HEAD = """\
# Evidence

Written by `python3 dev.py reference` from `src/mvm/claims.toml`, from the numbers at the head of the tests in
`tests/escape` and `tests/faults`, and from `tests/mutations/defences.py`. What a run of the tests found is in
the file that `python3 dev.py test --evidence FILE` writes; it fails where a claim's test was skipped or
red; `mvmctl claims --evidence FILE` shows both together.
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
    return "\n".join([_HEAD, *_claims(), *_attacks(), *_defences()])


def _claims() -> Iterator[str]:
    claims = read_claims((PRODUCT / "claims.toml").read_text("utf-8"))
    yield "## Claims\n"
    for backend in BACKENDS:
        counted = Counter(claim.status_on(backend) for claim in claims)
        yield f"- `{backend}`: {', '.join(f'{count} {status}' for status, count in sorted(counted.items()))}"
    yield "\n| claim | status | sentence | tests |\n|---|---|---|---|"
    for claim in claims:
        where = ", ".join(f"`{backend}`" for backend in claim.backends)
        status = f"{claim.status} on {where}" if where else claim.status
        limit = f" *Not shown: {claim.limit}.*" if claim.limit else ""
        yield f"| {claim.id} | {status} | {claim.sentence}{limit} | {len(claim.tests)} |"
    yield ""


def _attacks() -> Iterator[str]:
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
    yield "| | way out | tests |\n|---|---|---|"
    for number, text in known.items():
        named = "<br>".join(f"`{_short(test)}`" for test in tests.get(number, ())) or "**open**"
        yield f"| {number} | {text} | {named} |"
    yield ""


def _defences() -> Iterator[str]:
    yield "## Defences, and the tests that fail without them\n"
    yield (
        "Each defence is taken out of a private copy of the source by `tests/mutations`, and the tests named "
        "here must then fail; in a whole copy they must pass.\n"
    )
    yield "| defence | taken out in | fails | holds even so |\n|---|---|---|---|"
    for name, defence in DEFENCES.items():
        files = ", ".join(f"`{file}`" for file in dict.fromkeys(edit.file for edit in defence.edits))
        red, green = (
            "<br>".join(f"`{_short(test.partition('[')[0])}`" for test in tests)
            for tests in (defence.red, defence.green)
        )
        yield f"| {name} | {files} | {red} | {green} |"
    yield ""


def _short(test: str) -> str:
    file, _, function = test.removeprefix("tests/").partition("::")
    return f"{file.removesuffix('.py')}: {function}"
