"""The helper process: holds the gateways of all sandboxes that this process has started, and dies with it.

Owns starting it and asking it for sandboxes. A fork gets a helper of its own, and lets go of its parent's:
otherwise sandboxes would live on after the process that started them, for as long as a fork of it does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from mvm.errors import AuditError, BackendUnavailable, Finding, MvmError, PolicyRefused, UsageError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

_NEEDED = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
_NEEDED_KINDS = ("LC_", "MVM_", "PYTHON", "XDG_")


class Helper:
    """The one helper process of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # a thread that is not in the fork may have held the other
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def start(self, request: dict[str, object], environ: Mapping[str, str]) -> dict[str, Any]:
        """Have a sandbox started.

        Args:
            request: what `Request.to_json` gives.
            environ: the caller's environment.

        Raises:
            BackendUnavailable, UsageError, PolicyRefused, AuditError: as the helper says.
        """
        message: dict[str, object] = {
            "do": "start",
            "request": request,
            "environ": dict(environ),
            "cwd": os.getcwd(),
        }
        with self._lock:
            stood = self._channel is not None
            answer = self._ask(message)
            if answer is None and stood:  # it was killed some time ago, and what it held is gone
                answer = self._ask(message)
        if answer is None:
            msg = "the helper process of mvm has ended"
            raise BackendUnavailable(msg, hint="its last words are on stderr")
        if "error" in answer:
            _raise(answer)
        return answer

    def _ask(self, message: dict[str, object]) -> dict[str, Any] | None:
        """Ask something; None where the helper ends without an answer."""
        from mvm.supervisor.frames import Inbox, send

        channel = self._connected()
        inbox = Inbox(channel)
        try:
            send(channel, message)
            while not (messages := inbox.read()):
                if messages is None:
                    self._forget()
                    return None
        except OSError:
            self._forget()
            return None
        return messages[0]

    def _connected(self) -> socket.socket:
        import socket

        if self._channel is None:
            ours, theirs = socket.socketpair()
            with theirs:
                words = [sys.executable, "-m", "mvm.supervisor", str(theirs.fileno())]
                source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
                environ = _of_a_program(os.environ)
                environ["PYTHONPATH"] = _joined(source, os.environ.get("PYTHONPATH"))
                self._process = subprocess.Popen(
                    words,
                    pass_fds=[theirs.fileno()],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._channel = ours
        return self._channel

    def close(self) -> None:
        """End it, with all sandboxes that it holds; the next one starts another."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._process.wait()
        self._channel = None


def _of_a_program(environ: Mapping[str, str]) -> dict[str, str]:
    """What the helper itself needs: a caller's secrets come with each request, and show nowhere in /proc."""
    return {
        name: value for name, value in environ.items() if name in _NEEDED or name.startswith(_NEEDED_KINDS)
    }


def _joined(first: str, rest: str | None) -> str:
    return first if not rest else f"{first}{os.pathsep}{rest}"


def _raise(answer: Mapping[str, Any]) -> NoReturn:
    if answer.get("findings"):
        raise PolicyRefused([Finding(*words) for words in answer["findings"]])
    kinds: dict[int, type[MvmError]] = {64: UsageError, 69: BackendUnavailable, 74: AuditError}
    raise kinds.get(int(answer["exit"]), MvmError)(str(answer["error"]), hint=str(answer["hint"]))


HELPER = Helper()
"""The one of this process."""
