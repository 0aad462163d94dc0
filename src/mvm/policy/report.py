"""Findings written for people, for programs, and for code review (SARIF 2.1.0, OASIS).

Owns the three formats of `network check`. Must never print, nor judge: a finding's severity is its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.errors import Finding

SCHEMA = "mvm.findings/1"
SARIF_VERSION = "2.1.0"
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_PLAIN_IN_URI = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/")


def count_errors(findings: Sequence[Finding]) -> int:
    """Count the findings that refuse; exit 65 where there is one."""
    return sum(finding.severity == "error" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Write findings for a terminal: place, what is wrong, code, and the hint below.

    Returns:
        Lines, each ended by a newline; an empty string where there are no findings.
    """
    return "".join(
        f"{finding.source + ': ' if finding.source else ''}{finding.severity}: "
        f"{finding.path}: {finding.message} [{finding.code}]\n  hint: {finding.hint}\n"
        for finding in findings
    )


def as_json(findings: Sequence[Finding]) -> dict[str, object]:
    """Give the object `mvm.findings/1`: the findings in order, and how many of them refuse."""
    return {
        "schema": SCHEMA,
        "findings": [finding_to_json(finding) for finding in findings],
        "errors": count_errors(findings),
        "warnings": len(findings) - count_errors(findings),
    }


def finding_to_json(finding: Finding) -> dict[str, object]:
    """Give one finding as an object of its attributes."""
    return {
        "code": finding.code,
        "path": finding.path,
        "message": finding.message,
        "hint": finding.hint,
        "severity": finding.severity,
        "source": finding.source,
    }


def as_sarif(findings: Sequence[Finding], *, version: str) -> dict[str, object]:
    """Give a SARIF 2.1.0 log of one run.

    Args:
        findings: in the order in which they are to be shown.
        version: mvm's own.

    Returns:
        A `sarifLog` object (SARIF 2.1.0 section 3.13): a rule for each code, a result for each finding, with
        its file and line as physical location and its jq path as logical one.
    """
    codes = sorted({finding.code for finding in findings})
    driver = {
        "name": "mvmctl",
        "version": version,
        "rules": [{"id": code, "shortDescription": {"text": code.replace("-", " ")}} for code in codes],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, codes.index(finding.code)) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": SARIF_VERSION, "runs": [run]}


def _result(finding: Finding, rule: int) -> dict[str, object]:
    location: dict[str, object] = {
        "logicalLocations": [{"fullyQualifiedName": finding.path, "kind": "member"}]
    }
    place = split_source(finding.source)
    if place.path:
        physical: dict[str, object] = {"artifactLocation": {"uri": _uri(place.path)}}
        if place.line:
            region = {"startLine": place.line}
            physical["region"] = region | ({"startColumn": place.column} if place.column else {})
        location["physicalLocation"] = physical
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": "error" if finding.severity == "error" else "warning",
        "message": {"text": f"{finding.message}. Hint: {finding.hint}"},
        "locations": [location],
    }


class Source(NamedTuple):
    """Where a finding is; a line or column that is not known is 0."""

    path: str
    line: int
    column: int


def split_source(source: str) -> Source:
    """Take `file:line:column` apart.

    Args:
        source: of a finding; line and column may be missing.
    """
    path, numbers = source, list[int]()
    while len(numbers) < 2:
        before, colon, digits = path.rpartition(":")
        if not (colon and before and digits.isascii() and digits.isdigit() and len(digits) < 10):
            break
        path, numbers = before, [int(digits), *numbers]
    line, column = (*numbers, 0, 0)[:2]
    return Source(path, line, column)


def _uri(path: str) -> str:
    """Write a path as a URI reference (RFC 3986): absolute ones with a scheme, others relative."""
    data = path.encode("utf-8", "surrogateescape")
    quoted = "".join(chr(byte) if chr(byte) in _PLAIN_IN_URI else f"%{byte:02X}" for byte in data)
    return f"file://{quoted}" if path.startswith("/") else quoted
