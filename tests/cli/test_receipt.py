"""`--receipt` of `run` and `up`, and `mvmctl receipt`: whole or not at all, verified with the key only."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mvm.audit.ocsf import NETWORK
from tests.cli.fetching import fetch, trusting
from tests.support.disk import fill, small_disk
from tests.support.judges import statement_in, wrong

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Said
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

_API, _OTHER = "api.example.test", "other.example.test"


@pytest.fixture
def out(mvmctl: Mvmctl) -> Path:
    """An empty directory for receipts, beside mvmctl's own."""
    made = mvmctl.state.parent / "out"
    made.mkdir()
    return made


def predicate(mvmctl: Mvmctl, file: Path) -> dict[str, Any]:
    """What a receipt says, once mvmctl has verified it with its log, and others' programs have too."""
    (log,) = mvmctl.state.glob("runs/*/log.jsonl")
    pem = mvmctl.state / "keys" / "verify.pem"
    mvmctl("receipt", "verify", str(file), "--key", str(pem), "--log", str(log)).expect(0)
    envelope = json.loads(file.read_bytes())
    statement = statement_in(envelope, load_pem_public_key(pem.read_bytes()))
    (subject,) = statement.pb.subject
    assert dict(subject.digest) == {"sha256": hashlib.sha256(log.read_bytes()).hexdigest()}
    said: dict[str, Any] = json.loads(b64decode(envelope["payload"]))["predicate"]
    return said


def drafts(directory: Path) -> list[str]:
    """What is in a directory besides receipts."""
    return [name for name in os.listdir(directory) if name.startswith(".")]


@pytest.mark.kernel
def test_a_run_says_what_it_did(mvmctl: Mvmctl, out: Path, ca_file: Path) -> None:
    """One host reached and one denied: the receipt and the result agree, and the result says where it is."""
    file = out / "run.json"
    words = (
        "run",
        *trusting(ca_file),
        "--network-allow",
        f"{_API}:443",
        "--receipt",
        str(file),
        "--json",
        "--",
    )
    script = f"{' '.join(fetch(_API))}; {' '.join(fetch(_OTHER))}"
    ended = mvmctl(*words, "sh", "-c", script).expect(6)
    result, said = ended.json, predicate(mvmctl, file)
    assert result["receipt"] == str(file)
    assert (said["run"], said["outcome"], said["cause"], said["exit_code"]) == (
        result["run"], "failed", "policy", 6,
    )  # fmt: skip
    assert said["policy"]["digest"] == said["policy"]["at_start"] == result["policy"]["digest"]
    assert said["enforcement"]["requested"] == result["policy"]["requested"]
    assert said["image"] == result["image"]
    (flow,) = result["flows"]
    assert (said["counts"]["up"], said["counts"]["down"]) == (flow["up"], flow["down"])
    assert said["counts"]["denials"] == sum(denial["count"] for denial in result["denials"])
    assert [denial["host"] for denial in said["denials"]] == [_OTHER]
    assert drafts(out) == []


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("words", "status", "outcome"),
    [
        ("-- true", 0, "completed"),
        ("-- sh -c 'exit 7'", 7, "failed"),
        ("-- absent-command", 127, "failed"),
        ("--timeout 1s -- sleep 30", 124, "timeout"),
        (f"--on-denied fail -- sh -c 'getent hosts {_API}; sleep 30'", 77, "failed"),
    ],
)
def test_however_a_run_ends_there_is_a_receipt(
    mvmctl: Mvmctl, out: Path, words: str, status: int, outcome: str
) -> None:
    """Completed, failed, never started, out of time or denied: the receipt says which."""
    file = out / "run.json"
    mvmctl("run", "--receipt", str(file), *shlex.split(words)).expect(status)
    said = predicate(mvmctl, file)
    assert (said["outcome"], said["exit_code"]) == (outcome, status)


