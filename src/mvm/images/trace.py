"""Where a path of the host really leads, and which symbolic links stand on the way.

Owns the reading of links, remembered, since the paths of one PATH share most of their length. Must never
decide whether a path may be shown, or follow more links than the kernel would: they may be a workload's own.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_MAX_LINKS = 40  # MAXSYMLINKS of the kernel; a few links that name each other twice would take for ever
_NOWHERE = "/dev/null/loop"  # below a device nothing can exist


class Traced(NamedTuple):
    """One path, followed.

    Attributes:
        real: absolute path without any link in it; what is missing on the host is kept as written, and what
            the kernel would refuse with ELOOP is a place that cannot exist.
        links: location (itself real) and text of every link passed, in the order of their passing.
    """

    real: str
    links: tuple[tuple[str, str], ...]


class Tracer:
    """Follows paths as path_resolution(7) says; each place is asked once."""

    def __init__(self) -> None:
        """Start knowing nothing."""
        self._texts: dict[str, str | None] = {}

    def trace(self, path: str) -> Traced:
        """Return where `path` leads.

        Args:
            path: absolute, not necessarily there.
        """
        links: list[tuple[str, str]] = []
        ahead = path.split("/")[::-1]
        real = ""
        while ahead:
            name = ahead.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                real = real.rpartition("/")[0]
                continue
            here = f"{real}/{name}"
            text = self._text_of(here)
            if text is None:
                real = here
                continue
            if len(links) == _MAX_LINKS:
                return Traced(_NOWHERE, ())
            links.append((here, text))
            if text.startswith("/"):
                real = ""
            ahead += text.split("/")[::-1]
        return Traced(real or "/", tuple(links))

    def _text_of(self, place: str) -> str | None:
        """Return the text of a link, or None for anything else and for what isn't there."""
        if place not in self._texts:
            try:
                self._texts[place] = os.readlink(place)
            except OSError:  # EINVAL: no link; ENOENT, EACCES: not there for us
                self._texts[place] = None
        return self._texts[place]


def lies_in(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or below it, by their names alone.

    Args:
        path: absolute and normalised.
        directory: absolute and normalised.
    """
    return path == directory or path.startswith("/" if directory == "/" else f"{directory}/")


def plain(path: str) -> str:
    """Return an absolute path without `.`, `..` and needless slashes, by its names alone.

    Args:
        path: absolute.
    """
    return "/" + os.path.normpath(path).lstrip("/")  # normpath keeps two slashes in front, as POSIX allows
