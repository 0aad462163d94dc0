"""Records in the words of the Open Cybersecurity Schema Framework, 1.8.0, for programs that read those.

Owns the one table from kinds to classes:

    run.started, run.ended, audit.sealed              Application Lifecycle 6002: Start, Stop, Other
    grant.decided, .revoked, .expired, policy.changed Entity Management 3004: Create, Delete, Delete, Update
    dns.answered, dns.denied                          DNS Activity 4003: Response
    flow.opened, flow.denied, port.opened             Network Activity 4001: Open, Refuse, Listen
    flow.closed                                       Network Activity 4001: Close, Reset or Fail

What has no place there stands in `unmapped` under its own name, so that nothing is lost. Pure: records are
handed in. Must never say more than the record does.

Source: schema 1.8.0 of the framework, with its profile `security_control`.
"""

from __future__ import annotations

from calendar import timegm
from typing import TYPE_CHECKING, Any

from mvm.audit.record import SCHEMA, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Event = dict[str, Any]

VERSION = "1.8.0"
PROFILE = "security_control"

NETWORK, DNS, LIFECYCLE, ENTITY = 4001, 4003, 6002, 3004
_CLASSES = {
    NETWORK: "Network Activity",
    DNS: "DNS Activity",
    LIFECYCLE: "Application Lifecycle",
    ENTITY: "Entity Management",
}
_CATEGORIES = {3: "Identity & Access Management", 4: "Network Activity", 6: "Application Activity"}
_ACTIVITIES: Mapping[str, tuple[int, int, str]] = {
    Kind.RUN_STARTED: (LIFECYCLE, 3, "Start"),
    Kind.RUN_ENDED: (LIFECYCLE, 4, "Stop"),
    Kind.AUDIT_SEALED: (LIFECYCLE, 99, "Seal"),
    Kind.GRANT_DECIDED: (ENTITY, 1, "Create"),
    Kind.GRANT_REVOKED: (ENTITY, 4, "Delete"),
    Kind.GRANT_EXPIRED: (ENTITY, 4, "Delete"),
    Kind.POLICY_CHANGED: (ENTITY, 3, "Update"),
    Kind.DNS_ANSWERED: (DNS, 2, "Response"),
    Kind.DNS_DENIED: (DNS, 2, "Response"),
    Kind.FLOW_OPENED: (NETWORK, 1, "Open"),
    Kind.FLOW_CLOSED: (NETWORK, 2, "Close"),
    Kind.FLOW_DENIED: (NETWORK, 5, "Refuse"),
    Kind.PORT_OPENED: (NETWORK, 7, "Listen"),
}
_RESET, _FAIL = (3, "Reset"), (4, "Fail")

