"""The root tree of a sandbox, made from its description (`plan.view`) in a mount namespace of its own.

    tmpfs over /tmp ─pivot─► it is the root, the host's at /host, the new one grows at /new ─pivot─► done

Owns the making. Must never make anything below a bind: that would be on the host; the view says what
lies over one. Nothing of the host's tree is left but what was bound.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, assert_never

from mvm.kernel import mounts, syscalls
from mvm.plan.view import Bind, Device, File, Link, Terminals, Tmpfs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mvm.plan.identity import Identity
    from mvm.plan.view import Entry, View

_BASE = "/tmp"  # noqa: S108  a directory that is there on every machine; it is covered in our namespace only
_HOST, _NEW = "/host", "/new"
_ASKED = ("workspace", "volume")


def build(view: View, identity: Identity, owned: Sequence[int]) -> None:
    """Replace the root of the current mount namespace, which is fresh, by the view's.

    Args:
        view: what to make.
        identity: whom `owned` places belong to.
        owned: trees to be used for the binds that were asked for, in their order, instead of their sources
            (`owners.mapped_trees`); empty where those are used as they are.

    Raises:
        OSError: the kernel refused something; the text says what.
    """
    mounts.make_private("/")
    _swap_base()
    # Made by the sandbox's root even where its files belong to the workload.
    mounts.tmpfs(_NEW, mode=0o755, uid=0 if identity.maps_root else identity.outside_uid, gid=_root_group(identity))
    trees = iter(owned)
    files = _Files()
    for entry in view.entries:
        _make(entry, identity, trees, files)
    _add_proc()
    mounts.set_attributes(_NEW, readonly=True, nosuid=True, nodev=True, recursive=False)
    os.chdir(_NEW)
    syscalls.pivot_root(".", ".")
    mounts.unmount(".")
    os.chdir("/")


def _root_group(identity: Identity) -> int:
    return 0 if identity.maps_root else identity.outside_gid


def _swap_base() -> None:
    mounts.tmpfs(_BASE, mode=0o700)
    os.mkdir(_BASE + _HOST, 0o700)
    os.mkdir(_BASE + _NEW, 0o700)
    syscalls.pivot_root(_BASE, _BASE + _HOST)
    os.chdir("/")


def _make(entry: Entry, identity: Identity, trees: Iterator[int], files: _Files) -> None:
    match entry:
        case Bind():
            _bind(entry, trees)
        case Link():
            _make_parents(entry.target)
            os.symlink(entry.to, _NEW + entry.target)
        case Tmpfs():
            _tmpfs(entry, identity)
        case File():
            files.make(entry)
        case Device():
            place = f"/dev/{entry.name}"
            _make_file(place)
            mounts.bind(_HOST + place, _NEW + place)
            mounts.set_attributes(_NEW + place, nosuid=True, noexec=True)
        case Terminals():
            _make_directory(entry.target)
            mounts.devpts(_NEW + entry.target)
        case _:
            assert_never(entry)


def _bind(bind: Bind, trees: Iterator[int]) -> None:
    source = _HOST + bind.source
    tree = next(trees, None) if bind.reason in _ASKED else None
    try:
        is_directory = os.path.isdir(source) if tree is None else os.path.isdir(f"{_HOST}/proc/self/fd/{tree}")
        if not is_directory and not os.path.exists(source):
            raise FileNotFoundError(2, f"{bind.source} is gone")
        if not bind.over:
            (_make_directory if is_directory else _make_file)(bind.target)
        if tree is None:
            mounts.bind(source, _NEW + bind.target)
        else:
            mounts.attach(tree, _NEW + bind.target)
    except FileNotFoundError:
        if bind.optional:
            return
        raise
    mounts.set_attributes(_NEW + bind.target, readonly=not bind.writable, nosuid=True, nodev=True)


def _tmpfs(entry: Tmpfs, identity: Identity) -> None:
    if not entry.over:
        _make_directory(entry.target)
    uid = identity.outside_uid if entry.owned or not identity.maps_root else 0
    gid = identity.outside_gid if entry.owned or not identity.maps_root else 0
    mounts.tmpfs(_NEW + entry.target, mode=entry.mode, uid=uid, gid=gid, size=entry.size)


class _Files:
    """Generated files; those that lie over the host's come from one small tmpfs, mounted when first needed."""

    def __init__(self) -> None:
        self._made = 0

    def make(self, entry: File) -> None:
        """Make one."""
        place = _NEW + entry.target
        if not entry.over:
            _make_parents(entry.target)
            _write(place, entry)
            return
        source = f"/file{self._made}"
        self._made += 1
        _write(source, entry)
        mounts.bind(source, place)
        mounts.set_attributes(place, readonly=True, nosuid=True, nodev=True)


def _write(place: str, entry: File) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(entry.content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, entry.mode)
    finally:
        os.close(descriptor)


def _add_proc() -> None:
    _make_directory("/proc")
    mounts.proc(f"{_NEW}/proc")
    mounts.set_attributes(f"{_NEW}/proc", nosuid=True, nodev=True, noexec=True)


def _make_directory(target: str) -> None:
    _make_parents(target)
    try:
        os.mkdir(_NEW + target, 0o755)
    except FileExistsError:
        return


def _make_file(target: str) -> None:
    _make_parents(target)
    os.close(os.open(_NEW + target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _make_parents(target: str) -> None:
    parent = target.rpartition("/")[0]
    if parent and not os.path.isdir(_NEW + parent):
        _make_directory(parent)
