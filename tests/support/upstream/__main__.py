"""Entry of the process that is the fake internet; see the package."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from pathlib import Path

from tests.support import namespaces
from tests.support.upstream import wiring
from tests.support.upstream.control import Control


def main() -> None:
    """Make the namespace, say so, wait for the wire, serve. Raises OSError."""
    control = socket.socket(fileno=int(sys.argv[1]))
    directory = Path(sys.argv[2])
    namespaces.unshare(namespaces.CLONE_NEWNET)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    control.sendall(f"{os.getpid()}\n".encode())
    if not control.recv(1):
        return
    wiring.wire_up()
    asyncio.run(_serve(control, directory))


async def _serve(control: socket.socket, directory: Path) -> None:
    await Control(directory).obey(control)


main()
