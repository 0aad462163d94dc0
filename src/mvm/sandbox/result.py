"""What came of one command: its status and output, and what was reached and denied in the sandbox meanwhile.

Owns `Result`, and telling it from two descriptions of the sandbox, one before and one after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one command.

    Attributes:
        returncode: its status as a shell gives it: 128 + n where signal n ended it.
        stdout, stderr: what it wrote, bytes.
        denials: what was denied in the sandbox while it ran, objects of schema `mvm.denial/1`.
        flows: what was reached while it ran, one object a host, port and protocol.
        cause: `policy`, `transport` or `guest` where it failed, else None.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    denials: tuple[dict[str, Any], ...]
    flows: tuple[dict[str, Any], ...]
    cause: str | None


def result_of(
    returncode: int, stdout: bytes, stderr: bytes, before: dict[str, Any], after: dict[str, Any]
) -> Result:
    """Say what came of a command that ran between two descriptions of its sandbox."""
    denials = _grown(
        before["denials"],
        after["denials"],
        ("layer", "reason", "host", "address", "port", "protocol"),
        ("count",),
    )
    flows = _grown(before["flows"], after["flows"], ("host", "port", "protocol"), ("flows", "up", "down"))
    cause = None
    if returncode:
        cause = "policy" if denials else "transport" if failures(before, after) else "guest"
    return Result(
        returncode=returncode, stdout=stdout, stderr=stderr, denials=denials, flows=flows, cause=cause
    )


def failures(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Say which granted hosts could not be reached between two descriptions."""
    return _grown(before["failures"], after["failures"], ("host", "port", "error"), ("count",))


def _grown(
    before: list[dict[str, Any]], after: list[dict[str, Any]], key: Sequence[str], counts: Sequence[str]
) -> tuple[dict[str, Any], ...]:
    """Give the entries whose first count has grown, with what each of their counts has grown by."""
    known = {tuple(entry[name] for name in key): entry for entry in before}
    nothing = dict.fromkeys(counts, 0)
    grown = []
    for entry in after:
        old = known.get(tuple(entry[name] for name in key), nothing)
        more = {count: entry[count] - old[count] for count in counts}
        if more[counts[0]] > 0:
            grown.append({**entry, **more})
    return tuple(grown)
