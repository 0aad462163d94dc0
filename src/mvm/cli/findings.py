"""How the findings about files are printed by the verbs that check them, and the exit status they give.

Owns the options and the three forms: text, JSON, and SARIF 2.1.0 for code hosts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import err, out, print_json, printable
from mvm.errors import PolicyRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from mvm.errors import Finding


def findings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--format` (as `shape`) and `--json` (as `as_json`) to a command."""
    function = click.option("--json", "as_json", is_flag=True, help="The same as --format json.")(function)
    return click.option(
        "--format",
        "shape",
        type=click.Choice(("text", "json", "sarif")),
        default="text",
        show_default=True,
        help="How the findings are printed; sarif is SARIF 2.1.0.",
    )(function)


def print_findings(findings: Sequence[Finding], *, files: int, shape: str) -> int:
    """Print findings.

    Args:
        findings: of all files.
        files: how many files there were.
        shape: `text`, `json` or `sarif`.

    Returns:
        The exit status: 65 where there is an error among them.
    """
    from mvm.policy import report

    if shape == "json":
        print_json(report.as_json(findings))
    elif shape == "sarif":
        from mvm import __version__

        print_json(report.as_sarif(findings, version=__version__))
    else:
        for line in report.as_text(findings).splitlines():
            out(printable(line))
        if not findings:
            err(f"{files} file{'s' if files > 1 else ''}, no finding")
    return PolicyRefused.exit_code if report.count_errors(findings) else 0
