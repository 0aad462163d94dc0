"""A command's output on its way to somewhere that is not simply handed to it: captured, logged, shown.

Owns pipes between a command and the supervisor. Nothing is held back: what comes is passed on at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.gateway.loop import READ

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.gateway.loop import Loop

    Sink = Callable[[bytes], None]

CAPTURE_LIMIT = 1 << 26
"""Bytes of one stream that are kept when it is captured; what follows is read and dropped, and told."""

_READ_BYTES = 1 << 16


class Capture:
    """Keeps what comes.

    Attributes:
        cut: whether more came than is kept.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.cut = False

    def __call__(self, data: bytes) -> None:
        """Take some."""
        room = CAPTURE_LIMIT - self._size
        if len(data) > room:
            self.cut, data = True, data[:room]
        self._parts.append(data)
        self._size += len(data)

    @property
    def data(self) -> bytes:
        """All that was kept."""
        return b"".join(self._parts)


class Tap:
    """One pipe: the command writes into it, sinks get what comes.

    Args:
        loop: where it is watched.
        sinks: called in order with each piece.

    Attributes:
        entrance: what the command is given as its stream; close it once the command has it.
    """

    def __init__(self, loop: Loop, *sinks: Sink) -> None:
        self._loop, self._sinks = loop, sinks
        self._exit, self.entrance = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._exit, False)
        loop.watch(self._exit, READ, self._on_read)

    def close_entrance(self) -> None:
        """The command has its copy."""
        if self.entrance >= 0:
            os.close(self.entrance)
            self.entrance = -1

    def _on_read(self, _events: int) -> None:
        if not self._take():
            self._close()

    def _take(self) -> bool:
        """Pass one piece on; False at the end."""
        try:
            data = os.read(self._exit, _READ_BYTES)
        except BlockingIOError:
            return True
        for sink in self._sinks:
            if data:
                sink(data)
        return bool(data)

    def drain(self) -> None:
        """Every writer has ended: pass on what is left, and close."""
        self.close_entrance()
        if self._exit >= 0:
            os.set_blocking(self._exit, True)
            while self._take():
                continue
            self._close()

    def _close(self) -> None:
        if self._exit >= 0:
            self._loop.unwatch(self._exit)
            os.close(self._exit)
            self._exit = -1


def write_to(descriptor: int) -> Sink:
    """Make a sink of a descriptor; a reader that has gone away loses what follows."""

    def sink(data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except BrokenPipeError:
            return

    return sink


class ConsoleLog:
    """The console output of a sandbox in a file, of bounded size: the older half is kept beside it as `.1`.

    Args:
        path: of the file; it is made with mode 0600.
    """

    LIMIT = 1 << 24

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = 0
        self._file = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, 0o600)

    def __call__(self, data: bytes) -> None:
        """Write some; a full disk loses console output, never the record."""
        if self._size > self.LIMIT:
            os.close(self._file)
            os.replace(self._path, f"{self._path}.1")
            self._file, self._size = self._open(), 0
        try:
            self._size += os.write(self._file, data)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
