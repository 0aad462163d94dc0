"""DNS over TCP is cut into messages wherever the segments were cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.wire.dns_stream import MessageStream, frame
from mvm.wire.outcome import Malformed

messages = st.lists(st.binary(min_size=12, max_size=40), max_size=5)


@given(messages, st.lists(st.integers(0, 250), max_size=6), st.binary(max_size=1))
def test_messages_come_out_as_they_were_framed(sent: list[bytes], cuts: list[int], behind: bytes) -> None:
    """Cut anywhere, with half a length behind them."""
    data = b"".join(map(frame, sent)) + behind
    stream = MessageStream(limit=4096)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    received = [message for start, end in pairwise(bounds) for message in stream.feed(data[start:end])]
    assert received == sent
    assert stream.waiting is bool(behind)


def test_a_message_byte_by_byte_comes_out_at_its_last() -> None:
    """Not before, and once."""
    stream = MessageStream(limit=4096)
    framed = frame(bytes(range(20)))
    outcomes = [stream.feed(framed[at : at + 1]) for at in range(len(framed))]
    assert outcomes == [[]] * (len(framed) - 1) + [[bytes(range(20))]]


@pytest.mark.parametrize(("size", "fits"), [(12, True), (4096, True), (0, False), (11, False), (4097, False)])
def test_a_length_outside_the_bounds_is_refused_at_once(size: int, fits: bool) -> None:
    """Before a byte of the message came."""
    stream = MessageStream(limit=4096)
    if fits:
        assert stream.feed(size.to_bytes(2, "big")) == []
    else:
        with pytest.raises(Malformed):
            stream.feed(size.to_bytes(2, "big"))
