"""An entry of the table of defences: how one is taken out of the product, and what fails then.

Owns the shape of an entry. Must never hold one.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """One text of the product replaced: a file below `src/mvm`, what stands there once, what shall."""

    file: str
    old: str
    new: str


class Defence(NamedTuple):
    """A defence taken out.

    Attributes:
        edits: how.
        red: names of tests, each of which fails then.
        green: names of tests, each of which passes even then: what is left still holds.
    """

    edits: tuple[Edit, ...]
    red: tuple[str, ...]
    green: tuple[str, ...] = ()
