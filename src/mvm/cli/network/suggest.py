"""`mvmctl network suggest`: the smallest explicit policy for what a run was seen to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.printing import err, out, print_json, printable
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.audit.state import Run
    from mvm.errors import Finding
    from mvm.policy.model import Policy


@click.command(
    "suggest",
    context_settings=HELP,
    epilog=examples(
        "mvmctl network suggest",
        "mvmctl network suggest agent-sandbox",
        "mvmctl network suggest agent-sandbox --format toml > mvm.toml",
    ),
)
@click.option(
    "--format",
    "shape",
    type=click.Choice(("flags", "toml", "python", "json")),
    default="flags",
    show_default=True,
    help="How the policy is printed: for a command line, mvm.toml, a declaration, or a program.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.argument("which", required=False, metavar="[RUN]", shell_complete=names.known)
def command(which: str | None, *, shape: str, as_json: bool) -> None:
    """Propose the smallest explicit policy for what a run was seen to do.

    One grant for each host, port and protocol that the run reached or was denied; grants that it never
    used are left out, and so are metadata services and loopback addresses. What it tried, it may have been
    made to try: read the policy, and the warnings on stderr, before you use it.

    RUN is a run id or its beginning, or the name of a sandbox, which means its newest run; left out, the
    newest run of all.
    """
    from mvm.audit.observed import KINDS, observe
    from mvm.audit.report import read_records
    from mvm.cli.audit.show import find
    from mvm.policy.suggest import suggest

    run = find(which)
    observed = observe(read_records(run.log, kinds=KINDS))
    suggestion = suggest(observed.flows, observed.denials, standing=observed.granted)
    warnings = [*suggestion.warnings, *observed.doubts(suggestion.policy)]
    if as_json or shape == "json":
        print_json(_to_json(run, suggestion.policy, warnings))
    else:
        _print(suggestion.policy, shape)
    if not suggestion.policy.grants and not warnings:
        err(f"mvmctl: run {run.id} reached no host and was denied none")
        err("  hint: if the network failed it, run it again: what could not be reached is not in the record")
    for finding in warnings:
        err(f"mvmctl: warning: {printable(finding.message)}")
        err(f"  hint: {printable(finding.hint)}")


def _to_json(run: Run, policy: Policy, warnings: Sequence[Finding]) -> dict[str, object]:
    from mvm.policy.document import policy_digest, policy_to_json
    from mvm.policy.parse import grant_to_json
    from mvm.policy.report import finding_to_json
    from mvm.policy.write import to_flags

    return {
        "schema": "mvm.suggestion/1",
        "run": run.id,
        "name": run.name,
        "digest": policy_digest(policy),
        "grants": [{**grant_to_json(grant), "source": grant.source} for grant in policy.grants],
        "flags": list(to_flags(policy)),
        "document": policy_to_json(policy),
        "warnings": [finding_to_json(finding) for finding in warnings],
    }


def _print(policy: Policy, shape: str) -> None:
    import shlex

    from mvm.policy import write

    match shape:
        case "toml":
            text = write.to_toml(policy)
        case "python":
            text = write.to_python(policy)
        case _:
            text = shlex.join(write.to_flags(policy)) + "\n"
    out(text.removesuffix("\n"))
