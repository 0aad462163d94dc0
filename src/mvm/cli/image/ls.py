"""`mvmctl image ls`: the images in the cache."""

from __future__ import annotations

import click

from mvm.cli.verbs import HELP, examples


@click.command("ls", context_settings=HELP, epilog=examples("mvmctl image ls", "mvmctl image ls --json"))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(*, as_json: bool) -> None:
    """List what was unpacked into the cache, the last used one first."""
    from mvm.cli.image.cache import open_store, to_json
    from mvm.cli.printing import print_json, print_table

    images = [to_json(stored) for stored in open_store().images()]
    if as_json:
        print_json(images)
        return
    rows = [
        (
            str(one["key"])[:16],
            f"{int(str(one['bytes'])) / 1e6:.1f} MB",
            str(one["used"])[:19],
            str(one["words"]),
        )
        for one in images
    ]
    if rows:
        print_table(("KEY", "SIZE", "LAST USED (UTC)", "MADE OF"), rows)
