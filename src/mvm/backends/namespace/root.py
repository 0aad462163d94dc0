"""The root tree of a sandbox, made from its description (`plan.view`) in a mount namespace of its own.

    tmpfs over /tmp ─pivot─► it is the root:  /host    the host's, made read-only as a whole
                                              /device  its devices    /file  generated files, read-only
                                              /lower   an image's tree    /upper   what takes its changes
                                              /new     the tree, grown from these by binds ─pivot─► the root

Owns the making. Must never make anything below a bind: that would be on the host; the view says what
lies over one. A bind inherits what its source's mount forbids, so each is read-only from its first moment;
the exceptions are the trees that were asked for (`workspace`, `volume`), taken before. Nothing of the
host's tree is left but what was bound.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, assert_never

from mvm.kernel import mounts, paths, syscalls
from mvm.plan.view import Bind, Device, File, Link, Overlay, Terminals, Tmpfs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mvm.plan.identity import Identity
    from mvm.plan.view import Entry, View

_BASE = "/tmp"  # noqa: S108  a directory that is there on every machine; it is covered in our namespace only
_HOST, _DEVICE, _FILE, _NEW = "/host", "/device", "/file", "/new"
_EMPTY = f"{_FILE}/empty"
_LOWER, _UPPER = "/lower", "/upper"
_NEW_FILE = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ASKED = ("workspace", "volume")
"""The reasons of binds that somebody asked for; all others are read-only."""


def build(view: View, identity: Identity, owned: Sequence[int]) -> None:
    """Replace the root of the current mount namespace, which is fresh, by the view's.

    Args:
        view: what to make.
        identity: whom places belong to.
        owned: trees to be used for the binds that were asked for, in their order, instead of their sources
            (`owners.mapped_trees`); empty where those are used as they are.

    Raises:
        OSError: the kernel refused something; the text says what.
    """
    mounts.make_private("/")
    _swap_base(identity)
    trees = list(owned) or [mounts.clone_tree(_HOST + entry.source) for entry in lent(view)]
    if view.root is not None:
        _prepare_upper(view.root, identity)
        _prepare_places(view, view.root, identity)
    _prepare_sources(view, identity)
    uid, gid = _owner(identity, owned=False)
    mounts.tmpfs(_NEW, mode=0o755, uid=uid, gid=gid)
    taken = iter(trees)
    for number, entry in enumerate(view.entries):
        _make(number, entry, identity, taken)
    for tree in trees:
        os.close(tree)
    _make_directory("/proc")
    mounts.proc(f"{_NEW}/proc")
    _hide_keys()
    for place in (*(("",) if view.root is None else ()), *_finished(view)):
        mounts.set_attributes(_NEW + place, readonly=True, recursive=False)
    os.chdir(_NEW)
    syscalls.pivot_root(".", ".")
    mounts.unmount(".")
    os.chdir("/")


def _hide_keys() -> None:
    """Cover the list of all keys of the user: their names tell whom somebody logs in to (keyrings(7))."""
    with suppress(FileNotFoundError):  # a kernel without keys
        mounts.bind(_EMPTY, f"{_NEW}/proc/keys")


def _finished(view: View) -> list[str]:
    """Return the file systems in which the workload makes nothing, even where no other user can own them."""
    seen = {entry.target: entry for entry in view.entries if isinstance(entry, Tmpfs | Bind)}
    return [place for place, entry in seen.items() if isinstance(entry, Tmpfs) and not entry.owned]


def lent(view: View) -> list[Bind | Overlay]:
    """Give the entries whose trees are taken before the host's is made read-only."""
    return [
        entry
        for entry in view.entries
        if isinstance(entry, Overlay) or (isinstance(entry, Bind) and entry.reason in ASKED)
    ]


