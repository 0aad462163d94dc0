"""Findings about a policy as JSON.

Owns the members of a finding in every JSON answer of the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.errors import Finding


def finding_to_json(finding: Finding) -> dict[str, object]:
    """Give one finding as an object."""
    return {
        "severity": finding.severity,
        "code": finding.code,
        "path": finding.path,
        "message": finding.message,
        "hint": finding.hint,
        "source": finding.source,
    }
