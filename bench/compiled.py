"""The programs in C: compiled anew for each run, by the machine's own compiler.

Owns nothing but the call of gcc. Must never leave a program in the checkout.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "native"


def compile_all(directory: Path) -> Path:
    """Compile every source into a directory that anyone may read, and return it.

    Raises FileNotFoundError where there is no gcc, subprocess.CalledProcessError where it fails.
    """
    gcc = shutil.which("gcc")
    if gcc is None:
        raise FileNotFoundError("no gcc; Debian: apt-get install gcc libc6-dev")
    directory.mkdir(mode=0o755, exist_ok=True)
    for source in sorted(SOURCES.glob("*.c")):
        still = ["-static"] if source.stem == "nothing" else []
        subprocess.run([gcc, "-O2", "-w", *still, "-o", directory / source.stem, source], check=True)
    return directory
