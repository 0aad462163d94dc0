"""`mvmctl image inspect`: one image in the cache."""

from __future__ import annotations

import click

from mvm.cli.verbs import HELP, examples


@click.command("inspect", context_settings=HELP, epilog=examples("mvmctl image inspect 3f9a"))
@click.argument("image", metavar="IMAGE")
def command(image: str) -> None:
    """Print what is known of an image, as one JSON object: its digest, size, config and place.

    IMAGE is its key or digest, the beginning of one, or the words that it was made of (tar:base.tar). What it
    would reach (`config.network`) is what it asks for; nothing is granted by it.
    """
    from mvm.cli.image.cache import find, open_store, to_json
    from mvm.cli.printing import print_json

    print_json(to_json(find(open_store(), image)))
