"""Paths are followed as the kernel follows them, and every link on the way is known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from mvm.images.trace import Tracer, lies_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Return a directory free of links in its path."""
    return os.path.realpath(tmp_path)


def test_a_chain_of_links_is_followed_and_each_is_named(root: str) -> None:
    """Absolute and relative links, one through a directory that is a link itself."""
    os.makedirs(f"{root}/store/tool/bin")
    os.symlink("store/tool", f"{root}/current")
    os.symlink(f"{root}/current/bin", f"{root}/bin")
    traced = Tracer().trace(f"{root}/bin/python3")
    assert traced.real == f"{root}/store/tool/bin/python3"
    assert traced.links == ((f"{root}/bin", f"{root}/current/bin"), (f"{root}/current", "store/tool"))


def test_dots_are_taken_after_the_link_before_them(root: str) -> None:
    """`link/..` is the parent of where the link leads, as in path_resolution(7)."""
    os.makedirs(f"{root}/a/b")
    os.symlink("a/b", f"{root}/link")
    assert Tracer().trace(f"{root}/link/../x").real == f"{root}/a/x"


def test_what_is_missing_keeps_its_name(root: str) -> None:
    """A link to nowhere tells where its file would be."""
    os.symlink("../run/resolv.conf", f"{root}/resolv.conf")
    assert Tracer().trace(f"{root}/resolv.conf").real == f"{os.path.dirname(root)}/run/resolv.conf"


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_loop_of_links_leads_nowhere(root: str, first: str) -> None:
    """Two links that lead to each other end at a place that cannot exist."""
    os.symlink("two", f"{root}/one")
    os.symlink("one", f"{root}/two")
    assert not os.path.lexists(Tracer().trace(f"{root}/{first}/x").real)


def test_links_that_multiply_are_given_up_as_the_kernel_does(root: str) -> None:
    """Twenty links, each naming the next one twice, would be a million steps."""
    os.mkdir(f"{root}/0")
    for number in range(1, 21):
        os.symlink(f"{number - 1}/../{number - 1}", f"{root}/{number}")
    tracer = Tracer()
    assert tracer.trace(f"{root}/5").real == f"{root}/0"
    assert not os.path.lexists(tracer.trace(f"{root}/20").real)
    with pytest.raises(OSError, match="symbolic links"):
        os.stat(f"{root}/20")


def test_it_agrees_with_realpath_on_this_machine() -> None:
    """Every program in /usr/bin that is a link leads where realpath(3) says."""
    tracer = Tracer()
    links = [entry.path for entry in os.scandir("/usr/bin") if entry.is_symlink()]
    assert links
    assert {link: tracer.trace(link).real for link in links} == {
        link: os.path.realpath(link) for link in links
    }


def test_lying_in_a_directory_goes_by_whole_names() -> None:
    """`/ab` lies not in `/a`; everything lies in the root."""
    assert lies_in("/a/b", "/a")
    assert lies_in("/a", "/a")
    assert not lies_in("/ab", "/a")
    assert lies_in("/ab", "/")
