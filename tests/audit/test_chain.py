"""Nothing in a log can be changed without its verification naming the first bad line."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from mvm.audit.chain import GENESIS, LONGEST_LINE, Verdict, link, sign_seal, verify_lines
from mvm.audit.keys import PublicKey, SigningKey, public_key
from mvm.audit.record import make_record
from mvm.canonical import digest_of_bytes, encode

TIME = "2025-01-31T23:59:59.000001Z"


@pytest.fixture
def data(sealed_log: str) -> bytes:
    """The bytes of a sealed log."""
    return Path(sealed_log).read_bytes()


@pytest.fixture
def key(sealed_log: str, state: str) -> PublicKey:
    """The public key that it was sealed with."""
    assert sealed_log
    found = public_key(state)
    assert found is not None
    return found


def judge(data: bytes, key: PublicKey | None, **about: object) -> Verdict:
    """Verify bytes as a file would give them."""
    return verify_lines(data.splitlines(keepends=True) if b"\r" not in data else split(data), key, **about)  # type: ignore[arg-type]


def split(data: bytes) -> list[bytes]:
    """Split at newlines only, as a binary file does."""
    whole = data.split(b"\n")
    return [line + b"\n" for line in whole[:-1]] + ([whole[-1]] if whole[-1] else [])


def test_an_untouched_log_verifies(data: bytes, key: PublicKey, run: str) -> None:
    """The log as written is sound and sealed, for its own run and with its own seal."""
    seal = split(data)[-1]
    verdict = judge(data, key, run=run, seal=seal)
    assert (verdict.sound, verdict.sealed, verdict.records, verdict.torn) == (True, True, 5, 0)


def test_every_bit_flip_is_detected(data: bytes, key: PublicKey) -> None:
    """Whichever bit of a sealed log is flipped, it is not sealed and sound any more; the line is named."""
    for place, bit in itertools.product(range(len(data)), range(8)):
        changed = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
        verdict = judge(changed, key)
        assert not (verdict.sound and verdict.sealed), (place, bit)
        if place < len(data) - 1:  # the last newline turned into something else is a torn line
            expected = data.count(b"\n", 0, place) + 1
            assert verdict.line == expected, (place, bit)
        else:
            assert verdict.torn


def test_every_removal_insertion_and_swap_of_bytes_is_detected(data: bytes, key: PublicKey) -> None:
    """A byte taken out, doubled, or swapped with its neighbour anywhere is detected."""
    for place in range(len(data)):
        changes = [data[:place] + data[place + 1 :], data[:place] + data[place : place + 1] + data[place:]]
        pair = data[place : place + 2]
        if len(set(pair)) == 2:  # two different bytes
            changes.append(data[:place] + pair[::-1] + data[place + 2 :])
        for changed in changes:
            verdict = judge(changed, key)
            assert not (verdict.sound and verdict.sealed), (place, changed)


def test_every_cut_is_detected(data: bytes, key: PublicKey) -> None:
    """A sealed log cut anywhere is good up to its last whole line and unsealed; with its seal known, bad."""
    seal = split(data)[-1]
    for length in range(len(data)):
        cut = data[:length]
        lines = cut.count(b"\n")
        verdict = judge(cut, key)
        assert (verdict.sound, verdict.sealed, verdict.records) == (True, False, lines)
        assert verdict.torn == len(cut) - (cut.rfind(b"\n") + 1)
        known = judge(cut, key, seal=seal)
        assert (known.sound, known.line) == (False, lines + 1)
        assert "gone" in known.why


def test_every_cut_at_the_front_is_detected(data: bytes, key: PublicKey) -> None:
    """A log whose beginning is missing is bad from its first line on."""
    for start in range(1, len(data)):
        verdict = judge(data[start:], key)
        if start == len(data) - 1:
            assert verdict.why == "not JSON"
        assert (verdict.sound, verdict.line) == (False, 1)


def test_lines_removed_swapped_or_doubled_are_detected(data: bytes, key: PublicKey) -> None:
    """Whole lines taken out, swapped, or repeated are named at the first place that is wrong."""
    lines = split(data)
    for one in range(len(lines) - 1):
        removed = judge(b"".join(lines[:one] + lines[one + 1 :]), key)
        assert (removed.sound, removed.line) == (False, one + 1)
        doubled = judge(b"".join(lines[: one + 1] + lines[one:]), key)
        assert (doubled.sound, doubled.line) == (False, one + 2)
        for other in range(one + 1, len(lines)):
            swapped = list(lines)
            swapped[one], swapped[other] = swapped[other], swapped[one]
            verdict = judge(b"".join(swapped), key)
            assert (verdict.sound, verdict.line) == (False, one + 1)


def test_an_unsealed_log_detects_all_but_its_last_line(data: bytes) -> None:
    """Without a seal, an edit of any line but the last is detected by the line after it."""
    unsealed = b"".join(split(data)[:-1])
    assert judge(unsealed, None) == Verdict(
        records=4, head=judge(unsealed, None).head, sealed=False, torn=0, line=None, why=""
    )
    start_of_last = unsealed.rfind(b"\n", 0, -1) + 1
    for place in range(start_of_last - 1):
        changed = unsealed[:place] + bytes([unsealed[place] ^ 1]) + unsealed[place + 1 :]
        assert not judge(changed, None).sound, place


def test_nothing_may_follow_the_seal(data: bytes, key: PublicKey, run: str) -> None:
    """A line, or a piece of one, after the seal is bad: one that follows from the seal as it should, too."""
    record = make_record("run.started", {"name": "late"}, seq=6, time=TIME, run=run)
    following, _ = link(digest_of_bytes(split(data)[-1][:-1]), record)
    for more in (b"x", b"\n", split(data)[0], following):
        verdict = judge(data + more, key)
        assert (verdict.sound, verdict.line) == (False, 6)


def test_a_log_of_another_run_is_detected(data: bytes, key: PublicKey, run: str) -> None:
    """A whole, well sealed log in another run's place is bad from its first line."""
    assert judge(data, key, run=run).sound
    verdict = judge(data, key, run="0" * 26)
    assert (verdict.line, verdict.why) == (1, "it belongs to another run")


