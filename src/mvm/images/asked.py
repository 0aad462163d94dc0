"""What a caller asks to be seen beside the image: volumes and the workspace, with their places inside.

Owns how these are laid into a tree, and the covering of sockets and of mvm's own directories in them: a
socket answers through a read-only mount as well (unix(7)). Must never make a mount point on the host, nor
walk through what was asked for, which may be large.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
from mvm.images.bound import BoundSockets, are_named_below
from mvm.images.refused import shown
from mvm.images.trace import lies_in
from mvm.plan.view import Bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.images.tree import Tree

MOST_SOCKETS = 1024
"""How many sockets are covered in one volume; each is a mount."""
_MOST_NAMED = 8
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
    if not asked:
        return
    known = BoundSockets([bind.source for bind in asked])
    if not known.whole:
        tree.findings.append(_not_all_known())
    for bind in asked:
        placed = bind._replace(target=tree.inside(bind.target))
        below = tree.host_path(placed.target)
        if below is not None:
            _check_place(tree, placed, below)
        if any(lies_in(placed.source, own) for own in hidden):
            raise _no_place(bind, f"{bind.source!r} is mvm's own: its record, or its sockets", "name another")
        tree.bind(placed)
        _cover_sockets(tree, placed, known, hidden)
        for own in hidden:
            if lies_in(own, placed.source):
                target = placed.target + own[len(placed.source) :]
                tree.tmpfs(target, mode=0o555, size=4096, owned=False)


def cover_sockets_of_system(tree: Tree, hidden: Sequence[str]) -> None:
    """Cover the sockets in what a tree shows of this machine already, if the kernel's list has any there."""
    shown_places = [entry for entry in tree.entries if isinstance(entry, Bind)]
    if not are_named_below([bind.source for bind in shown_places]):
        return
    known = BoundSockets([bind.source for bind in shown_places])
    for bind in shown_places:
        for name in sorted(_named(bind, known, hidden))[:MOST_SOCKETS]:
            tree.cover(f"{bind.target}/{name}".rstrip("/"))


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


def _cover_sockets(tree: Tree, bind: Bind, known: BoundSockets, hidden: Sequence[str]) -> None:
    """Cover the sockets in what was asked for: who answers there is outside.

    Those that lie in it directly, whoever made them, and all that the kernel's list shows deeper in.
    """
    try:
        with os.scandir(bind.source) as entries:
            sockets = {entry.name for entry in entries if _is_socket(entry)}
    except NotADirectoryError:
        return
    except OSError:  # not ours to list; what is deeper may still be ours to reach
        sockets = set()
    sockets |= _named(bind, known, hidden)
    if len(sockets) > MOST_SOCKETS:
        message = f"{bind.source!r} holds {len(sockets)} sockets of this machine, too many to cover"
        raise _no_place(bind, message, "name the one directory below it that the workload needs")
    for name in sorted(sockets):
        tree.cover(f"{bind.target}/{name}")
    if sockets:
        tree.findings.append(_covered(bind, sorted(sockets)))


def _named(bind: Bind, known: BoundSockets, hidden: Sequence[str]) -> set[str]:
    """Give what the kernel's list shows below a bind, by names relative to it."""
    return {
        path[len(bind.source) :].lstrip("/")
        for path in known.below(bind.source)
        if not any(lies_in(path, own) for own in hidden)
    }


def _covered(bind: Bind, sockets: Sequence[str]) -> Finding:
    more = len(sockets) - _MOST_NAMED
    named = ", ".join(shown(os.fsencode(name)) for name in sockets[:_MOST_NAMED]) + (
        f" and {more} more" if more > 0 else ""
    )
    return Finding(
        code="socket-covered",
        path=f"--{bind.reason}",
        message=f"{bind.source!r} holds sockets of this machine, now covered: {named}",
        hint="grant what the workload needs to reach by --network-allow",
        severity="warning",
    )


def _not_all_known() -> Finding:
    return Finding(
        code="sockets-unknown",
        path="--volume",
        message="not all sockets of this machine could be looked at: one that lies in it may be reached",
        hint="name the one directory that the workload needs",
        severity="warning",
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
