"""A command on a terminal of 33 rows and 77 columns, and a test that types at it and reads it.

Owns the terminal. What the command printed is read as a person would see it arrive.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.support.mvmctl import Mvmctl

_LIMIT_S = 20.0


class OnTerminal:
    """A command whose stdin, stdout and stderr are one terminal; a context manager that ends it.

    Attributes:
        process: the command, at the head of its own session, whose controlling terminal this is.
    """

    def __init__(self, mvmctl: Mvmctl, *words: str) -> None:
        """Start it. Raises OSError."""
        self._controller, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        self._said = b""
        self.process = subprocess.Popen(
            [*mvmctl.command, *words],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=mvmctl.environment(),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Give the command itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what still runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)
        os.close(self._controller)

    def type(self, data: bytes) -> None:
        """Type something."""
        os.write(self._controller, data)

    def resize(self, rows: int, columns: int) -> None:
        """Make the terminal another size, and let the command know as a terminal emulator does."""
        import signal

        fcntl.ioctl(self._controller, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    @property
    def modes(self) -> list[object]:
        """The terminal's modes now, as `before` has those of the beginning (termios(3))."""
        return list(termios.tcgetattr(self._terminal))

    def until(self, text: str) -> str:
        """Wait until the screen has had `text`; gives all of it so far. Raises TimeoutError."""
        deadline = time.monotonic() + _LIMIT_S
        while text.encode() not in self._said:
            self._read(deadline)
        return self._said.decode(errors="backslashreplace")

    def finish(self) -> int:
        """Wait for the end; gives the status. Raises TimeoutError."""
        deadline = time.monotonic() + _LIMIT_S
        while self.process.poll() is None:
            if select.select([self._controller], [], [], 0.05)[0]:
                self._read(deadline)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"it does not end: {self._said!r}")
        return self.process.returncode

    def _read(self, deadline: float) -> None:
        if not select.select([self._controller], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"the screen has {self._said!r}")
        self._said += os.read(self._controller, 1 << 16)
