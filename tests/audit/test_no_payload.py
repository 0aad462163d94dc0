"""Nothing that a workload sends, gets, holds or is given stands in what a run leaves, but in its own output.

Each kind of content carries a mark of its own. Looked through are the state directory, the receipt, exports,
stderr, the result, and what a crash leaves. Names and ports are what a record is for, and are there.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.kernel

KINDS = (
    "path query fragment header cookie userinfo method version trailer body answer tls-body tls-path tcp udp "
    "not-tls malformed denied-path denied-udp denied-tcp failed refused reset alpn argv env secret file stdin"
).split()
MARKS = {kind: f"mk{number:02d}{kind.replace('-', '')}q7" for number, kind in enumerate(KINDS)}

_WORK = (Path(__file__).parent / "talker.py").read_text("utf-8")
_GRANTED = (
    ("api", 80, "tcp"), ("api", 443, "tcp"), ("echo", 7, "tcp"), ("echo", 7, "udp"), ("echo", 8443, "tcp"),
    ("refused", 80, "tcp"), ("refused", 443, "tcp"), ("bad", 1004, "tcp"),
)  # fmt: skip
_NAMES = sorted({f"{name}.example.test" for name, _, _ in _GRANTED})
_GRANTS = "".join(
    f'mvm.host_port("{name}.example.test", {port}, protocol="{protocol}", reason="scan", sends="secrets"),'
    for name, port, protocol in _GRANTED
)
_APP = f"""
import mvm

@mvm.app(
    name="talker",
    env={{"SCAN_KEY": mvm.secret("SCAN_KEY", hosts={_NAMES})}},
    network=mvm.network(mode="bridge", dns=mvm.dns_system(), egress=mvm.egress([{_GRANTS}])),
)
def talker(): ...
"""


class Scan:
    """A workload with marks everywhere, and what is left of it."""

    def __init__(self, mvmctl: Mvmctl, ca_file: Path) -> None:
        """Lay out the workspace."""
        self.mvmctl, self._ca = mvmctl, ca_file
        self.work = mvmctl.state.parent / "work"
        self.work.mkdir()
        self.work.chmod(0o777)  # as root, the workload is another user
        self.receipt = mvmctl.state.parent / "receipt.json"
        (self.work / "app.py").write_text(_APP)
        (self.work / "talker.py").write_text(_WORK)
        (self.work / "marks.json").write_text(json.dumps(MARKS))
        (self.work / "secret.txt").write_text(MARKS["file"])

    def start(self, *more: str, **environ: str) -> Running:
        """Start the workload."""
        words = (
            "run", "--app", "app.py", "--workspace", ".", "-v", f"{self._ca}:/ca.pem:ro",
            "-e", f"PLAIN={MARKS['env']}", "--receipt", str(self.receipt), "--json", *more,
            "--", "/usr/bin/python3", "talker.py", MARKS["argv"],
        )  # fmt: skip
        running = self.mvmctl.start(*words, env={"SCAN_KEY": MARKS["secret"], **environ}, cwd=self.work)
        running.until("ready", stream="stderr")
        running.send(f"{MARKS['stdin']}\n".encode())
        return running

    def places(self) -> dict[str, bytes]:
        """What a run leaves: files in the directories of mvmctl, the receipt, and what is printed of them."""
        mvmctl = self.mvmctl
        tops = (mvmctl.state, mvmctl.runtime, mvmctl.temporary)
        found = {str(path): path.read_bytes() for top in tops for path in top.rglob("*") if path.is_file()}
        for form in ("jsonl", "ocsf"):
            found[form] = mvmctl("audit", "export", "--all", "--format", form).expect(0).output
        for words in (("audit", "show"), ("ls", "-a", "--json"), ("audit", "verify", "--all", "--json")):
            found[" ".join(words)] = mvmctl(*words).expect(0).output
        if self.receipt.exists():
            found["receipt"] = self.receipt.read_bytes()
            found["statement"] = b64decode(json.loads(found["receipt"])["payload"])
            found["receipt show"] = mvmctl("receipt", "show", str(self.receipt)).expect(0).output
        return found


@pytest.fixture
def scan(mvmctl: Mvmctl, ca_file: Path) -> Scan:
    """The workload."""
    return Scan(mvmctl, ca_file)


def marked(places: dict[str, bytes]) -> list[tuple[str, str]]:
    """Where which marks stand, plain, in any case, or in base64 or hexadecimal."""
    found = []
    for place, data in places.items():
        lower = data.lower()
        for kind, mark in MARKS.items():
            raw = mark.encode()
            spelled = (raw, raw.hex().encode())
            encoded = [b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)]
            if any(one in lower for one in spelled) or any(one in data for one in encoded):
                found.append((place, kind))
    return found


def test_a_mark_is_found_wherever_it_stands() -> None:
    """The search sees a mark in any case, in hexadecimal, and in base64 at any offset; and nothing else."""
    mark = MARKS["cookie"].encode()
    for spelled in (
        mark,
        mark.upper(),
        mark.hex().encode(),
        *(b64encode(b"abc"[:n] + mark + b"zzz") for n in range(3)),
    ):
        assert ("x", "cookie") in marked({"x": b"a " + spelled + b" b"})
    assert marked({"x": b"api.example.test:443"}) == []


def test_a_run_leaves_names_and_ports_only(scan: Scan) -> None:
    """Everything arrived, failed or was denied, and no mark is anywhere; hosts, ports and reasons are."""
    ended = scan.start().finish(timeout_s=60).expect(0)
    told = json.loads((scan.work / "told.json").read_text())
    assert told["arrived"] == ["http", "https", "tcp", "tls", "udp"], told
    places = {**scan.places(), "stderr": ended.errors, "stdout": ended.output}
    assert marked(places) == []
    record = places["jsonl"].decode()
    reasons = {json.loads(line).get("reason") for line in record.splitlines()}
    assert reasons >= {"host-header-mismatch", "sni-mismatch", "not-tls", "host-not-granted", "malformed"}
    for name in ("api.example.test", "refused.example.test", "other.example.test"):
        assert name in record
    assert "refused" in ended.stderr
    statement = json.loads(places["statement"])["predicate"]
    assert statement["counts"]["denials"] >= 5
    assert statement["counts"]["failures"] >= 1


def test_the_scan_would_see_it(scan: Scan) -> None:
    """The workload did put each mark where it says: what it sent, and was given, it wrote down inside."""
    scan.start().finish(timeout_s=60).expect(0)
    assert {kind for _, kind in marked({"sent": (scan.work / "sent.bin").read_bytes()})} == set(KINDS)


@pytest.fixture
def with_cores() -> Iterator[None]:
    """Core dumps are wanted by whoever starts mvmctl, as far as this machine lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("with_cores")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_supervisor_that_crashes_leaves_none(scan: Scan, signum: int) -> None:
    """Killed amid its work, by a fault of memory too: no mark in the record, and no core beside."""
    running = scan.start("-e", "HOLD=1")
    running.until("holding", stream="stderr")
    os.kill(running.process.pid, signum)
    ended = running.finish(timeout_s=60)
    assert ended.exit_code == -signum
    assert marked({**scan.places(), "stderr": ended.errors, "stdout": ended.output}) == []
    beside = {path.name for path in scan.work.iterdir()}
    assert beside <= {"app.py", "talker.py", "marks.json", "secret.txt", "told.json", "sent.bin"}


