"""`mvmctl network check`: policy and capability files validated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import err, out, print_json, printable
from mvm.cli.verbs import HELP, examples
from mvm.errors import PolicyRefused

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
@click.option(
    "--format",
    "shape",
    type=click.Choice(("text", "json", "sarif")),
    default="text",
    show_default=True,
    help="How the findings are printed; sarif is SARIF 2.1.0.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def command(files: tuple[str, ...], *, shape: str, as_json: bool) -> int:
    """Validate policy files (TOML or JSON) and capability files.

    Each finding has a place, a stable code and a hint. Exits 0 where there are none but warnings, else 65.
    """
    from mvm.cli.policy_options import read_document
    from mvm.policy import report
    from mvm.policy.check import check_text

    findings: list[Finding] = []
    for path in files:
        document = read_document(path)
        findings += check_text(document.text, document.path)
    shape = "json" if as_json else shape
    errors = report.count_errors(findings)
    if shape == "json":
        print_json(report.as_json(findings))
    elif shape == "sarif":
        from mvm import __version__

        print_json(report.as_sarif(findings, version=__version__))
    else:
        for line in report.as_text(findings).splitlines():
            out(printable(line))
        if not findings:
            err(f"{len(files)} file{'s' if len(files) > 1 else ''}, no finding")
    return PolicyRefused.exit_code if errors else 0
