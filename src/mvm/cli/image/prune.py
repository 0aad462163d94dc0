"""`mvmctl image prune`: the cache emptied of what is not used."""

from __future__ import annotations

import click

from mvm.cli.verbs import HELP, examples


@click.command(
    "prune",
    context_settings=HELP,
    epilog=examples("mvmctl image prune --unused 30d", "mvmctl image prune"),
)
@click.option("--unused", metavar="TIME", help="Only what was not used for so long: 12h, 30d.")
def command(unused: str | None) -> None:
    """Remove the images that no sandbox uses, and what killed processes have left in the making.

    Prints the key of each, and how much was freed at the end.
    """
    import time

    from mvm.cli.image.cache import open_store
    from mvm.cli.printing import err, out
    from mvm.policy.quantities import parse_duration

    age = 0.0 if unused is None else parse_duration(unused, path="--unused")
    store, freed = open_store(), 0
    store.sweep()
    for stored in store.images():
        if time.time() - stored.used >= age and store.remove(stored.key):
            out(stored.key)
            freed += int(stored.facts["bytes"])
    err(f"mvmctl: {freed / 1e6:.1f} MB freed")
