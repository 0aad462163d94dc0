"""Named overlays: what a workload changed in an image's tree, kept for the next sandbox of that name.

    STATE/overlays/NAME/    0700
      lock                  held while a sandbox uses it
      image                 the digest of the image that it belongs to, or the real path of a tree without one
      upper/ work/          of overlayfs; belong to the workload

Owns their place and who uses one. What is in one was written by untrusted code, and is never read here. An
overlay is bound to its image: over another tree it would mean something else.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from mvm.audit.state import open_private
from mvm.errors import AuditError, UsageError

if TYPE_CHECKING:
    from mvm.plan.identity import Identity

_DIRECTORY, _LOCK, _IMAGE = "overlays", "lock", "image"
_PARTS = ("upper", "work")
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def overlay_path(state: str, name: str) -> str:
    """Say where an overlay is; nothing is made or looked at.

    Args:
        state: the state directory.
        name: the overlay's, a host name label.
    """
    return f"{state}/{_DIRECTORY}/{name}"


def take_overlay(state: str, name: str, image: str, identity: Identity) -> int:
    """Take an overlay for one sandbox, making it if need be.

    Args:
        state: the state directory.
        name: the overlay's.
        image: the digest of the image, or the real path of a tree without one.
        identity: who the workload is.

    Returns:
        A descriptor that holds it, to be closed when the sandbox has ended.

    Raises:
        UsageError: another sandbox uses it, or it belongs to another image.
        AuditError: it can't be kept there.
    """
    os.close(open_private(state))
    directories = [open_private(f"{state}/{_DIRECTORY}")]
    try:
        directories.append(open_private(name, below=directories[0]))
        return _take(directories[1], name, image, identity)
    except OSError as error:
        msg = f"the overlay {name} can't be used: {error.strerror}"
        raise AuditError(msg, hint="set MVM_STATE_DIR to a directory that you can write") from error
    finally:
        for directory in directories:
            os.close(directory)


def _take(place: int, name: str, image: str, identity: Identity) -> int:
    lock = os.open(_LOCK, _OPEN, 0o600, dir_fd=place)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _bind_to(place, name, image)
        for part in _PARTS:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=place)
                os.chown(
                    part, identity.outside_uid, identity.outside_gid, dir_fd=place, follow_symlinks=False
                )
    except BlockingIOError:
        os.close(lock)
        msg = f"the overlay {name} is used by another sandbox"
        raise UsageError(msg, hint="wait for it, end it (mvmctl ls), or name another overlay") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _bind_to(place: int, name: str, image: str) -> None:
    with os.fdopen(os.open(_IMAGE, _OPEN, 0o600, dir_fd=place), "r+", encoding="utf-8") as file:
        bound = file.read()
        if not bound:
            file.write(image)
        elif bound != image:
            msg = f"the overlay {name} belongs to another image, {bound}"
            raise UsageError(msg, hint="name another overlay for this one")
