"""One made-up machine per test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give a machine on which nothing is configured by the test yet."""
    return Machine(tmp_path)
