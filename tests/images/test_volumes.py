"""`-v` and `--workspace`: what may be shown is shown where asked, what may not is refused with a code."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from mvm.errors import PolicyRefused
from mvm.images.volumes import mount_warnings, parse_volume, parse_workspace
from mvm.plan.view import Bind, File, Tmpfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.images.home import Home


@pytest.fixture
def work(tmp_path: Path) -> str:
    """Make a caller's directory with a directory, a file, a link, a socket and a pipe in it."""
    root = os.path.realpath(tmp_path)
    os.mkdir(f"{root}/data")
    os.symlink("data", f"{root}/alias")
    with open(f"{root}/file", "w", encoding="utf-8"):
        pass
    os.mkfifo(f"{root}/pipe")
    here = os.getcwd()
    os.chdir(root)  # a socket's name has room for 107 bytes (unix(7))
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)
    return root


@pytest.mark.parametrize(
    ("text", "source", "target", "writable"),
    [
        ("data:/data", "data", "/data", True),
        ("./data:/data:rw", "data", "/data", True),
        ("data:/srv/a/:ro", "data", "/srv/a", False),
        ("alias:/data", "data", "/data", True),
        ("file:/etc-file:ro", "file", "/etc-file", False),
    ],
)
def test_a_volume_is_read_as_docker_reads_it(
    work: str, text: str, source: str, target: str, *, writable: bool
) -> None:
    """Relative to the caller's directory, writable unless it says otherwise, links followed once."""
    assert parse_volume(text, cwd=work) == Bind(
        f"{work}/{source}", target, writable=writable, optional=False, reason="volume"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("data", "volume-malformed"),
        (":/data", "volume-malformed"),
        ("data:", "volume-malformed"),
        ("data:/a:ro:z", "volume-malformed"),
        ("data:/a\nb", "volume-malformed"),
        ("data:/a\0", "volume-malformed"),
        ("data:/a:z", "volume-mode"),
        ("data:a", "volume-destination"),
        ("data:/a/../b", "volume-destination"),
        ("data://a", "volume-destination"),
        ("data:/", "volume-destination"),
        ("data:/proc", "volume-destination"),
        ("data:/dev/x", "volume-destination"),
        ("data:/sys", "volume-destination"),
        ("gone:/data", "volume-missing"),
        ("~/data:/data", "volume-missing"),
        ("file/x:/data", "volume-missing"),
        ("socket:/var/run/docker.sock", "volume-socket"),
        ("pipe:/pipe", "volume-device"),
        ("/dev/null:/null", "volume-device"),
        ("/:/host", "volume-broad"),
        ("/proc:/host", "volume-broad"),
        ("/dev:/host", "volume-broad"),
        ("/run:/host", "volume-broad"),
    ],
)
def test_a_volume_that_cannot_be_shown_safely_is_refused(work: str, text: str, code: str) -> None:
    """Each with its own code, the flag it came from, and what to write instead."""
    with pytest.raises(PolicyRefused) as refusal:
        parse_volume(text, cwd=work)
    [finding] = refusal.value.findings
    assert (finding.code, finding.path) == (code, "--volume")
    assert finding.hint


def test_a_link_to_a_socket_is_a_socket(work: str) -> None:
    """The link is followed before the question is asked."""
    os.symlink("socket", f"{work}/innocent")
    with pytest.raises(PolicyRefused, match="volume-socket"):
        parse_volume("innocent:/x", cwd=work)


@pytest.mark.parametrize("text", ["data", "alias", "./data/"])
def test_a_workspace_is_its_real_path(work: str, text: str) -> None:
    """However it is written."""
    assert parse_workspace(text, cwd=work) == f"{work}/data"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "workspace-malformed"),
        ("gone", "workspace-missing"),
        ("file", "workspace-not-a-directory"),
        ("/", "workspace-broad"),
        ("/usr", "workspace-broad"),
        ("/etc", "workspace-broad"),
        ("/proc/self", "workspace-broad"),
        ("socket", "workspace-socket"),
    ],
)
def test_a_workspace_that_is_the_machine_is_refused(work: str, text: str, code: str) -> None:
    """The root, the system's directories, and what is no directory."""
    with pytest.raises(PolicyRefused, match=code) as refusal:
        parse_workspace(text, cwd=work)
    assert refusal.value.findings[0].path == "--workspace"


