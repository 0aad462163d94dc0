"""A path below a root leads where it leads for a process whose root that is, and never out of it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from mvm.kernel.paths import open_in_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """Make a root with links in it, and something outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "file").write_text("outside")
    inside = tmp_path / "root"
    (inside / "usr" / "lib").mkdir(parents=True)
    (inside / "file").write_text("inside")
    for name, to in {
        "lib": "usr/lib",
        "abs": "/usr/lib",
        "up": "../../../usr/lib",
        "out": str(tmp_path / "outside"),
        "out2": "../outside",
        "magic": "/proc/self/root",
        "loop": "loop",
    }.items():
        (inside / name).symlink_to(to)
    descriptor = os.open(inside, os.O_PATH)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("path", ["usr/lib", "lib", "/lib", "abs", "up", "../../usr/../lib"])
def test_links_and_dots_stay_inside(root: int, path: str) -> None:
    """Whatever way it is named by, it is the one inside; nothing that a program starts inherits it."""
    found = open_in_root(root, path.encode(), os.O_PATH | os.O_DIRECTORY)
    try:
        assert os.path.samestat(os.fstat(found), os.stat("usr/lib", dir_fd=root))
        assert not os.get_inheritable(found)
    finally:
        os.close(found)


@pytest.mark.parametrize("path", ["..", "../..", "/", "", "usr/../.."])
def test_above_the_root_is_the_root(root: int, path: str) -> None:
    """As `/..` is `/`."""
    found = open_in_root(root, path.encode(), os.O_PATH)
    assert os.path.samestat(os.fstat(found), os.fstat(root))
    os.close(found)


def test_a_file_outside_is_not_found_by_its_name(root: int) -> None:
    """`../file` is the file inside."""
    found = open_in_root(root, b"../file", os.O_RDONLY)
    assert os.read(found, 100) == b"inside"
    os.close(found)


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("out", errno.ENOENT),
        ("out2", errno.ENOENT),
        ("magic", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("file/x", errno.ENOTDIR),
    ],
)
def test_what_is_not_inside_is_not_there(root: int, path: str, refusal: int) -> None:
    """Links to what is outside lead to nothing; and the error says what was tried."""
    with pytest.raises(OSError, match="openat2") as caught:
        open_in_root(root, path.encode(), os.O_PATH)
    assert caught.value.errno == refusal


def test_a_link_of_the_kernel_is_not_followed() -> None:
    """What /proc/PID/root and its like lead to is outside of any root."""
    proc = os.open("/proc", os.O_PATH)
    try:
        with pytest.raises(OSError, match="openat2") as caught:
            open_in_root(proc, b"self/root/etc", os.O_PATH)
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(proc)
