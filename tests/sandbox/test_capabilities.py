"""A tool used in a running sandbox: recorded, then opened; a model's words lead nowhere else."""

from __future__ import annotations

import inspect
import json
import os
import threading
from typing import TYPE_CHECKING, Any, get_type_hints

import pytest

import mvm
import mvm.sandbox.capabilities as module
from tests.sandbox.reaching import closed, get, open_to, python
from tests.support.addresses import NAME_SERVERS
from tests.support.disk import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.conftest import Start
    from tests.support.internet import Internet
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

GRANTED, OTHER, ECHO = "api.example.test", "other.example.test", "echo.example.test"

_HOLD = """
import socket, sys
sock = socket.create_connection(("echo.example.test", 7))
for line in sys.stdin.buffer:
    sock.sendall(b"x")
    print(sock.recv(1).decode(), flush=True)
"""
"""Holds a flow open, and sends a byte over it for each line."""


def tool(name: str, host: str, port: int = 80, **more: object) -> dict[str, object]:
    """Give a tool of a document: one host and port."""
    network = {"mode": "bridge", "dns": "system", "allow": [{"host": host, "port": port}]}
    return {"tool": name, "network": network, **more}


def load(directory: Path, *tools: object) -> mvm.Capabilities:
    """Write a capability file and read it."""
    path = directory / "tools.json"
    path.write_text(json.dumps({"tools": tools}))
    return mvm.Capabilities.load(path)


def reaches(box: mvm.Sandbox, host: str) -> bool:
    """Fetch a page of a host from inside."""
    return box.run(get(host)).returncode == 0


def records(mvmctl: Mvmctl, box: mvm.Sandbox) -> list[dict[str, Any]]:
    """Read the record of a sandbox."""
    shown = mvmctl("audit", "show", "--json", box.run_id).expect(0).stdout
    return [json.loads(line) for line in shown.splitlines()]


@pytest.fixture
def small(mvmctl: Mvmctl) -> Iterator[Path]:
    """The state directory on a file system of 256 KiB."""
    with small_disk(mvmctl.state) as made:
        yield made


