"""Commands in the namespace backend: how they are found and ended, what they see, what they may use."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminal import OnTerminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_MARK = "a-key-of-the-caller-7f3a"
"""In no file of this machine but those that a test writes: a checkout may lie in /tmp, where it is seen."""

_PYTHON = "/usr/bin/python3"
_MEBIBYTE = 1 << 20
_STREAMS = (0, 1, 2)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that the workload sees as its workspace."""
    made = tmp_path / "work"
    made.mkdir()
    return made


def _script(directory: Path, text: str, mode: int) -> str:
    (directory / "tool").write_text(text)
    (directory / "tool").chmod(mode)
    return "./tool"


# ---- how a command is found and ends


@pytest.mark.parametrize(
    ("text", "mode", "status"),
    [
        ("#!/bin/sh\nexit 3\n", 0o755, 3),
        ("exit $1\n", 0o755, 4),
        ("#!/bin/sh\nexit 3\n", 0o644, 126),
        ("#!/nowhere/sh\n", 0o755, 127),
    ],
    ids=["script", "script without #!", "not executable", "no such interpreter"],
)
def test_a_script_is_started_as_env_does(
    mvmctl: Mvmctl, work: Path, text: str, mode: int, status: int
) -> None:
    """With its interpreter, without one by the shell; 126 where it may not be, 127 where there is none."""
    tool = _script(work, text, mode)
    ended = mvmctl("run", "--workspace", str(work), "--", tool, "4").expect(status)
    assert bool(ended.stderr) == (status >= 126)


@pytest.mark.parametrize(("word", "status"), [("", 127), ("/usr", 126), ("./", 126), ("/etc/passwd/x", 127)])
def test_what_is_no_program_is_told(mvmctl: Mvmctl, leftovers: Leftovers, word: str, status: int) -> None:
    """An empty word, a directory, a path through a file: told, and the sandbox ends in good order."""
    ended = mvmctl("run", "--json", "--", word).expect(status)
    assert ended.json["outcome"] == "failed"
    assert ended.stderr.startswith(f"mvmctl: {word}: ")
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)
    leftovers.expect_none()


def test_what_is_left_in_the_background_ends_with_the_command(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """The run is over when its command is, though something it started holds the streams."""
    ended = mvmctl("run", "--", "sh", "-c", "(trap '' TERM HUP; exec sleep 60) & echo up; exit 5").expect(5)
    assert ended.stdout == "up\n"
    assert ended.duration_s < 10
    leftovers.expect_none()


def test_signals_that_the_caller_ignores_are_not_ignored_inside(mvmctl: Mvmctl) -> None:
    """Under nohup, too, a command may be ended by SIGHUP."""
    script = "trap '' HUP INT; exec \"$@\""
    mvmctl.command = ["sh", "-c", script, "sh", *mvmctl.command]
    said = mvmctl("run", "--", "grep", "SigIgn", "/proc/self/status").expect(0).stdout
    ignored = int(said.split()[1], 16)
    assert not ignored & (1 << (signal.SIGHUP - 1) | 1 << (signal.SIGINT - 1))


# ---- words and variables


def test_every_word_arrives_as_it_is(mvmctl: Mvmctl) -> None:
    """Empty ones, blanks, line ends, bytes that are no UTF-8, and a megabyte of them."""
    odd = ["", " ", "a b", "\n", "--", "-x", "$HOME", "*", os.fsdecode(b"\xff\xfe"), "ü"]
    ended = mvmctl("run", "--", "printf", "%s\\0", *odd).expect(0)
    assert ended.output == b"".join(os.fsencode(word) + b"\0" for word in odd)
    many = ["x" * 100_000] * 10 + ["y"] * 5_000
    counted = mvmctl("run", "--", "sh", "-c", 'echo $# $(printf %s "$@" | wc -c)', "sh", *many).expect(0)
    assert counted.stdout.split() == [str(len(many)), str(sum(map(len, many)))]


def test_every_variable_arrives_as_it_is(mvmctl: Mvmctl) -> None:
    """Empty, long, with `=` and line ends, and bytes that are no UTF-8."""
    values = ["", "a=b", "line\nline", os.fsdecode(b"\xff\xfe"), "z" * 100_000]
    for value in values:
        ended = mvmctl("run", "-e", f"ODD={value}", "--", "printenv", "ODD").expect(0)
        assert ended.output == os.fsencode(value) + b"\n"


def test_the_callers_variables_stay_outside(mvmctl: Mvmctl) -> None:
    """Secrets, sockets, loader and interpreter settings: none passes; the named twin does."""
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "not-for-inside-1",
        "GITHUB_TOKEN": "not-for-inside-2",
        "SSH_AUTH_SOCK": "/not-for-inside-3",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/not-for-inside-4",
        "http_proxy": "http://not-for-inside-5:1",
        "LD_LIBRARY_PATH": "/not-for-inside-6",
        "PYTHONSTARTUP": "/not-for-inside-7",
        "MVM_STATE_DIR": str(mvmctl.state),
        "XDG_RUNTIME_DIR": "/not-for-inside-8",
    }
    inside = mvmctl("run", "--", "env", env=secrets).expect(0).stdout
    names = {line.partition("=")[0] for line in inside.splitlines()}
    assert not names & set(secrets)
    assert not [value for value in secrets.values() if value in inside]
    assert {"PATH", "HOME", "MVM_SANDBOX"} <= names
    named = mvmctl("run", "-e", "GITHUB_TOKEN", "--", "printenv", "GITHUB_TOKEN", env=secrets).expect(0)
    assert named.stdout == "not-for-inside-2\n"


