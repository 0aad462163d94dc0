"""The cache of images: whole or not at all, shared, and never pulled away from under a sandbox."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mvm.errors import MvmError, PolicyRefused, UsageError
from mvm.images.store import Store, cache_directory, identity_of, remove_tree
from tests.support.source import ROOT

_FACTS: dict[str, Any] = {"digest": "sha256:00", "words": "tar:x", "config": {}, "bytes": 1, "entries": 1}


def _fill(root: int) -> dict[str, Any]:
    os.mkdir("etc", 0o755, dir_fd=root)
    file = os.open("etc/word", os.O_WRONLY | os.O_CREAT, 0o400, dir_fd=root)
    os.write(file, b"here")
    os.close(file)
    os.chmod("etc", 0o500, dir_fd=root)
    return _FACTS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A cache that is not there yet."""
    return Store(f"{tmp_path}/cache")


def test_what_was_made_is_found_again(store: Store) -> None:
    """An image is made once; the second time it is there, with its tree and its facts."""
    store.make("a", _fill).close()
    held = store.make("a", lambda _root: pytest.fail("made twice"))
    assert Path(held.stored.root, "etc", "word").read_text() == "here"
    assert held.stored.facts == _FACTS
    assert [one.key for one in store.images()] == ["a"]
    held.close()
    assert store.hold("b") is None


def test_a_failure_leaves_nothing(store: Store) -> None:
    """What can't be filled is not there, and nothing of it is left in the making."""

    def fail(root: int) -> dict[str, Any]:
        _fill(root)
        raise UsageError("no")

    with pytest.raises(MvmError):
        store.make("a", fail)
    assert store.images() == []
    assert os.listdir(f"{store.directory}/making") == ["lock"]


def test_two_writers_make_one(store: Store) -> None:
    """Of two that want an image at once one makes it, and the other waits and uses it."""
    began, go, made = threading.Event(), threading.Event(), []

    def slow(root: int) -> dict[str, Any]:
        made.append(1)
        began.set()
        assert go.wait(10)
        return _fill(root)

    first = threading.Thread(target=lambda: store.make("a", slow).close())
    first.start()
    assert began.wait(10)
    second = threading.Thread(target=lambda: Store(store.directory).make("a", slow).close())
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go.set()
    first.join(10)
    second.join(10)
    assert len(made) == 1


def test_what_is_used_stays(store: Store) -> None:
    """An image that a sandbox holds is not removed; let go of, it is, whatever modes its files have."""
    held = store.make("a", _fill)
    again = store.hold("a")
    assert again is not None
    assert not store.remove("a")
    held.close()
    assert not store.remove("a")
    again.close()
    assert store.remove("a")
    assert store.images() == []
    with pytest.raises(UsageError, match="no image a"):
        store.remove("a")


_MAKER = """
import os, sys
from mvm.images.store import Store
def fill(root):
    for number in range(200):
        os.mkdir(f"d{number}", dir_fd=root)
    print("making", flush=True)
    sys.stdin.read()
    return {"digest": "", "words": "", "config": {}, "bytes": 0, "entries": 0}
Store(sys.argv[1]).make("a", fill)
print("made", flush=True)
sys.stdin.read()
"""


def _maker(store: Store) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _MAKER, store.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def test_killed_in_the_making(store: Store) -> None:
    """A maker that is killed leaves no image, and what it had begun is gone after the next one."""
    maker = _maker(store)
    assert maker.stdout is not None
    with maker:
        assert maker.stdout.readline() == b"making\n"
        maker.send_signal(signal.SIGKILL)
    assert len(os.listdir(f"{store.directory}/making")) == 2
    store.make("a", _fill).close()
    assert os.listdir(f"{store.directory}/making") == ["lock"]


def test_a_sweep_leaves_what_is_being_made(store: Store) -> None:
    """While somebody makes an image, a sweep takes nothing from under them."""
    maker = _maker(store)
    assert maker.stdout is not None
    assert maker.stdin is not None
    with maker:
        assert maker.stdout.readline() == b"making\n"
        store.sweep()
        maker.stdin.close()
        assert select.select([maker.stdout], [], [], 10)[0]
        assert maker.stdout.readline() == b"made\n"
    assert [one.key for one in store.images()] == ["a"]


def test_a_digest_is_remembered_as_long_as_the_file_is_the_same(store: Store, tmp_path: Path) -> None:
    """A file's digest is recalled; once anything about the file has changed, it is not."""
    file = tmp_path / "image.tar"
    file.write_text("one")
    store.remember(str(file), "sha256:1", identity_of(str(file)))
    assert store.recall(str(file)) == "sha256:1"
    file.write_text("two")
    assert store.recall(str(file)) is None
    assert store.recall(f"{tmp_path}/absent") is None


def test_a_cache_that_others_can_write_is_refused(store: Store) -> None:
    """A cache in which somebody else could put a tree is not used."""
    os.mkdir(store.directory)
    os.chmod(store.directory, 0o777)  # noqa: S103  what is tried
    with pytest.raises(UsageError, match="only you can write"):
        store.make("a", _fill)
    os.chmod(store.directory, 0o700)
    store.make("a", _fill).close()


def test_a_link_in_the_caches_place_is_refused(store: Store, tmp_path: Path) -> None:
    """A cache that is a link to somewhere else is not used."""
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", store.directory)
    with pytest.raises(UsageError):
        store.make("a", _fill)
    assert os.listdir(tmp_path / "elsewhere") in ([], ["locks"])


def test_removing_follows_no_link(tmp_path: Path) -> None:
    """A tree with a link to a directory outside is removed, and the directory stays as it was."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(outside)
    (tree / "closed").mkdir()
    (tree / "closed" / "file").write_text("")
    (tree / "closed").chmod(0)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"MVM_CACHE_DIR": "/c/", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x/", "HOME": "/h"}, "/x/mvm"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/mvm"),
    ],
)
def test_where_the_cache_is(environ: dict[str, str], directory: str) -> None:
    """The variable, else the XDG base directory, else the home directory."""
    assert cache_directory(environ) == directory


@pytest.mark.parametrize("environ", [{}, {"MVM_CACHE_DIR": "relative"}, {"HOME": "relative"}])
def test_no_place_for_a_cache(environ: dict[str, str]) -> None:
    """Where no variable names an absolute place, it is told which to set."""
    with pytest.raises(UsageError) as caught:
        cache_directory(environ)
    assert "MVM_CACHE_DIR" in caught.value.hint


def test_this_machines_root_is_no_image() -> None:
    """`dir:/` would show all that is private here, and is refused; a tree of one's own is taken."""
    from mvm.images.rootfs import require_tree

    with pytest.raises(PolicyRefused, match="image-is-host"):
        require_tree("/", "dir:/")
    with pytest.raises(UsageError):
        require_tree("/nonexistent", "dir:/nonexistent")
    assert require_tree("/usr", "dir:/usr") == "/usr"
