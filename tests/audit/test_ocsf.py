"""Each kind of record, said in OCSF's words, is what the framework's own schema asks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mvm.audit.ocsf import DNS, ENTITY, LIFECYCLE, NETWORK, milliseconds, to_ocsf
from mvm.audit.record import FIELDS, Kind, make_record
from mvm.audit.run_id import make_run_id
from mvm.audit.timestamp import rfc3339
from tests.support.judges import wrong

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN = make_run_id(1_750_000_000_000, bytes(10))
_AT = 1_750_000_000_123_456_000
_DIGEST = "sha256:" + "ab" * 32
_PLACE = {"host": "api.example", "port": 443, "protocol": "tcp"}

_SAMPLES: Mapping[str, object] = {
    "host": "api.example",
    "granted": "api.example",
    "name": "sample",
    "tool": "web_fetch",
    "address": "2001:db8::7",
    "addresses": ["203.0.113.7", "2001:db8::7"],
    "port": 443,
    "host_port": 8080,
    "guest_port": 80,
    "signature": "ab" * 64,
}
_OF_SHAPE = {
    "name": "api.example",
    "word": "word",
    "words": ["word", "other"],
    "text": "a text",
    "texts": ["a text"],
    "count": 3,
    "status": 1,
    "seconds": 0.25,
    "flag": True,
    "digest": _DIGEST,
    "addresses": ["203.0.113.7"],
}


def full(kind: str) -> dict[str, object]:
    """Fields for every member that a kind may carry."""
    return {
        name: _SAMPLES.get(name, _OF_SHAPE.get(shape.__name__[1:])) for name, shape in FIELDS[kind].items()
    }


def event_of(kind: str, **fields: object) -> dict[str, Any]:
    """Say one record."""
    (event,) = to_ocsf([{**make_record(kind, fields, seq=1, time=rfc3339(_AT), run=_RUN), "prev": _DIGEST}])
    return event


@pytest.mark.parametrize("kind", Kind)
def test_a_record_with_all_its_fields_is_a_valid_event(kind: Kind) -> None:
    """Every kind, with every field that it may carry, and with none."""
    for fields in (full(kind), {}):
        event = event_of(kind, **fields)
        assert wrong(event) == []
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["category_uid"] == event["class_uid"] // 1000


@pytest.mark.parametrize("kind", Kind)
def test_nothing_of_a_record_is_lost(kind: Kind) -> None:
    """Each value that a record carries stands in its event, told of a place or of none."""
    words = [name for name, shape in FIELDS[kind].items() if shape.__name__ == "_word"]
    marks = {name: f"mark-{at}" for at, name in enumerate(words) if name != "decision"}
    places = {name: value for name, value in _PLACE.items() if name in FIELDS[kind] and name not in marks}
    for fields in (marks, {**places, **marks}):
        said = json.dumps(event_of(kind, **fields)).lower()
        assert [name for name, mark in marks.items() if mark not in said] == []


@pytest.mark.parametrize("kind", Kind)
def test_the_schema_refuses_what_it_does_not_know(kind: Kind) -> None:
    """The same event with a member of our own, or without its time, is invalid: the judge does judge."""
    event = event_of(kind, **full(kind))
    assert wrong({**event, "guest_payload": "x"})
    assert wrong({name: value for name, value in event.items() if name != "time"})
    assert wrong({**event, "severity_id": 42})


def test_kinds_have_their_classes() -> None:
    """Network 4001, DNS 4003, lifecycle 6002, entities 3004; a kind each."""
    classes = {str(kind): event_of(kind)["class_uid"] for kind in Kind}
    assert {kind for kind, number in classes.items() if number == NETWORK} == {
        "flow.opened", "flow.closed", "flow.denied", "port.opened",
    }  # fmt: skip
    assert {kind for kind, number in classes.items() if number == DNS} == {"dns.answered", "dns.denied"}
    assert {kind for kind, number in classes.items() if number == LIFECYCLE} == {
        "run.started", "run.ended", "audit.sealed",
    }  # fmt: skip
    assert {kind for kind, number in classes.items() if number == ENTITY} == {
        "grant.decided", "grant.revoked", "grant.expired", "policy.changed",
    }  # fmt: skip


def test_allowed_and_denied_are_said_apart() -> None:
    """A flow that was opened is Open and Allowed, one that was denied Refuse and Denied, with its reason."""
    opened = event_of(Kind.FLOW_OPENED, **_PLACE, flow=7, speaks="tls", address="203.0.113.7")
    denied = event_of(Kind.FLOW_DENIED, **_PLACE, layer="tls", reason="sni-mismatch", count=2)
    assert (opened["activity_name"], opened["action"], opened["disposition"]) == (
        "Open",
        "Allowed",
        "Allowed",
    )
    assert (denied["activity_name"], denied["action"], denied["disposition"]) == (
        "Refuse",
        "Denied",
        "Blocked",
    )
    assert (denied["status_detail"], denied["count"]) == ("sni-mismatch", 2)
    assert opened["dst_endpoint"] == {"hostname": "api.example", "ip": "203.0.113.7", "port": 443}
    assert (opened["connection_info"]["uid"], opened["app_protocol_name"]) == ("7", "tls")


@pytest.mark.parametrize(
    ("cause", "activity"),
    [(None, "Close"), ("guest", "Close"), ("sandbox", "Close"), ("transport", "Fail"), ("policy", "Reset")],
)
def test_a_flow_s_end_is_said_by_its_cause(cause: str | None, activity: str) -> None:
    """By nobody's fault it closed, by the network it failed, by the policy it was reset."""
    event = event_of(Kind.FLOW_CLOSED, **_PLACE, flow=7, up=10, down=20, duration_s=0.5, cause=cause)
    assert event["activity_name"] == activity
    assert (event["traffic"], event["duration"]) == ({"bytes_out": 10, "bytes_in": 20}, 500)


