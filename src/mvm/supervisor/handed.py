"""What of the caller's may become a stream of a workload.

Owns that judgement. A descriptor keeps what it was made with: a socket its network namespace, a directory its
mounts. So a workload that is handed a TCP socket of the host's can connect it anew to wherever the host gets,
and one that is handed a directory walks out of its root by `..`. Must never be passed by on the way to a
backend.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mvm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = ("stdin", "stdout", "stderr")
_FIT = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK})


def check_streams(streams: Sequence[int]) -> None:
    """Refuse streams that lead further than the bytes in them.

    Args:
        streams: descriptors, in the order of their numbers inside.

    Raises:
        UsageError: one is neither a file, a pipe, a device nor one end of a local connection.
    """
    for name, descriptor in zip(_NAMES, streams, strict=False):
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind in _FIT or (kind == stat.S_IFSOCK and _is_local_connection(descriptor)):
            continue
        what = "a socket that can be led elsewhere" if kind == stat.S_IFSOCK else "no file, pipe or terminal"
        raise UsageError(
            f"{name} is {what}, so it is not handed to a workload",
            hint="put a pipe between: … | mvmctl … | cat",
        )


def _is_local_connection(descriptor: int) -> bool:
    """Tell whether a socket is an end of a UNIX connection: the one kind that can't be connected anew."""
    import socket

    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family != socket.AF_UNIX or sock.type not in {socket.SOCK_STREAM, socket.SOCK_SEQPACKET}:
            return False
        try:
            sock.getpeername()
        except OSError:
            return False
        return True
