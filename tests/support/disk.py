"""A place for a record that is small and can be filled to the last byte, or that can't be written.

Owns the mount. Must never leave it: whoever mounts it unmounts it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 256 KiB at a directory, for the length of a `with` block."""
    namespaces.mount("none", str(directory), "tmpfs", 0, f"size=256k,mode=700,uid={os.getuid()}")
    yield directory
    namespaces.unmount(str(directory))


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Nobody, root included, writes to a directory for the length of a `with` block (mount(8), bind,ro)."""
    namespaces.mount(str(directory), str(directory), None, namespaces.MS_BIND)
    try:
        # What is withheld already is said again: a user namespace may not give it back (mount_namespaces(7)).
        kept = os.statvfs(directory).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
        flags = namespaces.MS_BIND | namespaces.MS_REMOUNT | namespaces.MS_RDONLY
        namespaces.mount(None, str(directory), None, flags | kept)
        yield
    finally:
        namespaces.unmount(str(directory))


@contextlib.contextmanager
def forbidden(directory: Path) -> Iterator[None]:
    """Its owner may not write to a directory, nor to those in it, while a block runs; root would even so."""
    directories = [Path(folder) for folder, _, _ in os.walk(directory)]
    for each in directories:
        each.chmod(0o500)
    try:
        yield
    finally:
        for each in directories:
            each.chmod(0o700)


def fill(directory: Path) -> Path:
    """Leave no room; returns the file that takes it."""
    filling = directory / "full"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue
    return filling
