"""The helper process: holds the gateways of all sandboxes that this process has started, and dies with it.

Owns starting it and asking it for sandboxes. A fork gets a helper of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from mvm.errors import AuditError, BackendUnavailable, MvmError, UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping


class Helper:
    """The one helper process of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._owner = 0

    def start(self, request: dict[str, object]) -> dict[str, Any]:
        """Have a sandbox started.

        Raises:
            BackendUnavailable, UsageError, AuditError: as the helper says.
        """
        from mvm.supervisor.frames import Inbox, send

        with self._lock:
            channel = self._connected()
            inbox = Inbox(channel)
            try:
                send(channel, {"do": "start", "request": request})
                while not (messages := inbox.read()):
                    if messages is None:
                        self._forget()
                        msg = "the helper process of mvm has ended"
                        raise BackendUnavailable(msg, hint="its last words are on stderr")
            except OSError as error:
                self._forget()
                msg = f"the helper process of mvm is gone: {error.strerror}"
                raise BackendUnavailable(msg, hint="start the sandbox again") from error
        answer: dict[str, Any] = messages[0]
        if "error" in answer:
            _raise(answer)
        return answer

    def _connected(self) -> socket.socket:
        import socket

        if self._channel is None or self._owner != os.getpid():  # a fork has a helper of its own
            ours, theirs = socket.socketpair()
            with theirs:
                words = [sys.executable, "-m", "mvm.supervisor", str(theirs.fileno())]
                source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
                environ = {**os.environ, "PYTHONPATH": _joined(source, os.environ.get("PYTHONPATH"))}
                self._process = subprocess.Popen(
                    words,
                    pass_fds=[theirs.fileno()],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._channel, self._owner = ours, os.getpid()
        return self._channel

    def _forget(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._process.wait()
        self._channel = None


def _joined(first: str, rest: str | None) -> str:
    return first if not rest else f"{first}{os.pathsep}{rest}"


def _raise(answer: Mapping[str, Any]) -> NoReturn:
    kinds: dict[int, type[MvmError]] = {64: UsageError, 69: BackendUnavailable, 74: AuditError}
    raise kinds.get(int(answer["exit"]), MvmError)(str(answer["error"]), hint=str(answer["hint"]))


HELPER = Helper()
"""The one of this process."""
