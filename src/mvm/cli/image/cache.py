"""The cache as the verbs see it: opened, and an image found by what people type."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.errors import UsageError
from mvm.images.store import Store, cache_directory

if TYPE_CHECKING:
    from mvm.images.store import Stored


def open_store() -> Store:
    """Open this user's cache.

    Raises:
        UsageError: there is no place for one.
    """
    return Store(cache_directory(os.environ))


def find(store: Store, text: str) -> Stored:
    """Find an image.

    Args:
        store: the cache.
        text: its key or digest, the beginning of one, or the words that it was made of.

    Raises:
        UsageError: there is none, or several.
    """
    wanted = text.removeprefix("sha256:")
    images = store.images()
    found = [one for one in images if one.facts["words"] == text] or [
        one for one in images if wanted and one.key.startswith(wanted)
    ]
    if not found:
        raise UsageError(f"there is no image {text!r} in the cache", hint="mvmctl image ls lists them")
    if len(found) > 1:
        keys = ", ".join(one.key[:16] for one in found)
        raise UsageError(f"{text!r} may mean several images: {keys}", hint="write more of it")
    return found[0]


def to_json(stored: Stored) -> dict[str, object]:
    """Give an image as the object that `--json` prints."""
    from mvm.audit.timestamp import rfc3339

    facts = stored.facts
    return {
        "key": stored.key,
        "digest": facts["digest"],
        "words": facts["words"],
        "bytes": facts["bytes"],
        "entries": facts["entries"],
        "used": rfc3339(int(stored.used * 1_000_000_000)),
        "root": stored.root,
        "config": facts["config"],
    }
