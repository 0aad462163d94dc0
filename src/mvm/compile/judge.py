"""What is wrong with a file's declarations, and what they leave unanswered: for `network check` and `review`.

Owns the sum over all that a file declares. Must never import the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.compile.module import read_program
from mvm.errors import PolicyRefused
from mvm.policy.check import check_document
from mvm.policy.review import Review, review

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.declare.program import Declared, Program
    from mvm.errors import Finding


def check_program(text: str, path: str) -> tuple[Finding, ...]:
    """Find what is wrong with a file's declarations.

    Args:
        text: of the Python file.
        path: of the file.

    Returns:
        The errors, or where there is none the warnings.
    """
    try:
        program = read_program(text, path=path)
    except PolicyRefused as refusal:
        return refusal.findings
    return tuple(finding for _, declared in _each(program) for finding in check_document(declared.policy))


def review_program(text: str, path: str) -> Review:
    """Ask the six questions of each grant that a file declares.

    Args:
        text: of the Python file.
        path: of the file.

    Raises:
        PolicyRefused: a declaration is not acceptable, so there is nothing to review yet.
    """
    parts: list[Review] = []
    warnings: list[Finding] = []
    for at, declared in _each(read_program(text, path=path)):
        document = declared.policy
        place = f"{at}.policy.network.allow"
        parts.append(review(document.grants, dns=document.dns, preset=document.preset, path=path, at=place))
        # That a preset is broad is said already by its not being frozen.
        warnings += [finding for finding in check_document(document) if finding.code != "broad-preset"]
    return Review(
        path=path,
        grants=tuple(one for part in parts for one in part.grants),
        findings=(*(finding for part in parts for finding in part.findings), *warnings),
    )


def _each(program: Program) -> Iterator[tuple[str, Declared]]:
    for kind, all_declared in (("apps", program.apps), ("functions", program.functions)):
        for number, declared in enumerate(all_declared):
            yield f".{kind}[{number}]", declared
