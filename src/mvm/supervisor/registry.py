"""The running sandboxes of one user: a directory each, with the control socket in it.

    RUNTIME/            0700
      NAME/             made by whoever takes the name
        control         UNIX socket

Owns names. A directory whose socket nobody answers is what a machine's crash left; it is swept by whoever
meets it. Taking and sweeping happen under a lock on the runtime directory, so that a name which is just
being taken is never swept.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.state import open_private, runtime_directory
from mvm.errors import AuditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL = "control"
_BACKLOG = 64
_RUNTIME_VARIABLES = ("MVM_RUNTIME_DIR", "XDG_RUNTIME_DIR")
_is_name = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch
_NAME_HINT = "use lower-case letters, digits and inner hyphens, at most 63"


class Place(NamedTuple):
    """A name that was taken.

    Attributes:
        name: the sandbox's.
        listener: its control socket, listening, not blocking.
    """

    name: str
    listener: socket.socket


def check_name(name: str) -> str:
    """Refuse a name that is no host name label.

    Raises:
        UsageError: it is none.
    """
    if not _is_name(name):
        msg = f"{name!r} is no name of a sandbox"
        raise UsageError(msg, hint=_NAME_HINT)
    return name


def take(name: str, environ: Mapping[str, str]) -> Place:
    """Take a name and listen under it.

    Raises:
        UsageError: a running sandbox has it.
        AuditError: the runtime directory is not one's own.
    """
    directory = _open_runtime(environ)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if _answers(directory, name):
                msg = f"a sandbox called {name!r} is running"
                raise UsageError(msg, hint=f"mvmctl down {name}, or choose another --name") from None
            sweep(directory, name)
            os.mkdir(name, 0o700, dir_fd=directory)
        listener = _listen(directory, name)
    finally:
        os.close(directory)
    return Place(name, listener)


def _open_runtime(environ: Mapping[str, str]) -> int:
    base = runtime_directory(environ)
    try:
        return open_private(base)
    except AuditError as error:
        if not any(environ.get(name) for name in _RUNTIME_VARIABLES):
            raise  # it is in the state directory, whose hint is right
        hint = "set MVM_RUNTIME_DIR to a directory of your own: running sandboxes have their sockets there"
        raise AuditError(error.message, hint=hint) from error


def _listen(directory: int, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # By way of the descriptor: the path of a socket may have 107 bytes only (unix(7)).
        listener.bind(f"/proc/self/fd/{directory}/{name}/{CONTROL}")
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        sweep(directory, name)
        raise
    return listener


def _answers(directory: int, name: str) -> bool:
    """Tell whether somebody listens under a name."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.settimeout(1.0)
        sock.connect(f"/proc/self/fd/{directory}/{name}/{CONTROL}")
    except TimeoutError:
        return True
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        sock.close()
    return True


def clear(name: str, environ: Mapping[str, str]) -> bool:
    """Remove what a sandbox has left under its name.

    Returns:
        False where somebody answers there: then it is theirs.

    Raises:
        AuditError: the runtime directory is not one's own.
    """
    directory = _open_runtime(environ)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if _answers(directory, name):
            return False
        sweep(directory, name)
    finally:
        os.close(directory)
    return True


def sweep(directory: int, name: str) -> None:
    """Remove what a dead sandbox left under a name."""
    for call, path in ((os.unlink, f"{name}/{CONTROL}"), (os.rmdir, name)):
        try:
            call(path, dir_fd=directory)
        except FileNotFoundError:
            continue


def names(environ: Mapping[str, str]) -> list[str]:
    """List the names that are taken, sorted; those of the dead are swept.

    Raises:
        AuditError: the runtime directory is not one's own.
    """
    base = runtime_directory(environ)
    if not os.path.isdir(base):
        return []
    directory = _open_runtime(environ)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        found = sorted(filter(_is_name, os.listdir(directory)))
        alive = [name for name in found if _answers(directory, name)]
        for name in found:
            if name not in alive:
                sweep(directory, name)
        return alive
    finally:
        os.close(directory)


def connect(name: str, environ: Mapping[str, str]) -> socket.socket:
    """Connect to a running sandbox; the socket blocks.

    Raises:
        UsageError: there is none of that name.
        AuditError: the runtime directory is not one's own.
    """
    check_name(name)
    base = runtime_directory(environ)
    msg = f"no sandbox called {name!r} is running"
    missing = UsageError(msg, hint="mvmctl ls lists those that are")
    if not os.path.isdir(base):
        raise missing
    directory = _open_runtime(environ)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{name}/{CONTROL}")
    except OSError as error:
        sock.close()
        raise missing from error
    finally:
        os.close(directory)
    return sock
