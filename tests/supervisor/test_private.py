"""What mvm keeps on the host is its user's alone: modes, links laid in its way, its socket, and secrets."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm.supervisor.frames import Inbox, send
from tests.support.children import in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl, Running

pytestmark = pytest.mark.kernel

_SECRET = "hush-" + "9173"
_PLACES = ("MVM_STATE_DIR", "MVM_RUNTIME_DIR", "MVM_CACHE_DIR")
_STRANGER = 65534


@pytest.fixture
def places(mvmctl: Mvmctl) -> dict[str, str]:
    """Where the three directories are to be: not there yet."""
    base = mvmctl.state.parent
    return {name: str(base / name.lower() / "mvm") for name in _PLACES}


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A shell whose files everybody may write."""
    before = os.umask(0)
    yield
    os.umask(before)


def _up(mvmctl: Mvmctl, *words: str, **env: str) -> Running:
    running = mvmctl.start("run", *words, "--", "sh", "-c", "echo up; exec cat", env=env)
    running.until("up\n")
    return running


@pytest.mark.usefixtures("open_umask")
def test_nothing_is_made_that_others_may_enter_read_or_write(
    mvmctl: Mvmctl, places: dict[str, str], leftovers: Leftovers
) -> None:
    """Under umask 000: state, runtime and cache, with all that comes to be in them, and afterwards."""
    mvmctl("image", "ls", env=places)
    running = _up(mvmctl, "--name", "kept", **places)
    private = [Path(place) for place in places.values() if Path(place).exists()]
    assert {str(place) for place in private} >= {places["MVM_STATE_DIR"], places["MVM_RUNTIME_DIR"]}
    for place in private:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700, place
        for found in place.rglob("*"):
            mode = found.lstat()
            assert mode.st_uid == os.geteuid()
            is_open = stat.S_IMODE(mode.st_mode) & 0o077 and not found.is_socket()
            assert not is_open or found.parent != place, f"{found} {mode.st_mode:o}"
    running.finish().expect(0)
    logs = [*Path(places["MVM_STATE_DIR"]).rglob("*.json*"), *Path(places["MVM_STATE_DIR"]).rglob("*.pem")]
    assert logs
    assert all(not stat.S_IMODE(log.stat().st_mode) & 0o022 for log in logs)
    keys = Path(places["MVM_STATE_DIR"], "keys")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    leftovers.expect_none()


@pytest.mark.parametrize("variable", _PLACES[:2])
def test_a_link_in_the_place_of_a_directory_is_not_followed(
    mvmctl: Mvmctl, places: dict[str, str], tmp_path: Path, variable: str
) -> None:
    """Nothing runs and nothing is written where it leads; without the link the same command runs."""
    aim = tmp_path / "aim"
    aim.mkdir(mode=0o700)
    place = Path(places[variable])
    place.parent.mkdir(mode=0o700)
    place.symlink_to(aim)
    assert mvmctl("run", "--", "echo", "ran", env=places).expect(74).stdout == ""
    assert list(aim.iterdir()) == []
    place.unlink()
    assert mvmctl("run", "--", "echo", "ran", env=places).expect(0).stdout == "ran\n"


@pytest.mark.root_only
@pytest.mark.parametrize("variable", _PLACES[:2])
def test_root_uses_no_directory_of_somebody_else(
    mvmctl: Mvmctl, places: dict[str, str], variable: str
) -> None:
    """Whoever owns it could swap what is in it at any moment: refused before anything is written."""
    place = Path(places[variable])
    place.mkdir(parents=True, mode=0o700)
    os.chown(place, _STRANGER, _STRANGER)
    assert mvmctl("run", "--", "echo", "ran", env=places).expect(74).stdout == ""
    assert list(place.iterdir()) == []
    os.chown(place, 0, 0)
    assert mvmctl("run", "--", "echo", "ran", env=places).expect(0).stdout == "ran\n"


@pytest.mark.parametrize("planted", ["runs", "keys"])
@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_what_was_planted_in_the_state_directory_leads_nowhere(
    mvmctl: Mvmctl, places: dict[str, str], tmp_path: Path, planted: str, kind: str
) -> None:
    """A link or a file where `runs` and `keys` are to be: refused, and what it leads to is untouched."""
    aim = tmp_path / "aim"
    aim.mkdir(mode=0o700)
    state = Path(places["MVM_STATE_DIR"])
    state.mkdir(parents=True, mode=0o700)
    if kind == "symlink":
        (state / planted).symlink_to(aim)
    else:
        (state / planted).write_text("")
    ended = mvmctl("run", "--", "echo", "ran", env=places)
    assert "Traceback" not in ended.stderr
    assert (ended.exit_code, ended.stdout) == (74, "")
    assert list(aim.iterdir()) == []


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlink", "hardlink"])
def test_a_link_to_another_file_in_the_place_of_a_key_is_not_written_through(
    mvmctl: Mvmctl, places: dict[str, str], tmp_path: Path, link: object
) -> None:
    """The file that it leads to keeps its bytes and its mode."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    keys = Path(places["MVM_STATE_DIR"], "keys")
    keys.mkdir(parents=True, mode=0o700)
    keys.parent.chmod(0o700)
    mvmctl("run", "--", "true", env=places).expect(0)
    for key in list(keys.iterdir()):
        key.unlink()
        assert callable(link)
        link(victim, key)
    ended = mvmctl("run", "--", "echo", "ran", env=places)
    assert "Traceback" not in ended.stderr
    assert ended.exit_code != 0
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644


def _heard(path: str) -> bool:
    """Whether somebody answers on the control socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        try:
            send(sock, {"do": "describe"})
            return bool(Inbox(sock).read())
        except (BrokenPipeError, ConnectionResetError):
            return False


