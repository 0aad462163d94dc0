"""Every reader, with the kept inputs, with some made from them, and with any bytes at all."""

from __future__ import annotations

import base64
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import long
from tests.fuzz.coverage import steps_of
from tests.fuzz.long import TOO_SLOW_S, Fuzzing
from tests.fuzz.mutation import mutate
from tests.fuzz.readers import READERS, Reader
from tests.fuzz.seeds import CORPUS, seeds_of

if TYPE_CHECKING:
    from pathlib import Path

_MUTATED = 150
_EACH = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


@_EACH
def test_every_kept_input_gives_a_value_nothing_or_the_documented_error(reader: Reader) -> None:
    """The vectors of the reader, and what the long runs have kept for it."""
    seeds = seeds_of(reader.name)
    assert len(seeds) > 1
    for data in seeds:
        reader.run(data)


@_EACH
def test_inputs_made_from_them_do_so_too_and_soon(reader: Reader) -> None:
    """Seeded: the same in every run; the long run goes on from here."""
    chance, seeds = Random(20261125), seeds_of(reader.name)
    for _ in range(_MUTATED):
        data = mutate(chance, chance.choice(seeds), seeds, reader.longest)
        began = time.process_time()
        reader.run(data)
        assert time.process_time() - began < TOO_SLOW_S, data[:100]


@_EACH
@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_do_so_too(reader: Reader, data: bytes) -> None:
    """Bytes and text as hypothesis makes and shrinks them."""
    reader.run(data)


@_EACH
@pytest.mark.parametrize(
    "piece", [b"\0", b"\xff", b"a", b".", b"[", b'{"a":', b"(", b" ", b"\r\n", b"\xc0\x0c"]
)
def test_the_longest_input_of_one_kind_is_read_in_bounded_time(reader: Reader, piece: bytes) -> None:
    """No reader grows with the square of its input, nor falls on something nested."""
    began = time.process_time()
    reader.run((piece * reader.longest)[: reader.longest])
    assert time.process_time() - began < TOO_SLOW_S


def test_the_corpus_is_small_and_of_the_readers_that_there_are() -> None:
    """Less than a megabyte, and a file for each reader."""
    files = sorted(CORPUS.glob("*.txt"))
    assert {path.stem for path in files} == {reader.name for reader in READERS}
    assert sum(path.stat().st_size for path in files) < 1 << 20


def _breaks_at_a_dot(data: bytes) -> object:
    return data[len(data)] if b"." in data else None


def test_the_long_run_finds_a_reader_that_breaks_and_names_the_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with 1; with the readers as they are it finds nothing and ends with 0."""
    told = Fuzzing(Reader("host", _breaks_at_a_dot), seed=1).run(seconds=0.1)
    assert [why.partition(" ")[0] for _, why in told.findings] == ["IndexError"]
    assert all(b"." in data for data, _ in told.findings)
    monkeypatch.setattr(long, "READERS", READERS)
    assert long.main(["0.2", "--processes", "1", "--only", "duration"]) == 0
    assert "0 findings" in capsys.readouterr().out


def test_a_kept_corpus_reaches_what_the_inputs_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is left out of it takes no step of the product that the rest doesn't take."""
    monkeypatch.setattr(long, "CORPUS", tmp_path)
    reader = next(each for each in READERS if each.name == "duration")
    inputs = {b"1h", b"2h", b"90s", b"1h30m", b"", b"x", b"y"}
    long.keep("duration", inputs)
    kept = [base64.b64decode(line) for line in (tmp_path / "duration.txt").read_text().split("\n")]
    assert set(kept) < inputs
    assert set().union(*(steps_of(reader.run, data) for data in kept)) == set().union(
        *(steps_of(reader.run, data) for data in inputs)
    )
