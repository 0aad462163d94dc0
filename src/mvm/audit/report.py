"""What `mvmctl audit show`, `tail` and `verify` answer, as values; the commands only print them.

Owns the reading of logs. Must never write, print, or hand out a line as a record that is not whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mvm.audit.chain import GENESIS, LONGEST_LINE, Verdict, verify_lines
from mvm.audit.record import Kind
from mvm.audit.state import SEAL_FILE, find_run, list_runs
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import BinaryIO

    from mvm.audit.chain import Verifier
    from mvm.audit.state import Run

EXIT_VERIFIED = 0
EXIT_BAD = 65

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The verdict on one run's log.

    Attributes:
        run: which.
        verdict: what `audit.chain` found.
        acceptable: whether it counts as verified, under what was asked.
    """

    run: Run
    verdict: Verdict
    acceptable: bool

    def to_json(self) -> dict[str, object]:
        """Give it as one object of `audit verify --json`."""
        verdict = self.verdict
        state = "bad" if not verdict.sound else "sealed" if verdict.sealed else "unsealed"
        return {
            "run": self.run.id,
            "name": self.run.name,
            "state": state,
            "ok": self.acceptable,
            "records": verdict.records,
            "head": verdict.head,
            "torn_bytes": verdict.torn,
            "line": verdict.line,
            "why": verdict.why,
        }

    def describe(self) -> str:
        """Say it in one line for people."""
        verdict = self.verdict
        if not verdict.sound:
            return f"{self.run.id}: BAD at line {verdict.line}: {verdict.why}"
        if verdict.sealed:
            return f"{self.run.id}: verified, {verdict.records} records, sealed"
        torn = f", {verdict.torn} bytes of a torn last line" if verdict.torn else ""
        return f"{self.run.id}: verified up to its last whole line, {verdict.records} records, unsealed{torn}"


def verify_runs(
    directory: str, which: Sequence[str], *, key: Verifier | None, sealed: bool = False
) -> tuple[tuple[Verification, ...], int]:
    """Verify the logs of runs.

    Args:
        directory: the state directory.
        which: run ids, their beginnings, or names of sandboxes; empty for all runs.
        key: the public key (`audit.keys.public_key(directory)`), or None where there is none.
        sealed: whether an unsealed log counts as bad.

    Returns:
        One result a run, in the order asked for, and the exit status: 0, or 65 if one is not acceptable.

    Raises:
        UsageError: `which` names no run, or more than one.
        AuditError: the state directory or a log cannot be read.
    """
    runs = [find_run(directory, text) for text in which] if which else list_runs(directory)
    results = tuple(_verify(run, key, sealed=sealed) for run in runs)
    return results, EXIT_VERIFIED if all(result.acceptable for result in results) else EXIT_BAD


def _verify(run: Run, key: Verifier | None, *, sealed: bool) -> Verification:
    seal = _read_small(f"{run.directory}/{SEAL_FILE}")
    try:
        with _open(run.log) as log:
            lines = iter(lambda: log.readline(LONGEST_LINE + 1), b"")
            verdict = verify_lines(lines, key, run=run.id, seal=seal)
    except FileNotFoundError:
        verdict = Verdict(records=0, head=GENESIS, sealed=False, line=1, why="the log is gone")
    except OSError as error:
        msg = f"the log {run.log} cannot be read: {error.strerror}"
        raise AuditError(msg) from error
    return Verification(run=run, verdict=verdict, acceptable=verdict.sound and (verdict.sealed or not sealed))


def read_records(log: str, *, kinds: Collection[str] = ()) -> Iterator[dict[str, object]]:
    """Read the records of a log as it stands, without judging them.

    Args:
        log: the path of a log (`Run.log`).
        kinds: those wanted (`Kind`); empty for all.

    Yields:
        The records in order; a torn last line is left out.

    Raises:
        AuditError: the log cannot be read, or a line is not a record (`verify_runs` says more).
    """
    return follow_records(log, wait=lambda: False, kinds=kinds)


def follow_records(
    log: str, *, wait: Callable[[], bool], kinds: Collection[str] = ()
) -> Iterator[dict[str, object]]:
    """Read the records of a log and go on with those still to come, until it is sealed.

    Args:
        log: the path of a log (`Run.log`).
        wait: called when all that is there was read; returns True when there may be more, False to stop.
        kinds: those wanted (`Kind`); empty for all.

    Yields:
        The records in order, each as soon as its line is whole.

    Raises:
        AuditError: as `read_records`.
    """
    for number, line in enumerate(_whole_lines(log, wait), start=1):
        record = _parse(line, log, number)
        if not kinds or record["kind"] in kinds:
            yield record
        if record["kind"] == Kind.AUDIT_SEALED:
            return


def _whole_lines(path: str, wait: Callable[[], bool]) -> Iterator[bytes]:
    try:
        with _open(path) as log:
            partial = b""
            while True:
                partial += log.readline(LONGEST_LINE)
                if partial.endswith(b"\n"):
                    yield partial
                    partial = b""
                elif len(partial) > LONGEST_LINE:
                    msg = f"{path} has a line that is longer than any record"
                    raise AuditError(msg, hint="mvmctl audit verify names the first bad line")
                elif not wait():
                    return
    except OSError as error:
        msg = f"the log {path} cannot be read: {error.strerror}"
        raise AuditError(msg) from error


def _parse(line: bytes, path: str, number: int) -> dict[str, object]:
    import json  # only reading needs it

    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or "kind" not in record:
        msg = f"line {number} of {path} is not a record"
        raise AuditError(msg, hint="mvmctl audit verify names the first bad line")
    return record


def _open(path: str) -> BinaryIO:
    return os.fdopen(os.open(path, _READ), "rb")


def _read_small(path: str) -> bytes | None:
    try:
        with _open(path) as file:
            return file.read(LONGEST_LINE)
    except FileNotFoundError:
        return None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise AuditError(msg) from error
