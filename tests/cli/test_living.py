"""`up`, `exec`, `ls`, `logs` and `down`: a sandbox that stays, spoken to from other processes."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting
from tests.cli.terminal import OnTerminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

# ---- up


def test_a_detached_sandbox_lives_until_it_is_stopped(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Up -d prints the name and nothing else; the sandbox is listed, answers, and down leaves nothing."""
    ended = mvmctl("up", "-d", "--name", "agent").expect(0)
    assert (ended.stdout, ended.stderr) == ("agent\n", "")
    assert mvmctl("ls").expect(0).stdout.split()[:2] == ["agent", "running"]
    assert mvmctl("exec", "agent", "--", "echo", "hi").expect(0).stdout == "hi\n"
    assert mvmctl("down", "agent").expect(0).stdout == "agent\n"
    assert mvmctl("ls").expect(0).stdout == ""
    assert mvmctl("ls", "-a").expect(0).stdout.split()[:3] == ["agent", "killed", "(137)"]
    mvmctl("audit", "verify", "--sealed", "agent").expect(0)
    leftovers.expect_none()


def test_up_as_json_names_the_run(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Up -d --json prints name and run id, under which the record is."""
    assert callable(up)
    started = mvmctl("up", "-d", "--json", "--name", "agent").expect(0).json
    assert started["schema"] == "mvm.started/1"
    assert mvmctl("audit", "show", started["run"]).expect(0).stdout.split()[1] == "run.started"


@pytest.mark.parametrize(
    ("argv", "status", "why"),
    [(("nonesuch",), 127, "nonesuch: not found in the sandbox"), (("/etc",), 126, "/etc: permission denied")],
)
def test_a_command_that_can_not_run_is_told_detached_too(
    mvmctl: Mvmctl, leftovers: Leftovers, argv: tuple[str, ...], status: int, why: str
) -> None:
    """With the status that a shell has for it, as in the foreground; the name stays free."""
    refused = mvmctl("up", "-d", "--name", "agent", "--", *argv).expect(status)
    assert (refused.stdout, refused.stderr) == ("", f"mvmctl: {why}\n")
    shown = mvmctl("up", "-d", "--json", "--name", "agent", "--", *argv).expect(status).json
    assert (shown["name"], shown["error"]) == ("agent", why)
    leftovers.expect_none()
    assert mvmctl("up", "-d", "--name", "agent", "--", "sleep", "30").expect(0).stdout == "agent\n"


def test_a_name_is_made_up_where_none_is_given(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Up -d without --name prints a name that exec takes."""
    mvmctl("exec", up(), "--", "true").expect(0)


def test_a_name_that_runs_is_not_taken_again(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """The second up of a name exits 64 with the way out; the first goes on."""
    up("--name", "agent")
    assert "mvmctl down agent" in mvmctl("up", "-d", "--name", "agent").expect(64).stderr
    mvmctl("exec", "agent", "true").expect(0)


def test_what_does_not_begin_leaves_no_gap_in_the_records(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """A name or port that is taken: 64, and every record is sealed; of the port's, it says refused."""
    up("--name", "agent")
    mvmctl("run", "--name", "agent", "--", "true").expect(64)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        mvmctl("up", "-d", "--name", "server", "-p", f"{port}:80").expect(64)
        mvmctl("run", "--name", "other", "-p", f"{port}:80", "--", "true").expect(64)
    mvmctl("run", "--", "true", env={"MVM_RUNTIME_DIR": "/dev/null"}).expect(74)
    mvmctl("down", "agent").expect(0)
    rows = [line.split()[:3] for line in mvmctl("ls", "-a").expect(0).stdout.splitlines()]
    assert sorted(rows) == [
        ["agent", "killed", "(137)"],
        ["other", "refused", "(64)"],
        ["server", "refused", "(64)"],
    ]
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)


def test_a_sandbox_ends_with_its_command(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Up CMD in the foreground: streams through, the command's status; companions of exec end with it."""
    running = mvmctl.start("up", "--name", "agent", "--", "sh", "-c", "echo ready; read word; exit 5")
    running.until("ready\n")
    companion = mvmctl.start("exec", "agent", "--", "sh", "-c", "echo here; sleep 60")
    companion.until("here\n")
    running.send(b"\n")
    running.finish().expect(5)
    companion.finish().expect(137)
    leftovers.expect_none()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_waiting_sandbox_in_the_foreground_ends_by_a_signal(
    mvmctl: Mvmctl, leftovers: Leftovers, name: str
) -> None:
    """Up without a command says its name and waits; Ctrl-C or SIGTERM ends it and leaves nothing."""
    running = mvmctl.start("up", "--name", "agent")
    assert "agent is up; mvmctl exec agent" in running.until("runs a command in it\n", stream="stderr")
    mvmctl("exec", "agent", "true").expect(0)
    running.process.send_signal(signal.Signals[name])
    running.finish().expect(137)
    leftovers.expect_none()


def test_a_refusal_of_up_detached_is_told_as_in_the_foreground(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Up -d exits with the status of the refusal: 65 for the policy, 74 for the record, 64 for a port."""
    mvmctl("up", "-d", "--network-allow", "*.example.com:443").expect(65)
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    mvmctl("up", "-d", env={"MVM_STATE_DIR": str(blocked)}).expect(74)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in mvmctl("up", "-d", "-p", f"{port}:80").expect(64).stderr


def test_a_time_to_live_ends_it(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """--ttl ends a sandbox by itself, with 124 as --timeout does."""
    ended = mvmctl("up", "--ttl", "500ms").expect(124)
    assert ended.duration_s < 10
    leftovers.expect_none()


def test_an_inbound_port_leads_in_and_not_out(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """-p: a server inside answers on 127.0.0.1 of the host; what is inside still reaches nothing."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = "import socket; s = socket.create_server(('0.0.0.0', 8080)); print('up', flush=True)\n"
    server += "while True:\n c, _ = s.accept(); c.sendall(b'hello'); c.close()"
    name = up("-p", f"127.0.0.1:{port}:8080", "--", "python3", "-c", server)
    follower = mvmctl.start("logs", "-f", name)
    follower.until("up\n")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        assert client.makefile("rb").read() == b"hello"
    assert mvmctl("exec", name, *fetch("api.example.test")).exit_code != 0
    assert f"127.0.0.1:{port}:8080" in mvmctl("ls").stdout


# ---- exec


def test_exec_passes_streams_and_statuses(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Stdout and stderr are the command's; its status is ours; 127 and 126 where it can't be started."""
    name = up()
    ended = mvmctl("exec", name, "--", "sh", "-c", "printf out; printf err >&2; exit 3").expect(3)
    assert (ended.output, ended.errors) == (b"out", b"err")
    mvmctl("exec", name, "sh", "-c", "kill -KILL $$").expect(137)
    assert "no-such-program" in mvmctl("exec", name, "no-such-program").expect(127).stderr
    mvmctl("exec", name, "/etc/passwd").expect(126)
    mvmctl("exec", name, "--").expect(64)


def test_exec_reads_stdin_only_with_i(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """As docker: without -i stdin is empty, with it a megabyte of bytes goes through unchanged."""
    name = up()
    data = bytes(range(256)) * 4096
    assert mvmctl("exec", name, "cat", stdin=b"").expect(0).output == b""
    running = mvmctl.start("exec", name, "wc", "-c")
    assert running.finish().expect(0).stdout.strip() == "0"
    assert mvmctl("exec", "-i", name, "cat", stdin=data).expect(0).output == data


def test_exec_streams_are_not_held_back(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """What the command prints is there while it runs."""
    running = mvmctl.start("exec", "-i", up(), "sh", "-c", "echo first; read word; echo got $word")
    running.until("first\n")
    running.send(b"this\n")
    running.until("got this\n")
    running.finish().expect(0)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_exec_passes_signals_on(mvmctl: Mvmctl, up: Callable[..., str], name: str) -> None:
    """A signal to mvmctl exec reaches the command inside."""
    trap = f"trap 'echo caught; exit 9' {name[3:]}; echo ready; while :; do sleep 0.05; done"
    running = mvmctl.start("exec", up(), "bash", "-c", trap)
    running.until("ready\n")
    running.process.send_signal(signal.Signals[name])
    assert running.finish().expect(9).stdout == "ready\ncaught\n"


def test_exec_that_is_killed_takes_its_command_with_it(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Kill -9 of mvmctl exec: the command inside ends, the sandbox goes on."""
    name = up()
    running = mvmctl.start("exec", name, "sh", "-c", "echo ready; exec sleep 4711")
    running.until("ready\n")
    running.process.kill()
    running.process.wait(timeout=10)
    script = "while grep -qs 4711 /proc/[0-9]*/cmdline; do sleep 0.05; done; echo gone"
    assert mvmctl("exec", name, "sh", "-c", script.replace("4711", "47[1]1")).expect(0).stdout == "gone\n"


def test_exec_takes_variables_and_a_directory(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """-e K=V, -e K of the caller's, and -w."""
    words = (
        "exec",
        "-e",
        "SET=one",
        "-e",
        "COPIED",
        "-w",
        "/tmp",
        up(),
        "sh",
        "-c",
        "echo $SET-$COPIED-$PWD",
    )
    assert mvmctl(*words, env={"COPIED": "two"}).expect(0).stdout == "one-two-/tmp\n"


def test_exec_on_a_terminal_has_one_inside(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Exec -it: a terminal of the same size, typed at, resized, interrupted, and given back as it was."""
    script = "stty size; tty; read word; echo got $word; trap 'stty size; exit 4' INT; echo now; "
    script += "while :; do sleep 0.05; done"
    with OnTerminal(mvmctl, "exec", "-it", up(), "bash", "-c", script) as terminal:
        assert "33 77" in terminal.until("/dev/pts/")
        terminal.type(b"hello\r")
        terminal.until("got hello")
        terminal.until("now")
        terminal.resize(20, 50)
        terminal.type(b"\x03")
        terminal.until("20 50")
        assert terminal.finish() == 4
        assert terminal.modes == terminal.before


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_what_is_typed_ahead_is_not_lost(verb: str, mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """A line typed before the command stands is what it reads first."""
    words = ("run", "--") if verb == "run" else ("exec", "-it", up(), "--")
    with OnTerminal(mvmctl, *words, "sh", "-c", "read word; echo got $word") as terminal:
        terminal.type(b"early\r")
        terminal.until("got early")
        assert terminal.finish() == 0


def test_exec_wants_a_terminal_for_t(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """-t without a terminal is usage."""
    assert "-t needs a terminal" in mvmctl("exec", "-t", up(), "true").expect(64).stderr


def test_exec_is_under_the_policy(mvmctl: Mvmctl, up: Callable[..., str], ca_file: Path) -> None:
    """A command of exec reaches what the sandbox may reach, and nothing else."""
    name = up("--network-allow", "api.example.test:443", *trusting(ca_file))
    assert mvmctl("exec", name, *fetch("api.example.test")).expect(0).stdout == "200"
    assert mvmctl("exec", name, *fetch("other.example.test")).exit_code != 0


# ---- ls, logs, down


def test_a_list_tells_what_runs(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Ls --json has name, run, grants, denials, ports and command of each running sandbox."""
    up("--name", "one", "--network-allow", "api.example.test:443", "--", "sleep", "60")
    up("--name", "two")
    mvmctl("exec", "two", "getent", "hosts", "other.example.test")
    rows = {row["name"]: row for row in mvmctl("ls", "--json").expect(0).json["sandboxes"]}
    assert set(rows) == {"one", "two"}
    assert (rows["one"]["status"], rows["one"]["grants"], rows["one"]["command"]) == (
        "running",
        1,
        ["sleep", "60"],
    )
    assert rows["one"]["denials"] == 0
    assert rows["two"]["denials"] >= 1
    assert rows["one"]["started"].endswith("Z")


def test_a_killed_sandbox_is_unsealed(mvmctl: Mvmctl, up: Callable[..., str], leftovers: Leftovers) -> None:
    """Kill -9 of a detached sandbox's process: no longer listed, its run unsealed, nothing remains."""
    import os

    name = up()
    pid = mvmctl("ls", "--json").json["sandboxes"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    leftovers.expect_none(within_s=5)
    assert mvmctl("ls").expect(0).stdout == ""
    assert mvmctl("ls", "-a").expect(0).stdout.split()[:2] == [name, "unsealed"]
    mvmctl("audit", "verify", name).expect(0)
    mvmctl("audit", "verify", "--sealed", name).expect(65)


def test_console_output_is_kept_and_followed(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Logs shows what the command wrote so far; logs -f goes on with what comes, until the sandbox ends."""
    script = "echo one; echo two >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; "
    script += "printf 'three\\377\\n'; sleep 60"
    name = up("--", "sh", "-c", script)
    follower = mvmctl.start("logs", "-f", name)
    follower.until("one\ntwo\n")
    assert mvmctl("logs", name).expect(0).stdout == "one\ntwo\n"
    mvmctl("exec", name, "touch", "/tmp/go").expect(0)
    follower.until("three")
    mvmctl("down", "--time", "0", name).expect(0)
    assert follower.finish().expect(0).output == b"one\ntwo\nthree\xff\n"


def test_following_ends_where_the_sandbox_is_killed(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """A sandbox that crashes ends `logs -f` and `audit tail -f` too."""
    import os

    name = up("--", "sh", "-c", "echo ready; sleep 60")
    logs, tail = mvmctl.start("logs", "-f", name), mvmctl.start("audit", "tail", "-f", name)
    logs.until("ready\n")
    tail.until("run.started")
    os.kill(mvmctl("ls", "--json").json["sandboxes"][0]["pid"], signal.SIGKILL)
    logs.finish().expect(0)
    tail.finish().expect(0)


def test_down_gives_time_and_then_none(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """SIGTERM first: a command that heeds it ends by itself; one that does not is ended after --time."""
    heeds = up(
        "--name",
        "heeds",
        "--",
        "sh",
        "-c",
        "trap 'echo bye; exit 0' TERM; echo on; while :; do sleep 0.05; done",
    )
    deaf = up("--name", "deaf", "--", "sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.05; done")
    for name in (heeds, deaf):
        follower = mvmctl.start("logs", "-f", name)
        follower.until("on\n")
    assert mvmctl("down", heeds).expect(0).duration_s < 5
    assert mvmctl("logs", heeds).stdout == "on\nbye\n"
    ended = mvmctl("down", "--time", "0.5", deaf).expect(0)
    assert 0.5 <= ended.duration_s < 5


def test_down_all_stops_everything(mvmctl: Mvmctl, up: Callable[..., str], leftovers: Leftovers) -> None:
    """Down --all stops every sandbox of this user and names them; as JSON it gives their results."""
    up("--name", "one")
    up("--name", "two")
    stopped = mvmctl("down", "--all", "--json").expect(0).json["sandboxes"]
    assert {result["name"] for result in stopped} == {"one", "two"}
    assert {result["schema"] for result in stopped} == {"mvm.result/1"}
    leftovers.expect_none()


def test_down_goes_on_after_a_name_that_is_not_there(mvmctl: Mvmctl, up: Callable[..., str]) -> None:
    """Down NOBODY AGENT stops the second and exits 64 for the first."""
    up("--name", "agent")
    ended = mvmctl("down", "nobody", "agent").expect(64)
    assert ended.stdout == "agent\n"
    assert "nobody" in ended.stderr
