"""Lines of which most repeats: the beginning and the end of a flow, thousands of them a second.

Owns their canonical text with holes for what is new each time. The text is made by `make_record` and
`canonical.encode` the first time that a place is seen; a line is the same, byte for byte, as those would
make it each time (a property test compares), and takes a third of the time. Must never fill a hole with
anything but a number of its range, or with what this log itself made.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from mvm.audit.record import Kind, make_record
from mvm.canonical import encode, number

if TYPE_CHECKING:
    from collections.abc import Mapping

_REPEATS = {
    Kind.FLOW_OPENED: itemgetter("host", "port", "protocol", "speaks", "addresses"),
    Kind.FLOW_CLOSED: itemgetter("host", "port", "protocol", "address", "cause", "reason", "error"),
}
"""Per kind: what is the same for many lines."""
_WIDTH = {Kind.FLOW_OPENED: 6, Kind.FLOW_CLOSED: 11}
"""How many fields such a record has, those that are None too; one with others is written as any other."""
_NEW = ("down", "duration_s", "flow", "prev", "seq", "time", "up")
"""What is new in each line, in the order of the canonical form."""
_HOLE = "\u2043hole\u2043"  # in no record: a name has no such character, and a text that has is not cached
_MOST = 1024
_MOST_COUNT = 2**53


class Stencils:
    """The texts of one log.

    Args:
        run: the id of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._texts: dict[object, str] = {}

    def line(
        self, kind: str, fields: Mapping[str, object], *, seq: int, time: str, prev: str
    ) -> bytes | None:
        """Write a line without its newline.

        Args:
            kind: a `Kind`.
            fields: those of `make_record`.
            seq: its place in the log.
            time: RFC 3339.
            prev: the digest of the line before.

        Returns:
            The line; None for one that is written as any other.

        Raises:
            ValueError: the record may not be written.
        """
        if len(fields) != _WIDTH.get(kind):  # type: ignore[call-overload]
            return None
        try:
            key = (kind, _REPEATS[kind](fields))  # type: ignore[index]
            text = self._texts.get(key) or self._cut(key, kind, fields, time)
            if kind == Kind.FLOW_OPENED:
                return (text % (_count(fields["flow"]), prev, seq, time)).encode()
            flow, up, down = map(_count, (fields["flow"], fields["up"], fields["down"]))
            duration = number(_seconds(fields["duration_s"]))
        except (KeyError, TypeError):
            return (
                None  # other fields, or one that can't be kept: whether it may be written is told elsewhere
            )
        return (text % (down, duration, flow, prev, seq, time, up)).encode()

    def _cut(self, key: object, kind: str, fields: Mapping[str, object], time: str) -> str:
        record = {**make_record(kind, fields, seq=1, time=time, run=self._run), "prev": ""}
        holes = {name: _HOLE for name in _NEW if name in record}
        text = encode({**record, **holes}).decode()
        if text.count(_HOLE) != len(holes):
            msg = f"{kind}: a field holds what no field may"
            raise ValueError(msg)
        text = text.replace("%", "%%")
        for name in holes:
            shape = '"%s"' if name in {"prev", "time"} else "%s"
            text = text.replace(f'"{_HOLE}"', shape, 1)
        if len(self._texts) >= _MOST:
            self._texts.clear()
        self._texts[key] = text
        return text


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < _MOST_COUNT:
        raise TypeError
    return value


def _seconds(value: object) -> float:
    if type(value) is not float or not 0 <= value < _MOST_COUNT:
        raise TypeError
    return value
