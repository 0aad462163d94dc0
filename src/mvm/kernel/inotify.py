"""Waiting until a file grows, without polling: inotify(7) on one file.

One function per call; decides nothing. Used to follow logs.
"""

from __future__ import annotations

import ctypes
import os
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_IN_MODIFY, _IN_ATTRIB, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x4, 0x400, 0x800
_EVENT_BYTES = 4096


class FileWatch:
    """Tells when a file has changed since the watch was begun or last asked.

    A change between two calls of `wait` is never missed, so: make the watch, read to the end, wait,
    read on.

    Args:
        path: of the file; symbolic links are not followed.

    Raises:
        OSError: there is no such file, or the user's watches are used up (ENOSPC, inotify(7)).
    """

    __slots__ = ("_descriptor", "_poll")

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")
        follow_not = 0x02000000  # IN_DONT_FOLLOW
        mask = ctypes.c_uint32(_IN_MODIFY | _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF | follow_not)
        try:
            _checked(
                libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask), f"inotify_add_watch {path}"
            )
        except OSError:
            os.close(self._descriptor)
            raise
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def __enter__(self) -> Self:
        """Give the watch itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch."""
        os.close(self._descriptor)

    def fileno(self) -> int:
        """The descriptor that is readable when the file has changed; `wait(0)` then takes that note."""
        return self._descriptor

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the file has changed.

        Args:
            seconds: how long at most, 0 or more; None for ever.

        Returns:
            True when it has, False when the time was over first.
        """
        if not self._poll.poll(None if seconds is None else seconds * 1000):
            return False
        while True:
            try:
                os.read(self._descriptor, _EVENT_BYTES)
            except BlockingIOError:
                return True


def _checked(result: int, tried: str) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{tried}: {os.strerror(errno)}")
    return result
