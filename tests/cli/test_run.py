"""`mvmctl run` as a user types it: streams, statuses, signals, denials, and what is left: nothing."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.fetching import fetch, trusting
from tests.cli.terminal import OnTerminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.internet import Internet
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_RESULT = {
    "schema", "run", "name", "backend", "isolation", "image", "policy", "outcome", "cause", "exit_code",
    "duration_s", "denials", "flows", "receipt",
}  # fmt: skip
_DENIAL = {
    "seq", "time", "layer", "host", "address", "port", "protocol", "reason", "count", "remedy",
}  # fmt: skip


# ---- streams


def test_the_commands_output_is_ours(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Stdout and stderr are the command's own, to the byte, and nothing is added to them."""
    ended = mvmctl("run", "--", "sh", "-c", "printf out; printf err >&2").expect(0)
    assert (ended.output, ended.errors) == (b"out", b"err")
    leftovers.expect_none()


def test_binary_input_and_output_are_intact(mvmctl: Mvmctl) -> None:
    """A megabyte of every byte value goes in at stdin and comes out at stdout unchanged."""
    data = bytes(range(256)) * 4096
    assert mvmctl("run", "--", "cat", stdin=data).expect(0).output == data


def test_streams_are_not_held_back(mvmctl: Mvmctl) -> None:
    """What is printed is there while the command still runs, and what is typed reaches it."""
    running = mvmctl.start("run", "--", "sh", "-c", "echo first; read word; echo got $word")
    running.until("first\n")
    running.send(b"this\n")
    running.until("got this\n")
    running.finish().expect(0)


