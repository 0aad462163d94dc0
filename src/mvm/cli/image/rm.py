"""`mvmctl image rm`: images removed from the cache."""

from __future__ import annotations

import click

from mvm.cli.verbs import HELP, examples


@click.command("rm", context_settings=HELP, epilog=examples("mvmctl image rm 3f9a"))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
def command(images: tuple[str, ...]) -> int:
    """Remove images from the cache; one that a sandbox uses stays, and is told (exit status 64).

    IMAGE is its key or digest, the beginning of one, or the words that it was made of (tar:base.tar).
    """
    from mvm.cli.conduct import EXIT_USAGE
    from mvm.cli.image.cache import find, open_store
    from mvm.cli.printing import err, out

    store, status = open_store(), 0
    for found in [find(store, text) for text in images]:
        if store.remove(found.key):
            out(found.key)
        else:
            err(f"mvmctl: a sandbox uses {found.key[:16]}, which stays\n  hint: mvmctl ls shows which run")
            status = EXIT_USAGE
    return status