def test_a_log_sealed_anew_is_detected(data: bytes, key: PublicKey, run: str) -> None:
    """A log rewritten with a right chain cannot be sealed without the key, nor under its name."""
    forger = SigningKey(b"\x01" * 32)
    fields = {"algorithm": "ed25519", "key": forger.identity}
    for claimed in (forger.identity, key.identity):
        record = make_record("run.started", {"name": "forged"}, seq=1, time=TIME, run=run)
        first, head = link(GENESIS, record)
        last = make_record("audit.sealed", {**fields, "key": claimed}, seq=2, time=TIME, run=run)
        forged = first + link(head, sign_seal(head, last, forger))[0]
        verdict = judge(forged, key)
        assert (verdict.sound, verdict.line) == (False, 2)
        assert ("another key" if claimed == forger.identity else "signature") in verdict.why
        good = judge(forged, PublicKey(forger.public))
        assert good.sound is (claimed == forger.identity)
    verdict = judge(data, None)
    assert (verdict.line, verdict.why) == (5, "there is no public key to check the seal with")


def test_a_seal_without_its_fields_is_bad(key: PublicKey, run: str) -> None:
    """A seal that lacks its signature, or names another algorithm, is refused, and not an error."""
    for fields in (
        {},
        {"algorithm": "ed25519", "key": key.identity},
        {"algorithm": "none", "signature": "0" * 128},
    ):
        line, _ = link(GENESIS, make_record("audit.sealed", fields, seq=1, time=TIME, run=run))
        assert not judge(line, key).sound


def test_a_seal_kept_from_elsewhere_is_detected(data: bytes, key: PublicKey) -> None:
    """A log whose last line is not the one kept beside it is bad at that line."""
    verdict = judge(data, key, seal=split(data)[0])
    assert (verdict.sound, verdict.line) == (False, 5)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b'{"a":NaN}\n',
        b"[" * 30_000 + b"\n",
        b"\xff\xfe\n",
        b"\x00" * 10 + b"\n",
    ],
)
def test_lines_that_are_no_records(line: bytes) -> None:
    """Whatever a line is made of, the verdict names it, and nothing is raised."""
    verdict = judge(line, None)
    assert (verdict.sound, verdict.line, verdict.records) == (False, 1, 0)


def test_a_line_without_end_is_bad() -> None:
    """A last line longer than any record is no torn record; a shorter one may be."""
    assert judge(b"x" * LONGEST_LINE, None).line == 1
    assert judge(b"x" * (LONGEST_LINE - 1), None).torn == LONGEST_LINE - 1


def test_an_empty_log_is_unsealed() -> None:
    """A log without a line, as a crash right after its making leaves it, is good and unsealed."""
    assert judge(b"", None) == Verdict(records=0, head=GENESIS, sealed=False)


def test_a_line_that_says_another_number_is_bad(run: str) -> None:
    """Though its chain is right: a number is what people and reports name a line by."""
    first, head = link(GENESIS, make_record("run.started", {"name": "x"}, seq=1, time=TIME, run=run))
    for seq in (1, 2, 3):
        record = make_record("run.ended", {"outcome": "completed"}, seq=seq, time=TIME, run=run)
        verdict = judge(first + link(head, record)[0], None)
        assert (verdict.sound, verdict.line) == ((True, None) if seq == 2 else (False, 2)), seq


def test_lines_are_canonical(run: str) -> None:
    """A line with the right content in another spelling is bad."""
    record = make_record("run.started", {"name": "x"}, seq=1, time=TIME, run=run)
    line, head = link(GENESIS, record)
    assert line == encode({**record, "prev": GENESIS}) + b"\n"
    assert judge(line, None).head == head
    verdict = judge(line.replace(b":", b": ", 1), None)
    assert verdict.why == "not in canonical form"
    assert judge(line[:-2] + b',"name":"x"}\n', None).why == "not in canonical form"
