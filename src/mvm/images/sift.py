"""What is in a directory that somebody wants to show to a browser: sockets, and stored credentials.

Owns the walk. Must never open a file, or judge what it found: `policy.browser` does.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

from mvm.policy.browser import Mount, holds_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.plan.view import Bind

MOST_ENTRIES = 100_000
"""A project with its packages has fewer; a second or so to walk."""

_MOST_TOLD = 5


def look_through(bind: Bind, *, most: int = MOST_ENTRIES) -> Mount:
    """Walk what a volume or the workspace shows; links in it are not followed.

    Args:
        bind: as `volumes.parse_volume` made it; its source is there.
        most: entries that are looked at.
    """
    sockets: list[str] = []
    credentials: list[str] = []
    unread = None
    try:
        for number, (path, is_socket) in enumerate(_walk(bind.source)):
            if number >= most:
                unread = f"it holds more than {most} files"
                break
            if is_socket and len(sockets) < _MOST_TOLD:
                sockets.append(path)
            if len(credentials) < _MOST_TOLD and holds_credentials(path):
                credentials.append(path)
    except OSError as error:
        unread = f"{error.filename}: {error.strerror}"
    return Mount(
        path="--workspace" if bind.reason == "workspace" else "--volume",
        source=bind.source,
        writable=bind.writable,
        sockets=tuple(sockets),
        credentials=tuple(credentials),
        unread=unread,
    )


def look_into_tree(path: str) -> Mount:
    """Look for credentials in a root tree; one that is not there, or closed to us, is told elsewhere.

    Args:
        path: of the tree, a real path.
    """
    credentials: list[str] = []
    with suppress(OSError):
        found = (each for each, _ in _walk(path) if holds_credentials(each))
        credentials += islice(found, _MOST_TOLD)
    return Mount(path="--image", source=path, writable=False, credentials=tuple(credentials))


def _walk(top: str) -> Iterator[tuple[str, bool]]:
    """Give each path below and including `top`, and whether it is a socket. Raises OSError."""
    yield top, stat.S_ISSOCK(os.stat(top, follow_symlinks=False).st_mode)
    waiting = [top] if os.path.isdir(top) else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    yield entry.path, False
                elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                    yield entry.path, False
                else:
                    yield entry.path, stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