# ---- streams


def test_each_byte_passes_as_it_is_written(mvmctl: Mvmctl) -> None:
    """A byte in, a byte out, without a line's end between: nothing is held back in either direction."""
    loop = "import os\nwhile b := os.read(0, 1): os.write(1, b); os.write(2, b.upper())"
    running = mvmctl.start("run", "--", _PYTHON, "-c", loop)
    for at, letter in enumerate("abcdefghij", 1):
        running.send(letter.encode())
        running.until("abcdefghij"[:at])
        running.until("ABCDEFGHIJ"[:at], stream="stderr")
    running.finish().expect(0)


def test_much_output_on_both_streams_is_whole(mvmctl: Mvmctl) -> None:
    """Twice 32 MiB side by side: no byte is lost, none stands in another's stream."""
    script = "yes out | head -c 33554432 & yes err | head -c 33554432 >&2; wait"
    ended = mvmctl("run", "--", "sh", "-c", script).expect(0)
    assert ended.output == b"out\n" * (8 * _MEBIBYTE)
    assert ended.errors == b"err\n" * (8 * _MEBIBYTE)


@pytest.mark.parametrize(
    "closed", [each for count in (1, 2, 3) for each in combinations(_STREAMS, count)], ids=str
)
def test_closed_streams_are_empty_ones(
    mvmctl: Mvmctl, work: Path, leftovers: Leftovers, closed: tuple[int, ...]
) -> None:
    """A caller without stdin, stdout or stderr: the command runs, and no other file takes their place."""
    closing = " ".join(f"{number}<&-" for number in closed)
    mvmctl.command = ["sh", "-c", f'exec "$@" {closing}', "sh", *mvmctl.command]
    # Behind a pipe: a shell may put a redirection into effect in itself.
    script = "cat > read; echo out; echo err >&2; cd /proc/$$/fd; readlink 0 1 2 | cat > $OLDPWD/streams"
    ended = mvmctl("run", "--workspace", str(work), "--", "sh", "-c", script).expect(0)
    assert ended.stdout == ("" if 1 in closed else "out\n")
    assert ended.stderr == ("" if 2 in closed else "err\n")
    assert (work / "read").read_text() == ""
    streams = (work / "streams").read_text().splitlines()
    assert {streams[number] for number in closed} == {"/dev/null"}
    leftovers.expect_none()


def test_a_terminal_passes_the_end_of_input_and_is_given_back(mvmctl: Mvmctl) -> None:
    r"""Ctrl-D ends what is read, Ctrl-\ is a signal, a new size is told; its modes come back."""
    traps = "trap 'stty size' WINCH; trap 'exit 6' QUIT"
    script = f"echo on; cat; {traps}; echo read; while :; do sleep 0.05; done"
    with OnTerminal(mvmctl, "run", "--", "bash", "-c", script) as terminal:
        terminal.until("on")
        terminal.type(b"typed\r")
        terminal.until("typed\r\ntyped\r\n")
        terminal.type(b"\x04")
        terminal.until("read")
        terminal.resize(21, 51)
        terminal.until("21 51")
        terminal.type(b"\x1c")
        assert terminal.finish() == 6
        assert terminal.modes == terminal.before


def test_a_terminal_is_given_back_when_its_command_is_killed(mvmctl: Mvmctl) -> None:
    """A command that had it raw and died of a signal leaves it as it was."""
    with OnTerminal(mvmctl, "run", "--", "bash", "-c", "stty raw; echo raw; kill -KILL $$") as terminal:
        assert terminal.finish() == 137
        assert terminal.modes == terminal.before


# ---- files


