"""The sandbox's /etc: the host's, read-only, with the files that say who and where made anew.

Owns users, groups, names and the resolver as the workload finds them, and the covering of what is not the
world's to read. Must never let a generated file reach the host's own.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from mvm.plan.view import Bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.images.tree import Tree
    from mvm.terms import Address

# Without these a workload can't resolve or say who it is; the others are made only where the host has them.
_NEEDED = ("passwd", "group", "hosts", "resolv.conf")
_NOBODY = 65534
_NSSWITCH = (
    b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
)


class Identity(NamedTuple):
    """Who the workload is, inside.

    Attributes:
        user: its name, fit for passwd(5).
        uid: its user id, as seen inside.
        gid: its group id, as seen inside.
        home: its home directory.
        hostname: the sandbox's own name.
    """

    user: str
    uid: int
    gid: int
    home: str
    hostname: str


def generated_files(identity: Identity, resolvers: Sequence[Address]) -> dict[str, bytes]:
    """Return the files of /etc that are the sandbox's own, by name.

    Args:
        identity: who the workload is.
        resolvers: name servers in their order (resolv.conf(5): a C library asks at most three).
    """
    who = identity
    users = [f"{who.user}:x:{who.uid}:{who.gid}:{who.user}:{who.home}:/bin/sh"]
    groups = [f"{who.user}:x:{who.gid}:"]
    if who.uid != 0:
        users.insert(0, "root:x:0:0:root:/root:/bin/sh")
    if who.gid != 0:
        groups.insert(0, "root:x:0:")
    if who.uid != _NOBODY:
        users.append("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin")
    if who.gid != _NOBODY:
        groups.append("nogroup:x:65534:")
    hosts = f"127.0.0.1\tlocalhost {who.hostname}\n::1\tlocalhost ip6-localhost ip6-loopback {who.hostname}\n"
    return {
        "passwd": "".join(f"{line}\n" for line in users).encode(),
        "group": "".join(f"{line}\n" for line in groups).encode(),
        "hosts": hosts.encode(),
        "resolv.conf": "".join(f"nameserver {address}\n" for address in resolvers).encode(),
        "hostname": f"{who.hostname}\n".encode(),
        "nsswitch.conf": _NSSWITCH,
        "machine-id": b"",  # the host's would tell machines apart; empty is "not set" (machine-id(5))
    }


def add_etc(tree: Tree, files: dict[str, bytes], *, etc: str = "/etc") -> None:
    """Add /etc and what in it is the sandbox's own.

    Args:
        tree: to be added to; nothing is seen at `etc` yet, and everything else of the system is.
        files: content by name below `etc`.
        etc: where the host has it; another place only in tests.
    """
    reason = "system configuration"
    if all(_can_lie_over(tree, etc, name) for name in _NEEDED):
        tree.bind(Bind(etc, etc, writable=False, optional=False, reason=reason))
        for name, content in files.items():
            _lay_over(tree, etc, name, content)
        cover_private(tree, etc)
        cover_private(tree, f"{etc}/ssl")
        return
    tree.tmpfs(etc, mode=0o755, owned=False)
    for entry in _scan(etc):
        if entry.name in files or _is_private(entry):
            continue
        if entry.is_symlink():
            tree.link(entry.path, os.readlink(entry.path))
        else:
            tree.bind(Bind(entry.path, entry.path, writable=False, optional=True, reason=reason))
    for name, content in files.items():
        tree.file(f"{etc}/{name}", content)
    cover_private(tree, f"{etc}/ssl")


def _can_lie_over(tree: Tree, etc: str, name: str) -> bool:
    """Return whether the host's file leaves a place for ours: a file to cover, or a link that leads out."""
    real = tree.tracer.trace(f"{etc}/{name}").real
    if os.path.isfile(real):
        return True
    return not (real.startswith(f"{etc}/") or tree.shows(real))


def _lay_over(tree: Tree, etc: str, name: str, content: bytes) -> None:
    traced = tree.tracer.trace(f"{etc}/{name}")
    if tree.shows(traced.real) and not os.path.isfile(traced.real):
        return  # the host doesn't have it (or a link to nowhere), and nothing can be made below a bind
    tree.links(traced.links)
    tree.file(traced.real, content)


def cover_private(tree: Tree, directory: str) -> None:
    """Cover what lies directly in a bound directory and the caller may read but the world may not.

    Most of it is closed to the workload anyway, whose user is an ordinary one even where the caller is root;
    what is left are files of the caller's supplementary groups, which a user namespace cannot drop
    (user_namespaces(7), "setgroups").

    Args:
        tree: to be added to.
        directory: absolute; it need not exist.
    """
    if not tree.shows(directory):
        return
    for entry in _scan(directory):
        if not _is_private(entry) or not os.access(entry.path, os.R_OK):
            continue
        if entry.is_dir(follow_symlinks=False):
            tree.tmpfs(entry.path, mode=0o555, size=4096, owned=False)
        elif entry.is_file(follow_symlinks=False):
            tree.file(entry.path, b"")


def _is_private(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return False
    try:
        return not entry.stat(follow_symlinks=False).st_mode & stat.S_IROTH
    except OSError:  # gone meanwhile
        return False


def _scan(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:  # not there, or not ours to list: then it isn't the workload's either
        return []
