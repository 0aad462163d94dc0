"""A door for each test that asks for one, in both layouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.gateway.door import Layout
from tests.gateway.doorway import Doorway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mvm.policy.model import Policy
    from tests.support.internet import Internet

    MakeDoorway = Callable[[Policy], Doorway]


def _makers(internet: Internet, tmp_path: Path, layout: Layout) -> Iterator[MakeDoorway]:
    made: list[Doorway] = []
    assert internet.pid

    def make(granted: Policy) -> Doorway:
        made.append(Doorway(granted, tmp_path / "state", layout))
        return made[-1]

    yield make
    for doorway in made:
        doorway.close()


@pytest.fixture(params=list(Layout))
def doorway(request: pytest.FixtureRequest, internet: Internet, tmp_path: Path) -> Iterator[MakeDoorway]:
    """Makes a door with its gateway; the test runs once a layout."""
    yield from _makers(internet, tmp_path, request.param)


@pytest.fixture
def local_doorway(internet: Internet, tmp_path: Path) -> Iterator[MakeDoorway]:
    """Makes a door of the local layout, for what does not depend on the layout."""
    yield from _makers(internet, tmp_path, Layout.LOCAL)
