"""A place for a record that is small, and can be filled to the last byte.

Owns the mount. Must never leave it: whoever mounts it unmounts it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tests.support import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 256 KiB at a directory, for the length of a `with` block."""
    namespaces.mount("none", str(directory), "tmpfs", 0, f"size=256k,mode=700,uid={os.getuid()}")
    yield directory
    namespaces.unmount(str(directory))


def fill(directory: Path) -> Path:
    """Leave no room; returns the file that takes it."""
    filling = directory / "full"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue
    return filling
