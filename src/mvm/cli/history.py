"""What is known of a run that has ended, from the two ends of its log.

Owns the reading of a log's first and last lines for lists. Judges nothing: `audit verify` does.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.audit.state import Run

_TAIL_BYTES = 1 << 18
_LONGEST_LINE = 1 << 16


class Past(NamedTuple):
    """One run.

    Attributes:
        started, ended: RFC 3339, or None where the log does not say.
        outcome: how it ended, or `unsealed` where nothing says so: it crashed, or still runs.
        exit_code: of its first command, or None.
        denials: how many attempts were denied, or None where the log does not say.
        backend: who isolated it, or an empty string.
    """

    started: str | None
    ended: str | None
    outcome: str
    exit_code: int | None
    denials: int | None
    backend: str


def read_past(run: Run) -> Past:
    """Read what a run's log says of its beginning and its end."""
    first, last, sealed = _ends(run.log)
    code, denials = last.get("exit_code"), last.get("denials")
    return Past(
        started=_text(first.get("time")),
        ended=_text(last.get("time")),
        outcome=_text(last.get("outcome")) or "unsealed" if sealed else "unsealed",
        exit_code=code if isinstance(code, int) else None,
        denials=denials if isinstance(denials, int) else None,
        backend=_text(first.get("backend")) or "",
    )


def _ends(path: str) -> tuple[dict[str, object], dict[str, object], bool]:
    """Give the first record, the `run.ended`, and whether the log is sealed; empty where there is none."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            first = file.readline(_LONGEST_LINE)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).splitlines()
    except OSError:
        return {}, {}, False
    sealed = False
    for record in _records(reversed(lines[-3:])):
        sealed = sealed or record.get("kind") == "audit.sealed"
        if record.get("kind") == "run.ended":
            return next(_records([first]), {}), record, sealed
    return next(_records([first]), {}), {}, sealed


def _records(lines: Iterator[bytes] | list[bytes]) -> Iterator[dict[str, object]]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
