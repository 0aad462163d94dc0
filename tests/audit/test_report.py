"""Verifying, showing and following the record of runs, as the commands do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.audit.keys import public_key, signing_key
from mvm.audit.log import Log
from mvm.audit.report import follow_records, read_records, verify_runs
from mvm.errors import AuditError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

UNSEALED = "0" * 26
KINDS = ["run.started", "grant.decided", "flow.denied", "run.ended", "audit.sealed"]


@pytest.fixture
def both(state: str, sealed_log: str) -> str:
    """A state directory with a sealed run and an older, unsealed one called old."""
    assert sealed_log
    with Log.create(state, UNSEALED) as log:
        log.append("run.started", name="old")
    return state


def test_verified_and_unsealed(both: str, run: str) -> None:
    """Both kinds of log are good, and said apart; with `sealed` the unsealed one is 65."""
    results, status = verify_runs(both, [], key=public_key(both))
    assert status == 0
    assert [(found.run.id, found.to_json()["state"]) for found in results] == [
        (UNSEALED, "unsealed"),
        (run, "sealed"),
    ]
    assert "verified up to its last whole line, 1 records, unsealed" in results[0].describe()
    assert "verified, 5 records, sealed" in results[1].describe()
    results, status = verify_runs(both, [], key=public_key(both), sealed=True)
    assert (status, [found.acceptable for found in results]) == (65, [False, True])
    assert verify_runs(both, ["sample"], key=public_key(both), sealed=True)[1] == 0


def test_the_first_bad_line_is_named(both: str, run: str, sealed_log: str) -> None:
    """An edited log is 65 with the line and the reason; the other run is not affected."""
    log = Path(sealed_log)
    log.write_bytes(log.read_bytes().replace(b"evil.example", b"good.example"))
    results, status = verify_runs(both, [run, "old"], key=public_key(both))
    assert (status, results[0].verdict.line, results[1].acceptable) == (65, 3, True)
    assert results[0].describe().startswith(f"{run}: BAD at line 3: ")
    assert results[0].to_json()["ok"] is False
    assert verify_runs(both, ["old"], key=public_key(both))[1] == 0


def test_a_sealed_log_cut_short_is_bad(both: str, run: str, sealed_log: str) -> None:
    """Whole lines cut off a sealed log are missed, since the copy of the seal is beside it."""
    log = Path(sealed_log)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    results, status = verify_runs(both, [run], key=public_key(both))
    assert (status, results[0].verdict.line) == (65, 3)
    log.with_name("seal.json").unlink()  # the hole that the module names
    assert verify_runs(both, [run], key=public_key(both))[0][0].to_json()["state"] == "unsealed"


def test_a_torn_last_line(both: str) -> None:
    """A torn last line is reported with its size, and the rest counts."""
    log = Path(both) / "runs" / UNSEALED / "log.jsonl"
    with log.open("ab") as torn:
        torn.write(b'{"kind":"run.en')
    results, status = verify_runs(both, ["old"], key=None)
    assert (status, results[0].verdict.records, results[0].verdict.torn) == (0, 1, 15)
    assert "15 bytes of a torn last line" in results[0].describe()
    assert [record["kind"] for record in read_records(str(log))] == ["run.started"]


def test_logs_that_are_not_there(both: str, run: str, sealed_log: str) -> None:
    """A run whose log is gone is bad, a log that is a link is an error, a run that is unknown is usage."""
    Path(sealed_log).rename(Path(both) / "kept")
    results, status = verify_runs(both, [run], key=public_key(both))
    assert (status, results[0].verdict.why) == (65, "the log is gone")
    Path(sealed_log).symlink_to(Path(both) / "kept")
    with pytest.raises(AuditError, match="cannot be read"):
        verify_runs(both, [run], key=public_key(both))
    with pytest.raises(UsageError):
        verify_runs(both, ["nobody"], key=None)


def test_runs_swapped_between_directories(both: str, run: str, sealed_log: str) -> None:
    """A good log in another run's directory is bad there."""
    (Path(both) / "runs" / UNSEALED / "log.jsonl").write_bytes(Path(sealed_log).read_bytes())
    results, status = verify_runs(both, [UNSEALED, run], key=public_key(both))
    assert (status, results[0].verdict.why, results[1].acceptable) == (65, "it belongs to another run", True)


def test_records_are_shown_by_kind(sealed_log: str) -> None:
    """All records come in order, or those of the kinds asked for."""
    assert [record["kind"] for record in read_records(sealed_log)] == KINDS
    asked = read_records(sealed_log, kinds=["flow.denied", "run.ended"])
    assert [record["seq"] for record in asked] == [3, 4]


def test_following_a_log(state: str, run: str) -> None:
    """Following gives each record once its line is whole, waits where there is no more, ends at the seal."""
    with Log.create(state, run) as log:
        pending: list[Callable[[], object]] = [
            lambda: log.append("run.started"),
            lambda: None,  # woken for nothing
            lambda: [log.append("run.ended", exit_code=code) for code in (1, 2)],  # type: ignore[func-returns-value]
            lambda: log.seal(signing_key(state)),
        ]

        def wait() -> bool:
            pending.pop(0)()
            return True

        seen = [record["kind"] for record in follow_records(log.path, wait=wait)]
    assert seen == ["run.started", "run.ended", "run.ended", "audit.sealed"]
    assert pending == []


def test_following_gives_no_half_lines(tmp_path: Path, sealed_log: str) -> None:
    """However a log grows, byte by byte too, the records are the same."""
    data, log = Path(sealed_log).read_bytes(), tmp_path / "growing"
    log.touch()
    left = [data[place : place + 1] for place in range(len(data))]

    def wait() -> bool:
        with log.open("ab") as file:
            file.write(left.pop(0))
        return True

    assert list(follow_records(str(log), wait=wait)) == list(read_records(sealed_log))
    assert left == []


def test_following_stops_when_told(sealed_log: str, tmp_path: Path) -> None:
    """When there is nothing to wait for any more, following ends."""
    log = tmp_path / "unsealed"
    log.write_bytes(b"".join(Path(sealed_log).read_bytes().splitlines(keepends=True)[:-1]))
    answers = [True, True, False]
    assert len(list(follow_records(str(log), wait=lambda: answers.pop(0)))) == 4
    assert answers == []


@pytest.mark.parametrize("content", [b"nonsense\n", b"[]\n", b"{}\n", b"x" * 200_000])
def test_lines_that_are_no_records(tmp_path: Path, content: bytes) -> None:
    """Reading a damaged log says which line, and where to ask more."""
    log = tmp_path / "log"
    log.write_bytes(content)
    with pytest.raises(AuditError, match=r"line 1 of|longer than any") as caught:
        list(follow_records(str(log), wait=lambda: True))
    assert "audit verify" in caught.value.hint
