"""Sockets that lie deep in a directory are found by the kernel's list, whatever name they were bound to."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, chdir
from typing import TYPE_CHECKING

import pytest

from mvm.errors import PolicyRefused
from mvm.images import asked, bound
from mvm.images.bound import BoundSockets
from mvm.images.volumes import parse_volume
from mvm.plan.view import File
from tests.support import namespaces
from tests.support.children import in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.images.home import Home


@pytest.fixture
def listening() -> Iterator[Callable[[str], str]]:
    """Make a listening socket under a name, a relative one as it is, and give where it is."""
    with ExitStack() as stack:

        def make(name: str) -> str:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.bind(name)
            sock.listen()
            return os.path.abspath(name)

        yield make


@pytest.fixture
def tree(tmp_path: Path) -> str:
    """Make a directory with one three levels below, and give its real path."""
    root = os.path.realpath(tmp_path)
    os.makedirs(f"{root}/a/b/c")
    os.mkdir(f"{root}/other")
    return root


def test_a_socket_at_any_depth_is_found(tree: str, listening: Callable[[str], str]) -> None:
    """Below what is asked for; one beside it is not, though its path begins alike."""
    os.mkdir(f"{tree}/ab")
    deep, shallow, _beside = [listening(f"{tree}/{name}") for name in ("a/b/c/s", "a/s t", "ab/s")]
    assert BoundSockets([f"{tree}/a"]).below(f"{tree}/a") == [deep, shallow]
    assert BoundSockets([f"{tree}/other"]).below(f"{tree}/other") == []


def test_connections_of_a_socket_count_once(tree: str, listening: Callable[[str], str]) -> None:
    """Each that is accepted stands in the list under the same name."""
    name = listening(f"{tree}/a/b/s")
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(name)
        assert BoundSockets([tree]).below(tree) == [name]


def test_a_name_through_a_link_is_found_where_it_leads(tree: str, listening: Callable[[str], str]) -> None:
    """The link lies outside of the volume; one that leads out of it brings nothing."""
    os.symlink(f"{tree}/a/b", f"{tree}/other/in")
    os.symlink(f"{tree}/other", f"{tree}/a/out")
    listening(f"{tree}/other/in/c/s")
    listening(f"{tree}/a/out/s")
    assert BoundSockets([f"{tree}/a"]).below(f"{tree}/a") == [f"{tree}/a/b/c/s"]


@pytest.mark.parametrize("name", ["s", "./c/s", "../b/c/s"])
def test_a_relative_name_is_found_from_where_its_process_stands(
    tree: str, listening: Callable[[str], str], name: str
) -> None:
    """As long as it stands there."""
    with chdir(f"{tree}/a/b"):
        place = listening(name)
        assert BoundSockets([f"{tree}/a"]).below(f"{tree}/a") == [place]


def test_what_is_no_socket_any_more_is_not_found(tree: str, listening: Callable[[str], str]) -> None:
    """Removed, or another file in its place; an abstract one of that name is none either."""
    for name in ("gone", "file"):
        os.unlink(listening(f"{tree}/a/{name}"))
    with open(f"{tree}/a/file", "w", encoding="utf-8"), socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{tree}/a/abstract")
        kept = listening(f"{tree}/a/kept")
        assert BoundSockets([tree]).below(tree) == [kept]


@pytest.mark.kernel
def test_a_mount_is_looked_through_from_both_sides(tree: str, listening: Callable[[str], str]) -> None:
    """A directory, or a single socket, that is mounted below; and the other way round, a name in a mount."""
    directory, single = listening(f"{tree}/other/s"), f"{tree}/a/single space"
    with open(single, "w", encoding="utf-8"):
        pass

    def look() -> tuple[list[str], list[str]]:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount(f"{tree}/other", f"{tree}/a/b/c", None, namespaces.MS_BIND)
        namespaces.mount(directory, single, None, namespaces.MS_BIND)
        known = BoundSockets([f"{tree}/a"])
        return known.below(f"{tree}/a"), known.below(f"{tree}/a/b/c")

    assert in_user_namespace(look) == ([f"{tree}/a/b/c/s", single], [f"{tree}/a/b/c/s"])


def test_more_directories_than_are_looked_at_are_told(tree: str, listening: Callable[[str], str]) -> None:
    """Those whose names lie where is asked come first, and what is left out is no secret."""
    for name in ("other", "a/b", "a/b/c"):
        listening(f"{tree}/{name}/s")
    few, many = BoundSockets([f"{tree}/a"], most=2), BoundSockets([f"{tree}/a"])
    assert few.below(f"{tree}/a") == many.below(f"{tree}/a") == [f"{tree}/a/b/c/s", f"{tree}/a/b/s"]
    assert (few.whole, many.whole) == (False, True)


def test_a_view_covers_them_and_names_them(home: Home, tree: str, listening: Callable[[str], str]) -> None:
    """Where the volume is seen inside, each once, in one warning; mvm's own go with their directory."""
    for name in ("a/s", "a/b/c/s", "a/b/s"):
        listening(f"{tree}/{name}")
    view = home.view(volumes=(parse_volume("a:/data:ro", cwd=tree),), hidden=[f"{tree}/a/b/c"])
    covers = [entry.target for entry in view.entries if isinstance(entry, File) and entry.hides]
    assert covers == ["/data/b/s", "/data/s"]
    assert [finding.code for finding in view.findings] == ["socket-covered"]
    assert view.findings[0].message.endswith("covered: 'b/s', 's'")


def test_too_many_to_cover_are_refused(
    home: Home, tree: str, listening: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there may be are covered, and named in part; one more, and another volume is asked for."""
    monkeypatch.setattr(asked, "MOST_SOCKETS", 10)
    volume = parse_volume("a:/data", cwd=tree)
    for number in range(10):
        listening(f"{tree}/a/b/{number}")
    [finding] = home.view(volumes=(volume,)).findings
    assert finding.message.endswith("'b/6', 'b/7' and 2 more")
    listening(f"{tree}/a/b/c/one")
    with pytest.raises(PolicyRefused, match="too many to cover"):
        home.view(volumes=(volume,))


def test_the_list_is_read_for_a_volume_only(home: Home, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no list a start with a volume says so; one without has not looked."""
    monkeypatch.setattr(bound, "_LIST", "/proc/none")
    findings = home.view(volumes=(parse_volume("a:/data", cwd=tree),)).findings
    assert [(finding.code, finding.severity) for finding in findings] == [("sockets-unknown", "warning")]
    assert home.view().findings == ()