def test_bringing_the_home_is_warned_of() -> None:
    """The home and its parents; not a directory in it."""
    binds = tuple(
        Bind(source, "/x", writable=False, optional=False, reason="volume")
        for source in ("/home/alice", "/home", "/home/alice/work", "/home/al")
    )
    findings = mount_warnings(binds, home="/home/alice")
    assert [(finding.code, finding.severity) for finding in findings] == [("mount-home", "warning")] * 2


def test_a_workspace_is_writable_at_its_place_and_where_one_starts(home: Home) -> None:
    """At its own real path, and the rest of the home stays out."""
    home.put("work/a.py")
    view = home.view(workspace=f"{home.at}/work", cwd="/usr")
    assert home.shown(view) == {"work"}
    assert view.workdir == f"{home.at}/work"
    assert not view.findings


def test_without_a_workspace_one_starts_where_one_stands_if_that_is_seen(home: Home) -> None:
    """In /usr yes; in a directory of the home, which isn't there, at home."""
    assert home.view(cwd="/usr/lib").workdir == "/usr/lib"
    assert home.view(cwd=os.path.dirname(home.put("work/a.py"))).workdir == home.at


def test_volumes_come_last_and_follow_the_views_own_links(home: Home, work: str) -> None:
    """`/var/run/x` is `/run/x` inside: a backend never mounts through a link."""
    view = home.view(volumes=(parse_volume("data:/var/run/x:ro", cwd=work),))
    assert view.entries[-1] == Bind(f"{work}/data", "/run/x", writable=False, optional=False, reason="volume")


def test_a_volume_below_a_bind_needs_its_mount_point(home: Home, work: str) -> None:
    """Nothing is made on the host for it; what is there is covered."""
    os.mkdir(f"{work}/data/in")
    volumes = (parse_volume("data:/d", cwd=work), parse_volume("data:/d/in", cwd=work))
    assert [entry for entry in home.view(volumes=volumes).entries if isinstance(entry, Bind)][-1].over
    for target in ("/d/out", "/usr/share/no-such-directory", "/usr/bin/env"):
        with pytest.raises(PolicyRefused, match="volume-place"):
            home.view(volumes=(volumes[0], parse_volume(f"data:{target}", cwd=work)))


def test_a_mount_point_behind_a_link_of_the_workload_is_refused(home: Home, work: str) -> None:
    """A workspace in which `cache` became a link to elsewhere gets no volume mounted there."""
    os.symlink("/etc", f"{work}/data/cache")
    volume = parse_volume(f"data:{work}/data/cache", cwd=work)
    with pytest.raises(PolicyRefused, match="volume-place"):
        home.view(workspace=f"{work}/data", volumes=(volume,))


def test_two_volumes_for_one_place_are_refused(home: Home, work: str) -> None:
    """One of them would be hidden in silence."""
    volume = parse_volume("data:/d", cwd=work)
    with pytest.raises(PolicyRefused, match="volume-place"):
        home.view(volumes=(volume, volume))


def test_sockets_directly_in_a_workspace_are_covered(home: Home, work: str) -> None:
    """Who answers there is outside; an empty file lies over it, and a warning names it."""
    os.rename(f"{work}/socket", f"{work}/data/socket")
    view = home.view(workspace=f"{work}/data")
    assert File(f"{work}/data/socket", b"", 0, over=True, hides=True) in view.entries
    assert [finding.code for finding in view.findings] == ["socket-covered"]
    assert "socket" in view.findings[0].message


def test_a_home_mounted_by_name_is_there_with_a_warning(home: Home) -> None:
    """It was asked for: it comes, over the empty one, and is warned of."""
    view = home.view(workspace=home.at)
    mounts = [entry for entry in view.entries if isinstance(entry, Bind | Tmpfs) and entry.target == home.at]
    assert [type(entry) for entry in mounts] == [Tmpfs, Bind]
    assert [finding.code for finding in view.findings] == ["mount-home"]