@pytest.mark.kernel
def test_a_sandbox_that_was_killed_has_a_receipt(mvmctl: Mvmctl, out: Path) -> None:
    """Where its first process is killed the record is sealed; where the supervisor is, there is none."""
    file = out / "killed.json"
    running = mvmctl.start("run", "--receipt", str(file), "--", "sh", "-c", "echo up; exec sleep 30")
    running.until("up\n")
    supervisor = running.process.pid
    with open(f"/proc/{supervisor}/task/{supervisor}/children", encoding="ascii") as children:
        os.kill(int(children.read()), signal.SIGKILL)
    running.finish().expect(137)
    assert predicate(mvmctl, file)["outcome"] == "killed"

    lost = out / "lost.json"
    running = mvmctl.start("run", "--receipt", str(lost), "--", "sh", "-c", "echo up; exec sleep 30")
    running.until("up\n")
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    assert os.listdir(out) == ["killed.json"]


@pytest.mark.kernel
@pytest.mark.parametrize("detached", [False, True], ids=["foreground", "detached"])
def test_up_gives_one_too(mvmctl: Mvmctl, out: Path, detached: bool) -> None:
    """Of a sandbox that stays, when it has ended; a relative path is the caller's, detached too."""
    words = ("up", *(["-d"] if detached else []), "--name", "stays", "--receipt", "up.json")
    if detached:
        mvmctl(*words, cwd=out).expect(0)
        assert os.listdir(out) == []
        mvmctl("down", "stays").expect(0)
    else:
        mvmctl(*words, "--", "true", cwd=out).expect(0)
    said = predicate(mvmctl, out / "up.json")
    assert (said["name"], said["outcome"]) == ("stays", "killed" if detached else "completed")


@pytest.mark.kernel
def test_a_place_that_cannot_be_starts_nothing(mvmctl: Mvmctl, out: Path, leftovers: Leftovers) -> None:
    """A file that is there, no directory, or a link: 74 before anything runs, and nothing changes."""
    (out / "there").write_text("mine")
    (out / "link").symlink_to(out / "elsewhere")
    for name in ("there", "link", "absent/run.json", "", "there/run.json"):
        ended = mvmctl("run", "--receipt", f"{out}/{name}", "--", "echo", "ran").expect(74)
        assert (ended.stdout, "receipt" in ended.stderr) == ("", True)
    assert ((out / "there").read_text(), sorted(os.listdir(out))) == ("mine", ["link", "there"])
    assert list(mvmctl.state.glob("runs/*")) == []
    leftovers.expect_none()
    mvmctl("run", "--receipt", f"{out}/run.json", "--", "true").expect(0)


@pytest.mark.kernel
@pytest.mark.user_only
def test_a_directory_that_is_not_writable_starts_nothing(mvmctl: Mvmctl, out: Path) -> None:
    """Whose directory withholds writing is told before anything runs."""
    out.chmod(0o500)
    assert mvmctl("run", "--receipt", f"{out}/run.json", "--", "echo", "ran").expect(74).stdout == ""
    out.chmod(0o700)


@pytest.mark.kernel
def test_a_workload_cannot_take_the_place_of_its_receipt(mvmctl: Mvmctl, out: Path) -> None:
    """A file that it puts there stays and the status is 74; the result is still told, with what is wrong."""
    out.chmod(0o777)
    file = out / "run.json"
    words = ("run", "--workspace", str(out), "--receipt", str(file), "--json", "--")
    ended = mvmctl(*words, "sh", "-c", "echo forged > run.json").expect(74)
    assert (ended.json["outcome"], ended.json["receipt"]) == ("completed", None)
    assert "there already" in ended.json["error"]["message"]
    assert "there already" in ended.stderr
    assert (file.read_text(), drafts(out)) == ("forged\n", [])
    mvmctl("receipt", "verify", str(file)).expect(65)
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)


