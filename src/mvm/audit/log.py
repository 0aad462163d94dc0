"""The record of one run, written line by line, each before the effect it speaks of.

Owns the file `runs/RUN/log.jsonl`. `append` returns only when the whole line is with the kernel, in
one write(2). Anything else (full disk, read-only or failing device, quota, file size limit) raises
AuditError, and from then on every `append` does: a log that has a hole is not continued, and the
caller, who records before it acts, does nothing more. A log in which something else writes is not
continued for long (it is looked at every 64 lines), and never sealed. Must never swallow an error,
buffer, or rewrite a line that is whole.

Known hole: lines reach the disk when the kernel writes them back, and for certain at `seal`; if
the machine itself loses power, the last seconds may be missing, and the log verifies without them.
"""

from __future__ import annotations

import contextlib
import os
from threading import RLock
from time import time_ns
from typing import TYPE_CHECKING

from mvm.audit import state
from mvm.audit.chain import ALGORITHM, GENESIS, link, sign_seal
from mvm.audit.record import Kind, make_record
from mvm.audit.run_id import is_run_id
from mvm.audit.stencil import Stencils
from mvm.audit.timestamp import rfc3339
from mvm.canonical import digest_of_bytes
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from mvm.audit.chain import Signer

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK_EVERY = 64
_WRITING = "another record was begun and not finished"
_HINT = "nothing was allowed that is not recorded; free or repair the place of the record and start a new run"


