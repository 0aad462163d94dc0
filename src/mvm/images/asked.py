"""What a caller asks to be seen beside the image: volumes and the workspace, with their places inside.

Owns how these are laid into a tree, and the covering of sockets and of mvm's own directories in them. Must
never make a mount point on the host.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.images.trace import lies_in
from mvm.plan.view import Bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.images.tree import Tree

LASTING = "/workspace"
"""Where a workspace that outlives its sandbox is seen, as its home."""


def asked_for(workspace: str | None, volumes: Sequence[Bind], *, taken: Sequence[str]) -> tuple[Bind, ...]:
    """Give workspace and volumes as one list.

    Args:
        workspace: a real path, writable at its own place; or None.
        volumes: as `volumes.parse_volume` made them.
        taken: places inside that are taken already.

    Raises:
        PolicyRefused: two have the same place.
    """
    asked = tuple(volumes)
    if workspace is not None:
        asked = (Bind(workspace, workspace, writable=True, optional=False, reason="workspace"), *asked)
    seen: set[str] = {*taken}
    for bind in asked:
        if bind.target in seen:
            raise _no_place(bind, "two volumes have this place", "give each a place of its own")
        seen.add(bind.target)
    return asked


def add_asked(tree: Tree, asked: tuple[Bind, ...], hidden: Sequence[str]) -> None:
    """Lay what was asked for into a tree.

    Args:
        tree: to be added to; all that lies below is in it.
        asked: of `asked_for`.
        hidden: mvm's own directories on the host, which nothing shows.

    Raises:
        PolicyRefused: one has no place to be mounted on, or is mvm's own.
    """
    for bind in asked:
        placed = bind._replace(target=tree.inside(bind.target))
        below = tree.host_path(placed.target)
        if below is not None:
            _check_place(tree, placed, below)
        if any(lies_in(placed.source, own) for own in hidden):
            raise _no_place(bind, f"{bind.source!r} is mvm's own: its record, or its sockets", "name another")
        tree.bind(placed)
        _cover_sockets(tree, placed)
        for own in hidden:
            if lies_in(own, placed.source):
                target = placed.target + own[len(placed.source) :]
                tree.tmpfs(target, mode=0o555, size=4096, owned=False)


def _check_place(tree: Tree, bind: Bind, below: str) -> None:
    """Refuse a mount point that would have to be made on the host, or that a link there leads elsewhere."""
    if tree.tracer.trace(below).real != below:
        raise _no_place(bind, f"{below!r} on this machine is reached through a link", "name where it leads")
    fits = os.path.isdir(below) if os.path.isdir(bind.source) else os.path.isfile(below)
    if not fits:
        kind = "directory" if os.path.isdir(bind.source) else "file"
        raise _no_place(
            bind, f"{below!r} on this machine is no {kind}, and is not made there", "make it first"
        )


def _cover_sockets(tree: Tree, bind: Bind) -> None:
    """Cover the sockets that lie directly in what was asked for: who answers there is outside."""
    try:
        with os.scandir(bind.source) as entries:
            sockets = sorted(entry.name for entry in entries if _is_socket(entry))
    except OSError:  # a single file, or one that isn't ours to list
        return
    for name in sockets:
        tree.file(f"{bind.target}/{name}", b"", 0)
    if sockets:
        tree.findings.append(
            Finding(
                code="socket-covered",
                path=f"--{bind.reason}",
                message=f"{bind.source!r} holds sockets of this machine, now covered: {', '.join(sockets)}",
                hint="grant what the workload needs to reach by --network-allow",
                severity="warning",
            )
        )


def _is_socket(entry: os.DirEntry[str]) -> bool:
    # Files, directories and links say so by themselves (readdir(3)): only the rest is asked.
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
        return False
    return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)


def _no_place(bind: Bind, message: str, hint: str) -> PolicyRefused:
    path = f"--{bind.reason}"
    finding = Finding(
        code="volume-place", path=path, message=f"{bind.target!r}: {message}", hint=hint, source=path
    )
    return PolicyRefused([finding])
