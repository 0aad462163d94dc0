"""The control socket of one running sandbox, server side: who may speak.

Owns the listening end. Only the user whose sandbox it is, from outside of all sandboxes, and root are heard
(SO_PEERCRED). It lies outside of the sandbox: nothing inside can reach it. What is said is
`supervisor.conversation`'s.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from mvm.gateway.loop import READ

if TYPE_CHECKING:
    from mvm.supervisor.conversation import Connection
    from mvm.supervisor.frames import Message
    from mvm.supervisor.story import Sandbox


class Control:
    """The listening end.

    Args:
        sandbox: whose.
        listener: not blocking; owned from now on.
    """

    def __init__(self, sandbox: Sandbox, listener: socket.socket) -> None:
        self._sandbox, self._listener = sandbox, listener
        self._connections: list[Connection] = []
        sandbox.supervisor.loop.watch(listener.fileno(), READ, self._on_accept)

    def _on_accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # the caller has gone, or there is no descriptor left: it may come again
        if not is_heard(sock):
            sock.close()
            return
        from mvm.supervisor.conversation import Connection

        self._connections.append(Connection(self._sandbox, sock, self._connections.remove))

    def stop_listening(self) -> None:
        """Hear nobody new."""
        if self._listener.fileno() >= 0:
            self._sandbox.supervisor.loop.forget(self._listener.fileno())
            self._listener.close()

    def close(self, result: Message) -> None:
        """Tell whoever waits how it ended, and hear nobody any more."""
        self.stop_listening()
        for connection in tuple(self._connections):
            connection.farewell(result)


def is_heard(sock: socket.socket) -> bool:
    """Tell whether the peer is root, or this user and in no sandbox: a workload may be this user too."""
    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    pid, uid, _ = struct.unpack("iII", peer)
    own = os.geteuid()
    return uid == 0 != own or (uid == own and _is_in_own_user_namespace(pid))


def _is_in_own_user_namespace(pid: int) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/user"), os.stat("/proc/self/ns/user"))
    except PermissionError:  # it has capabilities that we have not, or is not dumpable (ptrace(2))
        return is_in_own_pid_namespace(pid)
    except OSError:  # it has gone
        return False


def is_in_own_pid_namespace(pid: int) -> bool:
    """Tell it from what everybody may read: a workload is always in one below ours (`NSpid`, proc(5))."""
    try:
        depths = [_pid_numbers(each) for each in (str(pid), "self")]
    except (OSError, StopIteration):
        return False
    return depths[0] == depths[1]


def _pid_numbers(process: str) -> int:
    with open(f"/proc/{process}/status", encoding="ascii", errors="replace") as file:
        return len(next(line for line in file if line.startswith("NSpid:")).split())