def test_a_reader_that_goes_away_ends_the_writer(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """`mvmctl run -- yes | head -1`: the command gets SIGPIPE, and nobody complains."""
    running = mvmctl.start("run", "--", "yes")
    running.until("y\n")
    assert running.process.stdout is not None
    running.process.stdout.close()
    assert running.process.wait(timeout=10) == 128 + signal.SIGPIPE
    assert running.process.stderr is not None
    assert running.process.stderr.read() in {b"", None}
    leftovers.expect_none()


def test_a_closed_stdin_is_the_end_of_input(mvmctl: Mvmctl) -> None:
    """A command that reads an empty stdin sees its end."""
    assert mvmctl("run", "--", "wc", "-c").expect(0).stdout.strip() == "0"


# ---- statuses


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 255"), 255),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("sh", "-c", "kill -KILL $$"), 137),
        (("/usr/bin/no-such-program",), 127),
        (("no-such-program",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_the_status_is_the_commands(mvmctl: Mvmctl, argv: tuple[str, ...], status: int) -> None:
    """As a shell gives it: its own, 128 + n for signal n, 127 not found, 126 not to be started."""
    mvmctl("run", "--", *argv).expect(status)


def test_a_script_without_an_interpreter_is_the_shells(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """As execvp(3) has it, the one time a shell runs unasked, and inside; words stay words, always."""
    tmp_path.chmod(0o755)
    for name, text in (("bare", 'printf "<%s>" "$0" "$@"\n'), ("own", "#!/usr/bin/env cat\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    words = ("run", "-v", f"{tmp_path}:/scripts:ro", "--")
    odd = ("; exit 9", "$(id)", "a  b", "*")
    said = mvmctl(*words, "/scripts/bare", *odd).expect(0).stdout
    assert said == "".join(f"<{word}>" for word in ("/scripts/bare", *odd))
    (tmp_path / "plain").write_text("echo ran\n")
    assert mvmctl(*words, "/scripts/plain").expect(126).stdout == ""
    assert mvmctl(*words, "/scripts/own").expect(0).stdout == "#!/usr/bin/env cat\n"
    assert mvmctl(*words, "printf", "<%s>", *odd).expect(0).stdout == "".join(f"<{word}>" for word in odd)


def test_a_command_that_is_not_found_is_told(mvmctl: Mvmctl) -> None:
    """127 comes with a line that names the command, on stderr."""
    said = mvmctl("run", "--", "no-such-program").expect(127).stderr
    assert said.startswith("mvmctl: no-such-program: ")
    assert "not found" in said


def test_a_command_of_yours_that_is_not_seen_inside_says_how_it_is(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """A script in the caller's directory: the word that shows the directory, by which it runs."""
    (tmp_path / "go.sh").write_text("#!/bin/sh\necho went\n")
    (tmp_path / "go.sh").chmod(0o755)
    tmp_path.chmod(0o755)
    unseen = mvmctl("run", "--", "./go.sh", cwd=tmp_path).expect(127)
    assert "./go.sh: not found in the sandbox; --workspace" in unseen.stderr
    assert mvmctl("run", "--workspace", ".", "--", "./go.sh", cwd=tmp_path).expect(0).stdout == "went\n"


def test_time_runs_out_with_124(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """--timeout ends the sandbox with 124, at about that time; in time it changes nothing."""
    ended = mvmctl("run", "--timeout", "300ms", "--json", "--", "sleep", "60").expect(124)
    assert 0.3 <= ended.duration_s < 5
    assert ended.json["outcome"] == "timeout"
    mvmctl("run", "--timeout", "30s", "--", "true").expect(0)
    leftovers.expect_none()


def test_a_record_that_can_not_be_written_is_74(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Without a place for the record nothing runs, and the status is 74."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the state directory should be")
    ended = mvmctl("run", "--", "echo", "ran", env={"MVM_STATE_DIR": str(blocked)}).expect(74)
    assert ended.stdout == ""
    assert "record" in ended.stderr
    assert (
        mvmctl("run", "--json", "--", "echo", env={"MVM_STATE_DIR": str(blocked)}).expect(74).json["outcome"]
    )


def test_a_name_is_taken_once(mvmctl: Mvmctl) -> None:
    """Two sandboxes can't have one name at once; afterwards it is free again."""
    first = mvmctl.start("run", "--name", "mine", "--", "sh", "-c", "echo up; read end")
    first.until("up")
    assert "mine" in mvmctl("run", "--name", "mine", "--", "true").expect(64).stderr
    first.send(b"\n")
    first.finish().expect(0)
    mvmctl("run", "--name", "mine", "--", "true").expect(0)


# ---- signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_signals_reach_the_command(mvmctl: Mvmctl, leftovers: Leftovers, name: str) -> None:
    """What is sent to mvmctl the command gets, and its answer is the status."""
    trap = f"trap 'echo caught; exit 9' {name[3:]}; echo ready; while :; do sleep 0.05; done"
    running = mvmctl.start("run", "--", "bash", "-c", trap)
    running.until("ready\n")
    running.process.send_signal(signal.Signals[name])
    assert running.finish().expect(9).stdout == "ready\ncaught\n"
    leftovers.expect_none()


def test_a_signal_that_kills_the_command_is_its_status(mvmctl: Mvmctl) -> None:
    """SIGTERM to mvmctl, not handled by the command, ends both with 143."""
    running = mvmctl.start("run", "--", "sh", "-c", "echo ready; exec sleep 60")
    running.until("ready\n")
    running.process.terminate()
    running.finish().expect(143)


def test_sigkill_leaves_nothing(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Kill -9 of mvmctl: no process, namespace, mount, socket or file remains."""
    running = mvmctl.start("run", "--", "sh", "-c", "echo ready; sleep 60")
    running.until("ready\n")
    running.process.kill()
    running.process.wait(timeout=10)
    leftovers.expect_none(within_s=5)


# ---- what is reached


def test_a_granted_host_answers(mvmctl: Mvmctl, internet: Internet, ca_file: Path) -> None:
    """The granted TLS host is reached, by its name, and nothing is said on stderr."""
    before = internet.arrivals("api.example.test").connections
    words = ("run", "--network-allow", "api.example.test:443", *trusting(ca_file), "--")
    ended = mvmctl(*words, *fetch("api.example.test")).expect(0)
    assert (ended.stdout, ended.stderr) == ("200", "")
    assert internet.arrivals("api.example.test").connections == before + 1


def test_any_other_host_is_denied_at_once(mvmctl: Mvmctl, internet: Internet, ca_file: Path) -> None:
    """The twin: a host that is not granted sees no packet, and stderr has the flag that would allow it."""
    words = ("run", "--network-allow", "api.example.test:443", *trusting(ca_file), "--")
    with internet.watch() as outside:
        ended = mvmctl(*words, *fetch("other.example.test"))
    assert ended.exit_code not in {0, 77}
    assert outside.besides_names == {}
    assert "other.example.test" in ended.stderr
    assert "[host-not-granted]" in ended.stderr
    assert "to allow them: --network-allow other.example.test:443\n" in ended.stderr


def test_the_first_denial_ends_it_where_that_was_asked(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """--on-denied fail: 77, at once; the same command under `report` goes on."""
    script = "getent hosts other.example.test; sleep 20; exit 0"
    ended = mvmctl("run", "--on-denied", "fail", "--json", "--", "sh", "-c", script).expect(77)
    assert ended.duration_s < 10
    assert (ended.json["outcome"], ended.json["cause"]) == ("failed", "policy")
    mvmctl("run", "--", "sh", "-c", script.replace("sleep 20; ", "")).expect(0)
    leftovers.expect_none()


def test_a_host_that_can_not_be_reached_is_transport(mvmctl: Mvmctl, ca_file: Path) -> None:
    """A granted host that refuses is the network's failure: no denial, cause transport, other words."""
    words = ("run", "--json", "--network-allow", "refused.example.test:443", *trusting(ca_file), "--")
    ended = mvmctl(*words, *fetch("refused.example.test"))
    assert ended.json["cause"] == "transport"
    assert ended.json["denials"] == []
    assert "the network, not the policy" in ended.stderr


def test_unrestricted_reaches_any_public_name_with_a_warning(mvmctl: Mvmctl, ca_file: Path) -> None:
    """--network-preset unrestricted: a host nobody named answers, and stderr warns."""
    words = ("run", "--network-preset", "unrestricted", *trusting(ca_file), "--")
    ended = mvmctl(*words, *fetch("other.example.test")).expect(0)
    assert ended.stdout == "200"
    assert "mvmctl: warning: " in ended.stderr


# ---- JSON


def test_the_result_has_its_members(mvmctl: Mvmctl, ca_file: Path) -> None:
    """`mvm.result/1` on stdout, as SPEC has it; the command's own output goes to stderr."""
    words = ("run", "--json", "--network-allow", "api.example.test:443", *trusting(ca_file), "--")
    ended = mvmctl(*words, *fetch("api.example.test")).expect(0)
    result = ended.json
    assert set(result) >= _RESULT
    assert result["schema"] == "mvm.result/1"
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", result["run"])
    assert (result["outcome"], result["cause"], result["exit_code"]) == ("completed", None, 0)
    assert result["policy"]["digest"].startswith("sha256:")
    assert [grant["host"] for grant in result["policy"]["grants"]] == ["api.example.test"]
    assert result["policy"]["requested"] == result["policy"]["achieved"]
    assert result["denials"] == []
    assert result["receipt"] is None
    assert ended.stderr == "200"


def test_denials_in_the_result_have_their_members(mvmctl: Mvmctl) -> None:
    """Each distinct denial with its count, reason, and remedy."""
    script = "getent hosts other.example.test; getent hosts other.example.test; exit 3"
    result = mvmctl("run", "--json", "--", "sh", "-c", script).expect(3).json
    assert (result["outcome"], result["cause"]) == ("failed", "policy")
    denial = next(found for found in result["denials"] if found["host"] == "other.example.test")
    assert set(denial) >= _DENIAL
    assert denial["layer"] == "dns"
    assert denial["remedy"]["flag"] == "--network-allow other.example.test:443"


def test_a_failure_without_a_denial_is_the_guests(mvmctl: Mvmctl) -> None:
    """A command that fails by itself: outcome failed, cause guest."""
    result = mvmctl("run", "--json", "--", "false").expect(1).json
    assert (result["outcome"], result["cause"], result["exit_code"]) == ("failed", "guest", 1)


def test_capture_puts_the_output_into_the_object(mvmctl: Mvmctl) -> None:
    """--capture: both streams are members, bytes that are no UTF-8 are spelled, nothing goes to stderr."""
    script = r"printf 'h\303\251\377'; printf err >&2"
    ended = mvmctl("run", "--json", "--capture", "--", "sh", "-c", script).expect(0)
    assert ended.json["stdout"] == "hé\\xff"
    assert ended.json["stderr"] == "err"
    assert ended.json["cut"] is False
    assert ended.stderr == ""


def test_the_run_is_on_record(mvmctl: Mvmctl) -> None:
    """What ran has a sealed record that verifies, under the run id of the result."""
    run = mvmctl("run", "--json", "--", "true").expect(0).json["run"]
    assert mvmctl("audit", "verify", "--sealed", run).expect(0).stdout.startswith(f"{run}: verified")
    kinds = [record.split()[1] for record in mvmctl("audit", "show", run).expect(0).stdout.splitlines()]
    assert kinds == ["run.started", "run.ended", "audit.sealed"]


# ---- files and environment


def test_variables_are_passed_where_they_are_named(mvmctl: Mvmctl) -> None:
    """-e K=V sets, -e K copies the caller's, and what is not named does not pass."""
    script = "echo $SET-$COPIED-$HIDDEN"
    environment = {"COPIED": "two", "HIDDEN": "three"}
    words = ("run", "-e", "SET=one", "-e", "COPIED", "--", "sh", "-c", script)
    assert mvmctl(*words, env=environment).expect(0).stdout == "one-two-\n"


def test_the_workspace_is_written_as_ones_own(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """--workspace: it starts there, what it writes is there afterwards and belongs to the caller."""
    ended = mvmctl("run", "--workspace", str(tmp_path), "--", "sh", "-c", "echo made > file; cat file")
    assert ended.expect(0).stdout == "made\n"
    made = tmp_path / "file"
    assert made.read_text() == "made\n"
    assert made.stat().st_uid == os.geteuid()


def test_a_volume_is_writable_unless_it_says_ro(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """As with docker: -v SRC:DST:ro can be read and not written; without it, or with :rw, it can."""
    (tmp_path / "file").write_text("there")
    source = str(tmp_path)
    words = ("--", "sh", "-c", "cat /data/file; echo new > /data/new")
    ended = mvmctl("run", "-v", f"{source}:/data:ro", *words)
    assert ended.exit_code != 0
    assert ended.stdout == "there"
    assert not (tmp_path / "new").exists()
    for volume in (f"{source}:/data", f"{source}:/data:rw"):
        mvmctl("run", "-v", volume, *words).expect(0)
        assert (tmp_path / "new").read_text() == "new\n"
        (tmp_path / "new").unlink()


def test_a_start_directory_is_chosen(mvmctl: Mvmctl) -> None:
    """-w says where the command starts."""
    assert mvmctl("run", "-w", "/tmp", "--", "pwd").expect(0).stdout == "/tmp\n"


def test_a_policy_file_that_was_found_is_told(mvmctl: Mvmctl, tmp_path: Path, ca_file: Path) -> None:
    """mvm.toml of the project counts for `run`, and stderr says that it did."""
    (tmp_path / "mvm.toml").write_text(
        '[network]\nmode = "bridge"\ndns = "system"\nallow = [{host = "api.example.test", port = 443}]\n'
    )
    words = ("run", *trusting(ca_file), "--", *fetch("api.example.test"))
    ended = mvmctl(*words, cwd=tmp_path).expect(0)
    assert ended.stdout == "200"
    assert ended.stderr == "mvmctl: policy from mvm.toml\n"


def test_a_terminal_is_one_inside_too(mvmctl: Mvmctl) -> None:
    """On a terminal the command has one of its own, of the same size, and Ctrl-C reaches it."""
    script = "trap 'echo caught; exit 4' INT; stty size; tty; while :; do sleep 0.05; done"
    with OnTerminal(mvmctl, "run", "--", "bash", "-c", script) as terminal:
        assert "33 77" in terminal.until("/dev/pts/")
        terminal.type(b"\x03")
        terminal.until("caught")
        assert terminal.finish() == 4