def test_a_tool_opens_its_host_and_no_other(box: Start, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Denied before, answered after; the decision, with the run's id, stands before the first flow."""
    tools = load(tmp_path, tool("web_fetch", GRANTED, reason="reads pages", ttl="1h"), tool("x", OTHER))
    assert tools.tools == ("web_fetch", "x")
    sandbox = box()
    assert not reaches(sandbox, GRANTED)
    decision = tools.grant("web_fetch", run=sandbox)
    assert (reaches(sandbox, GRANTED), reaches(sandbox, OTHER)) == (True, False)
    (granted,) = sandbox.describe()["policy"]["grants"]
    assert granted["source"] == f"{tmp_path}/tools.json:1 (web_fetch)"
    log = records(mvmctl, sandbox)
    kinds = [record["kind"] for record in log]
    decided = log[kinds.index("grant.decided")]
    assert kinds.index("grant.decided") < kinds.index("policy.changed") < kinds.index("flow.opened")
    told = ("run", "tool", "by", "decision", "host", "port", "reason", "expires", "policy")
    assert [decided[key] for key in told] == [
        sandbox.run_id, "web_fetch", "capability", "allowed", GRANTED, 80, "reads pages", 3600,
        decision.digest,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["shell", "", "web_fetch\n", f"web_fetch {OTHER}:80", f"{OTHER}:80", f"http://{OTHER}/", "\ud800", "*"],
)
def test_an_unknown_tool_is_denied_and_recorded(
    name: str, box: Start, mvmctl: Mvmctl, tmp_path: Path
) -> None:
    """Whatever a model makes up: PolicyDenied, in the run's log, and what stood stands."""
    tools, sandbox = load(tmp_path, tool("web_fetch", GRANTED)), box(open_to(f"{GRANTED}:80"))
    before = sandbox.network_digest
    with pytest.raises(mvm.PolicyDenied, match="no tool") as caught:
        tools.grant(name, run=sandbox)
    assert caught.value.exit_code == 77
    assert sandbox.network_digest == before
    last = records(mvmctl, sandbox)[-1]
    assert (last["kind"], last["decision"], last["code"]) == ("grant.decided", "refused", "unknown-tool")
    assert (reaches(sandbox, GRANTED), reaches(sandbox, OTHER)) == (True, False)


def test_a_tools_names_are_resolved_as_it_says(box: Start, tmp_path: Path) -> None:
    """In a sandbox without DNS the tool brings its own; where one resolves already, that one stays."""
    tools = load(tmp_path, tool("web_fetch", GRANTED))
    without, with_own = box(closed()), box(open_to(f"{OTHER}:80"))
    for sandbox in (without, with_own):
        tools.grant("web_fetch", run=sandbox)
        assert reaches(sandbox, GRANTED)
        assert sandbox.describe()["document"]["network"]["dns"] == {"mode": "system"}
    assert (reaches(without, OTHER), reaches(with_own, OTHER)) == (False, True)
    words = {"mode": "resolver", "resolver": NAME_SERVERS[0], "static": {OTHER: ["192.0.2.1"]}}
    network = {"mode": "bridge", "dns": words, "allow": [{"host": GRANTED, "port": 80}]}
    other, elsewhere = load(tmp_path, {"tool": "web_fetch", "network": network}), box()
    other.grant("web_fetch", run=elsewhere)
    assert reaches(elsewhere, GRANTED)
    dns = elsewhere.describe()["document"]["network"]["dns"]
    assert (dns["mode"], dns["static"]) == ("resolver", {OTHER: ["192.0.2.1"]})


def test_using_a_tool_again_begins_its_time_again(box: Start, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Its `ttl` counts from the last use; the flow that is open meanwhile goes on."""
    tools, sandbox = load(tmp_path, tool("echo", ECHO, 7, ttl="1h")), box()
    tools.grant("echo", run=sandbox)
    with sandbox.popen(python(_HOLD)) as process:
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"x\n"
        before = sandbox.describe()["standing"][0]["left_s"]
        assert 3500 < before < 3600
        tools.grant("echo", run=sandbox)
        assert sandbox.describe()["standing"][0]["left_s"] > before
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"x\n"
    decided = [record for record in records(mvmctl, sandbox) if record.get("tool") == "echo"]
    assert len(decided) == 2


def test_a_tools_time_ends(box: Start, tmp_path: Path) -> None:
    """After its `ttl` the host is denied again."""
    tools, sandbox = load(tmp_path, tool("web_fetch", GRANTED, ttl="3s")), box()
    tools.grant("web_fetch", run=sandbox)
    loop = f"while {' '.join(get(GRANTED))} >/dev/null; do echo answered; done"
    ran = sandbox.run(["sh", "-c", loop], timeout=20)
    assert b"answered" in ran.stdout
    assert sandbox.describe()["standing"][0]["left_s"] == 0


def test_grants_at_once_all_stand(box: Start, mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Tools used and grants given by others at the same moment: none is lost."""
    hosts = [f"h{number}.example.test" for number in range(12)]
    tools, sandbox = load(tmp_path, *(tool(f"tool-{host}", host) for host in hosts[:8])), box()
    threads = [
        threading.Thread(target=tools.grant, args=(f"tool-{host}",), kwargs={"run": sandbox})
        for host in hosts[:8]
    ]
    others = [mvmctl.start("network", "allow", sandbox.name, f"{host}:80") for host in hosts[8:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.finish().expect(0)
    standing = {grant["host"] for grant in sandbox.describe()["policy"]["grants"]}
    assert standing == set(hosts)


def test_a_tool_with_a_port_outside_of_its_own_is_no_tool(tmp_path: Path) -> None:
    """The file is refused as a whole; with the port among them it is read."""
    with pytest.raises(mvm.PolicyRefused, match="port-not-expected"):
        load(tmp_path, tool("web_fetch", GRANTED, ports=[443]))
    assert load(tmp_path, tool("web_fetch", GRANTED, ports=[80])).tools == ("web_fetch",)


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    """One that is absent, and a path with a NUL."""
    for path in (tmp_path / "absent.json", "tools\0.json"):
        with pytest.raises(mvm.UsageError, match="can't be read"):
            mvm.Capabilities.load(path)


def test_a_tool_is_used_in_a_sandbox_that_runs(box: Start, tmp_path: Path) -> None:
    """Not started, closed, or no sandbox at all: UsageError, and nothing is opened; a running one is."""
    tools = load(tmp_path, tool("web_fetch", GRANTED))
    ended = box()
    ended.close()
    wrong: list[Any] = [mvm.Sandbox(network=closed()), ended, "box"]
    for run in wrong:
        with pytest.raises(mvm.UsageError):
            tools.grant("web_fetch", run=run)
    running = box()
    tools.grant("web_fetch", run=running)
    assert reaches(running, GRANTED)


def test_no_parameter_takes_a_destination() -> None:
    """Every word of the class: a path, a tool's name, or the sandbox; there is nowhere to put a host."""
    taken = {}
    for name, member in inspect.getmembers(mvm.Capabilities, callable):
        if not name.startswith("_"):
            hints = get_type_hints(member, {**vars(module), **_types()})
            taken[name] = {key: kind for key, kind in hints.items() if key != "return"}
    assert taken == {
        "load": {"path": str | os.PathLike[str]},
        "grant": {"tool": str, "run": mvm.Sandbox},
    }
    parameters = inspect.signature(mvm.Capabilities.grant).parameters
    assert [parameter.kind.name for parameter in parameters.values()] == [
        "POSITIONAL_OR_KEYWORD", "POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY",
    ]  # fmt: skip


def _types() -> dict[str, object]:
    from typing import Self

    from mvm.policy.capability import Decision, Tools

    return {"Self": Self, "Decision": Decision, "Tools": Tools}


@pytest.mark.faults
def test_a_decision_that_cannot_be_recorded_opens_nothing(
    box: Start, small: Path, internet: Internet, tmp_path: Path
) -> None:
    """On a full disk a tool is an AuditError, and nothing of a workload that tries all along arrives."""
    allow = [{"host": f"h{number}.example.test", "port": 80} for number in range(40)]
    network = {"mode": "bridge", "dns": "system", "allow": [*allow, {"host": GRANTED, "port": 80}]}
    tools = load(tmp_path, {"tool": "wide", "network": network})
    first, second = box(), box()
    tools.grant("wide", run=first)
    assert reaches(first, GRANTED)
    before = internet.arrivals(GRANTED).connections
    trying = second.popen(["sh", "-c", f"while :; do {' '.join(get(GRANTED))}; echo tried; done"])
    assert trying.stdout.readline() == b"tried\n"
    fill(small)  # what is left of the log's last page has room for a few of the decision's forty lines
    with pytest.raises(mvm.AuditError):
        tools.grant("wide", run=second)
    trying.wait()
    trying.close()
    assert internet.arrivals(GRANTED).connections == before