def test_grants_are_entities() -> None:
    """A grant that was given is created and allowed; a tool that was refused is denied."""
    given = event_of(Kind.GRANT_DECIDED, **_PLACE, decision="allowed", reason="why not")
    assert (given["entity"]["name"], given["action"], given["comment"]) == (
        "api.example:443/tcp", "Allowed", "why not",
    )  # fmt: skip
    refused = event_of(Kind.GRANT_DECIDED, decision="denied", tool="web_fetch", code="unknown-tool")
    assert (refused["entity"]["name"], refused["action"]) == ("web_fetch", "Denied")


def test_all_records_of_a_run_are_held_together() -> None:
    """Each event carries the run, its place in the log, and the sandbox's name from the first record on."""
    time, began = rfc3339(_AT), {"name": "sample", "version": "0.1.0"}
    records = [
        make_record(Kind.RUN_STARTED, began, seq=1, time=time, run=_RUN),
        make_record(Kind.DNS_DENIED, {"host": "evil.example"}, seq=2, time=time, run=_RUN),
    ]
    started, denied = to_ocsf(records)
    assert denied["src_endpoint"] == {"uid": _RUN, "name": "sample"}
    assert denied["metadata"]["uid"] == f"{_RUN}:2"
    assert started["metadata"]["product"] == {"name": "mvm", "vendor_name": "mvm", "version": "0.1.0"}
    assert started["metadata"]["correlation_uid"] == denied["metadata"]["correlation_uid"] == _RUN


def test_time_is_in_milliseconds() -> None:
    """A record's time is the framework's, cut below the millisecond; the original stands beside it."""
    assert milliseconds(rfc3339(_AT)) == _AT // 1_000_000
    assert milliseconds("1970-01-01T00:00:00.000999Z") == 0
    assert event_of(Kind.FLOW_OPENED)["metadata"]["original_time"] == rfc3339(_AT)
