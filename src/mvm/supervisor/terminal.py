"""The caller's terminal joined to a terminal of the sandbox's own.

The workload never gets the caller's: it could type into it (TIOCSTI) or leave it in a strange mode. What
is typed goes to the controlling side of the inner one as it is, so that Ctrl-C is the inner one's to act on.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from collections import deque
from typing import TYPE_CHECKING

from mvm.gateway.loop import READ, WRITE

if TYPE_CHECKING:
    from mvm.gateway.loop import Loop

_READ_BYTES = 1 << 16
_MOST_TYPED = 1 << 16


def size_of(descriptor: int) -> tuple[int, int]:
    """Rows and columns of a terminal (tty_ioctl(4))."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


def is_one_terminal(descriptors: tuple[int, ...] = (0, 1, 2)) -> bool:
    """Whether all of these are one and the same terminal."""
    try:
        return all(map(os.isatty, descriptors)) and len({os.fstat(d).st_rdev for d in descriptors}) == 1
    except OSError:
        return False


class Terminal:
    """The two joined; `close` gives the caller's back as it was.

    Args:
        loop: where both are watched.
        controlling: the inner terminal's controlling side; owned from now on.
        outer: the caller's terminal.
    """

    def __init__(self, loop: Loop, controlling: int, outer: int = 0) -> None:
        self._loop, self._controlling, self._outer = loop, controlling, outer
        self._before = termios.tcgetattr(outer)
        self._typed: deque[bytes] = deque()
        tty.setraw(outer, termios.TCSADRAIN)  # what was typed ahead stays
        os.set_blocking(controlling, False)
        loop.watch(controlling, READ, self._on_controlling)
        loop.watch(outer, READ, self._on_outer)

    def resize(self) -> None:
        """Make the inner terminal as large as the outer one."""
        if self._controlling >= 0:
            rows, columns = size_of(self._outer)
            fcntl.ioctl(self._controlling, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _on_outer(self, _events: int) -> None:
        data = os.read(self._outer, _READ_BYTES)
        if not data:
            self._loop.unwatch(self._outer)
            return
        self._typed.append(data)
        self._pass_typed()

    def _pass_typed(self) -> None:
        try:
            while self._typed:
                written = os.write(self._controlling, self._typed[0])
                rest = self._typed.popleft()[written:]
                if rest:
                    self._typed.appendleft(rest)
        except BlockingIOError:
            if sum(map(len, self._typed)) > _MOST_TYPED:
                self._typed.clear()  # nobody reads it, as a terminal drops what it can't hold
        except OSError:
            self._typed.clear()
        self._loop.change(self._controlling, READ | (WRITE if self._typed else 0), self._on_controlling)

    def _on_controlling(self, events: int) -> None:
        if events & WRITE and self._typed:
            self._pass_typed()
        if events & ~WRITE and not self._show():
            self._loop.unwatch(self._controlling)

    def _show(self) -> bool:
        """Pass one piece of output on; False when every program has let go of the inner terminal."""
        try:
            data = os.read(self._controlling, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        view = memoryview(data)
        while view:
            view = view[os.write(self._outer, view) :]
        return bool(data)

    def close(self) -> None:
        """Show what is left, and give the caller's terminal back as it was."""
        if self._controlling < 0:
            return
        self._loop.unwatch(self._outer)
        self._loop.unwatch(self._controlling)
        while self._has_more() and self._show():
            continue
        os.close(self._controlling)
        self._controlling = -1
        termios.tcsetattr(self._outer, termios.TCSADRAIN, self._before)

    def _has_more(self) -> bool:
        import select

        return bool(select.select([self._controlling], [], [], 0)[0])