def test_the_control_socket_is_reached_by_its_owner(mvmctl: Mvmctl) -> None:
    """It lies in a directory of mode 0700, and who comes by it is asked for their name by the kernel."""
    running = _up(mvmctl, "--name", "spoken-to")
    control = mvmctl.runtime / "spoken-to" / "control"
    assert _heard(str(control))
    assert stat.S_IMODE(control.parent.stat().st_mode) == 0o700
    running.finish().expect(0)


@pytest.mark.root_only
def test_another_user_is_not_heard_even_with_the_way_open(mvmctl: Mvmctl) -> None:
    """With every directory above it and the socket opened, another user's words meet a closed end."""
    running = _up(mvmctl, "--name", "spoken-to")
    control = mvmctl.runtime / "spoken-to" / "control"
    for above in [control, *control.parents][:-1]:
        if above.stat().st_uid == 0 and above != Path("/tmp"):
            above.chmod(stat.S_IMODE(above.stat().st_mode) | 0o111)
    control.chmod(0o777)

    def as_stranger() -> bool:
        os.setgroups([])
        os.setresgid(_STRANGER, _STRANGER, _STRANGER)
        os.setresuid(_STRANGER, _STRANGER, _STRANGER)
        return _heard(str(control))

    assert not in_child(as_stranger)
    assert _heard(str(control)), "its owner is heard as before"
    running.finish().expect(0)


def _who_shows(secret: bytes, file: str) -> list[tuple[int, str]]:
    """The processes in whose `argv` or environment, as /proc shows them, a word stands."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if secret in (entry / file).read_bytes():
                    found.append((int(entry.name), (entry / "comm").read_text().strip()))
            except OSError:
                continue  # it has gone, or doesn't show: that is what is asked
    return found


def _children(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.parametrize("detached", [False, True], ids=["run", "up -d"])
def test_a_secret_that_is_passed_by_name_is_in_no_argv(mvmctl: Mvmctl, detached: bool) -> None:
    """`-e NAME`: of the whole machine's processes none has its value among its words; the workload has it."""
    verb = ["up", "-d"] if detached else ["run"]
    words = [*verb, "--name", "knows", "-e", "TOKEN", "--", "sh", "-c", 'echo "got $TOKEN"; exec cat']
    running = mvmctl.start(*words, env={"TOKEN": _SECRET})
    if detached:
        running.finish().expect(0)
    else:
        running.until(f"got {_SECRET}\n")
    mvmctl("ls", "--json").expect(0)
    assert _who_shows(_SECRET.encode(), "cmdline") == []
    # `run` is the caller's own process and shows what its caller gave it, as the shell does; init nothing.
    may_show = set() if detached else {running.process.pid, *_children(running.process.pid)}
    inside = {pid for pid, name in _who_shows(_SECRET.encode(), "environ") if name in {"sh", "cat"}}
    assert {pid for pid, _ in _who_shows(_SECRET.encode(), "environ")} <= may_show | inside
    mvmctl("down", "knows")
    for path in (*mvmctl.state.rglob("*"), *mvmctl.runtime.rglob("*")):
        if path.is_file() and path.name != "console.log":
            assert _SECRET.encode() not in path.read_bytes(), path


_LIBRARY = """
import os, mvm
os.environ["TOKEN"] = "-".join(["hush", "9173"])  # from a vault, say: no other process has it
with mvm.Sandbox(network=mvm.network(mode="none"), env={"TOKEN": os.environ["TOKEN"]}) as sandbox:
    process = sandbox.popen(["sh", "-c", 'echo "got $TOKEN"; exec cat'])
    print(process.stdout.readline().decode(), end="", flush=True)
    input()
"""


def test_a_secret_that_a_program_passes_shows_in_no_process_outside(mvmctl: Mvmctl) -> None:
    """Neither the helper nor the keeper has it among its words or in its environment; the command does."""
    words = [sys.executable, "-c", _LIBRARY]
    with subprocess.Popen(
        words, env=mvmctl.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline().decode() == f"got {_SECRET}\n"
        for file in ("cmdline", "environ"):
            assert {name for _, name in _who_shows(_SECRET.encode(), file)} <= {"sh", "cat"}, file
        program.stdin.write(b"\n")
        program.stdin.close()
    assert program.returncode == 0
