"""`mvmctl capability check`: capability files validated."""

from __future__ import annotations

import click

from mvm.cli.findings import findings_options, print_findings
from mvm.cli.verbs import HELP, examples

_EXAMPLE = (
    "mvmctl capability check tools.json",
    "mvmctl capability check --format sarif tools.json > findings.sarif",
    "",
    "A capability file (tools.json):",
    '  {"tool": "web_fetch", "reason": "reads pages", "ports": [443], "network": {"mode": "bridge",',
    '    "dns": "system", "allow": [{"host": "api.example.com", "port": 443}]}}',
)


@click.command("check", context_settings=HELP, epilog=examples(*_EXAMPLE))
@findings_options
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
def command(files: tuple[str, ...], *, shape: str, as_json: bool) -> int:
    """Validate capability files: JSON, one tool or a list of them.

    Each finding has a place, a stable code and a hint. Exits 0 where there are none but warnings, else 65.
    """
    from mvm.policy.check import check_capabilities
    from mvm.supervisor.documents import read_capability_text

    findings = [one for path in files for one in check_capabilities(read_capability_text(path), path)]
    return print_findings(findings, files=len(files), shape="json" if as_json else shape)
