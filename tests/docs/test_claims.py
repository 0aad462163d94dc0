"""Every security statement of the pages is carried by a claim, and every claim by tests that exist."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from mvm.claims import PENDING, read_claims
from tests.docs.statements import Statement, pages, reviewed, statements
from tests.support.evidence import BACKEND
from tests.support.source import PRODUCT, ROOT, name_of, tree

if TYPE_CHECKING:
    from mvm.claims import Claim

CLAIMS = read_claims((PRODUCT / "claims.toml").read_text("utf-8"))
STATEMENTS = [found for page in pages() for found in statements(name_of(page), page.read_text("utf-8"))]


def uncarried(found: list[Statement], seen: set[tuple[str, str]]) -> list[str]:
    """What promises something and neither names a claim nor was read by a person."""
    return [
        f"{each.page}: {each.text}"
        for each in found
        if not each.claims and (each.page, each.text) not in seen
    ]


def test_every_statement_is_carried_by_a_claim_or_was_read() -> None:
    """One that is not: write `<!-- claim: ID -->` at its end, or its line in tests/docs/reviewed.txt."""
    assert uncarried(STATEMENTS, reviewed()) == []
    assert len([each for each in STATEMENTS if each.claims]) > 30


def test_a_new_statement_is_noticed() -> None:
    """A sentence that promises, a changed word in one that was read; not plain words, nor examples."""
    page = "It never leaks.\n\nBlue.\n\n```text\nnever\n```\n\n- Only this. <!-- claim: only-granted -->\n"
    found = list(statements("README.md", page))
    assert [each.text for each in found] == ["It never leaks.", "- Only this."]
    assert uncarried(found, set()) == ["README.md: It never leaks."]
    assert uncarried(found, {("README.md", "It never leaks.")}) == []


@pytest.mark.parametrize(
    ("text", "promises"),
    [
        ("It is isolated.", True),
        ("Readable by you alone.", True),
        ("No order of edits opens it.", True),
        ("This prevents it, safely.", True),
        ("The mode `none`, or `no host`.", False),
        ("It takes no longer, and no more than one.", False),
        ("<!-- the table is written by `it` -->\n\n| never |\n\n<!-- to here -->", False),
    ],
)
def test_what_promises_by_its_meaning_is_a_statement_too(text: str, promises: bool) -> None:
    """Not what is code, what counts or compares, nor what a program writes; all that people write is read."""
    assert bool(list(statements("README.md", text))) is promises
    read = {name_of(page) for page in pages()}
    assert {"docs/reference/policy.md", "docs/decisions/0001-no-route-only-a-door.md"} <= read


def test_the_marks_name_claims_that_stand() -> None:
    """No page leans on a claim that is gone, or that is only planned."""
    standing = {claim.id for claim in CLAIMS if claim.status != PENDING}
    assert [(each.page, name) for each in STATEMENTS for name in each.claims if name not in standing] == []


def test_nothing_that_was_read_is_left_over() -> None:
    """Each line of the reviewed list is a statement that still stands in its page, without a claim."""
    assert reviewed() == {(each.page, each.text) for each in STATEMENTS if not each.claims}


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_names_tests_that_exist(claim: Claim) -> None:
    """Each is a function of a file of the tests, and its claim is a sentence that ends."""
    for test in claim.tests:
        file, _, function = test.partition("::")
        found = {
            node.name
            for node in tree(ROOT / file).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in found, test
    assert claim.sentence.endswith(".")


def test_nothing_is_proven_where_its_tests_do_not_run() -> None:
    """The tests make sandboxes by one backend: on every other a claim is pending."""
    assert {backend for claim in CLAIMS for backend in claim.backends} == {BACKEND}
