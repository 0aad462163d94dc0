"""The record fails closed: full disks, limits, read-only places, other writers, and being killed."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mvm
from mvm.audit.chain import verify_lines
from mvm.audit.keys import public_key, signing_key
from mvm.audit.log import Log
from mvm.audit.report import verify_runs
from mvm.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.audit.chain import Verdict

SOURCE = str(Path(mvm.__file__).parent.parent)

# Appends until the record fails; prints how many lines were promised, the first error, and the second.
UNTIL_FAILURE = """
import resource, sys
from mvm.audit.log import Log
from mvm.errors import AuditError
state, run, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
log = Log.create(state, run)
first = ""
while not first:
    try:
        log.append("flow.opened", flow=log.records, host="api.example", port=443)
    except AuditError as error:
        first = error.message
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    log.append("run.ended")
    second = "written"
except AuditError as error:
    second = error.message
data = open(log.path, "rb").read()
print(log.records, data.count(b"\\n"), data.endswith(b"\\n"), first, second, sep="|")
"""


def python(program: str, *arguments: str) -> list[str]:
    """Give the command that runs a program with this interpreter and this source tree."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {SOURCE!r})\n{program}", *arguments]


def verdict_on(path: str) -> Verdict:
    """Verify a log without a key."""
    with Path(path).open("rb") as log:
        return verify_lines(log, None)


