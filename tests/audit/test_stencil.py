"""Lines cut by a stencil are, byte for byte, the lines that are composed one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.audit.chain import link
from mvm.audit.record import make_record
from mvm.audit.stencil import Stencils

RUN = "01JXT21Q00000G40R40M30E209"
_TIME = "2025-01-31T23:59:59.000001Z"
_names = st.sampled_from(["api.example.com", "93.184.215.14", "2001:db8::7", "xn--bcher-kva.example"])
_counts = st.integers(0, 2**53 - 1)
_addresses = st.lists(st.sampled_from(["93.184.215.14", "2606:2800:220:1::b"]), max_size=3).map(tuple)
_prevs = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)
_PLACE = {
    "flow": _counts,
    "host": _names,
    "port": st.integers(0, 65535),
    "protocol": st.sampled_from(["tcp", "udp"]),
}
_opened = st.fixed_dictionaries(
    {**_PLACE, "speaks": st.sampled_from(["tls", "http", None]), "addresses": _addresses}
)
_closed = st.fixed_dictionaries(
    {
        **_PLACE,
        "address": st.sampled_from(["93.184.215.14", None]),
        "up": _counts,
        "down": _counts,
        "duration_s": st.floats(0, 1e9).map(lambda seconds: round(seconds, 6)),
        "cause": st.sampled_from([None, "policy", "guest"]),
        "reason": st.sampled_from([None, "revoked"]),
        "error": st.sampled_from([None, "reset"]),
    }
)
_records = st.tuples(st.just("flow.opened"), _opened) | st.tuples(st.just("flow.closed"), _closed)


@given(records=st.lists(_records, min_size=1, max_size=6), prev=_prevs, seq=st.integers(1, 2**53 - 9))
def test_a_cut_line_is_the_composed_one(
    records: list[tuple[str, dict[str, object]]], prev: str, seq: int
) -> None:
    """Whatever is recorded of flows, in whatever order, a stencil gives what `link` does."""
    stencils = Stencils(RUN)
    for number, (kind, fields) in enumerate(records):
        composed, _ = link(prev, make_record(kind, fields, seq=seq + number, time=_TIME, run=RUN))
        assert stencils.line(kind, fields, seq=seq + number, time=_TIME, prev=prev) == composed[:-1]


_FLOW: dict[str, object] = {"flow": 1, "host": "a.example", "port": 1, "protocol": "tcp"}
_FLOW |= {"speaks": None, "addresses": ()}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("run.ended", {}),
        ("flow.opened", {**_FLOW, "private": True}),
        ("flow.opened", {key: value for key, value in _FLOW.items() if key != "speaks"}),
        ("flow.opened", {**_FLOW, "flow": 1.5}),
        ("flow.opened", {**_FLOW, "flow": True}),
        ("flow.opened", {**_FLOW, "flow": -1}),
        ("flow.opened", {**_FLOW, "addresses": []}),
    ],
)
def test_what_has_no_stencil_is_left_to_the_composer(kind: str, fields: dict[str, object]) -> None:
    """Another kind, another field, a count that is none: whether it may be written is told elsewhere."""
    stencils = Stencils(RUN)
    assert stencils.line("flow.opened", _FLOW, seq=1, time=_TIME, prev="sha256:0") is not None
    assert stencils.line(kind, fields, seq=2, time=_TIME, prev="sha256:0") is None


@pytest.mark.parametrize(
    "change",
    [{"host": "a b"}, {"host": '"'}, {"port": 70000}, {"protocol": "\u2043hole\u2043"}, {"speaks": "%s"}],
)
def test_what_no_record_may_hold_is_refused(change: dict[str, object]) -> None:
    """A value that is not of its field's shape is refused here as it is there."""
    with pytest.raises(ValueError, match="does not have the shape"):
        Stencils(RUN).line("flow.opened", {**_FLOW, **change}, seq=1, time=_TIME, prev="sha256:0")
