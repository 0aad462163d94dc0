"""What one line of a run's record may say: the kinds, and for each kind the fields it may carry.

Owns the one table below. A record says names, ports, counts and times; it never carries payload,
paths, headers, query strings or secrets, and so that nothing leaks by accident a field that is not
in the table, or a value without the shape the table gives it, is refused. The refusal names the
field, never the value. Pure: the time and the sequence number are handed in.

A record (`mvm.record/1`): `schema`, `seq` (1 for the first line), `time`, `run`, `kind`, its kind's
fields, and `prev`, which `audit.chain` adds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from mvm.audit.run_id import is_run_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA = "mvm.record/1"


class Kind(StrEnum):
    """What happened (SPEC section 6)."""

    RUN_STARTED = "run.started"
    RUN_ENDED = "run.ended"
    GRANT_DECIDED = "grant.decided"
    GRANT_REVOKED = "grant.revoked"
    GRANT_EXPIRED = "grant.expired"
    DNS_ANSWERED = "dns.answered"
    DNS_DENIED = "dns.denied"
    FLOW_OPENED = "flow.opened"
    FLOW_CLOSED = "flow.closed"
    FLOW_DENIED = "flow.denied"
    PORT_OPENED = "port.opened"
    POLICY_CHANGED = "policy.changed"
    AUDIT_SEALED = "audit.sealed"


_MOST_ITEMS = 64
_MOST_COUNT = 2**53 - 1  # RFC 7493: the largest integer every reader of JSON holds exactly
_MOST_PORT = 65535
_MOST_STATUS = 255
_MOST_NAME_BYTES = 255  # RFC 1035 section 3.1

_is_name = re.compile(r"[A-Za-z0-9._:*\\-]{1,1024}").fullmatch
_is_word = re.compile(r"[a-z0-9][a-z0-9._:+-]{0,63}").fullmatch
_is_address = re.compile(r"[0-9a-f.:]{2,45}").fullmatch
_is_text = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,500}").fullmatch
_is_digest = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
_is_signature = re.compile(r"[0-9a-f]{128}").fullmatch
_is_time = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z").fullmatch


def _name(value: object) -> bool:
    return isinstance(value, str) and _is_name(value) is not None


def _word(value: object) -> bool:
    return isinstance(value, str) and _is_word(value) is not None


def _address(value: object) -> bool:
    return isinstance(value, str) and _is_address(value) is not None


def _text(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) is not None


def _digest(value: object) -> bool:
    return isinstance(value, str) and _is_digest(value) is not None


def _signature(value: object) -> bool:
    return isinstance(value, str) and _is_signature(value) is not None


def _time(value: object) -> bool:
    return isinstance(value, str) and _is_time(value) is not None


def _schema(value: object) -> bool:
    return value == SCHEMA


def _kind(value: object) -> bool:
    return isinstance(value, str) and value in FIELDS


def _run(value: object) -> bool:
    return isinstance(value, str) and is_run_id(value)


def _flag(value: object) -> bool:
    return value is True or value is False


def _count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_COUNT


def _port(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_PORT


def _status(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_STATUS


def _seconds(value: object) -> bool:
    return (type(value) is int or type(value) is float) and 0 <= value <= _MOST_COUNT


def _words(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _MOST_ITEMS and all(map(_word, value))


def _texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _MOST_ITEMS and all(map(_text, value))


def _addresses(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _MOST_ITEMS and all(map(_address, value))


_PLACE: dict[str, Callable[[object], bool]] = {"host": _name, "port": _port, "protocol": _word}
_DENIAL = {**_PLACE, "layer": _word, "address": _address, "reason": _word, "count": _count}

FIELDS: Mapping[str, Mapping[str, Callable[[object], bool]]] = {
    Kind.RUN_STARTED: {
        "name": _name,
        "version": _word,
        "backend": _word,
        "isolation": _text,
        "policy": _digest,
        "preset": _word,
        "profile": _word,
        "workspace": _word,
        "retain": _seconds,
        "long_ttl": _text,
        "credentials": _texts,
        "unrestricted": _flag,
        "dns": _word,
        "grants": _count,
        "forwards": _count,
        "ttl": _seconds,
        "timeout": _seconds,
        "image": _digest,
        "image_kind": _word,
        "requested": _words,
        "achieved": _words,
        "limits": _words,
        "uid": _count,
    },
    Kind.RUN_ENDED: {
        "outcome": _word,
        "cause": _word,
        "exit_code": _status,
        "signal": _status,
        "duration_s": _seconds,
        "flows": _count,
        "denials": _count,
        "up": _count,
        "down": _count,
    },
    Kind.GRANT_DECIDED: {
        **_PLACE,
        "decision": _word,
        "code": _word,
        "by": _word,
        "tool": _name,
        "source": _text,
        "reason": _text,
        "policy": _digest,
        "tls": _word,
        "private": _flag,
        "depth": _count,
        "expires": _seconds,
        "max_up": _count,
        "max_down": _count,
        "sends": _word,
        "downloads": _word,
    },
    Kind.GRANT_REVOKED: {**_PLACE, "by": _word, "flows": _count, "policy": _digest},
    Kind.GRANT_EXPIRED: {**_PLACE, "flows": _count, "policy": _digest},
    Kind.DNS_ANSWERED: {
        "host": _name,
        "type": _word,
        "transport": _word,
        "addresses": _addresses,
        "answers": _count,
        "count": _count,
    },
    Kind.DNS_DENIED: {**_DENIAL, "type": _word, "transport": _word},
    Kind.FLOW_OPENED: {
        **_PLACE,
        "flow": _count,
        "speaks": _word,
        "address": _address,
        "addresses": _addresses,
        "private": _flag,
    },
    Kind.FLOW_CLOSED: {
        **_PLACE,
        "flow": _count,
        "address": _address,
        "up": _count,
        "down": _count,
        "duration_s": _seconds,
        "cause": _word,
        "error": _word,
        "reason": _word,
    },
    Kind.FLOW_DENIED: {**_DENIAL, "flow": _count, "speaks": _word, "granted": _name},
    Kind.PORT_OPENED: {"address": _address, "host_port": _port, "guest_port": _port, "protocol": _word},
    Kind.POLICY_CHANGED: {
        "before": _digest,
        "after": _digest,
        "by": _word,
        "preset": _word,
        "unrestricted": _flag,
        "grants": _count,
        "added": _count,
        "removed": _count,
    },
    Kind.AUDIT_SEALED: {"algorithm": _word, "key": _digest, "signature": _signature},
}

_HEAD: dict[str, Callable[[object], bool]] = {
    "schema": _schema,
    "seq": _count,
    "time": _time,
    "run": _run,
    "kind": _kind,
    "prev": _digest,
}


def make_record(
    kind: str, fields: Mapping[str, object], *, seq: int, time: str, run: str
) -> dict[str, object]:
    """Compose one record, or refuse it, before it is linked into the chain.

    Args:
        kind: a `Kind`.
        fields: what happened; a field that is None is left out.
        seq: its place in the log, 1 for the first.
        time: RFC 3339, UTC, microseconds (`audit.timestamp.rfc3339`).
        run: the id of the run, a ULID.

    Returns:
        The record without `prev`.

    Raises:
        ValueError: an unknown kind, a field that this kind does not carry, or a value that is not of the
            field's shape.
    """
    record: dict[str, object] = {"kind": kind, "run": run, "schema": SCHEMA, "seq": seq, "time": time}
    try:
        shapes = FIELDS[kind]
    except KeyError:
        msg = "a record of an unknown kind"
        raise ValueError(msg) from None
    for name, value in fields.items():
        if value is None:
            continue
        if name not in shapes or not shapes[name](value):
            raise _refusal(kind, name, shapes)
        record[name] = value
    return record


def check_record(record: object) -> dict[str, object]:
    """Refuse what no `make_record` and `link` would have made.

    Args:
        record: a parsed line.

    Returns:
        The same record.

    Raises:
        ValueError: what is wrong with it; the message names fields, never values.
    """
    if not isinstance(record, dict):
        msg = "not an object"
        raise ValueError(msg)  # noqa: TRY004  it is the line that is wrong, not a caller
    for name, has_shape in _HEAD.items():
        if name not in record:
            msg = f"no field {name}"
            raise ValueError(msg)
        if has_shape(record[name]) is not True:
            msg = f"the field {name} is not what it should be"
            raise ValueError(msg)
    kind = record["kind"]
    shapes = FIELDS[kind]
    for name, value in record.items():
        if name not in _HEAD and (name not in shapes or not shapes[name](value)):
            raise _refusal(kind, name, shapes)
    return record


def _refusal(kind: str, name: str, shapes: Mapping[str, Callable[[object], bool]]) -> ValueError:
    if name in shapes:
        return ValueError(
            f"{kind}: the field {name} does not have the shape of a {shapes[name].__name__[1:]}"
        )
    # An unknown field's name may itself be what must not leak; only known names are repeated.
    return ValueError(f"{kind} carries only {', '.join(sorted(shapes))}; another field was given")


def spell_name(raw: bytes) -> str:
    r"""Write a name as it came from the wire so that a record can carry it.

    Args:
        raw: the name, its labels joined by dots; of any bytes and length.

    Returns:
        Lower case; bytes other than letters, digits, `-`, `_` and `.` as `\DDD` (RFC 4343 section 2.1);
        cut after 255 bytes of `raw`; `.` for an empty name.
    """
    plain = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
    return "".join(chr(c) if c in plain else f"\\{c:03d}" for c in raw[:_MOST_NAME_BYTES].lower()) or "."
