"""What is found in a directory before a browser may see it: sockets, credentials, and what can't be known."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from mvm.images.sift import look_through
from mvm.plan.view import Bind

if TYPE_CHECKING:
    from pathlib import Path

    from mvm.policy.browser import Mount


def _look(place: Path, **limits: int) -> Mount:
    return look_through(Bind(str(place), "/seen", writable=False, optional=False, reason="volume"), **limits)


def test_a_harmless_directory_has_nothing_to_tell(tmp_path: Path) -> None:
    """Files, directories, pipes and links are no finding."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "page.html").write_text("x")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    found = _look(tmp_path)
    assert (found.sockets, found.credentials, found.unread) == ((), (), None)
    assert (found.source, found.path, found.writable) == (str(tmp_path), "--volume", False)


def test_credentials_and_sockets_are_found_however_deep(tmp_path: Path) -> None:
    """Both are named by their paths; a file that is shown by itself counts too."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "Login Data").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        at = os.open(deep, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{at}/control")
        os.close(at)
        found = _look(tmp_path)
    assert found.credentials == (str(deep / "Login Data"),)
    assert found.sockets == (str(deep / "control"),)
    assert _look(deep / "Login Data").credentials == (str(deep / "Login Data"),)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What it leads to is not seen inside either; a loop of links ends."""
    outside, shown = tmp_path / "outside", tmp_path / "shown"
    outside.mkdir()
    shown.mkdir()
    (outside / "Cookies").write_text("x")
    (shown / "out").symlink_to(outside)
    (shown / "round").symlink_to(shown)
    assert _look(shown).credentials == ()


def test_what_is_too_large_is_not_known(tmp_path: Path) -> None:
    """One entry more than the limit, and it says so; at the limit it does not."""
    for number in range(4):
        (tmp_path / str(number)).write_text("x")
    assert _look(tmp_path, most=5).unread is None
    assert _look(tmp_path, most=4).unread == "it holds more than 4 files"
