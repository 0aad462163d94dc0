"""An entry of the table of defences: how one is taken out of the product, and what fails then.

Owns the shape of an entry, and what has to go on where one is taken out. Must never hold one.
"""

from __future__ import annotations

from typing import NamedTuple

_SANDBOX = "tests/escape/test_reached.py::test_a_sandbox_starts_and_reaches_its_granted_host"
_DOOR = "tests/gateway/test_granted.py::test_a_server_that_speaks_first_is_heard_at_once[local-2]"

_MET_IN = {
    "tests/escape/": _SANDBOX,
    "tests/faults/": _SANDBOX,
    "tests/backends/": _SANDBOX,
    "tests/cli/": _SANDBOX,
    "tests/supervisor/test_private.py": _SANDBOX,
    "tests/gateway/test_denied.py": _DOOR,
    "tests/gateway/test_exhaustion.py": _DOOR,
    "tests/gateway/test_granted.py": _DOOR,
    "tests/gateway/test_patience.py": _DOOR,
    "tests/gateway/test_standing.py": _DOOR,
    "tests/gateway/test_unrestricted.py": _DOOR,
    "tests/kernel/test_door.py": _DOOR,
}
"""Where tests need a sandbox, or a door with its gateway, and the test that one starts and is of use."""


class Edit(NamedTuple):
    """One text of the product replaced: a file below `src/mvm`, what stands there once, what shall."""

    file: str
    old: str
    new: str


class Defence(NamedTuple):
    """A defence taken out.

    Attributes:
        edits: how.
        red: names of tests, each of which fails then, by what it asserts and not by what it needs.
        green: names of tests, each of which passes even then: what is left still holds.
        lifeless: why no sandbox starts without it, or none reaches its host; empty wherever one does.
        user_only: whether its tests mean something only as an ordinary user.
    """

    edits: tuple[Edit, ...]
    red: tuple[str, ...]
    green: tuple[str, ...] = ()
    lifeless: str = ""
    user_only: bool = False

    @property
    def alive(self) -> tuple[str, ...]:
        """Names of tests, each of which passes even then: a sandbox starts and reaches its host."""
        if self.lifeless:
            return ()
        return tuple(
            dict.fromkeys(
                life for test in self.red for place, life in _MET_IN.items() if test.startswith(place)
            )
        )
