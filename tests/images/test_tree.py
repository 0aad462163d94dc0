"""A growing view knows what is seen where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.images.image import Opener
from mvm.images.rootfs import find_user
from mvm.images.store import Store
from mvm.images.tree import Tree, follow
from mvm.plan.view import Bind, File, Link, Tmpfs

if TYPE_CHECKING:
    from pathlib import Path


def bind(source: str, target: str = "", *, writable: bool = False) -> Bind:
    """Return a bind for these tests."""
    return Bind(source, target or source, writable=writable, optional=False, reason="test")


def test_a_path_shows_what_the_nearest_mount_holds() -> None:
    """Below a bind the host, below a tmpfs in it nothing, beside it the bare root."""
    tree = Tree()
    tree.bind(bind("/opt"))
    tree.tmpfs("/opt/alice", mode=0o700)
    tree.bind(bind("/data", "/opt/alice/data"))
    assert tree.shows("/opt/tool")
    assert not tree.shows("/optical")
    assert tree.host_path("/opt/alice/x") is None
    assert tree.host_path("/opt/alice/data/x") == "/data/x"
    assert not tree.shows("/opt/alice/data/x")


def test_mount_points_below_binds_are_marked() -> None:
    """What a backend must not make is `over`; in a tmpfs it may."""
    tree = Tree()
    tree.bind(bind("/opt"))
    tree.tmpfs("/opt/alice", mode=0o700)
    tree.file("/opt/alice/made", b"")
    tree.file("/opt/covered", b"")
    tree.bind(bind("/data", "/opt/data"))
    assert [e.over for e in tree.entries if isinstance(e, Bind | Tmpfs | File)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_what_is_shown_already_is_not_bound_again() -> None:
    """A read-only bind below a read-only one changes nothing; a writable one does."""
    tree = Tree()
    tree.bind(bind("/opt"))
    tree.bind(bind("/opt/tool"))
    assert len(tree.entries) == 1
    tree.bind(bind("/opt/work", writable=True))
    assert len(tree.entries) == 2


def test_links_are_made_once_and_not_below_binds() -> None:
    """Below a bind the host's own link is seen."""
    tree = Tree()
    tree.bind(bind("/usr"))
    tree.links((("/bin", "usr/bin"), ("/usr/lib/x", "y"), ("/bin", "usr/bin")))
    assert tree.entries[1:] == [Link("/bin", "usr/bin")]
    assert tree.inside("/bin/sh") == "/usr/bin/sh"


def test_links_to_the_root_and_in_circles_end() -> None:
    """A link to `/` gives a plain path; two links to each other leave it unanswered and come back."""
    tree = Tree()
    tree.links((("/all", "/"), ("/one", "two"), ("/two", "one")))
    assert tree.inside("/all/usr") == "/usr"
    assert tree.covering(tree.inside("/one/x")) is None
    assert tree.covering("//usr/bin") is None


def test_links_without_end_lead_nowhere_on_the_host(tmp_path: Path) -> None:
    """More links than the kernel follows are not left to it: on the host the first leads elsewhere."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.write_text("guest:x:7:7::/:\n")
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").symlink_to(outside)
    (root / str(outside).strip("/")).parent.mkdir(parents=True)
    (root / str(outside).strip("/")).symlink_to("/1")
    for number in range(1, 45):
        (root / str(number)).symlink_to(f"/{number + 1}")
    assert follow(str(root), "/etc/passwd") is None
    assert find_user(str(root), "7").name == "7"
    (root / "5").unlink()
    (root / "5").write_text("inside:x:7:7::/:\n")
    assert find_user(str(root), "7").name == "inside"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    """An image whose `mvm.json` or /etc/passwd is a pipe has none, instead of keeping the reader for ever."""
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "mvm.json")
    os.mkfifo(tmp_path / "etc" / "passwd")
    assert find_user(str(tmp_path), "7").name == "7"
    opener = Opener(cwd="/", environ={}, store=Store(str(tmp_path / "cache")), owner=None, told=None)
    assert opener.open(f"dir:{tmp_path}").config.needs is None