_FAULT = """
import sys
sys.path.insert(0, {source!r})
import mvm.wire.http_stream as stream

class Faulty(stream.RequestStream):
    def feed(self, data):
        raise LookupError(f"no such thing as {{data!r}} {{__import__('os').environ!r}}")

stream.RequestStream = Faulty
"""


def test_a_bug_in_the_supervisor_tells_none(scan: Scan, tmp_path: Path) -> None:
    """An exception whose text is what was sent is told by its type and place; only with MVM_DEBUG by all."""
    (tmp_path / "sitecustomize.py").write_text(_FAULT.format(source=str(ROOT / "src")))
    path = f"{tmp_path}{os.pathsep}{ROOT / 'src'}"
    debugged = scan.start(PYTHONPATH=path, MVM_DEBUG="1").finish(timeout_s=60).expect(70)
    assert ("stderr", "path") in marked({"stderr": debugged.errors})
    scan.receipt.unlink()  # this end, too, sealed the record
    ended = scan.start(PYTHONPATH=path).finish(timeout_s=60).expect(70)
    assert "this is a bug of mvm: LookupError" in ended.stderr
    assert marked({**scan.places(), "stderr": ended.errors, "stdout": ended.output}) == []


_LIBRARY = """
import json, os, sys
import mvm
from mvm.errors import MvmError

marks = json.load(open("marks.json"))
api = mvm.host_port("api.example.test", 80)
network = mvm.network(mode="bridge", dns=mvm.dns_system(), egress=mvm.egress([api]))
words = ["curl", "-sS", f"http://api.example.test/{marks['path']}?{marks['query']}", "-d", marks["body"]]
try:
    with mvm.Sandbox(network=network, env={"PLAIN": marks["env"]}) as sandbox:
        sandbox.run(words)
except MvmError as error:
    print("refused", type(error).__name__, error)
"""


def test_a_bug_in_the_library_s_helper_tells_none(scan: Scan, tmp_path: Path) -> None:
    """The same exception in the helper process of Python programs: its stderr has type and place, no mark."""
    (tmp_path / "sitecustomize.py").write_text(_FAULT.format(source=str(ROOT / "src")))
    (scan.work / "library.py").write_text(_LIBRARY)
    environ = {**scan.mvmctl.environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"}
    ended = subprocess.run(
        [sys.executable, "library.py"],
        cwd=scan.work,
        env=environ,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"this is a bug of mvm: LookupError" in ended.stderr, ended
    assert b"refused" in ended.stdout, ended
    assert marked({**scan.places(), "stderr": ended.stderr, "stdout": ended.stdout}) == []
