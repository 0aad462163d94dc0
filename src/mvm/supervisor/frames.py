"""The wire of the control socket: JSON objects, each with its length in front, and descriptors beside them.

Owns the framing, both ways. Must never interpret a message.
"""

from __future__ import annotations

import json
import os
import socket
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = 4
_LARGEST = 1 << 26
_READ_BYTES = 1 << 16
_MOST_DESCRIPTORS = 16

Message = dict[str, object]


def encode(message: Message) -> bytes:
    """Write one message."""
    data = json.dumps(message).encode()
    return len(data).to_bytes(_LENGTH, "big") + data


def send(sock: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message on a blocking socket.

    Raises:
        OSError: the other end is gone.
    """
    data = encode(message)
    if descriptors:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        sent = sock.sendmsg([data], control)
        data = data[sent:]
    sock.sendall(data)


class Inbox:
    """Messages as they come on one socket.

    Attributes:
        descriptors: those that have come and were not taken yet; whoever takes one owns it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()
        self.descriptors: list[int] = []

    def read(self) -> list[Message] | None:
        """Read once and give the messages that became whole; None at the end.

        Raises:
            BlockingIOError: nothing is there.
            OSError: the socket failed.
            ValueError: what came is no message.
        """
        data, control, _flags, _ = self._sock.recvmsg(
            _READ_BYTES, socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, value in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                given = array("i")
                given.frombytes(value[: len(value) - len(value) % given.itemsize])
                self.descriptors += given
        if not data:
            return None
        self._data += data
        messages: list[Message] = []
        while (message := self._take()) is not None:
            messages.append(message)
        return messages

    def _take(self) -> Message | None:
        if len(self._data) < _LENGTH:
            return None
        size = int.from_bytes(self._data[:_LENGTH], "big")
        if size > _LARGEST:
            msg = "a message of the control socket is too long"
            raise ValueError(msg)
        if len(self._data) < _LENGTH + size:
            return None
        try:
            message = json.loads(self._data[_LENGTH : _LENGTH + size])
        except RecursionError:
            msg = "a message of the control socket is nested too deeply"
            raise ValueError(msg) from None
        del self._data[: _LENGTH + size]
        if not isinstance(message, dict):
            msg = "a message of the control socket is no object"
            raise ValueError(msg)  # noqa: TRY004  it is the other end that is wrong
        return message

    def close(self) -> None:
        """Close the descriptors that nobody took."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []
