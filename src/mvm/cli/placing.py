"""A file that somebody asked for, written whole or not at all.

Owns the refusal to write over what is there. Must never leave half a file, or a draft, behind.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NoReturn

from mvm.errors import UsageError


def place_text(path: str, text: str, *, replace: bool) -> None:
    """Write a file.

    Args:
        path: where; the file that a symbolic link leads to where it is to be replaced.
        text: all of it, written as UTF-8.
        replace: whether a file that is there gives way, handing on its owner and mode; without, it stays.

    Raises:
        UsageError: there is something at `path` that stays, or it can't be written there.
    """
    target = os.path.realpath(path) if replace else path
    draft = f"{os.path.dirname(target) or '.'}/.{os.path.basename(target)}.{os.urandom(8).hex()}"
    try:
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        _refuse(path, error)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(text.encode())
            opened.flush()
            if replace:
                _take_after(target, file)
            os.fsync(file)
        if replace:
            os.rename(draft, target)
        else:
            os.link(draft, target, follow_symlinks=False)
    except FileExistsError as error:
        msg = f"{path} is there already"
        raise UsageError(msg, hint="name another file, or remove it first") from error
    except OSError as error:
        _refuse(path, error)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _take_after(path: str, file: int) -> None:
    """Give a draft the mode of the file that it replaces, and its owner where that is allowed."""
    before = os.stat(path)
    with suppress(PermissionError):  # only root gives files away
        os.fchown(file, before.st_uid, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode))


def _refuse(path: str, error: OSError) -> NoReturn:
    msg = f"{path} can't be written: {(error.strerror or str(error)).lower()}"
    raise UsageError(msg, hint="name a file in a directory that you can write") from error
