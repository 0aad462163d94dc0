"""Running a tool and reading a file, both within bounds."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from mvm.registries.ask import LIMIT, NoAnswer, ask, find_tool, home, read_file
from mvm.terms import Seconds

SHELL = "/bin/sh"
ENVIRON = {"PATH": os.defpath}


def test_output_and_bounds() -> None:
    """Output up to the limit is given whole; one byte more is refused."""
    program = "import sys; sys.stdout.write('x' * int(sys.argv[1]))"
    assert len(ask([sys.executable, "-c", program, str(LIMIT)], ENVIRON)) == LIMIT
    with pytest.raises(NoAnswer, match="wrote more than"):
        ask([sys.executable, "-c", program, str(LIMIT + 1)], ENVIRON)


def test_failure_and_absence() -> None:
    """A status other than 0 and a missing program are no answer; status 0 is."""
    assert ask([SHELL, "-c", "echo yes"], ENVIRON) == "yes\n"
    with pytest.raises(NoAnswer, match="status 3"):
        ask([SHELL, "-c", "echo yes; exit 3"], ENVIRON)
    with pytest.raises(NoAnswer, match="could not be started"):
        ask(["/nonexistent/tool"], ENVIRON)


@pytest.mark.parametrize("script", ["sleep 60 & echo $! > {}; wait", "exec >&-; echo $$ > {}; exec sleep 60"])
def test_slow_tool_is_ended_with_its_children(tmp_path: Path, script: str) -> None:
    """A tool that doesn't answer, or closes its output and stays, is ended in time, children included."""
    pid_file = tmp_path / "pid"
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match="did not answer within"):
        ask([SHELL, "-c", script.format(pid_file)], ENVIRON, patience=Seconds(0.5))
    assert time.monotonic() - begun < 5
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_tool_runs_at_the_root_without_input() -> None:
    """The caller's directory and input are not the tool's."""
    assert ask([SHELL, "-c", "pwd; cat; echo $LC_ALL"], ENVIRON) == "/\nC\n"


def test_relative_path_entries_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the working directory isn't found by `.` or an empty entry, by its full path it is."""
    program = tmp_path / "pip"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert find_tool("pip", {"PATH": f".:{os.pathsep}"}) is None
    assert find_tool("pip", {"PATH": f"{tmp_path}"}) == program
    program.chmod(0o644)
    assert find_tool("pip", {"PATH": f"{tmp_path}"}) is None


def test_read_file_outcomes(tmp_path: Path) -> None:
    """Text, None for nothing there, and a refusal for what is no file of reasonable size."""
    path = tmp_path / "file"
    assert read_file(path) is None
    assert read_file(path / "below") is None
    path.write_bytes(b"caf\xff")
    assert read_file(path) == "caf\ufffd"
    assert read_file(path, limit=4) == "caf\ufffd"
    with pytest.raises(NoAnswer, match="larger"):
        read_file(path, limit=3)
    with pytest.raises(NoAnswer):
        read_file(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NoAnswer, match="no regular file"):  # at once, not at a writer's pleasure
        read_file(tmp_path / "fifo")
    assert read_file(Path(os.devnull)) is None
    with pytest.raises(NoAnswer):
        read_file(tmp_path / "a\0b")


def test_home_is_absolute() -> None:
    """HOME counts where it is absolute, else the user database's answer does."""
    assert str(home({"HOME": "/made/up"})) == "/made/up"
    assert home({"HOME": "made/up"}).is_absolute()
    assert home({}).is_absolute()
