"""The log of a run: one write a record, before it returns, by one writer, and nothing after a failure."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.audit.chain import GENESIS, verify_lines
from mvm.audit.keys import public_key, signing_key
from mvm.audit.log import Log
from mvm.errors import AuditError

if TYPE_CHECKING:
    from mvm.audit.chain import Verdict


def verdict_on(path: str, **about: object) -> Verdict:
    """Verify a log without a key."""
    with Path(path).open("rb") as log:
        return verify_lines(log, None, **about)  # type: ignore[arg-type]


def test_the_files_are_ones_own(state: str, run: str) -> None:
    """The directories are 0700 and the files 0600, whatever the umask, parents that had to be made too."""
    before = os.umask(0)
    try:
        with Log.create(f"{state}/deeper/still", run) as log:
            log.append("run.started")
            log.seal(signing_key(f"{state}/deeper/still"))
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in Path(state).rglob("*")}
    assert len(modes) == 9  # five directories, two keys, log and seal
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


def test_a_record_is_in_the_file_when_append_returns(state: str, run: str) -> None:
    """Each append adds exactly its own whole line, at once, linked to the one before."""
    with Log.create(state, run, clock=lambda: 1_738_367_999_000_001_999) as log:
        assert (log.head, log.records) == (GENESIS, 0)
        log.append("run.started", name="x")
        (first,) = Path(log.path).read_bytes().splitlines()
        log.append("run.ended", outcome="completed", cause=None)
        assert Path(log.path).read_bytes().splitlines()[0] == first
        assert json.loads(first)["time"] == "2025-01-31T23:59:59.000001Z"
        verdict = verdict_on(log.path, run=run)
        assert (verdict.sound, verdict.records, verdict.head) == (True, 2, log.head)
        assert log.records == 2


def test_append_is_one_write(state: str, run: str, tmp_path: Path) -> None:
    """The kernel sees one write(2) for each record, and the log is opened so that it can only grow."""
    program = (
        "import sys; from mvm.audit.log import Log\n"
        "log = Log.create(sys.argv[1], sys.argv[2])\n"
        "for n in range(50): log.append('flow.opened', flow=n)\n"
    )
    trace = tmp_path / "trace"
    strace = ["strace", "-o", str(trace), "-e", "trace=write,openat"]
    try:
        done = subprocess.run([*strace, *python(program, state, run)], check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert sum("write(" in line for line in lines) == 50
    (opened,) = [line for line in lines if '"log.jsonl"' in line]
    assert all(flag in opened for flag in ("O_APPEND", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC", "0600"))


def python(program: str, *arguments: str) -> list[str]:
    """Give the command that runs a program with this interpreter and this source tree."""
    import sys

    import mvm

    source = str(Path(mvm.__file__).parent.parent)
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{program}", *arguments]


def test_a_refused_record_writes_nothing(state: str, run: str) -> None:
    """A record with a field that its kind does not carry leaves no trace, and the log goes on."""
    with Log.create(state, run) as log:
        log.append("run.started")
        size = Path(log.path).stat().st_size
        for kind, fields in (
            ("run.started", {"payload": "x"}),
            ("nonsense", {}),
            ("run.ended", {"cause": "a b"}),
        ):
            with pytest.raises(ValueError, match=r"carries only|unknown kind|shape"):
                log.append(kind, **fields)
        assert Path(log.path).stat().st_size == size
        log.append("run.ended")
        assert verdict_on(log.path).records == 2


def test_one_run_has_one_log(state: str, run: str) -> None:
    """A second log for the same run is refused; for another run it is made."""
    with Log.create(state, run) as log:
        log.append("run.started")
        with pytest.raises(AuditError, match="File exists"):
            Log.create(state, run)
        assert verdict_on(log.path).records == 1
    with Log.create(state, "0" * 26) as other:
        other.append("run.started")


def test_of_many_creators_one_wins(state: str, run: str) -> None:
    """Of eight threads that begin the same log in a directory that is not there, exactly one has it."""
    barrier = threading.Barrier(8)
    won: list[Log] = []
    lost: list[AuditError] = []

    def create() -> None:
        barrier.wait()
        try:
            won.append(Log.create(state, run))
        except AuditError as error:
            lost.append(error)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    won[0].close()


def test_threads_share_a_log(state: str, run: str) -> None:
    """Four threads that record at once leave one whole chain."""
    with Log.create(state, run) as log:

        def record() -> None:
            for number in range(200):
                log.append("flow.opened", flow=number)

        threads = [threading.Thread(target=record) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (verdict_on(log.path).sound, verdict_on(log.path).records) == (True, 800)


@pytest.mark.parametrize("name", ["", "../escape", "x", "0" * 25, "8" + "0" * 25, "i" * 26, "0" * 26 + "/"])
def test_only_run_ids_name_a_log(state: str, name: str) -> None:
    """What is no run id makes no directory."""
    with pytest.raises(ValueError, match="ULID"):
        Log.create(state, name)
    assert not Path(state).exists()


def test_links_in_the_logs_place_are_refused(state: str, run: str, tmp_path: Path) -> None:
    """A symbolic link where the log or its directory should be is refused, and its target is untouched."""
    target = tmp_path / "target"
    target.mkdir()
    runs = Path(state) / "runs"
    runs.mkdir(parents=True)
    (runs / run).symlink_to(target)
    with pytest.raises(AuditError, match="symbolic link"):
        Log.create(state, run)
    assert not list(target.iterdir())
    (runs / run).unlink()
    (runs / run).mkdir()
    (runs / run / "log.jsonl").symlink_to(target / "elsewhere")
    with pytest.raises(AuditError, match="File exists"):
        Log.create(state, run)
    assert not list(target.iterdir())


def test_a_seal_ends_the_log(state: str, run: str) -> None:
    """The seal names the head before it, its copy lies beside the log, and nothing can follow it."""
    with Log.create(state, run) as log:
        log.append("run.started")
        head = log.head
        assert log.seal(signing_key(state)) == head
        lines = Path(log.path).read_bytes().splitlines(keepends=True)
        assert Path(log.path).with_name("seal.json").read_bytes() == lines[-1]
        for act in (lambda: log.append("run.ended"), lambda: log.seal(signing_key(state))):
            with pytest.raises(AuditError, match="the log is sealed"):
                act()
        assert verify_lines(lines, public_key(state), run=run, seal=lines[-1]).sealed


def test_a_closed_log_takes_nothing(state: str, run: str) -> None:
    """After close every append raises, and closing twice is harmless."""
    log = Log.create(state, run)
    log.append("run.started")
    log.close()
    log.close()
    with pytest.raises(AuditError, match="closed"):
        log.append("run.ended")
    assert verdict_on(log.path).records == 1
