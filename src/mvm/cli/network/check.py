"""`mvmctl network check`: policy and capability files validated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.findings import findings_options, print_findings
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from mvm.errors import Finding

_EXAMPLE = (
    "mvmctl network check mvm.toml",
    "mvmctl network check --format sarif tools.json > findings.sarif",
    "",
    "A policy file (mvm.toml):",
    "  [network]",
    '  mode = "bridge"',
    '  dns = "system"',
    '  allow = [{host = "api.example.com", port = 443, reason = "asks the model"}]',
)


@click.command("check", context_settings=HELP, epilog=examples(*_EXAMPLE))
@findings_options
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def command(files: tuple[str, ...], *, shape: str, as_json: bool) -> int:
    """Validate policy files (TOML or JSON), capability files, and the declarations of Python files.

    Each finding has a place, a stable code and a hint. Exits 0 where there are none but warnings, else 65.
    """
    from mvm.cli.policy_options import read_document

    findings = [one for path in files for one in _check(read_document(path).text, path)]
    return print_findings(findings, files=len(files), shape="json" if as_json else shape)


def _check(text: str, path: str) -> tuple[Finding, ...]:
    if path.endswith(".py"):
        from mvm.compile.judge import check_program

        return check_program(text, path)
    from mvm.policy.check import check_text

    return check_text(text, path)
