"""The chain: each line of a log names the digest of the line before it, and the last one is signed.

Owns how a record becomes a line, and the judgement of a whole log. Pure: keys come in as objects
that sign and verify, lines as bytes. Must never repair anything.

Line n is `encode(record)` and a newline, where `seq` is n, `prev` is the digest of line n-1 without
its newline (64 zeros for the first), and every line carries the same `run`. A log is *sealed* when
its last line is `audit.sealed`, whose signature is Ed25519 over `mvm.seal/1`, a newline, and that
record without its `signature`; as the record holds `prev`, `seq` and `run`, it vouches for all lines.

Known hole: whole lines cut off the end of a log that was never sealed leave a shorter log that was
never sealed. A log that was sealed is told from that by the copy of its last line (`seal.json`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.record import Kind, check_record
from mvm.canonical import digest_of_bytes, encode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class Signer(Protocol):
        """A private key."""

        @property
        def identity(self) -> str:
            """The digest of the public key's 32 bytes."""

        def sign(self, message: bytes) -> bytes:
            """Return the 64 bytes of the signature."""

    class Verifier(Protocol):
        """A public key."""

        @property
        def identity(self) -> str:
            """The digest of the public key's 32 bytes."""

        def verify(self, message: bytes, signature: bytes) -> bool:
            """Tell whether the signature is this key's over the message."""


GENESIS = "sha256:" + "0" * 64
ALGORITHM = "ed25519"
LONGEST_LINE = 64 * 1024

_SEAL_DOMAIN = b"mvm.seal/1\n"  # no other signature of this key can be taken for a seal


class Verdict(NamedTuple):
    """What a log turned out to be.

    Attributes:
        records: how many whole lines are good, counted from the start.
        head: the digest of the last good line, or 64 zeros.
        sealed: it ends with a good seal.
        torn: bytes after the last newline, which a crash left; they are no part of the log.
        line: the first bad line, counted from 1, or None.
        why: what is wrong with that line, or an empty string.
    """

    records: int
    head: str
    sealed: bool
    torn: int = 0
    line: int | None = None
    why: str = ""

    @property
    def sound(self) -> bool:
        """No line is bad."""
        return self.line is None


def link(prev: str, record: dict[str, object]) -> tuple[bytes, str]:
    """Turn a record into the next line of its log.

    Args:
        prev: the digest of the line before, or `GENESIS`.
        record: of `audit.record.make_record`.

    Returns:
        The line with its newline, and its digest, which is the `prev` of the next.
    """
    data = encode({**record, "prev": prev})
    return data + b"\n", digest_of_bytes(data)


def sign_seal(prev: str, record: dict[str, object], key: Signer) -> dict[str, object]:
    """Add to an `audit.sealed` record the signature over it and so over the whole log.

    Args:
        prev: the digest of the log's last line.
        record: of `make_record`, with `algorithm` and `key`, without `signature`.
        key: the key to sign with.

    Returns:
        The record, ready for `link(prev, …)`.
    """
    return {**record, "signature": key.sign(_seal_message({**record, "prev": prev})).hex()}


def verify_lines(
    lines: Iterable[bytes], key: Verifier | None, *, run: str | None = None, seal: bytes | None = None
) -> Verdict:
    """Judge a log from its first line on, stopping at the first bad one.

    Args:
        lines: each with its newline, as a file opened in binary mode gives them; a last one without
            is what a crash leaves behind.
        key: the public key that seals are checked with; None lets no seal pass.
        run: the run whose log this should be, or None for whichever its first line names.
        seal: the copy of the last line that was kept beside the log when it was sealed, or None.

    Returns:
        The verdict. `sound` and not `sealed` is an unfinished log, good up to its last whole line.
    """
    source = iter(lines)
    head, before, records, sealed, last = GENESIS, GENESIS, 0, False, b""
    for line in source:
        if not line.endswith(b"\n") and not sealed and len(line) < LONGEST_LINE:
            return _unsealed(records, head, torn=len(line), seal=seal)
        try:
            if sealed:
                msg = "something follows the seal"
                raise ValueError(msg)  # one handler names the line for every reason
            record = _read_line(line)
            _check_place(record, seq=records + 1, prev=head, run=run)
            if record["kind"] == Kind.AUDIT_SEALED:
                _check_seal(record, key)
                sealed = True
        except _DetachedError:
            if not _is_vouched_for(line, next(source, b""), key):
                return _bad(records, head, "it does not follow from the line before")
            return _bad(records - 1, before, "it was changed: the line after it follows from another one")
        except ValueError as wrong:
            return _bad(records, head, str(wrong))
        run = str(record["run"])
        head, before, records, last = digest_of_bytes(line[:-1]), head, records + 1, line
    if sealed and seal is not None and seal != last:
        return _bad(records - 1, before, "it is not the line that this log was sealed with")
    return (
        Verdict(records=records, head=head, sealed=True)
        if sealed
        else _unsealed(records, head, torn=0, seal=seal)
    )


class _DetachedError(ValueError):
    """A line that names another digest than that of the line before it: one of the two was changed."""


def _is_vouched_for(line: bytes, successor: bytes, key: Verifier | None) -> bool:
    """Tell which of two lines that do not fit was changed: not the later one, if what follows knows it so."""
    try:
        if successor.endswith(b"\n"):
            return _read_line(successor)["prev"] == digest_of_bytes(line[:-1])
        record = _read_line(line)
        if record["kind"] == Kind.AUDIT_SEALED:
            _check_seal(record, key)
    except ValueError:
        return False
    return True


def _bad(records: int, head: str, why: str) -> Verdict:
    return Verdict(records=records, head=head, sealed=False, line=records + 1, why=why)


def _unsealed(records: int, head: str, *, torn: int, seal: bytes | None) -> Verdict:
    if seal is None:
        return Verdict(records=records, head=head, sealed=False, torn=torn)
    why = "the log was sealed, and this and what followed is gone"
    return Verdict(records=records, head=head, sealed=False, torn=torn, line=records + 1, why=why)


def _read_line(line: bytes) -> dict[str, object]:
    import json  # only verification reads JSON

    if not line.endswith(b"\n") or len(line) > LONGEST_LINE:
        msg = "it is longer than any record, or has no end"
        raise ValueError(msg)
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        msg = "not JSON"
        raise ValueError(msg) from None
    checked = check_record(record)
    if encode(checked) + b"\n" != line:
        msg = "not in canonical form"
        raise ValueError(msg)
    return checked


def _check_place(record: dict[str, object], *, seq: int, prev: str, run: str | None) -> None:
    if record["seq"] != seq:
        msg = f"it says that it is line {record['seq']}"
        raise ValueError(msg)
    if record["prev"] != prev:
        msg = "it is not the first line of a log"
        raise ValueError(msg) if seq == 1 else _DetachedError
    if run is not None and record["run"] != run:
        msg = "it belongs to another run"
        raise ValueError(msg)


def _check_seal(record: dict[str, object], key: Verifier | None) -> None:
    unsigned = dict(record)
    signature = unsigned.pop("signature", "")
    if key is None:
        msg = "there is no public key to check the seal with"
        raise ValueError(msg)
    if record.get("algorithm") != ALGORITHM or record.get("key") != key.identity:
        msg = "it was sealed with another key"
        raise ValueError(msg)
    if not key.verify(_seal_message(unsigned), bytes.fromhex(str(signature))):
        msg = "the signature of the seal is wrong"
        raise ValueError(msg)


def _seal_message(unsigned: dict[str, object]) -> bytes:
    return _SEAL_DOMAIN + encode(unsigned)
