"""UNIX sockets of the host, made by the tests and counting who comes.

Owns their making and taking away. Must never answer anybody.
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

KINDS = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}


class HostSocket:
    """A UNIX socket of the host that anybody may connect to."""

    def __init__(self, name: str, kind: socket.SocketKind) -> None:
        self.name, self._kind = name, kind
        self._sock = socket.socket(socket.AF_UNIX, kind)
        self._sock.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        if not name.startswith("@"):
            Path(name).chmod(0o777)
        if kind != socket.SOCK_DGRAM:
            self._sock.listen()
        self._sock.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def arrived(self) -> int:
        """How often somebody has come since this was last asked."""
        found = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                if self._kind == socket.SOCK_DGRAM:
                    self._sock.recv(64)
                else:
                    self._sock.accept()[0].close()
                found += 1
        return found

    def knock(self) -> None:
        """Come from the host itself."""
        with socket.socket(socket.AF_UNIX, self._kind) as client:
            client.connect(f"\0{self.name[1:]}" if self.name.startswith("@") else self.name)
            client.send(b"x")

    def close(self) -> None:
        """Take it away."""
        self._sock.close()
        if not self.name.startswith("@"):
            Path(self.name).unlink(missing_ok=True)
