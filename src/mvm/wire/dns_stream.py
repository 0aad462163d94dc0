"""DNS over TCP: messages with their length in front (RFC 1035 section 4.2.2, RFC 7766 section 8).

Owns the cutting of one direction of one connection into messages. Must never hold more than one message
that is not whole, and never look inside one.
"""

from __future__ import annotations

from mvm.wire.outcome import Malformed

_LENGTH = 2
_HEADER = 12


def frame(message: bytes) -> bytes:
    """Put the length in front of a message of at most 65535 bytes."""
    return len(message).to_bytes(_LENGTH, "big") + message


class MessageStream:
    """Cuts received bytes into whole messages.

    Args:
        limit: bytes that one message may take, 12 to 65535.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, *, limit: int) -> None:
        self._held = b""
        self._limit = limit

    @property
    def waiting(self) -> bool:
        """Whether the beginning of a message is held, so that the end of the connection would cut it."""
        return bool(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes.

        Args:
            data: any number of bytes, cut anywhere.

        Returns:
            The messages that became whole, without their lengths, in order; often none.

        Raises:
            Malformed: a length below a header's 12 bytes or above the limit. Messages before it in the same
                `data` are lost: the connection is to be closed.
        """
        buffer = self._held + data
        messages: list[bytes] = []
        at = 0
        while len(buffer) >= at + _LENGTH:
            size = buffer[at] << 8 | buffer[at + 1]
            if not _HEADER <= size <= self._limit:
                self._held = b""
                raise Malformed("DNS over TCP: a length outside the bounds")
            if len(buffer) < at + _LENGTH + size:
                break
            messages.append(buffer[at + _LENGTH : at + _LENGTH + size])
            at += _LENGTH + size
        self._held = buffer[at:]
        return messages