class Log:
    """The one writer of one run's log.

    It is made by `Log.create`. Safe to call from several threads.

    Attributes:
        path: of the file.
        run: the id of the run.
        head: the digest of the last line, or 64 zeros.
        records: how many lines there are.
    """

    __slots__ = (
        "_clock",
        "_directory",
        "_failed",
        "_file",
        "_lock",
        "_size",
        "_stencils",
        "head",
        "path",
        "records",
        "run",
    )

    def __init__(self, *, run: str, path: str, directory: int, file: int, clock: Callable[[], int]) -> None:
        self.run = run
        self.path = path
        self.head = GENESIS
        self.records = 0
        self._directory = directory
        self._file = file
        self._clock = clock
        self._size = 0
        self._stencils = Stencils(run)
        self._failed = ""
        self._lock = RLock()  # not Lock: a signal handler that records must meet an error, not a deadlock

    @classmethod
    def create(cls, directory: str, run: str, *, clock: Callable[[], int] = time_ns) -> Log:
        """Begin the log of a run, before its workload starts.

        Args:
            directory: the state directory; made with mode 0700 if it is not there.
            run: the id of the run, a ULID that has no log yet.
            clock: gives the time in nanoseconds since 1970 UTC.

        Returns:
            The log, empty. Close it, or use it as a context manager.

        Raises:
            AuditError: the directory is not one's own, or the file exists already or cannot be made.
            ValueError: `run` is not a run id.
        """
        if not is_run_id(run):
            msg = "the id of a run is a ULID"
            raise ValueError(msg)
        path = f"{directory}/{state.RUNS}/{run}/{state.LOG_FILE}"
        own = _open_run(directory, run)
        try:
            file = os.open(state.LOG_FILE, _CREATE | os.O_APPEND, 0o600, dir_fd=own)
        except OSError as error:
            os.close(own)
            msg = f"the record {path} cannot be begun: {error.strerror}"
            raise AuditError(msg, hint=_HINT) from error
        return cls(run=run, path=path, directory=own, file=file, clock=clock)

    def __enter__(self) -> Self:
        """Give the log itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log; it stays unsealed unless `seal` was called."""
        self.close()

    def append(self, kind: str, **fields: object) -> None:
        """Record one thing that happened or is about to; when this returns, it is recorded.

        Args:
            kind: a `Kind`.
            fields: those that the kind may carry (`audit.record.FIELDS`); None means left out.

        Raises:
            AuditError: the line could not be written whole, or an earlier one could not.
            ValueError: the record may not be written: a field or value that its kind does not carry.
        """
        self.append_all(((kind, fields),))

    def append_all(self, entries: Sequence[tuple[str, dict[str, object]]]) -> None:
        """Record several things at once, in their order: all of them, or none.

        Args:
            entries: kind and fields of each, as `append` takes them.

        Raises:
            AuditError, ValueError: as `append`.
        """
        with self._lock:
            self._begin()
            lines, head, seq = bytearray(), self.head, self.records
            for kind, fields in entries:
                seq += 1
                line, head = self._line(kind, fields, seq, head)
                lines += line
            self._write(lines, head, len(entries))

    def seal(self, key: Signer) -> str:
        """End the log with a signature over all of it, and make it durable.

        Args:
            key: the signing key of this state directory (`audit.keys.signing_key`).

        Returns:
            The digest of the line before the seal: the head of the chain, which a receipt names.

        Raises:
            AuditError: it could not be written, or is sealed already.
        """
        with self._lock:
            self._begin()
            head = self.head
            fields: dict[str, object] = {"algorithm": ALGORITHM, "key": key.identity}
            time, seq = rfc3339(self._clock()), self.records + 1
            record = make_record(Kind.AUDIT_SEALED, fields, seq=seq, time=time, run=self.run)
            self._require_alone()
            line, end = link(head, sign_seal(head, record, key))
            self._write(line, end, 1)
            self._failed = "the log is sealed"
            try:
                # A copy beside the log, so that one cut short is not taken for one never sealed.
                state.place_file(self._directory, state.SEAL_FILE, line, replace=True)
                os.fsync(self._file)
                os.fsync(self._directory)
            except OSError as error:
                msg = f"the seal of {self.path} could not be made durable: {error.strerror}"
                raise AuditError(msg, hint=_HINT) from error
            return head

    def discard(self) -> None:
        """Close a log, and remove it if nothing was ever recorded in it."""
        with self._lock:
            if self._file >= 0 and not self.records and not os.fstat(self._file).st_size:
                with contextlib.suppress(OSError):
                    os.unlink(state.LOG_FILE, dir_fd=self._directory)
                    os.rmdir(os.path.dirname(self.path))
            self.close()

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                os.close(self._directory)
                self._file = -1
            self._failed = self._failed or "the log is closed"

    def _begin(self) -> None:
        if self._failed:
            msg = f"nothing more can be recorded in {self.path}: {self._failed}"
            raise AuditError(msg, hint=_HINT)
        # Set first, cleared last: whatever comes in between, a signal's exception or a record made by
        # its handler, meets a log that has failed, never a chain that forks.
        self._failed = _WRITING

    def _line(self, kind: str, fields: dict[str, object], seq: int, prev: str) -> tuple[bytes, str]:
        time = rfc3339(self._clock())
        try:
            data = self._stencils.line(kind, fields, seq=seq, time=time, prev=prev)
            if data is None:
                return link(prev, make_record(kind, fields, seq=seq, time=time, run=self.run))
        except ValueError:
            self._failed = ""  # refused before anything was written
            raise
        return data + b"\n", digest_of_bytes(data)

    def _write(self, lines: bytes | bytearray, head: str, count: int) -> None:
        try:
            written = os.write(self._file, lines)
            if written != len(lines):
                os.ftruncate(self._file, self._size)  # whoever reads on meanwhile sees whole lines
        except OSError as error:
            raise self._failure(error.strerror or str(error)) from error
        if written != len(lines):
            raise self._failure(f"only {written} of {len(lines)} bytes could be written")
        self._size += written
        if self.records // _LOOK_EVERY != (self.records + count) // _LOOK_EVERY:
            self._require_alone()
        self.head = head
        self.records += count
        self._failed = ""

    def _require_alone(self) -> None:
        if os.fstat(self._file).st_size != self._size:
            raise self._failure("something else writes to the same file")

    def _failure(self, why: str) -> AuditError:
        self._failed = why
        return AuditError(f"the record {self.path} could not be written: {why}", hint=_HINT)


def _open_run(directory: str, run: str) -> int:
    opened = [state.open_private(directory)]
    try:
        for name in (state.RUNS, run):
            opened.append(state.open_private(name, below=opened[-1]))
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)
