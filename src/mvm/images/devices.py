"""The devices of a sandbox: a /dev of its own with the harmless ones, terminals and shared memory.

Owns that list. Must never show a device that reaches hardware or another process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mvm.images.tree import Tree

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEV_LINKS = (
    ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
)  # fmt: skip
_MIB = 1 << 20


def add_devices(tree: Tree) -> None:
    """Add /dev to a tree."""
    tree.tmpfs("/dev", mode=0o755, size=_MIB, owned=False)
    for name in _DEVICES:
        tree.device(name)
    tree.terminals("/dev/pts")
    tree.tmpfs("/dev/shm", mode=0o1777)  # noqa: S108 - the sandbox's own
    for name, to in _DEV_LINKS:
        tree.link(f"/dev/{name}", to)
