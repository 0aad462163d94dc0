"""`mvmctl network revoke`: less for a running sandbox."""

from __future__ import annotations

import click

from mvm.cli import names
from mvm.cli.verbs import HELP, examples


@click.command(
    "revoke", context_settings=HELP, epilog=examples("mvmctl network revoke agent-sandbox github.com:443")
)
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.argument("name", shell_complete=names.running)
@click.argument("places", nargs=-1, required=True, metavar="HOST:PORT[/udp]...")
def command(name: str, places: tuple[str, ...], *, as_json: bool) -> None:
    """Take grants from a running sandbox, at once: connections that they opened are reset.

    Prints what was removed (-).
    """
    from mvm.cli.network.edit import edit, print_edit, read_each
    from mvm.policy.edit import grant_less

    gone = read_each(places, source="HOST:PORT")
    edited = edit(name, lambda standing: (grant_less(standing, gone), ()), by="revoke")
    print_edit(edited, as_json=as_json)
