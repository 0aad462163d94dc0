"""Fixtures of the tests of file trees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.images.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Make a home with private things in it."""
    return Home(tmp_path)