def test_the_home_is_empty_and_what_is_written_stays_inside(
    mvmctl: Mvmctl, tmp_path: Path, leftovers: Leftovers
) -> None:
    """Keys of the caller's are not there; home, /tmp and /dev/shm can be written, and it shows nowhere."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text(_MARK)
    (home / ".netrc").write_text(_MARK)
    tmp_path.chmod(0o755)
    script = "ls -A ~; for d in ~ /tmp /dev/shm; do echo x > $d/mvm-was-here && echo wrote; done; "
    script += (
        f"ls -d {mvmctl.state} {mvmctl.runtime} 2>/dev/null; grep -rs {_MARK} ~ /tmp /dev/shm; echo done"
    )
    for where in (tmp_path, home):
        said = mvmctl("run", "--", "sh", "-c", script, env={"HOME": str(home)}, cwd=where).expect(0)
        assert said.stdout.split() == ["wrote", "wrote", "wrote", "done"]
        for place in (str(home), "/tmp", "/dev/shm"):
            assert not os.path.exists(f"{place}/mvm-was-here")
    leftovers.expect_none()


def test_the_system_cannot_be_written(mvmctl: Mvmctl) -> None:
    """Not the root, /usr, /etc, /dev, /proc/sys or /sys; what the workload owns can (the twin above)."""
    script = (
        "for d in / /usr /usr/bin /etc /opt /var /dev /proc /proc/sys/kernel /sys; do "
        "( : > $d/mvm-was-here ) 2>/dev/null && echo wrote $d; done; "
        "( echo x > /proc/sys/kernel/hostname ) 2>/dev/null && echo renamed; "
        "( echo x >> /etc/hosts ) 2>/dev/null && echo hosts; cat /etc/shadow 2>/dev/null; echo done"
    )
    assert mvmctl("run", "--", "sh", "-c", script).expect(0).stdout == "done\n"


@pytest.mark.root_only
def test_a_workspace_stays_its_owners(mvmctl: Mvmctl, work: Path) -> None:
    """As root: in a directory of another user's, what is written belongs to that user, not to root."""
    (work / "mine").write_text("there\n")
    for path in (work, work / "mine"):
        os.chown(path, 4321, 4321)
    script = "cat mine; echo more >> mine; echo made > new; mkdir sub; stat -c %U . mine"
    said = mvmctl("run", "--workspace", str(work), "--", "sh", "-c", script).expect(0).stdout.split()
    assert said == ["there", "sandbox", "sandbox"]
    assert (work / "mine").read_text() == "there\nmore\n"
    assert {(work / name).stat().st_uid for name in ("mine", "new", "sub")} == {4321}


@pytest.mark.parametrize("tool", ["python3", "node", "npm", "cargo", "rustc", "go", "git", "curl", "cc"])
def test_tool_chains_are_the_callers(mvmctl: Mvmctl, tool: str, tmp_path: Path) -> None:
    """What `TOOL --version` answers outside it answers inside."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine's PATH")
    words = (tool, "version") if tool == "go" else (tool, "--version")
    outside = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    if outside.returncode:
        pytest.skip(f"{tool} doesn't run outside either")
    assert mvmctl("run", "--", *words, cwd=tmp_path).expect(0).stdout == outside.stdout


# ---- limits


def test_memory_is_bounded(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """What wants more than --memory does not get it, less it gets; the record says how that is held."""
    want = "x = bytearray({size} << 20); print('got it')"
    over = mvmctl("run", "--memory", "200MB", "--", _PYTHON, "-c", want.format(size=600))
    assert over.exit_code in {1, 137}
    assert "got it" not in over.stdout
    under = mvmctl("run", "--json", "--memory", "200MB", "--", _PYTHON, "-c", want.format(size=40)).expect(0)
    assert "got it" in under.stderr
    assert "memory:" in mvmctl("audit", "show", under.json["run"]).expect(0).stdout
    leftovers.expect_none()


def test_processes_are_bounded(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """A fork bomb of a hundred gets no further than --pids; five under a limit of fifty all run."""
    bomb = (
        "import os, signal\n"
        "made = 0\n"
        "try:\n"
        "    for _ in range({count}):\n"
        "        if os.fork() == 0: signal.pause()\n"
        "        made += 1\n"
        "except BlockingIOError: pass\n"
        "print(made)\n"
    )
    held = mvmctl("run", "--pids", "50", "--", _PYTHON, "-c", bomb.format(count=100)).expect(0).stdout
    assert 0 < int(held) < 50
    assert mvmctl("run", "--pids", "50", "--", _PYTHON, "-c", bomb.format(count=5)).stdout == "5\n"
    leftovers.expect_none()


def test_a_limit_is_held_or_refused(mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """Each limit that was taken stands in the record with what holds it; else 69, and nothing ran."""
    for name, value in (("memory", "200MB"), ("pids", "50"), ("cpus", "0.5")):
        ended = mvmctl("run", "--json", f"--{name}", value, "--", "true")
        if ended.exit_code == 69:
            assert f"limit {name}" in ended.stderr
            assert ended.json["outcome"] == "refused"
        else:
            shown = mvmctl("audit", "show", ended.expect(0).json["run"]).expect(0).stdout
            assert f"{name}:cgroup-v" in shown or f"{name}:rlimit" in shown
    leftovers.expect_none()
