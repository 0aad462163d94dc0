"""What a record may carry, and that everything else is refused without being repeated."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvm.audit.record import FIELDS, SCHEMA, Kind, check_record, make_record, spell_name
from mvm.canonical import encode

RUN = "01JZ0000000000000000000000"
TIME = "2025-01-31T23:59:59.000001Z"
DIGEST = "sha256:" + "a" * 64
SECRET = "s3cr3t-t0ken?x=1"  # noqa: S105  it stands for one


def record_of(kind: str, **fields: object) -> dict[str, object]:
    """Make the first record of a run."""
    return make_record(kind, fields, seq=1, time=TIME, run=RUN)


def test_kinds_are_those_of_the_specification() -> None:
    """The table has exactly the thirteen kinds of SPEC section 6."""
    words = (
        "run.started run.ended grant.decided grant.revoked grant.expired dns.answered dns.denied flow.opened "
        "flow.closed flow.denied port.opened policy.changed audit.sealed"
    )
    assert sorted(words.split()) == sorted(FIELDS) == sorted(Kind)


def test_a_record_carries_head_and_fields() -> None:
    """A record has its head, the fields given, and not those that are None."""
    assert record_of("flow.opened", flow=7, host="api.example", port=443, address=None) == {
        "schema": SCHEMA,
        "seq": 1,
        "time": TIME,
        "run": RUN,
        "kind": "flow.opened",
        "flow": 7,
        "host": "api.example",
        "port": 443,
    }


@pytest.mark.parametrize("kind", sorted(FIELDS))
@pytest.mark.parametrize(
    "field",
    [
        "payload",
        "path",
        "url",
        "headers",
        "header",
        "query",
        "body",
        "cookie",
        "token",
        "password",
        "env",
        "argv",
    ],
)
def test_no_kind_has_a_field_for_content(kind: str, field: str) -> None:
    """No kind of record carries payload, paths, headers, query strings or secrets."""
    with pytest.raises(ValueError, match="carries only") as caught:
        record_of(kind, **{field: SECRET})
    assert SECRET not in str(caught.value)
    assert record_of(kind)["kind"] == kind


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("host", "api.example", "https://api.example/a"),
        ("host", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("host", r"odd\032name", "user@host"),
        ("host", "2001:db8::1", "api.example?q=1"),
        ("host", "a" * 1024, "a" * 1025),
        ("host", "a", ""),
        ("address", "203.0.113.7", "203.0.113.7/24"),
        ("address", "2001:db8::1", "fe80::1%eth0"),
        ("port", 443, 65536),
        ("port", 0, -1),
        ("port", 443, True),
        ("port", 443, "443"),
        ("count", 2**53 - 1, 2**53),
        ("count", 1, 1.0),
        ("layer", "dns", "DNS"),
        ("reason", "host-not-granted", "because of = this"),
        ("speaks", "tls", "GET / HTTP/1.1"),
    ],
)
def test_values_have_the_shape_of_their_field(field: str, good: object, bad: object) -> None:
    """A value of the field's shape is taken, another is refused by the field's name and never repeated."""
    assert record_of("flow.denied", **{field: good})[field] == good
    with pytest.raises(ValueError, match=f"field {field} ") as caught:
        record_of("flow.denied", **{field: bad})
    assert not bad or isinstance(bad, (bool, int, float)) or str(bad) not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "field", "good", "bad"),
    [
        ("grant.decided", "reason", "Fetches the model, once.", "two\nlines"),
        ("grant.decided", "reason", "x" * 500, "x" * 501),
        ("grant.decided", "reason", "\u00e9", "\ud800"),
        ("grant.decided", "private", False, 0),
        ("grant.decided", "downloads", "retain:7d", "retain 7d"),
        ("grant.decided", "expires", 0.5, float("nan")),
        ("grant.decided", "expires", 600, float("inf")),
        ("run.started", "policy", DIGEST, "md5:" + "a" * 32),
        ("run.started", "requested", ["dns", "sni"], "dns"),
        ("run.started", "requested", [], ["dns"] * 65),
        ("run.ended", "exit_code", 255, 256),
        ("flow.opened", "addresses", ["203.0.113.7", "2001:db8::1"], ["api.example"]),
        ("audit.sealed", "signature", "0" * 128, "A" * 128),
    ],
)
def test_values_of_other_kinds(kind: str, field: str, good: object, bad: object) -> None:
    """The remaining shapes each take what they are for and refuse its neighbour."""
    assert record_of(kind, **{field: good})[field] == good
    with pytest.raises(ValueError, match=field):
        record_of(kind, **{field: bad})


def test_unknown_kinds_are_refused() -> None:
    """A kind that is not in the table is refused, and not repeated."""
    with pytest.raises(ValueError, match="unknown kind") as caught:
        record_of(SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": "mvm.record/2"}, "schema"),
        ({"seq": "1"}, "seq"),
        ({"time": "2025-01-31 23:59:59"}, "time"),
        ({"run": "not-a-run"}, "run"),
        ({"kind": "flow.guessed"}, "kind"),
        ({"kind": ["flow.denied"]}, "kind"),
        ({"prev": "0" * 64}, "prev"),
        ({"payload": "x"}, "carries only"),
        ({"port": "443"}, "port"),
    ],
)
def test_read_records_are_checked_whole(change: dict[str, object], why: str) -> None:
    """A record read back is held to the same table, its head included."""
    good = {**record_of("flow.denied", port=443), "prev": DIGEST}
    assert check_record(good) == good
    with pytest.raises(ValueError, match=why):
        check_record({**good, **change})
    for name in ("schema", "seq", "time", "run", "kind", "prev"):
        with pytest.raises(ValueError, match=f"no field {name}"):
            check_record({key: value for key, value in good.items() if key != name})


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_only_objects_are_records(value: object) -> None:
    """A line that is JSON but no object is no record."""
    with pytest.raises(ValueError, match="not an object"):
        check_record(value)


@given(st.binary(max_size=300))
def test_any_name_off_the_wire_can_be_recorded(raw: bytes) -> None:
    """Whatever bytes a query asks for, every field for a name takes its spelling, which is plain ASCII."""
    name = spell_name(raw)
    record = record_of("dns.denied", host=name, reason="host-not-granted", layer="dns", count=1)
    assert name.isascii()
    assert json.loads(encode(record))["host"] == name


def test_names_are_spelled_as_the_field_does() -> None:
    """Letters are lowered, other bytes are escaped in decimal, an empty name is the root."""
    assert spell_name(b"API.Example") == "api.example"
    assert spell_name(b"a b\x00\xff\\") == r"a\032b\000\255\092"
    assert spell_name(b"") == "."
    assert spell_name(b"a" * 300) == "a" * 255
