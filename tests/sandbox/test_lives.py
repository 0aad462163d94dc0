"""The life of a sandbox in a program: before its start, after its end, refused, killed, and many at once."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mvm
from tests.sandbox.reaching import closed, get, open_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from mvm.sandbox.helper import Helper
    from tests.sandbox.conftest import Start
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_USES: dict[str, Callable[[mvm.Sandbox], object]] = {
    "run": lambda sandbox: sandbox.run(["true"]),
    "popen": lambda sandbox: sandbox.popen(["true"]).close(),
    "describe": lambda sandbox: sandbox.describe(),
    "set_network": lambda sandbox: sandbox.set_network(closed()),
    "network_digest": lambda sandbox: sandbox.network_digest,
}
_uses = pytest.mark.parametrize("use", _USES.values(), ids=_USES)


# ---- before and after


@_uses
def test_before_its_start_nothing_can_be_done(helper: Helper, use: Callable[[mvm.Sandbox], object]) -> None:
    """A UsageError says how to start it; once started, the same works."""
    assert helper is not None
    sandbox = mvm.Sandbox(network=closed())
    with pytest.raises(mvm.UsageError, match="not started") as caught:
        use(sandbox)
    assert "start()" in caught.value.hint
    with sandbox:
        use(sandbox)


@_uses
def test_after_its_end_nothing_can_be_done(box: Start, use: Callable[[mvm.Sandbox], object]) -> None:
    """A UsageError, even while another sandbox has its name."""
    sandbox = box(name="twice")
    use(sandbox)
    sandbox.close()
    with pytest.raises(mvm.UsageError, match="closed"):
        use(sandbox)
    box(name="twice")
    with pytest.raises(mvm.UsageError, match="closed"):
        use(sandbox)


@_uses
def test_a_successor_of_the_same_name_is_not_taken_for_it(
    box: Start, mvmctl: Mvmctl, use: Callable[[mvm.Sandbox], object]
) -> None:
    """One that was ended by somebody else, and whose name another has by now, is not answered by that one."""
    first = box(name="twice")
    mvmctl("down", "twice").expect(0)
    with pytest.raises(mvm.UsageError, match="no sandbox called 'twice'"):
        use(first)
    second = box(name="twice")
    with pytest.raises(mvm.UsageError, match="another one by now"):
        use(first)
    assert first.close() == {}
    assert second.run(["true"]).returncode == 0


def test_closing_twice_gives_the_same_result(box: Start) -> None:
    """The second time nothing is done; one that was never started gives None."""
    sandbox = box()
    result = sandbox.close()
    assert result is not None
    assert (result["outcome"], sandbox.close()) == ("killed", result)
    assert mvm.Sandbox(network=closed()).close() is None


def test_starting_twice_is_one_sandbox(box: Start) -> None:
    """`start` of one that runs changes nothing; after its end it is refused."""
    sandbox = box()
    run = sandbox.run_id
    sandbox.start()
    assert sandbox.run_id == run
    sandbox.close()
    with pytest.raises(mvm.UsageError, match="closed"):
        sandbox.start()


def test_what_runs_ends_with_the_sandbox(box: Start) -> None:
    """`close` kills its commands: one that is waited for has status 137."""
    sandbox = box()
    with sandbox.popen(["sleep", "60"]) as process:
        sandbox.close()
        assert process.wait(10) == 128 + signal.SIGKILL


def test_a_sandbox_has_a_time_of_its_own(box: Start) -> None:
    """After `timeout` seconds it is gone, with what runs in it; within them it is not."""
    sandbox = box(timeout=2)
    with sandbox.popen(["sleep", "60"]) as process:
        assert process.poll() is None
        assert process.wait(10) == 128 + signal.SIGKILL
    with pytest.raises(mvm.SandboxTimeout, match="its 2 s are over"):
        sandbox.run(["true"])


def test_nothing_is_left_after_close(box: Start, leftovers: Leftovers, helper: Helper) -> None:
    """Not a process, a namespace, a mount, a socket or a file in the runtime directory."""
    sandbox = box(open_to("api.example.test:80"))
    sandbox.run(get("api.example.test"), check=True)
    assert leftovers.now() != ()
    sandbox.close()
    helper.close()
    leftovers.expect_none()


# ---- where it looks


def test_the_present_directory_and_environment_count(
    box: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path means what it means when the sandbox is made, not when the first one of the process was."""
    box()
    for name in ("one", "other"):
        directory = tmp_path / name
        directory.mkdir()
        monkeypatch.chdir(directory)
        monkeypatch.setenv("LANG", f"{name}.UTF-8")
        sandbox = box(workspace=".", env={})
        sandbox.run(["sh", "-c", "echo inside > written"], check=True)
        assert (directory / "written").read_text() == "inside\n"


def test_a_sandbox_is_found_though_variables_change(
    box: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place is remembered from its start."""
    sandbox = box()
    monkeypatch.setenv("MVM_RUNTIME_DIR", str(tmp_path))
    assert sandbox.run(["true"]).returncode == 0
    sandbox.close()


# ---- refused


def test_a_record_that_cannot_be_written_is_an_audit_error(
    helper: Helper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leftovers: Leftovers
) -> None:
    """AuditError, and nothing was started; with a place for the record the same sandbox starts."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the state directory should be")
    sandbox = mvm.Sandbox(network=closed())
    with monkeypatch.context() as patch:
        patch.setenv("MVM_STATE_DIR", str(blocked))
        with pytest.raises(mvm.AuditError, match="record"):
            sandbox.start()
    assert sandbox.close() is None
    with sandbox:
        assert sandbox.run(["true"]).returncode == 0
    helper.close()
    leftovers.expect_none()