@pytest.mark.kernel
def test_a_workload_cannot_lead_its_receipt_elsewhere(mvmctl: Mvmctl, out: Path) -> None:
    """A directory on the way that becomes a link still gets the receipt; what the link leads to does not."""
    inside, target = out / "inside", out / "target"
    for made in (inside, target):
        made.mkdir()
    for made in (out, inside):
        made.chmod(0o777)
    words = ("run", "--workspace", str(out), "--receipt", str(inside / "run.json"), "--")
    mvmctl(*words, "sh", "-c", "mv inside moved && ln -s target inside").expect(0)
    assert (os.listdir(target), os.listdir(out / "moved")) == ([], ["run.json"])
    assert predicate(mvmctl, out / "moved" / "run.json")["outcome"] == "completed"


@pytest.mark.faults
def test_on_a_full_disk_there_is_no_half_receipt(mvmctl: Mvmctl, out: Path) -> None:
    """74, nothing left in the directory, and the record is whole; with room again, there is a receipt."""
    with small_disk(out) as disk:
        filling = fill(disk)
        ended = mvmctl("run", "--receipt", f"{disk}/run.json", "--", "echo", "ran").expect(74)
        assert ended.stdout == "ran\n"
        assert "can't be written" in ended.stderr
        assert os.listdir(disk) == [filling.name]
        mvmctl("audit", "verify", "--all", "--sealed").expect(0)
        filling.unlink()
        mvmctl("run", "--receipt", f"{disk}/run.json", "--", "true").expect(0)
        mvmctl("receipt", "verify", f"{disk}/run.json").expect(0)


@pytest.mark.kernel
def test_nothing_but_the_public_key_is_needed(mvmctl: Mvmctl, out: Path, tmp_path: Path) -> None:
    """With the state directory gone, the receipt and its log still verify with a copy of verify.pem."""
    mvmctl("run", "--receipt", f"{out}/run.json", "--", "true").expect(0)
    (log,) = mvmctl.state.glob("runs/*/log.jsonl")
    shutil.copy(log, tmp_path / "log.jsonl")
    shutil.copy(mvmctl.state / "keys" / "verify.pem", tmp_path)
    shutil.rmtree(mvmctl.state)
    words = ("receipt", "verify", f"{out}/run.json", "--key", "verify.pem", "--log", "log.jsonl")
    assert "and so is its log" in mvmctl(*words, cwd=tmp_path).expect(0).stdout
    assert "no public key" in mvmctl("receipt", "verify", f"{out}/run.json").expect(64).stderr
    changed = (tmp_path / "log.jsonl").read_bytes().replace(b'"exit_code":0', b'"exit_code":1')
    (tmp_path / "log.jsonl").write_bytes(changed)
    said = mvmctl(*words, "--json", cwd=tmp_path).expect(65).json
    assert (said["ok"], "line 2 of the log" in said["why"]) == (False, True)


@pytest.mark.kernel
def test_what_is_shown_is_what_was_signed(mvmctl: Mvmctl, out: Path) -> None:
    """`receipt show` gives outcome, digests, counts, denials; --json the statement; a changed file is 65."""
    file = out / "run.json"
    mvmctl("run", "--receipt", str(file), "--", "getent", "hosts", _OTHER).expect(2)
    shown = mvmctl("receipt", "show", str(file)).expect(0).stdout
    assert "failed, status 2, cause policy" in shown
    assert f"dns {_OTHER} [dns-not-allowed]" in shown
    statement = mvmctl("receipt", "show", "--json", str(file)).expect(0).json
    assert statement["predicate"] == predicate(mvmctl, file)
    (log,) = mvmctl.state.glob("runs/*")
    assert statement["subject"][0]["name"] == f"runs/{log.name}/log.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"sig":"', b'"sig":"A', 1))
    assert "BAD" in mvmctl("receipt", "verify", str(file)).expect(65).stdout


