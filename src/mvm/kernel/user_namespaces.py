"""A user namespace that nobody is in, held by a descriptor: for idmapped mounts (`mounts.map_ids`).

Owns the short-lived process that makes it. Decides no id.
"""

from __future__ import annotations

import os

from mvm.kernel import syscalls


def make(uid_map: str, gid_map: str) -> int:
    """Make a user namespace with these maps.

    Args:
        uid_map: rows of first inside, first outside, how many (user_namespaces(7)).
        gid_map: likewise.

    Returns:
        its descriptor, not inherited by programs; the namespace is gone when it is closed.

    Raises:
        OSError: it was refused, or the caller may not write these maps.
    """
    # The child ends when its end of the second pipe does, so also when this process is killed meanwhile.
    made, child_made = os.pipe2(os.O_CLOEXEC)
    child_end, end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _wait_in_new_namespace(child_made, child_end, (made, end))
    try:
        os.close(child_made)
        os.close(child_end)
        code = os.read(made, 1)
        if code != b"\0":
            number = code[0] if code else 0
            raise OSError(number, f"unshare(user): {os.strerror(number)}")
        for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)
        os.close(end)
        os.waitpid(pid, 0)


def _wait_in_new_namespace(made: int, end: int, of_parent: tuple[int, ...]) -> None:
    try:
        for descriptor in of_parent:
            os.close(descriptor)
        try:
            syscalls.unshare(syscalls.NEWUSER)
            os.write(made, b"\0")
        except OSError as refusal:
            os.write(made, bytes([refusal.errno or 0]))
        os.read(end, 1)
    finally:
        os._exit(0)
