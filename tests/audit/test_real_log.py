"""The log of a real run, byte by byte: whatever is changed, `audit verify` exits 65 and names the line."""

from __future__ import annotations

import os
import signal
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from mvm.audit.chain import verify_lines
from mvm.audit.keys import public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mvm.audit.chain import Verdict
    from tests.support.mvmctl import Mvmctl

    Edits = Callable[[bytes], Iterator[tuple[int, bytes]]]

pytestmark = pytest.mark.kernel


class Record:
    """The record of one run, and its judgement as `audit verify` makes it of the file."""

    def __init__(self, state: Path) -> None:
        """Find the one run there is."""
        (path,) = state.glob("runs/*/log.jsonl")
        kept = path.with_name("seal.json")
        self.data, self.run = path.read_bytes(), path.parent.name
        self.seal = kept.read_bytes() if kept.exists() else None
        self._key = public_key(str(state))

    @property
    def lines(self) -> list[bytes]:
        """Its lines, each with its newline."""
        return self.data.splitlines(keepends=True)

    @property
    def last(self) -> int:
        """Where its last line begins."""
        return len(self.data) - len(self.lines[-1])

    def judge(self, data: bytes) -> Verdict:
        """Verify other bytes in its place."""
        return verify_lines(BytesIO(data), self._key, run=self.run, seal=self.seal)


@pytest.fixture
def sealed(mvmctl: Mvmctl) -> Record:
    """A run that was denied a host, and sealed its record."""
    mvmctl("run", "--", "getent", "hosts", "evil.example.test").expect(2)
    record = Record(mvmctl.state)
    assert record.judge(record.data).sealed
    return record


@pytest.fixture
def unsealed(mvmctl: Mvmctl) -> Record:
    """The same, killed before it could seal."""
    script = "getent hosts evil.example.test; echo asked; exec sleep 30"
    running = mvmctl.start("run", "--", "sh", "-c", script)
    running.until("asked\n")
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    record = Record(mvmctl.state)
    verdict = record.judge(record.data)
    assert (verdict.sound, verdict.sealed, record.seal) == (True, False, None)
    return record


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every bit flipped."""
    for place in range(len(data)):
        for bit in range(8):
            yield place, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def others(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Every byte taken out, doubled, made zero, and swapped with the next one where they differ."""
    for place in range(len(data)):
        yield place, data[:place] + data[place + 1 :]
        yield place, data[:place] + data[place : place + 1] + data[place:]
        yield place, data[:place] + b"\0" + data[place + 1 :]
        pair = data[place : place + 2]
        if len(set(pair)) == 2:
            yield place, data[:place] + pair[::-1] + data[place + 2 :]


@pytest.mark.parametrize("edits", [flips, others])
def test_every_edit_of_a_sealed_log_is_bad(sealed: Record, edits: Edits) -> None:
    """Each bit flipped, each byte removed, doubled, zeroed or swapped is bad, and its line is named."""
    for place, changed in edits(sealed.data):
        verdict = sealed.judge(changed)
        line = sealed.data.count(b"\n", 0, place) + 1
        assert not verdict.sound, place
        assert verdict.line in {line, line + 1}, (place, verdict.why)


def test_every_cut_of_a_sealed_log_is_bad(sealed: Record) -> None:
    """Cut after any byte, or begun after any byte, it is bad, since the copy of its seal is beside it."""
    for place in range(len(sealed.data)):
        assert not sealed.judge(sealed.data[:place]).sound, place
        assert not sealed.judge(sealed.data[place + 1 :]).sound, place


def test_every_line_of_a_sealed_log_counts(sealed: Record) -> None:
    """A line removed, repeated, or in another's place is bad."""
    lines = sealed.lines
    for one in range(len(lines)):
        assert not sealed.judge(b"".join(lines[:one] + lines[one + 1 :])).sound
        assert not sealed.judge(b"".join(lines[: one + 1] + lines[one:])).sound
        for other in range(one + 1, len(lines)):
            swapped = list(lines)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            assert not sealed.judge(b"".join(swapped)).sound


def test_a_sealed_log_without_the_copy_of_its_seal(sealed: Record) -> None:
    """With that copy gone, each edit still ends the seal; a cut is an unsealed log, never a sealed one."""
    sealed.seal = None
    assert sealed.judge(sealed.data).sealed
    for place, changed in others(sealed.data):
        verdict = sealed.judge(changed)
        assert not (verdict.sound and verdict.sealed), place
    for place in range(len(sealed.data)):
        verdict = sealed.judge(sealed.data[:place])
        assert (verdict.sound, verdict.sealed) == (True, False), place


@pytest.mark.parametrize("edits", [flips, others])
def test_every_edit_of_an_unsealed_log_is_seen_before_its_last_line(unsealed: Record, edits: Edits) -> None:
    """In all lines but the last each change is bad; nothing vouches for the last, and it is never sealed."""
    for place, changed in edits(unsealed.data):
        verdict = unsealed.judge(changed)
        assert not verdict.sealed, place
        if place < unsealed.last - 1:  # the newline before the last line: both are one torn line then
            assert not verdict.sound, place


def test_every_cut_of_an_unsealed_log_leaves_whole_lines(unsealed: Record) -> None:
    """A cut is good up to its last whole line and says how much is torn; a cut at the front is bad."""
    for place in range(1, len(unsealed.data)):
        cut = unsealed.data[:place]
        verdict = unsealed.judge(cut)
        assert (verdict.sound, verdict.records) == (True, cut.count(b"\n")), place
        assert verdict.torn == len(cut.rpartition(b"\n")[2]), place
        if place < unsealed.last:
            assert not unsealed.judge(unsealed.data[place:]).sound, place


def test_audit_verify_says_so(mvmctl: Mvmctl, sealed: Record) -> None:
    """The command gives 0 for the file as it was, and 65 with the line for one changed byte in each line."""
    path = mvmctl.state / "runs" / sealed.run / "log.jsonl"
    mvmctl("audit", "verify", sealed.run, "--sealed").expect(0)
    start = 0
    for number, line in enumerate(sealed.lines, start=1):
        changed = bytearray(sealed.data)
        changed[start + len(line) // 2] ^= 1
        path.write_bytes(changed)
        said = mvmctl("audit", "verify", sealed.run).expect(65).stdout
        assert f"BAD at line {number}:" in said
        assert mvmctl("audit", "export", sealed.run).expect(65).stdout == ""
        start += len(line)
    path.write_bytes(sealed.data)
    assert len(mvmctl("audit", "export", sealed.run).expect(0).stdout.splitlines()) == len(sealed.lines)
