"""The framing of the control socket, whole, in pieces and hostile."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from mvm.supervisor.frames import Inbox, encode, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.supervisor.frames import Message

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_whole_and_in_order_however_they_are_cut(pair: Pair) -> None:
    """A byte at a time gives the same messages as all at once."""
    ours, theirs = pair
    inbox = Inbox(theirs)
    wanted: list[Message] = [{"do": "describe"}, {"text": "ü" * 300}, {}]
    seen: list[Message] = []
    for byte in b"".join(map(encode, wanted)):
        ours.sendall(bytes([byte]))
        seen += inbox.read() or []
    assert seen == wanted


def test_the_end_of_the_other_side_is_told_apart_from_silence(pair: Pair) -> None:
    """None at the end, an empty list while a message is not whole, BlockingIOError where nothing came."""
    ours, theirs = pair
    theirs.setblocking(False)
    inbox = Inbox(theirs)
    with pytest.raises(BlockingIOError):
        inbox.read()
    ours.sendall(b"\0\0")
    assert inbox.read() == []
    ours.close()
    assert inbox.read() is None


def test_descriptors_come_beside_their_message_and_are_not_inherited(pair: Pair) -> None:
    """What is sent is the same open file, and closes on exec."""
    ours, theirs = pair
    inbox = Inbox(theirs)
    read, write = os.pipe()
    send(ours, {"do": "exec"}, [write])
    os.close(write)
    assert inbox.read() == [{"do": "exec"}]
    (received,) = inbox.descriptors
    assert not os.get_inheritable(received)
    os.write(received, b"x")
    assert os.read(read, 1) == b"x"
    inbox.close()
    assert os.read(read, 1) == b""
    os.close(read)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\x02[]", b"\0\0\0\x01{", b"\0\0\0\x04\xff\xff\xff\xff"]
)
def test_what_is_no_message_is_refused(pair: Pair, data: bytes) -> None:
    """A length beyond all bounds, a list, a torn object, bytes that are no text."""
    ours, theirs = pair
    ours.sendall(data)
    with pytest.raises(ValueError, match=r"."):
        Inbox(theirs).read()


def test_what_is_nested_too_deeply_is_refused_as_what_is_no_message(pair: Pair) -> None:
    """The supervisor goes on: found by fuzzing, where the reader of JSON fell."""
    ours, theirs = pair
    deep = b'{"a":' * 20000
    ours.sendall(len(deep).to_bytes(4, "big") + deep)
    inbox = Inbox(theirs)
    assert inbox.read() == []
    with pytest.raises(ValueError, match="nested too deeply"):
        inbox.read()