def test_what_is_no_receipt_is_said(type_in: Callable[..., Said], project: Path) -> None:
    """A file that is none is 65 for show; one that is not there, and a key that is none, are told apart."""
    (project / "none.json").write_text("{}\n")
    assert "no DSSE envelope" in type_in("receipt", "show", "none.json").expect(65).errors
    assert "can't be read" in type_in("receipt", "show", "absent.json").expect(64).errors
    assert "no public key" in type_in("receipt", "verify", "none.json").expect(64).errors
    assert (
        "no public key absent.pem"
        in type_in("receipt", "verify", "none.json", "--key", "absent.pem").expect(64).errors
    )
    type_in("receipt", "verify", "none.json", "--key", "none.json").expect(74)


@pytest.mark.kernel
def test_records_are_exported(mvmctl: Mvmctl) -> None:
    """As JSON lines they are the log's own bytes; as OCSF an event each; a bad record is 65 without any."""
    mvmctl("run", "--name", "sample", "--", "getent", "hosts", _OTHER).expect(2)
    (log,) = mvmctl.state.glob("runs/*/log.jsonl")
    assert mvmctl("audit", "export", "sample").expect(0).output == log.read_bytes()
    events = mvmctl("audit", "export", "--all", "--format", "ocsf").expect(0).stdout.splitlines()
    assert [json.loads(event)["metadata"]["event_code"] for event in events] == [
        json.loads(line)["kind"] for line in log.read_text().splitlines()
    ]
    log.write_bytes(
        log.read_bytes().replace(b"evil", b"good").replace(_OTHER.encode(), b"fake.example.test", 1)
    )
    bad = mvmctl("audit", "export", "sample").expect(65)
    assert (bad.stdout, "BAD at line" in bad.stderr) == ("", True)
    mvmctl("audit", "export").expect(64)
    mvmctl("audit", "export", "sample", "--format", "cef").expect(64)


@pytest.mark.kernel
def test_others_judge_what_a_real_run_leaves(mvmctl: Mvmctl, out: Path, ca_file: Path) -> None:
    """A flow allowed, one denied, one failed: the events are valid OCSF and say so, the receipt verifies."""
    file, refused = out / "run.json", "refused.example.test"
    grants = ("--network-allow", f"{_API}:443,reason=docs,expires=1h", "--network-allow", f"{refused}:443")
    words = ("run", *trusting(ca_file), *grants, "--receipt", str(file), "--")
    fetches = (fetch(_API), fetch(_OTHER), fetch(refused), ("curl", "-s", f"http://{_API}:8081/"))
    mvmctl(*words, "sh", "-c", "; ".join(map(shlex.join, fetches))).expect(7)
    said = predicate(mvmctl, file)
    assert said["counts"]["failures"]
    assert {(denial["host"], denial["reason"]) for denial in said["denials"]} == {
        (_OTHER, "host-not-granted"), (_API, "port-not-granted"),
    }  # fmt: skip

    events = [
        json.loads(line)
        for line in mvmctl("audit", "export", "--all", "--format", "ocsf").stdout.splitlines()
    ]
    assert [(event["metadata"]["event_code"], wrong(event)) for event in events if wrong(event)] == []
    told = {
        (event["metadata"]["event_code"], event["activity_name"], event["dst_endpoint"]["hostname"])
        for event in events
        if event["class_uid"] == NETWORK and "hostname" in event["dst_endpoint"]
    }
    assert {
        ("flow.opened", "Open", _API),
        ("flow.closed", "Close", _API),
        ("flow.denied", "Refuse", _API),
        ("flow.opened", "Open", refused),
        ("flow.closed", "Fail", refused),
    } <= told
    assert _OTHER not in {host for _, _, host in told}
    assert {event["metadata"]["event_code"] for event in events} >= {
        "run.started", "grant.decided", "dns.answered", "dns.denied", "run.ended", "audit.sealed",
    }  # fmt: skip
