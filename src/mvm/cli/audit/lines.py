"""Records as lines for people.

Owns their layout: the time, the kind, the place, and whatever else a record says as `key=value`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.cli.printing import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = frozenset({"schema", "seq", "time", "run", "kind", "prev"})
_PLACE = frozenset({"host", "address", "port", "protocol"})
_KIND_WIDTH = 14  # the longest is policy.changed
_LONGEST_VALUE = 80


def describe_record(record: Mapping[str, object]) -> str:
    """Write one record in a line: `19:30:58.123 flow.denied   api.example.com:443/tcp reason=…`."""
    time = str(record["time"])[11:23]
    rest = [f"{key}={_spell(value)}" for key, value in record.items() if key not in _HEAD | _PLACE]
    line = " ".join(filter(None, [f"{time}  {record['kind']!s:<{_KIND_WIDTH}} ", _place(record), *rest]))
    return printable(line.rstrip())


def _place(record: Mapping[str, object]) -> str:
    host, port = record.get("host") or record.get("address"), record.get("port")
    if host is None:
        return ""
    name = f"[{host}]" if ":" in str(host) and port else str(host)
    address = record.get("address")
    by = f" ({address})" if record.get("host") and address else ""
    transport = f"/{record['protocol']}" if record.get("protocol") else ""
    return f"{name}:{port}{transport}{by}" if port else f"{name}{by}"


def _spell(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    text = text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
    return f'"{text}"' if " " in text or not text else text
