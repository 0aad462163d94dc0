"""`audit show`, `tail` and `verify`, and `ls -a`, on records that were really written."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.audit.keys import signing_key
from mvm.audit.log import Log
from mvm.audit.run_id import make_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Said

_START = 1_750_000_000_000_000_000
_SAMPLE = make_run_id(_START // 1_000_000, bytes(10))
_CRASHED = make_run_id(_START // 1_000_000 + 1, bytes(10))


@pytest.fixture
def state(tmp_path: Path, project: Path) -> str:
    """A state directory with a sealed run called sample, and a later one that never sealed its record."""
    assert project.is_dir()
    directory = str(tmp_path / "state")
    ticks = itertools.count(_START, 1_000_000)
    with Log.create(directory, _SAMPLE, clock=lambda: next(ticks)) as log:
        log.append("run.started", name="sample", backend="namespace")
        log.append(
            "grant.decided",
            decision="allowed",
            host="api.example",
            port=443,
            protocol="tcp",
            reason="why not",
        )
        log.append(
            "flow.denied",
            layer="tcp", host="evil.example", address="198.18.0.9", port=22, protocol="tcp",
            reason="host-not-granted", count=2,
        )  # fmt: skip
        log.append("run.ended", outcome="failed", cause="policy", exit_code=7, duration_s=0.5, denials=2)
        log.seal(signing_key(directory))
    with Log.create(directory, _CRASHED, clock=lambda: next(ticks)) as log:
        log.append("run.started", name="crashed", backend="namespace")
    return directory


def test_a_record_is_a_line_each(state: str, type_in: Callable[..., Said]) -> None:
    """`audit show` gives time, kind, place and the rest, in the record's order."""
    assert state
    lines = type_in("audit", "show", "sample").expect(0).output.splitlines()
    assert [line.split()[1] for line in lines] == [
        "run.started", "grant.decided", "flow.denied", "run.ended", "audit.sealed",
    ]  # fmt: skip
    assert lines[1].startswith("15:06:40.001  grant.decided   api.example:443/tcp ")
    assert 'reason="why not"' in lines[1]
    assert "evil.example:22/tcp (198.18.0.9) count=2 layer=tcp reason=host-not-granted" in lines[2]


