"""A wall clock that a test sets forward and back, for one command and what it starts.

Owns the library that stands in for the C library's call, and the file that it reads the step from. The real
clock is never touched.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DAY_S = 86400


class SteppingClock:
    """Commands started with `env` go by it; without a step it shows the real time."""

    def __init__(self, directory: Path) -> None:
        """Make it in `directory`; skips the test where there is no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler to make a clock that steps")
        library, self._file = directory / "clock.so", directory / "offset"
        source = Path(__file__).with_name("stepping_clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O", "-o", library, source], check=True)
        self._file.write_text("0")
        self.env = {"LD_PRELOAD": str(library), "STEPPING_CLOCK": str(self._file)}

    def step(self, seconds: int) -> None:
        """From now on it shows so many seconds more than the real time, or fewer."""
        self._file.write_text(str(seconds))
