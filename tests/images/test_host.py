"""What a sandbox made of this machine sees: the system, and an empty home."""

from __future__ import annotations

import os
import time

import pytest

from mvm.images.host import host_view
from mvm.images.trace import lies_in
from mvm.plan.view import Bind, Device, Link, Terminals, Tmpfs, View
from tests.images.home import RESOLVERS, Home, files


def caller(*, home: str, environ: dict[str, str] | None = None, uid: int = 1000) -> View:
    """Return the view of some caller of this machine."""
    return host_view(
        environ={"PATH": "/usr/bin:/bin"} if environ is None else environ,
        home=home,
        cwd="/",
        inside_uid=uid,
        inside_gid=uid,
        resolvers=RESOLVERS,
        workspace=None,
        volumes=(),
    )


def test_nothing_of_run_tmp_or_home_is_bound(home: Home) -> None:
    """The sockets of the host's services live there; the sandbox's are its own, empty and in memory."""
    view = home.view()
    own = {entry.target: entry for entry in view.entries if isinstance(entry, Tmpfs)}
    for place in ("/run", "/tmp", "/var/tmp", "/dev", "/dev/shm", home.at):
        assert place in own
        assert not any(isinstance(e, Bind) and lies_in(e.source, place) for e in view.entries)
    assert own["/tmp"].mode == 0o1777
    assert own[home.at].mode == 0o700
    assert own[home.at].owned
    assert Link("/var/run", "../run") in view.entries


def test_every_bind_is_read_only_and_at_its_own_place(home: Home) -> None:
    """Links of the system (a merged /usr) are links inside too."""
    view = home.view()
    for entry in view.entries:
        if isinstance(entry, Bind):
            assert not entry.writable
            assert entry.source == entry.target == os.path.realpath(entry.source)
    for place in ("/bin", "/lib"):
        if os.path.islink(place):
            assert Link(place, os.readlink(place)) in view.entries


def test_devices_are_the_harmless_ones(home: Home) -> None:
    """Six of them, own terminals, and the usual links."""
    view = home.view()
    assert {e.name for e in view.entries if isinstance(e, Device)} == {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
    }
    assert Terminals("/dev/pts") in view.entries
    assert Link("/dev/ptmx", "pts/ptmx") in view.entries


@pytest.mark.parametrize(
    "bad", ["", "relative", "/", "/usr", "/etc", "/etc/skel", "/proc/self", "/var", "/usr/gone", "//"]
)
def test_a_home_that_would_hide_the_system_is_replaced(bad: str) -> None:
    """Some accounts have / or a directory of the system as home: the workload then gets /home/NAME."""
    view = caller(home=bad)
    assert view.environ["HOME"] == "/home/sandbox"
    assert any(isinstance(e, Tmpfs) and e.target == "/home/sandbox" for e in view.entries)
    assert not any(isinstance(e, Tmpfs) and e.target in {"/", "/usr", "/etc"} for e in view.entries)


def test_a_home_below_a_directory_of_the_system_is_empty() -> None:
    """Under /usr, say: the host's is covered."""
    view = caller(home="/usr/share")
    assert any(isinstance(e, Tmpfs) and e.target == "/usr/share" and e.over for e in view.entries)


@pytest.mark.parametrize(
    ("user", "uid", "name"),
    [
        ("alice", 1000, "alice"),
        ("root", 1000, "sandbox"),
        ("a:b", 1000, "sandbox"),
        ("", 1000, "sandbox"),
        ("x", 0, "root"),
    ],
)
def test_the_workload_has_a_name_that_passwd_can_hold(user: str, uid: int, name: str) -> None:
    """The caller's, except where it is root's or breaks the format; and whoami finds it."""
    view = caller(home="/home/x", environ={"USER": user}, uid=uid)
    assert view.environ["USER"] == view.environ["LOGNAME"] == name
    assert f"{name}:x:{uid}:{uid}:".encode() in files(view)["/etc/passwd"].content


def test_a_caller_without_path_gets_the_standard_one() -> None:
    """An empty environment is enough."""
    assert "/usr/bin" in caller(home="/home/x", environ={}).path.split(":")


def test_a_view_describes_itself(home: Home) -> None:
    """One line an entry, for --dry-run."""
    view = home.view()
    lines = view.describe()
    assert len(lines) == len(view.entries)
    assert "/usr (read-only: system)" in lines
    assert f"{home.at} (empty, in memory, mode 0700)" in lines


def test_it_costs_little_on_this_machines_own_path() -> None:
    """About a millisecond; less than 4 ms of processor time at its best: it is part of every start."""
    costs = []
    for _ in range(20):
        begun = time.process_time()
        caller(home=os.path.expanduser("~"), environ=dict(os.environ))
        costs.append(time.process_time() - begun)
    assert min(costs) < 0.004