def mounted(options: str, place: Path, then: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command where `place` is a small file system of its own, with no privilege outside."""
    script = f'mount -t tmpfs -o {options} none "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", script, str(place), *then]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    return done


@pytest.fixture
def log(state: str, run: str) -> Iterator[Log]:
    """A log with one record in it."""
    with Log.create(state, run) as made:
        made.append("run.started")
        yield made


def test_a_full_disk_stops_the_record(tmp_path: Path, run: str) -> None:
    """On a full file system append raises, what was promised is whole in the file, and it stays failed."""
    done = mounted("size=32k", tmp_path, python(UNTIL_FAILURE, f"{tmp_path}/state", run, "0"))
    assert done.returncode == 0, done.stderr
    promised, lines, whole, first, second = done.stdout.strip().split("|")
    assert int(promised) == int(lines) > 10
    assert whole == "True"
    assert "No space left" in first or "bytes could be written" in first
    assert "nothing more can be recorded" in second


@pytest.mark.parametrize("limit", [1000, 1001, 1250, 4096])
def test_a_short_write_is_taken_back(state: str, run: str, limit: int) -> None:
    """At a limit in the middle of a line the torn piece is taken back, and the log stays failed."""
    done = subprocess.run(
        python(UNTIL_FAILURE, state, run, str(limit)), capture_output=True, text=True, check=True
    )
    promised, lines, whole, first, second = done.stdout.strip().split("|")
    assert (promised, whole) == (lines, "True")
    assert "bytes could be written" in first or "too large" in first
    assert "nothing more can be recorded" in second
    verdict = verdict_on(f"{state}/runs/{run}/log.jsonl")
    assert (verdict.sound, verdict.torn, verdict.records) == (True, 0, int(promised))


def test_a_device_that_is_full_at_once(run: str) -> None:
    """Where the very first byte does not fit, nothing counts as recorded, and every later append raises."""
    directory = os.open("/dev", os.O_RDONLY)
    file = os.open("/dev/full", os.O_WRONLY)
    with Log(run=run, path="/dev/full", directory=directory, file=file, clock=time.time_ns) as log:
        with pytest.raises(AuditError, match="No space left") as caught:
            log.append("run.started")
        assert caught.value.exit_code == 74  # EX_IOERR
        assert isinstance(caught.value.__cause__, OSError)
        for _ in range(3):
            with pytest.raises(AuditError, match="nothing more can be recorded"):
                log.append("run.started")
        assert log.records == 0


def test_a_seal_that_cannot_be_written_is_no_seal(log: Log, state: str, run: str) -> None:
    """Sealing a failed log raises, and the log stays unsealed."""
    key = signing_key(state)
    with Path(log.path).open("ab") as other:
        other.write(b"intruder\n")
    with pytest.raises(AuditError):
        log.seal(key)
    assert not Path(log.path).with_name("seal.json").exists()
    results, status = verify_runs(state, [run], key=public_key(state))
    assert (results[0].verdict.sound, results[0].verdict.line, status) == (False, 2, 65)


def test_a_place_for_the_seal_that_is_taken(log: Log, state: str) -> None:
    """Where the copy of the seal cannot be made, seal raises: the run is not reported as sealed and safe."""
    Path(log.path).with_name("seal.json").mkdir()
    with pytest.raises(AuditError, match=r"seal of .* durable"):
        log.seal(signing_key(state))


# Begins a log; prints why it could not.
BEGIN = """
import sys
from mvm.audit.log import Log
from mvm.errors import AuditError
try:
    Log.create(*sys.argv[1:])
    print("begun")
except AuditError as error:
    print(error.message)
"""


def test_a_read_only_place(tmp_path: Path, run: str) -> None:
    """On a read-only file system the log is refused before a run can start; on a writable one it is begun."""
    command = python(BEGIN, f"{tmp_path}/state", run)
    assert "Read-only file system" in mounted("ro", tmp_path, command).stdout
    assert mounted("size=1m", tmp_path, command).stdout == "begun\n"


@pytest.mark.user_only
def test_a_directory_without_the_right_to_write(state: str, run: str) -> None:
    """In one's own directory of mode 0500 no log is begun; with 0700 it is."""
    # The tests themselves may hold capabilities over this user's files; a user's mvmctl does not.
    plain = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all", *python(BEGIN, state, run)]
    Path(state).mkdir(mode=0o500)
    refused = subprocess.run(plain, capture_output=True, text=True, check=True)
    assert "Permission denied" in refused.stdout
    Path(state).chmod(0o700)
    assert subprocess.run(plain, capture_output=True, text=True, check=True).stdout == "begun\n"


def test_a_second_writer_is_noticed(log: Log) -> None:
    """When anything else has written to the file, the log soon ends; verification names that line."""
    with Path(log.path).open("ab") as other:
        other.write(Path(log.path).read_bytes())
    _append_until_noticed(log)
    with pytest.raises(AuditError, match="nothing more can be recorded"):
        log.append("run.ended")
    assert (verdict_on(log.path).sound, verdict_on(log.path).line) == (False, 2)


def test_a_forked_writer_is_noticed(log: Log) -> None:
    """When a forked child records through the same open file, the parent's log soon ends."""
    child = os.fork()
    if child == 0:
        log.append("run.ended")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    _append_until_noticed(log)


def test_a_truncated_log_is_noticed(log: Log) -> None:
    """When the file was cut behind the writer's back, the log soon ends, and is not sealed."""
    os.truncate(log.path, 10)
    _append_until_noticed(log)


def _append_until_noticed(log: Log) -> None:
    for _ in range(64):
        try:
            log.append("run.ended")
        except AuditError as error:
            assert "something else writes" in error.message  # noqa: PT017  somewhere among these
            return
    pytest.fail("64 lines were added to a log that somebody else had changed")


def test_a_log_with_another_writer_is_not_sealed(log: Log, state: str) -> None:
    """However little was written since, a log that something else has written to is not sealed."""
    with Path(log.path).open("ab") as other:
        other.write(b"x")
    with pytest.raises(AuditError, match="something else writes"):
        log.seal(signing_key(state))


def test_an_interrupted_append_leaves_the_log_failed(log: Log) -> None:
    """An exception out of a signal handler, at whatever moment, never lets a chain with a fork go on."""

    class Interruption(Exception):  # it is no error
        """Raised by the handler."""

    has_failed = False

    def interrupt(_signal: int, _frame: object) -> None:
        if not has_failed:
            raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    source = random.Random(6)
    try:
        with suppress(Interruption):  # one that comes between the log's failure and the word of it
            for _ in range(300):
                try:
                    signal.setitimer(signal.ITIMER_REAL, source.uniform(1e-6, 4e-5))
                    while True:
                        log.append("flow.opened", flow=1)
                except Interruption:
                    pass  # its record is whole or not there: verified below
                except AuditError:
                    has_failed = True
                    break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert verdict_on(log.path).sound
    assert verdict_on(log.path).records - log.records in (0, 1)


def test_a_record_made_inside_a_record_is_refused(state: str, run: str) -> None:
    """A signal handler that records while a record is being written meets an error, not a deadlock."""
    inner: list[str] = []

    def clock() -> int:
        """Be the place in the middle of append where a handler can run."""
        try:
            own.append("run.ended")
        except AuditError as error:
            inner.append(error.message)
        return 0

    with Log.create(state, run, clock=clock) as own:
        own.append("run.started")
        own.append("run.ended")
        assert len(inner) == 2
        assert all("not finished" in message for message in inner)
        assert (verdict_on(own.path).sound, verdict_on(own.path).records) == (True, 2)


def test_killed_at_any_moment(tmp_path: Path, run: str) -> None:
    """A writer killed at random moments leaves a log that is good up to its last whole line, and unsealed."""
    program = (
        "import sys\nfrom mvm.audit.log import Log\nlog = Log.create(*sys.argv[1:])\n"
        "print('ready', flush=True)\n"
        "while True: log.append('flow.opened', flow=log.records, host='api.example')"
    )
    source = random.Random(9)
    counts = set()
    for attempt in range(12):
        state = f"{tmp_path}/{attempt}"
        writer = subprocess.Popen(python(program, state, run), stdout=subprocess.PIPE)
        assert writer.stdout is not None
        with writer, writer.stdout:
            assert writer.stdout.readline() == b"ready\n"
            select.select([], [], [], source.uniform(0, 0.02))  # the random moment
            writer.kill()
        results, status = verify_runs(state, [run], key=None)
        verdict = results[0].verdict
        assert (verdict.sound, verdict.sealed, status) == (True, False, 0)
        assert verify_runs(state, [], key=None, sealed=True)[1] == 65
        assert verdict.records == Path(f"{state}/runs/{run}/log.jsonl").read_bytes().count(b"\n")
        counts.add(verdict.records)
    assert len(counts) > 3  # they were different moments


def test_killed_while_sealing(tmp_path: Path, run: str) -> None:
    """A writer killed around its seal leaves a log that is sealed or unsealed, and never bad."""
    program = (
        "import sys\nfrom mvm.audit.log import Log\nfrom mvm.audit.keys import signing_key\n"
        "key = signing_key(sys.argv[1])\nlog = Log.create(*sys.argv[1:])\nlog.append('run.started')\n"
        "print('ready', flush=True)\nlog.seal(key)\nsys.stdin.read()"
    )
    source = random.Random(11)
    for attempt in range(25):
        state = f"{tmp_path}/{attempt}"
        writer = subprocess.Popen(python(program, state, run), stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        assert writer.stdout is not None
        with writer:
            assert writer.stdout.readline() == b"ready\n"
            select.select([], [], [], source.uniform(0, 0.003))
            writer.kill()
        results, status = verify_runs(state, [run], key=public_key(state))
        assert (results[0].verdict.sound, status) == (True, 0), results[0].describe()