@pytest.mark.parametrize("backend", ["oci", "qemu", "firecracker"])
def test_a_backend_that_is_not_here_is_unavailable(helper: Helper, backend: str) -> None:
    """BackendUnavailable names it and says what to do; the default starts."""
    assert helper is not None
    with pytest.raises(mvm.BackendUnavailable, match=backend) as caught:
        mvm.Sandbox(network=closed(), backend=backend).start()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"backend": "nonsense"}, "'nonsense' is no backend"),
        ({"name": "../escape"}, "no name of a sandbox"),
        ({"name": ""}, "no name of a sandbox"),
        ({"workdir": "relative"}, "not absolute"),
        ({"env": {"A=B": "c"}}, "'A=B' names no variable"),
        ({"env": {"": "c"}}, "names no variable"),
        ({"env": {"A": "\0"}}, "names no variable"),
        ({"volumes": ["nonsense"]}, "nonsense"),
        ({"volumes": ["/no/such/place:/x"]}, "/no/such/place"),
        ({"workspace": "/no/such/place"}, "/no/such/place"),
        ({"memory": -1}, "memory"),
        ({"memory": "512MB"}, "memory"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": float("nan")}, "cpus"),
        ({"pids": 0}, "pids"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
    ],
    ids=str,
)
def test_words_that_mean_nothing_are_refused(box: Start, words: dict[str, Any], said: str) -> None:
    """An MvmError names the word, and the sandboxes that run already go on."""
    standing = box()
    with pytest.raises((mvm.UsageError, mvm.PolicyRefused, mvm.BackendUnavailable), match=said):
        box(**words)
    assert standing.run(["true"]).returncode == 0


def test_a_request_that_nobody_foresaw_ends_no_other_sandbox(box: Start, helper: Helper) -> None:
    """The helper process says what was wrong with it, and goes on."""
    standing = box()
    request = mvm.Sandbox(network=closed())._request  # noqa: SLF001  what no word of the library lets through
    with pytest.raises(mvm.MvmError, match="could not be started"):
        helper.start({**request.to_json(), "nonsense": 1}, dict(os.environ))
    assert standing.run(["true"]).returncode == 0


@pytest.mark.parametrize("network", [None, "none", {"mode": "none"}, mvm.egress([])])
def test_nothing_stands_for_a_policy(network: object) -> None:
    """What is no network is refused where it is written; it can't be left out either."""
    with pytest.raises(mvm.PolicyRefused, match="not what mvm") as caught:
        mvm.Sandbox(network=network)
    assert caught.value.findings[0].path == ".network"
    with pytest.raises(TypeError):
        mvm.Sandbox()  # type: ignore[call-arg]


def test_a_name_that_is_taken_is_refused(box: Start) -> None:
    """Two of one name can't run; once the first has ended, its name is free."""
    first = box(name="taken")
    with pytest.raises(mvm.UsageError, match="'taken' is running"):
        box(name="taken")
    first.close()
    assert box(name="taken").name == "taken"


# ---- killed


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_killed_supervisor_takes_everything_along(
    box: Start, helper: Helper, mvmctl: Mvmctl, leftovers: Leftovers
) -> None:
    """Its commands end, the sandbox is gone, nothing is left, and the next one starts."""
    sandbox = box(name="victim")
    with sandbox.popen(["sleep", "60"]) as process:
        _kill(sandbox.describe()["pid"])
        assert process.wait(10) == 128 + signal.SIGKILL
    for use in _USES.values():
        with pytest.raises(mvm.UsageError):
            use(sandbox)
    assert sandbox.close() == {}
    with box(name="next") as following:
        assert following.run(["true"]).returncode == 0
    helper.close()
    leftovers.expect_none()
    mvmctl("audit", "verify", "--all").expect(0)


def test_a_killed_supervisor_ends_a_run_that_waits(box: Start) -> None:
    """`run` raises at once; it does not wait for its time limit."""
    sandbox = box()
    pid = sandbox.describe()["pid"]
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(sandbox.run, ["sh", "-c", "echo up > /tmp/up; sleep 60"], timeout=60)
        while sandbox.run(["test", "-e", "/tmp/up"]).returncode:
            assert not running.done()
        began = time.monotonic()
        _kill(pid)
        with pytest.raises(mvm.UsageError):
            running.result(timeout=30)
    assert time.monotonic() - began < 10


# ---- many


def test_many_sandboxes_in_one_process(box: Start, helper: Helper, leftovers: Leftovers) -> None:
    """Twenty stand at once, each with files and a name of its own, and go in any order."""
    sandboxes = [box() for _ in range(20)]
    assert len({sandbox.describe()["pid"] for sandbox in sandboxes}) == 1
    for number, sandbox in enumerate(sandboxes):
        sandbox.run(["sh", "-c", f"echo {number} > /tmp/mine"], check=True)
    for number, sandbox in reversed(list(enumerate(sandboxes))):
        assert sandbox.run(["cat", "/tmp/mine"]).stdout == f"{number}\n".encode()
        sandbox.close()
    helper.close()
    leftovers.expect_none()


def test_a_hundred_one_after_the_other_leave_no_descriptor(box: Start) -> None:
    """Neither here nor in the helper does it grow, but for conversations whose end is not heard yet."""
    keeps = box()
    helper_pid = keeps.describe()["pid"]

    def count() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), helper_pid)]

    with mvm.Sandbox(network=closed()) as first:
        first.run(["true"])
    before = count()
    for _ in range(100):
        with mvm.Sandbox(network=closed()) as sandbox:
            sandbox.run(["true"])
    assert all(after < earlier + 10 for after, earlier in zip(count(), before, strict=True))
