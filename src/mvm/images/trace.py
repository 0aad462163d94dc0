"""Where a path of the host really leads, and which symbolic links stand on the way.

Owns the reading of links, remembered, since the paths of one PATH share most of their length. Must never
decide whether a path may be shown.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Traced(NamedTuple):
    """One path, followed.

    Attributes:
        real: absolute path without any link in it; what is missing on the host is kept as written.
        links: location (itself real) and text of every link passed, in the order of their passing.
    """

    real: str
    links: tuple[tuple[str, str], ...]


class Tracer:
    """Follows paths as path_resolution(7) says; each directory is asked once."""

    def __init__(self) -> None:
        """Start knowing the root only."""
        self._known = {"": Traced("/", ()), "/": Traced("/", ())}
        self._following: set[str] = set()
        self._looped = False

    def trace(self, path: str) -> Traced:
        """Return where `path` leads.

        Args:
            path: absolute, not necessarily there. A loop of links ends at the link that closes it.
        """
        known = self._known.get(path)
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        above = self.trace(parent)
        if name in {"", "."}:
            found = above
        elif name == "..":
            found = Traced(os.path.dirname(above.real), above.links)
        else:
            found = self._step(above, name)
        if not self._following:
            self._looped = False
        if not self._looped:  # inside a loop the answer depends on where one came in
            self._known[path] = found
        return found

    def _step(self, above: Traced, name: str) -> Traced:
        here = f"{above.real.rstrip('/')}/{name}"
        try:
            text = os.readlink(here)
        except OSError:  # no link, or not there
            return Traced(here, above.links)
        if here in self._following:
            self._looped = True
            return Traced(here, above.links)
        self._following.add(here)
        onward = self.trace(text if text.startswith("/") else f"{above.real.rstrip('/')}/{text}")
        self._following.discard(here)
        return Traced(onward.real, (*above.links, (here, text), *onward.links))


def lies_in(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or below it, by their names alone.

    Args:
        path: absolute and normalised.
        directory: absolute and normalised.
    """
    return path == directory or path.startswith("/" if directory == "/" else f"{directory}/")
