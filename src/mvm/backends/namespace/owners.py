"""As root: an image's tree, the workspace and volumes, made to look as the workload's own.

The workload's user is not root, so what belongs to the owner of each of these places is mapped to it
(idmapped mounts, mount_setattr(2)): it may do there what the owner may, and what it makes is the owner's.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from mvm.backends.namespace.root import lent
from mvm.kernel import mounts, syscalls

if TYPE_CHECKING:
    from mvm.plan.plan import Plan


def mapped_trees(plan: Plan) -> list[int]:
    """Give a detached tree for each place that is lent, in the view's order; the caller closes them.

    A file system that can't be mapped is given as it is: then the permissions of its files decide.
    """
    trees: list[int] = []
    try:
        for entry in lent(plan.view):
            trees.append(mounts.clone_tree(entry.source))
            owner = os.stat(entry.source)
            _map(trees[-1], owner, plan.identity.outside_uid, plan.identity.outside_gid)
    except BaseException:
        for tree in trees:
            os.close(tree)
        raise
    return trees


def _map(tree: int, owner: os.stat_result, uid: int, gid: int) -> None:
    namespace = _user_namespace(f"{owner.st_uid} {uid} 1", f"{owner.st_gid} {gid} 1")
    try:
        mounts.map_ids(tree, namespace)
    except OSError:
        return  # this file system has no idmapped mounts
    finally:
        os.close(namespace)


def _user_namespace(uid_map: str, gid_map: str) -> int:
    """Make a user namespace with these maps, and give its descriptor; no process stays in it."""
    ready, done = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.NEWUSER)
            os.write(done, b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(done)
        if not os.read(ready, 1):
            msg = "a user namespace could not be made"
            raise OSError(msg)
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