def _prepare_upper(root: Overlay, identity: Identity) -> None:
    """Make what takes the changes of an image's tree: in memory, or a directory of the host."""
    if root.upper is None:
        mounts.tmpfs(_UPPER, mode=0o700, uid=identity.outside_uid, gid=identity.outside_gid)
        source = os.stat(_HOST + root.source)
        for name in ("upper", "work"):
            os.mkdir(f"{_UPPER}/{name}")
            os.chown(f"{_UPPER}/{name}", identity.outside_uid, identity.outside_gid)
        os.chmod(f"{_UPPER}/upper", source.st_mode & 0o7777)
    else:
        tree = mounts.clone_tree(_HOST + root.upper)
        mounts.attach(tree, _UPPER)
        os.close(tree)


def _prepare_places(view: View, root: Overlay, identity: Identity) -> None:
    """Make mount points beside an image's tree: in it they can't be made where its owner is unknown here."""
    covered: list[str] = []
    for entry in (*view.entries, Tmpfs("/proc", 0o555, None, owned=False)):
        place = entry.target if not isinstance(entry, Device) else "/dev"
        if isinstance(entry, Overlay) or any(place == one or place.startswith(f"{one}/") for one in covered):
            continue
        is_file = isinstance(entry, File) or (
            isinstance(entry, Bind) and not os.path.isdir(_HOST + entry.source)
        )
        _make_place(root, place.rpartition("/")[0] if is_file else place, identity)
        if is_file and not stat.S_ISREG(_mode_of(f"{_UPPER}/upper{place}") or _mode_in(root, place)):
            os.close(os.open(f"{_UPPER}/upper{place}", _NEW_FILE, 0o644))
        covered.append(place)


def _make_place(root: Overlay, place: str, identity: Identity) -> None:
    """Make a directory as the image has it, after those above it: a link among them leads to the host."""
    if not place:
        return
    _make_place(root, place.rpartition("/")[0], identity)
    upper = f"{_UPPER}/upper{place}"
    kept = _mode_of(upper)
    if stat.S_ISDIR(kept):
        return
    if kept:
        raise OSError(errno.ENOTDIR, f"{place} in the overlay is no directory any more")
    os.mkdir(upper, 0o755)
    os.chown(upper, identity.outside_uid, identity.outside_gid)
    mode = _mode_in(root, place)
    if stat.S_ISDIR(mode):
        os.chmod(upper, mode & 0o7777)


def _mode_in(root: Overlay, place: str) -> int:
    return _mode_of(f"{_HOST}{root.source}{place}")


def _mode_of(path: str) -> int:
    """Give the mode of what is at a path, 0 for nothing; a link is itself, wherever it leads."""
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _prepare_sources(view: View, identity: Identity) -> None:
    """Make devices, generated files and the host's tree such that a bind of them needs no more."""
    mounts.bind(f"{_HOST}/dev", _DEVICE)
    mounts.set_attributes(_DEVICE, nosuid=True, noexec=True)
    mounts.set_attributes(_HOST, readonly=True, nosuid=True, nodev=True)
    uid, gid = _owner(identity, owned=False)
    mounts.tmpfs(_FILE, mode=0o700, uid=uid, gid=gid)
    for number, entry in enumerate(view.entries):
        if isinstance(entry, File) and entry.over:
            _write(f"{_FILE}/{number}", entry)
    os.close(os.open(_EMPTY, _NEW_FILE, 0o444))
    mounts.set_attributes(_FILE, readonly=True, recursive=False)


def _owner(identity: Identity, *, owned: bool) -> tuple[int, int]:
    """Say who owns a new file system: the workload's user, or root where the sandbox knows it."""
    if owned or not identity.maps_root:
        return identity.outside_uid, identity.outside_gid
    return 0, 0


def _swap_base(identity: Identity) -> None:
    uid, gid = _owner(identity, owned=False)
    mounts.tmpfs(_BASE, mode=0o700, uid=uid, gid=gid)
    for place in (_HOST, _DEVICE, _FILE, _LOWER, _UPPER, _NEW):
        os.mkdir(_BASE + place, 0o700)
    syscalls.pivot_root(_BASE, _BASE + _HOST)
    os.chdir("/")


