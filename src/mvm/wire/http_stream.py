"""Every request of a client's HTTP/1 connection checked, not the first one only (RFC 9112).

Owns following one direction, client to server, from head to body to next head, and saying which bytes may go
on. Must never clear a byte of a request whose Host is not the granted one, a byte behind something that
servers could read differently, or anything behind an Upgrade before the server has agreed to it. Never
changes a byte: what it clears is what came.

    state     takes                         then
    --------  ----------------------------  -------------------------------------------------------------
    HEAD      a whole head                  LENGTH, SIZE, UPGRADE or HEAD again
    LENGTH    the announced bytes, unread   HEAD
    SIZE      a chunk's size line           CHUNK, or TRAILERS after size 0
    CHUNK     the chunk's bytes, unread     EDGE
    EDGE      CR LF                         SIZE
    TRAILERS  trailer fields, empty line    HEAD
    UPGRADE   nothing: holds what comes     OPAQUE or HEAD, as `upgraded` is told
    OPAQUE    everything, unread            -
    FAULT     nothing: raises again         -

An Upgrade is let through as the first request of a connection only: then the first thing the server says is
the answer to it, and whoever asks need not follow the responses before.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import assert_never

from mvm.wire.http_head import MAX_HEAD, NotHttp1, RequestHead, check_fields, read_request_head
from mvm.wire.outcome import Malformed

MAX_SIZE_LINE = 256
"""Bytes of one chunk's size line, extensions included."""

MAX_TRAILERS = 8192
"""Bytes of all trailer fields of one body."""

_CR = 13
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"[\x20\x21\x23-\x5b\x5d-\x7e]*+"))?)*+'
)


class HostMismatch(ValueError):
    """A request of the connection is for another host or port than the granted one.

    Attributes:
        host: the host asked for, as `RequestHead.host`.
        port: the port asked for.
    """

    def __init__(self, host: bytes, port: int) -> None:
        super().__init__("HTTP: Host is not the granted one")
        self.host = host
        self.port = port


class _State(Enum):
    """The table in the module's head."""

    HEAD = auto()
    LENGTH = auto()
    SIZE = auto()
    CHUNK = auto()
    EDGE = auto()
    TRAILERS = auto()
    UPGRADE = auto()
    OPAQUE = auto()
    FAULT = auto()