def test_as_json_records_are_as_they_are_kept(state: str, type_in: Callable[..., Said]) -> None:
    """`audit show --json` prints the log's own lines, as values."""
    said = type_in("audit", "show", "--json", _SAMPLE[:9]).expect(64)
    assert "beginning of 2 run ids" in said.errors
    said = type_in("audit", "show", "--json", _SAMPLE).expect(0)
    kept = Path(f"{state}/runs/{_SAMPLE}/log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in said.output.splitlines()] == [json.loads(line) for line in kept]


def test_kinds_are_chosen(state: str, type_in: Callable[..., Said]) -> None:
    """`--kind` shows records of that kind only; a kind that is not there is usage."""
    assert state
    said = type_in("audit", "show", "sample", "--kind", "flow.denied").expect(0)
    assert len(said.output.splitlines()) == 1
    type_in("audit", "show", "sample", "--kind", "flow.dropped").expect(64)


def test_without_a_name_the_newest_run_is_meant(state: str, type_in: Callable[..., Said]) -> None:
    """`audit show` alone shows the run that began last."""
    assert state
    assert "name=crashed" in type_in("audit", "show").expect(0).output


def test_where_nothing_was_recorded_that_is_said(type_in: Callable[..., Said]) -> None:
    """With an empty state, show and tail exit 64, verify --all has nothing to refuse, a name is unknown."""
    assert "no record of any run" in type_in("audit", "show").expect(64).errors
    assert "no record of any run" in type_in("audit", "tail").expect(64).errors
    assert type_in("audit", "verify", "--all").expect(0).output == ""
    assert "there is no run 'nobody'" in type_in("audit", "show", "nobody").expect(64).errors


def test_the_tail_is_the_last_records(state: str, type_in: Callable[..., Said]) -> None:
    """`audit tail -n 2` shows two records; -n 0 none; following a run that has ended ends by itself."""
    assert state
    said = type_in("audit", "tail", "-n", "2", "sample").expect(0)
    assert [line.split()[1] for line in said.output.splitlines()] == ["run.ended", "audit.sealed"]
    assert type_in("audit", "tail", "-n", "0", "sample").expect(0).output == ""
    for name, count in (("sample", 5), ("crashed", 1)):
        assert len(type_in("audit", "tail", "-f", name).expect(0).output.splitlines()) == count


def test_good_records_verify(state: str, type_in: Callable[..., Said]) -> None:
    """`audit verify --all` exits 0 with a line each; with --sealed the one that crashed is 65."""
    assert state
    lines = type_in("audit", "verify", "--all").expect(0).output.splitlines()
    assert lines[0] == f"{_SAMPLE}: verified, 5 records, sealed"
    assert lines[1].startswith(f"{_CRASHED}: verified up to its last whole line, 1 records, unsealed")
    type_in("audit", "verify", "--all", "--sealed").expect(65)
    type_in("audit", "verify", "sample", "--sealed").expect(0)


def test_a_changed_record_is_65_with_its_line(state: str, type_in: Callable[..., Said]) -> None:
    """One changed byte: the first bad line is named, as text and as JSON; the other run is still good."""
    log = Path(f"{state}/runs/{_SAMPLE}/log.jsonl")
    log.write_bytes(log.read_bytes().replace(b"evil.example", b"good.example"))
    assert f"{_SAMPLE}: BAD at line 3" in type_in("audit", "verify", "sample").expect(65).output
    answer = type_in("audit", "verify", "--all", "--json").expect(65).json
    assert (answer["schema"], answer["ok"]) == ("mvm.verification/1", False)
    assert [(run["run"], run["ok"], run["line"]) for run in answer["runs"]] == [
        (_SAMPLE, False, 3),
        (_CRASHED, True, None),
    ]
    type_in("audit", "verify", "crashed").expect(0)


def test_a_run_that_is_not_what_its_directory_says_is_bad(state: str, type_in: Callable[..., Said]) -> None:
    """--all is 65 where a log is gone, or lies, a copy or moved, in the directory of another run; else 0."""
    runs, other = Path(f"{state}/runs"), make_run_id(_START // 1_000_000 + 2, bytes(10))
    shutil.copytree(runs / _SAMPLE, runs / other)
    said = type_in("audit", "verify", "--all").expect(65).output.splitlines()
    assert [line.split(":")[1][:13] for line in said] == [" verified, 5 ", " verified up ", " BAD at line "]
    shutil.rmtree(runs / other)
    type_in("audit", "verify", "--all").expect(0)
    (runs / _SAMPLE / "log.jsonl").rename(runs / _CRASHED / "log.jsonl")
    said = type_in("audit", "verify", "--all").expect(65).output.splitlines()
    assert said[0] == f"{_SAMPLE}: BAD at line 1: the log is gone"
    assert said[1].startswith(f"{_CRASHED}: BAD at line 1: ")


def test_a_run_removed_whole_is_missed_by_who_knows_its_id(state: str, type_in: Callable[..., Said]) -> None:
    """The limit: no list of runs is kept, so --all has nothing to miss it by; by its id it is not there."""
    type_in("audit", "verify", _SAMPLE).expect(0)
    shutil.rmtree(f"{state}/runs/{_SAMPLE}")
    assert f"there is no run '{_SAMPLE}'" in type_in("audit", "verify", _SAMPLE).expect(64).errors
    answer = type_in("audit", "verify", "--all", "--json").expect(0).json
    assert [run["run"] for run in answer["runs"]] == [_CRASHED]


def test_a_seal_is_checked_with_the_key_that_is_named(
    state: str, type_in: Callable[..., Said], tmp_path: Path
) -> None:
    """--key takes a public key from elsewhere: its own verifies, another's does not, none there is usage."""
    signing_key(str(tmp_path / "other"))
    type_in("audit", "verify", "sample", "--key", f"{state}/keys/verify.pem").expect(0)
    said = type_in("audit", "verify", "sample", "--key", f"{tmp_path}/other/keys/verify.pem").expect(65)
    assert "another key" in said.output
    type_in("audit", "verify", "sample", "--key", "absent.pem").expect(64)


def test_verify_wants_to_know_what(type_in: Callable[..., Said]) -> None:
    """Neither names nor --all, and both, are usage."""
    type_in("audit", "verify").expect(64)
    type_in("audit", "verify", "--all", "sample").expect(64)


def test_ended_runs_are_listed(state: str, type_in: Callable[..., Said]) -> None:
    """`ls` lists what runs; `ls -a` the ended too: how they ended, and unsealed for one that crashed."""
    assert state
    assert type_in("ls").expect(0).output == ""
    rows = [line.split() for line in type_in("ls", "-a").expect(0).output.splitlines()]
    assert rows[0][:4] == ["sample", "failed", "(7)", "2025-06-15T15:06:40"]
    assert rows[1][:2] == ["crashed", "unsealed"]


def test_a_list_as_json_has_its_members(state: str, type_in: Callable[..., Said]) -> None:
    """`ls -a --json`: name, run, status, exit code, times, backend and denials of each."""
    assert state
    answer = type_in("ls", "-a", "--json").expect(0).json
    assert answer["schema"] == "mvm.list/1"
    sample, crashed = answer["sandboxes"]
    assert sample["run"] == _SAMPLE
    assert (sample["status"], sample["exit_code"], sample["denials"]) == ("failed", 7, 2)
    assert sample["started"] == "2025-06-15T15:06:40.000000Z"
    assert sample["ended"] == "2025-06-15T15:06:40.003000Z"
    assert (crashed["status"], crashed["exit_code"], crashed["ended"]) == ("unsealed", None, None)
    assert type_in("ls", "--json").expect(0).json["sandboxes"] == []


def test_a_log_that_is_no_log_is_listed_as_unsealed(state: str, type_in: Callable[..., Said]) -> None:
    """A run whose log is gone, empty or garbage is listed all the same."""
    for number, content in enumerate((None, b"", b"\xff\n{}\n[1]\n")):
        run = make_run_id(_START // 1_000_000 + 10 + number, bytes(10))
        Path(f"{state}/runs/{run}").mkdir()
        if content is not None:
            Path(f"{state}/runs/{run}/log.jsonl").write_bytes(content)
    lines = type_in("ls", "-a").expect(0).output.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["-", "unsealed"]] * 3


def test_console_output_that_was_not_kept_is_usage(state: str, type_in: Callable[..., Said]) -> None:
    """`logs` of a run in the foreground says that none was kept; what is kept is shown byte by byte."""
    assert "no console output" in type_in("logs", "sample").expect(64).errors
    Path(f"{state}/runs/{_SAMPLE}/console.log").write_bytes(b"new\n")
    assert type_in("logs", "sample").expect(0).output == "new\n"
    Path(f"{state}/runs/{_SAMPLE}/console.log.1").write_bytes(b"old\n")
    assert type_in("logs", "-f", "sample").expect(0).output == "old\nnew\n"


def test_control_characters_of_a_record_are_spelled(state: str, type_in: Callable[..., Said]) -> None:
    """What a log was made to say can't move the reader's cursor."""
    log = Path(f"{state}/runs/{_CRASHED}/log.jsonl")
    log.write_text('{"kind":"run.started","time":"2025-06-15T15:06:40.000000Z","name":"\\u001b[2J"}\n')
    said = type_in("audit", "show", "crashed").expect(64)
    said = type_in("audit", "show", _CRASHED).expect(0)
    assert "\x1b" not in said.output
    assert "\\x1b[2J" in said.output
