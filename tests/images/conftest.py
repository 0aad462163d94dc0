"""Fixtures of the tests of file trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.images.archives import Ground
from tests.images.home import Home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Make a home with private things in it."""
    return Home(tmp_path)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """Make a root to unpack into; whatever the test does, nothing beside it may change."""
    made = Ground(tmp_path)
    yield made
    made.expect_untouched()