_INFORMATIONAL = {"severity_id": 1, "severity": "Informational"}
_LOW = {"severity_id": 2, "severity": "Low"}
_ALLOWED = {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"}
_DENIED = {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"}
_SUCCESS = {"status_id": 1, "status": "Success"}
_FAILURE = {"status_id": 2, "status": "Failure"}
_INBOUND, _OUTBOUND = (
    {"direction_id": 1, "direction": "Inbound"},
    {"direction_id": 2, "direction": "Outbound"},
)

_HEAD = frozenset({"schema", "seq", "time", "run", "kind"})


def to_ocsf(records: Iterable[Mapping[str, object]]) -> Iterator[Event]:
    """Say the records of one run in the framework's words.

    Args:
        records: of one run, in their order, each as `audit.report.read_records` gives it.

    Yields:
        One event a record.
    """
    name = version = None
    for record in records:
        if record["kind"] == Kind.RUN_STARTED:
            name, version = record.get("name"), record.get("version")
        yield _Saying(record, name, version).event()


class _Saying:
    """One record being said: what a part has taken is no longer left for `unmapped`."""

    def __init__(self, record: Mapping[str, object], name: object, version: object) -> None:
        self._record, self._name, self._version = record, name, version
        self._left = {key: value for key, value in record.items() if key not in _HEAD}

    def event(self) -> Event:
        """Give the event."""
        kind = str(self._record["kind"])
        number, activity, word = _ACTIVITIES[kind]
        says = {LIFECYCLE: self._lifecycle, ENTITY: self._entity, DNS: self._dns, NETWORK: self._network}
        said = says[number](kind)
        activity, word = said.pop("activity", (activity, word))
        category = number // 1000
        event = {
            "activity_id": activity,
            "activity_name": word,
            "category_name": _CATEGORIES[category],
            "category_uid": category,
            "class_name": _CLASSES[number],
            "class_uid": number,
            "type_name": f"{_CLASSES[number]}: {'Other' if activity == 99 else word}",
            "type_uid": number * 100 + activity,
            "time": milliseconds(str(self._record["time"])),
            "metadata": self._metadata(kind),
            **_INFORMATIONAL,
            **said,
        }
        return {**event, "unmapped": self._left} if self._left else event

    def _metadata(self, kind: str) -> Event:
        run, seq = self._record["run"], self._record["seq"]
        return {
            "version": VERSION,
            "profiles": [PROFILE],
            "product": _without_none(name="mvm", vendor_name="mvm", version=self._version),
            "uid": f"{run}:{seq}",
            "correlation_uid": run,
            "sequence": seq,
            "event_code": kind,
            "log_name": SCHEMA,
            "original_time": self._record["time"],
        }

    def _take(self, field: str) -> Any:  # noqa: ANN401  (whatever a record holds)
        return self._left.pop(field, None)

    def _sandbox(self) -> Event:
        return _without_none(uid=self._record["run"], name=self._name)

    # ---- a class each

    def _lifecycle(self, kind: str) -> Event:
        said: Event = {"app": {**self._sandbox(), "vendor_name": "mvm"}}
        if kind == Kind.RUN_STARTED:
            self._take("name")
            self._take("version")
            policy = self._take("policy")
            return {**said, **_SUCCESS, **({"policy": {"uid": policy, "is_applied": True}} if policy else {})}
        if kind == Kind.AUDIT_SEALED:
            return said
        outcome, status, duration = self._take("outcome"), self._take("exit_code"), self._take("duration_s")
        return {
            **said,
            **(_SUCCESS if outcome == "completed" else _FAILURE),
            **_without_none(
                status_detail=outcome,
                status_code=None if status is None else str(status),
                duration=_milliseconds_of(duration),
            ),
        }

    def _entity(self, kind: str) -> Event:
        if kind == Kind.POLICY_CHANGED:
            return {
                **_SUCCESS,
                "entity": _policy(self._take("before")),
                "entity_result": _policy(self._take("after")),
            }
        place = self._left.get("tool") or "(all public hosts)"
        if (host := self._take("host")) is not None:
            place = _place(str(host), self._take("port"), self._take("protocol"))
        said: Event = {"entity": {"name": place, "type_id": 99, "type": "Grant"}}
        policy = self._take("policy")
        if policy is not None:
            said["policy"] = {"uid": policy}
        if kind != Kind.GRANT_DECIDED:
            return {**said, **_SUCCESS}
        said.update(_without_none(comment=self._take("reason"), status_detail=self._take("code")))
        if self._take("decision") == "allowed":
            return {**said, **_SUCCESS, **_ALLOWED}
        return {**said, **_FAILURE, **_DENIED, **_LOW}

    def _dns(self, kind: str) -> Event:
        said: Event = {"src_endpoint": self._sandbox(), **_without_none(count=self._take("count"))}
        if (host := self._take("host")) is not None:
            of_type = self._take("type")
            said["query"] = _without_none(hostname=host, type=None if of_type is None else of_type.upper())
        if kind == Kind.DNS_ANSWERED:
            answers = [{"rdata": address} for address in self._take("addresses") or ()]
            ok = {"rcode_id": 0, "rcode": "NoError"}
            return {**said, **_SUCCESS, **_ALLOWED, **ok, **({"answers": answers} if answers else {})}
        reason = _without_none(status_detail=self._take("reason"))
        return {**said, **_FAILURE, **_DENIED, **_LOW, "rcode_id": 3, "rcode": "NXDomain", **reason}

    def _network(self, kind: str) -> Event:
        inbound = kind == Kind.PORT_OPENED
        port = self._take("host_port" if inbound else "port")
        end = _without_none(hostname=self._take("host"), ip=self._take("address"))
        link = _without_none(uid=_text(self._take("flow")), protocol_name=self._take("protocol"))
        said: Event = {
            "src_endpoint": self._sandbox(),
            "connection_info": {**(_INBOUND if inbound else _OUTBOUND), **link},
            **_without_none(app_protocol_name=self._take("speaks"), count=self._take("count")),
        }
        if end:
            said["dst_endpoint"] = {**end, **_without_none(port=port)}
        elif port is not None:
            self._left["port"] = port
        if kind == Kind.FLOW_DENIED:
            reason = _without_none(status_detail=self._take("reason"))
            return {**said, **_FAILURE, **_DENIED, **_LOW, **reason}
        if kind == Kind.FLOW_CLOSED:
            return {**said, **self._closed()}
        return {**said, **_SUCCESS, **_ALLOWED}

    def _closed(self) -> Event:
        cause = self._take("cause")
        reason = self._take("reason" if "reason" in self._left else "error")
        traffic = _without_none(bytes_out=self._take("up"), bytes_in=self._take("down"))
        said: Event = _without_none(
            duration=_milliseconds_of(self._take("duration_s")),
            status_code=cause,
            status_detail=reason,
        )
        if traffic:
            said["traffic"] = traffic
        if cause == "policy":
            return {**said, **_FAILURE, **_DENIED, **_LOW, "activity": _RESET}
        if cause == "transport":
            return {**said, **_FAILURE, **_ALLOWED, "activity": _FAIL}
        return {**said, **_SUCCESS, **_ALLOWED}


def milliseconds(time: str) -> int:
    """Read a record's time as the framework counts it.

    Args:
        time: of `audit.timestamp.rfc3339`.

    Returns:
        Milliseconds since 1970 UTC.
    """
    date, _, clock = time[:-1].partition("T")
    seconds, _, micros = clock.partition(".")
    year, month, day = map(int, date.split("-"))
    hour, minute, second = map(int, seconds.split(":"))
    return timegm((year, month, day, hour, minute, second)) * 1000 + int(micros) // 1000


def _milliseconds_of(seconds: object) -> int | None:
    return int(seconds * 1000) if isinstance(seconds, (int, float)) else None


def _place(host: str, port: object, protocol: object) -> str:
    name = f"[{host}]" if ":" in host else host
    named = name if port is None else f"{name}:{port}"
    return named if protocol is None else f"{named}/{protocol}"


def _policy(uid: object) -> Event:
    return {"name": "network policy", "type_id": 5, "type": "Policy", **_without_none(uid=uid)}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _without_none(**members: object) -> Event:
    return {name: value for name, value in members.items() if value is not None}
