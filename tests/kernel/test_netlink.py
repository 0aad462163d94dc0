"""Netlink framing: what is built reads back, errors name the request, and no answer is left for the next."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.kernel import netlink

_attributes = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8)


@given(_attributes)
def test_attributes_read_back(pairs: list[tuple[int, bytes]]) -> None:
    """Any kinds and values, padded to four bytes each, nested or not."""
    flat = b"".join(netlink.attribute(kind, value) for kind, value in pairs)
    assert list(netlink.attributes(flat)) == pairs
    assert len(flat) % 4 == 0
    nested = netlink.nested(7, *(netlink.attribute(kind, value) for kind, value in pairs))
    ((kind, value),) = netlink.attributes(nested)
    assert (kind, list(netlink.attributes(value))) == (7, pairs)


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=5)
)
def test_messages_read_back(sent: list[tuple[int, int, bytes]]) -> None:
    """Several in one datagram, each aligned."""
    data = b""
    for kind, sequence, body in sent:
        one = netlink.message(kind, 0, sequence, body)
        data += one + bytes(-len(one) % 4)
    assert list(netlink.messages(data)) == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    """What the kernel would never send neither raises nor loops."""
    list(netlink.attributes(data))
    list(netlink.messages(data))


def _answer(sequence: int, code: int) -> bytes:
    return netlink.message(netlink.NLMSG_ERROR, 0, sequence, struct.pack("=i", -code) + bytes(16))


@pytest.mark.parametrize(
    ("answers", "failure"),
    [
        ([(1, 0), (2, 0), (3, 0)], None),
        ([(1, 0), (2, 17), (3, 0)], "second"),
        ([(1, 2), (2, 17), (3, 0)], "first"),
        ([(0, 1)], "netlink batch"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_first_refusal_is_named_and_every_answer_read(
    answers: list[tuple[int, int]], failure: str | None, together: bool
) -> None:
    """In one datagram or several; a refusal of the whole batch ends the waiting too."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernel:
        said = [_answer(*answer) for answer in answers]
        for part in [b"".join(said)] if together else said:
            kernel.send(part)
        kernel.send(b"the next answer")
        requests = [netlink.message(1, 0, at, b"") for at in (1, 2, 3)]
        if failure is None:
            netlink.transact(ours, requests, ["first", "second", "third"])
        else:
            with pytest.raises(OSError, match=failure):
                netlink.transact(ours, requests, ["first", "second", "third"])
        assert ours.recv(100) == b"the next answer"