def _make(number: int, entry: Entry, identity: Identity, trees: Iterator[int]) -> None:
    match entry:
        case Overlay(upper=upper):
            mounts.attach(next(trees), _LOWER)
            mounts.set_attributes(_LOWER, readonly=True, nosuid=True, nodev=True)
            mounts.overlay(
                _NEW,
                lower=_LOWER,
                upper=f"{_UPPER}/upper",
                work=f"{_UPPER}/work",
                volatile=upper is None,
            )
        case Bind(reason=reason) if reason in ASKED:
            _attach(entry, next(trees))
        case Bind():
            _bind(entry)
        case Link():
            _make_parents(entry.target)
            os.symlink(entry.to, _NEW + entry.target)
        case Tmpfs():
            _tmpfs(entry, identity)
        case File(hides=True):
            _cover(f"{_FILE}/{number}", entry.target)
        case File(over=True):
            if entry.makes:
                _make_file(entry.target)
            mounts.bind(f"{_FILE}/{number}", _NEW + entry.target)
        case File():
            _make_parents(entry.target)
            _write(_NEW + entry.target, entry)
        case Device():
            _make_file(f"/dev/{entry.name}")
            mounts.bind(f"{_DEVICE}/{entry.name}", f"{_NEW}/dev/{entry.name}")
        case Terminals():
            _make_directory(entry.target)
            mounts.devpts(_NEW + entry.target)
        case _:
            assert_never(entry)


def _bind(bind: Bind) -> None:
    source = _HOST + bind.source
    is_directory = os.path.isdir(source)
    if bind.optional and not is_directory and not os.path.exists(source):
        return
    if not bind.over:
        (_make_directory if is_directory else _make_file)(bind.target)
    mounts.bind(source, _NEW + bind.target)


def _cover(file: str, target: str) -> None:
    """Lay a file over a socket; where it was taken away since it was found there is nothing to hide."""
    root = os.open(_NEW, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = paths.open_in_root(root, os.fsencode(target), os.O_PATH | os.O_NOFOLLOW)
    except OSError as absent:
        if absent.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return
        raise
    finally:
        os.close(root)
    try:
        if stat.S_ISSOCK(os.fstat(place).st_mode):
            mounts.bind(file, f"{_HOST}/proc/self/fd/{place}")
    except FileNotFoundError:
        return  # taken away in this very moment
    finally:
        os.close(place)


def _attach(bind: Bind, tree: int) -> None:
    if not bind.over:
        is_directory = os.path.isdir(f"{_HOST}/proc/self/fd/{tree}")
        (_make_directory if is_directory else _make_file)(bind.target)
    mounts.attach(tree, _NEW + bind.target)
    mounts.set_attributes(_NEW + bind.target, readonly=not bind.writable, nosuid=True, nodev=True)


def _tmpfs(entry: Tmpfs, identity: Identity) -> None:
    if not entry.over:
        _make_directory(entry.target)
    uid, gid = _owner(identity, owned=entry.owned)
    mounts.tmpfs(_NEW + entry.target, mode=entry.mode, uid=uid, gid=gid, size=entry.size)


def _write(place: str, entry: File) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(entry.content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fchmod(descriptor, entry.mode)
    finally:
        os.close(descriptor)


def _make_directory(target: str) -> None:
    """Make a directory, and those above it; each belongs to whoever the one it lies in belongs to."""
    _make_parents(target)
    try:
        os.mkdir(_NEW + target, 0o755)
    except FileExistsError:
        return
    above = os.stat(_NEW + target.rpartition("/")[0])
    if above.st_uid != os.geteuid():
        os.chown(_NEW + target, above.st_uid, above.st_gid)


def _make_file(target: str) -> None:
    _make_parents(target)
    os.close(os.open(_NEW + target, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _make_parents(target: str) -> None:
    parent = target.rpartition("/")[0]
    if parent and not os.path.isdir(_NEW + parent):
        _make_directory(parent)