class RequestStream:
    """Reads what a client sends on one connection, and clears what is for the granted host.

    Args:
        host: the granted host as `RequestHead.host` gives it.
        port: the granted port, 1 to 65535.
        ports_default: the port that a Host without one means.

    Attributes:
        blind: following bytes that need no look (the rest of a body or chunk); tell `skip` when some of them
            were relayed past this reader.
        cleared_before_fault: set when `feed` raises: bytes of that call that belong to good requests before
            the fault and may still go on.
    """

    __slots__ = (
        "_fault",
        "_held",
        "_host",
        "_port",
        "_ports_default",
        "_requests",
        "_state",
        "blind",
        "cleared_before_fault",
    )

    def __init__(self, *, host: bytes, port: int, ports_default: int = 80) -> None:
        self._host = host
        self._port = port
        self._ports_default = ports_default
        self._state = _State.HEAD
        self._held = b""
        self._requests = 0
        self._fault: Malformed | HostMismatch | None = None
        self.blind = 0
        self.cleared_before_fault = b""

    @property
    def opaque(self) -> bool:
        """Whether the server agreed to another protocol, so that no byte needs a look any more."""
        return self._state is _State.OPAQUE

    @property
    def awaiting_upgrade(self) -> bool:
        """Whether everything is held until `upgraded` tells how the server answered."""
        return self._state is _State.UPGRADE

    @property
    def idle(self) -> bool:
        """Whether the connection is between requests, so that its end cuts none."""
        return self._state is _State.HEAD and not self._held

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the client.

        Args:
            data: any number of bytes, cut anywhere.

        Returns:
            Bytes that may go to the server now, in order; an unfinished head or chunk line stays inside.

        Raises:
            HostMismatch: a request names another host or port.
            NotHttp1: CONNECT, another version or protocol, or an Upgrade that is not let through.
            Malformed: anything broken or ambiguous, or more than is held.
        """
        if self._state is _State.OPAQUE:
            return data
        if self._fault is not None:
            self.cleared_before_fault = b""
            raise self._fault
        if self._held and self._state is _State.HEAD and self._stays_unfinished(data):
            self._held += data
            return b""
        buffer = self._held + data if self._held else data
        at = 0
        try:
            while (after := self._step(buffer, at)) is not None:
                at = after
        except (Malformed, HostMismatch) as fault:
            self._state, self._fault = _State.FAULT, fault
            self._held, self.blind = b"", 0
            self.cleared_before_fault = buffer[:at]
            raise
        self._held = buffer[at:]
        return buffer[:at]

    def skip(self, count: int) -> None:
        """Say that `count` of the `blind` bytes (or of an opaque stream) went to the server by another way.

        Raises:
            ValueError: more than `blind`: bytes that need a look were relayed without one.
        """
        if self._state is _State.OPAQUE:
            return
        if not 0 <= count <= self.blind:
            raise ValueError("bytes were relayed unseen that needed a look")
        self._take_blind(count)

    def upgraded(self, accepted: bool) -> bytes:  # noqa: FBT001 - the one thing it says
        """Say how the server answered the Upgrade.

        Args:
            accepted: True for 101: everything is opaque from here on; False for any other final status.

        Returns:
            Bytes that were held and may go to the server now.

        Raises:
            ValueError: nothing was awaited.
            HostMismatch, NotHttp1, Malformed: as `feed`, for held bytes that are read as HTTP after all.
        """
        if self._state is not _State.UPGRADE:
            raise ValueError("no Upgrade is awaited")
        held, self._held = self._held, b""
        if accepted:
            self._state = _State.OPAQUE
            return held
        self._state = _State.HEAD
        return self.feed(held)

    def _stays_unfinished(self, data: bytes) -> bool:
        """Whether no line ends in `data`: then a look at the head again would cost and tell nothing."""
        return b"\n" not in data and len(self._held) + len(data) < MAX_HEAD

    def _step(self, buffer: bytes, at: int) -> int | None:
        """Go one row of the table further: the position behind what may go on, or None for want of bytes."""
        match self._state:
            case _State.HEAD:
                return self._read_head(buffer, at)
            case _State.LENGTH | _State.CHUNK:
                count = min(self.blind, len(buffer) - at)
                self._take_blind(count)
                return at + count if count else None
            case _State.SIZE:
                return self._read_size(buffer, at)
            case _State.EDGE:
                return self._read_edge(buffer, at)
            case _State.TRAILERS:
                return self._read_trailers(buffer, at)
            case _State.UPGRADE | _State.OPAQUE | _State.FAULT:
                if len(buffer) - at > MAX_HEAD:
                    raise Malformed("HTTP: too much sent before the answer to an Upgrade")
                return None
            case _:
                assert_never(self._state)

    def _take_blind(self, count: int) -> None:
        """Count bytes of a body or chunk; at its end go on."""
        self.blind -= count
        if not self.blind:
            self._state = _State.EDGE if self._state is _State.CHUNK else _State.HEAD

    def _read_head(self, buffer: bytes, at: int) -> int | None:
        """Check one whole request head and say what follows it."""
        head = read_request_head(buffer[at : at + MAX_HEAD])
        if head is None:
            return None
        port = self._ports_default if head.port is None else head.port
        if head.host != self._host or port != self._port:
            raise HostMismatch(head.host, port)
        if head.upgrade is not None:
            self._check_upgrade(head)
            self._state = _State.UPGRADE
        elif head.chunked:
            self._state = _State.SIZE
        elif head.content_length:
            self._state, self.blind = _State.LENGTH, head.content_length
        self._requests += 1
        return at + head.size

    def _check_upgrade(self, head: RequestHead) -> None:
        """WebSocket only (RFC 6455 section 4.1), first on its connection and without a body."""
        if head.upgrade != b"websocket":
            raise NotHttp1("HTTP: an Upgrade to something other than WebSocket")
        if self._requests or head.method != b"GET" or head.chunked or head.content_length:
            raise NotHttp1("HTTP: an Upgrade that is not a plain GET and the first of its connection")

    def _read_size(self, buffer: bytes, at: int) -> int | None:
        """One chunk's size line (RFC 9112 section 7.1)."""
        end = buffer.find(b"\n", at, at + MAX_SIZE_LINE)
        if end < 0:
            if len(buffer) - at >= MAX_SIZE_LINE:
                raise Malformed("HTTP: a chunk size line longer than 256")
            return None
        match = _SIZE_LINE.fullmatch(buffer, at, max(at, end - 1))
        if match is None or buffer[end - 1] != _CR:
            raise Malformed("HTTP: no chunk size line")
        self.blind = int(match[1], 16)
        self._state = _State.CHUNK if self.blind else _State.TRAILERS
        return end + 1

    def _read_edge(self, buffer: bytes, at: int) -> int | None:
        """The CR LF behind a chunk."""
        edge = buffer[at : at + 2]
        if not b"\r\n".startswith(edge):
            raise Malformed("HTTP: a chunk longer than its size")
        if len(edge) < 2:  # CR LF
            return None
        self._state = _State.SIZE
        return at + 2

    def _read_trailers(self, buffer: bytes, at: int) -> int | None:
        """The fields after the last chunk, if any, and the empty line."""
        if buffer.startswith(b"\r\n", at):
            self._state = _State.HEAD
            return at + 2
        end = buffer.find(b"\r\n\r\n", at, at + MAX_TRAILERS)
        if end < 0:
            if len(buffer) - at >= MAX_TRAILERS:
                raise Malformed("HTTP: trailer fields longer than 8 KiB")
            return None
        check_fields(buffer[at : end + 2])
        self._state = _State.HEAD
        return end + 4
