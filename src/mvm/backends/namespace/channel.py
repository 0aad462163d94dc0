"""The messages between the supervisor and the two processes of a sandbox: one packet each, with descriptors.

Owns their framing. What goes in is trusted and written by marshal(3py); what comes out of the
sandbox is not, and is read as a fixed header and text, never as objects.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
from array import array
from typing import TYPE_CHECKING

from mvm.plan.plan import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

# From the keeper and from init:
DOOR, SOCKETS, FAILED = 1, 2, 3
READY, STARTED, EXITED, NOT_STARTED = 4, 5, 6, 7
# To the keeper and to init:
GO, MAKE_SOCKETS, SPAWN, SIGNAL = 8, 9, 10, 11

_HEADER = struct.Struct("=Bii")
_LARGEST = 1 << 16
_IN_A_FILE = 0x80
_MOST_DESCRIPTORS = 128
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one channel; packets stay whole and in order."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(
    sock: socket.socket,
    kind: int,
    number: int = 0,
    *,
    value: int = 0,
    text: bytes = b"",
    descriptors: Sequence[int] = (),
) -> None:
    """Send one message; a text that is too long for a packet travels as a memory file.

    Raises:
        OSError: the other end is gone.
    """
    if len(text) > _LARGEST:
        with open(os.memfd_create("mvm", os.MFD_CLOEXEC), "wb") as file:
            file.write(text)
            file.flush()
            send(sock, kind | _IN_A_FILE, number, value=value, descriptors=(*descriptors, file.fileno()))
        return
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    sock.sendmsg([_HEADER.pack(kind, number, value), text], control, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[int, int, int, bytes, list[int]] | None:
    """Take one message: kind, number, value, text and descriptors; None when the other end is gone.

    Raises:
        BlockingIOError: the socket does not block and none is there.
        OSError: the channel is broken; a malformed message counts as that.
    """
    try:
        data, control, _flags, _ = sock.recvmsg(
            _LARGEST + _HEADER.size, _ROOM_FOR_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionError:
        return None
    descriptors = array("i")
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) - len(value) % descriptors.itemsize])
    if len(data) < _HEADER.size:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    kind, number, value = _HEADER.unpack_from(data)
    text, given = data[_HEADER.size :], list(descriptors)
    if kind & _IN_A_FILE:
        with os.fdopen(given.pop(), "rb") as opened:
            opened.seek(0)
            text = opened.read()
    return kind & ~_IN_A_FILE, number, value, text, given


def write_failure(error: BaseException) -> bytes:
    """Spell for people why something could not be made."""
    if not isinstance(error, OSError):
        text = f"{type(error).__name__}: {error}"
    else:
        place = f"{error.filename}: " if error.filename is not None else ""
        text = f"{place}{error.strerror or error}"
    return text.encode(errors="replace")[:4096]


def write_command(command: Command) -> bytes:
    """Spell a command for init."""
    return marshal.dumps(tuple(command))


def write_limits(limits: Sequence[tuple[int, int]]) -> bytes:
    """Spell rlimits for init."""
    return marshal.dumps(list(limits))


def read_limits(text: bytes) -> list[tuple[int, int]]:
    """Read rlimits that the supervisor wrote."""
    limits: list[tuple[int, int]] = marshal.loads(text)  # noqa: S302  as `read_command`
    return limits


def read_command(text: bytes) -> Command:
    """Read a command that the supervisor wrote."""
    return Command(*marshal.loads(text))  # noqa: S302  only ever read inside, from the one who made it
