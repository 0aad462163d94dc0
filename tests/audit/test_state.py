"""Where state lives, whose it must be, and which run a word means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mvm.audit.log import Log
from mvm.audit.run_id import make_run_id
from mvm.audit.state import find_run, list_runs, open_private, runtime_directory, state_directory
from mvm.errors import AuditError, UsageError

HOME = {"HOME": "/home/u"}


@pytest.mark.parametrize(
    ("environ", "state", "runtime"),
    [
        (HOME, "/home/u/.local/state/mvm", "/home/u/.local/state/mvm/run"),
        ({**HOME, "XDG_STATE_HOME": "/s/"}, "/s/mvm", "/s/mvm/run"),
        ({**HOME, "XDG_STATE_HOME": "relative"}, "/home/u/.local/state/mvm", "/home/u/.local/state/mvm/run"),
        ({**HOME, "XDG_STATE_HOME": "/s", "MVM_STATE_DIR": "/m/"}, "/m", "/m/run"),
        ({**HOME, "MVM_STATE_DIR": ""}, "/home/u/.local/state/mvm", "/home/u/.local/state/mvm/run"),
        ({**HOME, "XDG_RUNTIME_DIR": "/run/user/1"}, "/home/u/.local/state/mvm", "/run/user/1/mvm"),
        ({**HOME, "XDG_RUNTIME_DIR": "/r", "MVM_RUNTIME_DIR": "/x"}, "/home/u/.local/state/mvm", "/x"),
    ],
)
def test_where_state_lives(environ: dict[str, str], state: str, runtime: str) -> None:
    """The variables are looked at in the order of SPEC section 6; relative XDG paths are ignored."""
    assert (state_directory(environ), runtime_directory(environ)) == (state, runtime)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_no_place_for_state(environ: dict[str, str]) -> None:
    """Without a home the record has no place, which is said; with MVM_STATE_DIR it has."""
    with pytest.raises(AuditError, match="no place") as caught:
        state_directory(environ)
    assert "MVM_STATE_DIR" in caught.value.hint
    assert state_directory({**environ, "MVM_STATE_DIR": "/m"}) == "/m"


@pytest.mark.parametrize(
    ("variable", "ask"), [("MVM_STATE_DIR", state_directory), ("MVM_RUNTIME_DIR", runtime_directory)]
)
def test_own_variables_must_be_absolute(variable: str, ask: object) -> None:
    """A relative path in a variable of mvm's own is refused, not ignored."""
    assert callable(ask)
    with pytest.raises(AuditError, match=f"{variable} is 'here'"):
        ask({**HOME, variable: "here"})


def test_directories_are_made_private(tmp_path: Path) -> None:
    """Missing directories are made with mode 0700, all of them, and one that is there is opened as it is."""
    before = os.umask(0)
    try:
        os.close(open_private(f"{tmp_path}/a/b/c"))
    finally:
        os.umask(before)
    made = [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"]
    assert [path.stat().st_mode & 0o7777 for path in made] == [0o700] * 3
    made[0].chmod(0o755)
    opened = open_private(str(made[0]))
    assert os.path.sameopenfile(opened, os.open(made[0], os.O_RDONLY))
    os.close(opened)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777, 0o720])
def test_directories_that_others_can_write_are_refused(tmp_path: Path, mode: int) -> None:
    """Writable by group or others is refused with the command that helps; readable is not."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(AuditError, match="can be written by others") as caught:
        open_private(str(place))
    assert caught.value.hint == f"chmod go-w {place}"
    place.chmod(mode & 0o1755)
    os.close(open_private(str(place)))


def test_directories_of_others_are_refused(tmp_path: Path) -> None:
    """Root keeps no record in an ordinary user's directory, nor a user in root's; each does in an own one."""
    place, foreign = tmp_path / "place", "/usr"
    place.mkdir(mode=0o755)
    os.close(open_private(str(place)))
    if os.geteuid() == 0:
        try:
            os.chown(place, 12345, 12345)
        except OSError:
            pytest.skip("this user namespace has no second user")
        foreign = str(place)
    with pytest.raises(AuditError, match="belongs to user"):
        open_private(foreign)


def test_links_and_files_are_refused(tmp_path: Path) -> None:
    """A symbolic link, even to a good directory, a dangling one, and a file are refused."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "dangling"):
        with pytest.raises(AuditError, match="not a directory"):
            open_private(str(tmp_path / name))
    assert not (tmp_path / "nowhere").exists()
    os.close(open_private(str(tmp_path / "real")))


def make_run(state: str, moment: int, name: str | None) -> str:
    """Begin and leave a run."""
    run = make_run_id(moment, bytes(10))
    with Log.create(state, run) as log:
        log.append("run.started", name=name)
    return run


def test_runs_are_listed_oldest_first(state: str) -> None:
    """Runs come in the order of their beginnings with their names; what is no run is left out."""
    assert list_runs(state) == ()
    ids = [make_run(state, moment, name) for moment, name in ((2, "b"), (1, "a"), (3, None))]
    (Path(state) / "runs/notes").mkdir()
    runs = list_runs(state)
    assert [(run.id, run.name) for run in runs] == [(ids[1], "a"), (ids[0], "b"), (ids[2], "")]
    assert Path(runs[0].log).exists()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"[]\n", b'{"name":1}\n', b"[" * 9999, b"\xff\n", b"x" * 200_000]
)
def test_a_damaged_log_has_no_name(state: str, content: bytes) -> None:
    """Listing never fails on a damaged log: that is for verification to say."""
    run = make_run(state, 1, "a")
    Path(list_runs(state)[0].log).write_bytes(content)
    assert [(found.id, found.name) for found in list_runs(state)] == [(run, "")]


def test_which_run_is_meant(state: str) -> None:
    """A whole id, the newest run of a name, or an unambiguous beginning finds a run, in this order."""
    early, later = make_run(state, 1, "web"), make_run(state, 2**40, "web")
    other = make_run(state, 2**40 + 1, later[:6])
    assert find_run(state, early).id == early
    assert find_run(state, early.lower()).id == early
    assert find_run(state, "web").id == later
    assert find_run(state, early[:9]).id == early
    assert find_run(state, later[:6]).id == other  # a name goes before a beginning
    with pytest.raises(UsageError, match="beginning of 2 run ids"):
        find_run(state, later[:3])
    for nothing in ("", "nobody", "..", later + "0"):
        with pytest.raises(UsageError, match="no run"):
            find_run(state, nothing)
