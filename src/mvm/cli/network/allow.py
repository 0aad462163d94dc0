"""`mvmctl network allow`: more for a running sandbox."""

from __future__ import annotations

import click

from mvm.cli import names
from mvm.cli.verbs import HELP, examples


@click.command(
    "allow",
    context_settings=HELP,
    epilog=examples(
        "mvmctl network allow agent-sandbox github.com:443",
        "mvmctl network allow agent-sandbox api.example.com:443,expires=10m,max-up=10MB",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.argument("name", shell_complete=names.running)
@click.argument("grants", nargs=-1, required=True, metavar="GRANT...")
def command(name: str, grants: tuple[str, ...], *, as_json: bool) -> None:
    """Grant a running sandbox more, from now on.

    GRANT is written as for `--network-allow`. A grant for a host, port and protocol that is granted
    already stands in its place; its time and its budget begin anew. Prints what was added (+) and
    what was replaced (-).
    """
    from mvm.cli.network.edit import edit, print_edit, read_each
    from mvm.policy.edit import grant_more

    wanted = read_each(grants, source="network allow")
    edited = edit(name, lambda standing: grant_more(standing, wanted), by="allow", anew=wanted)
    print_edit(edited, as_json=as_json)
