"""Archives are unpacked as what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from mvm.images.archive import Bounds, Spent
from mvm.images.removal import remove
from tests.images.archives import (
    Ground,
    archive,
    directory,
    entry,
    facts,
    hard_link,
    refused,
    symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
_SPARSE = [
    "--format=gnu",
    *(f"--format=posix --sparse-version={version}" for version in ("0.0", "0.1", "1.0")),
]


def _tree(top: Path, long: int) -> None:
    """Make a little of everything that images have, with times of their own."""
    for name, mode in {"bin": 0o755, "closed": 0o500, "tmp": 0o1777, "bin/very": 0o700}.items():
        (top / name).mkdir(parents=True)
        (top / name).chmod(mode | 0o700)
    (top / "bin" / "tool").write_bytes(os.urandom(100_000))
    (top / "bin" / "tool").chmod(0o755)
    (top / "bin" / "empty").touch(0o600)
    (top / "closed" / ("long" * 20)).mkdir()
    (top / "closed" / ("long" * 20) / ("ä" * long)).write_text("long")
    (top / "bin" / "link").symlink_to("tool")
    (top / "abs").symlink_to("/bin/tool")
    os.link(top / "bin" / "tool", top / "bin" / "twin")
    (top / "closed").chmod(0o500)
    for place in (top / "bin" / "tool", top / "bin" / "very", top / "closed", top / "tmp"):
        os.utime(place, (1_500_000_000, 1_500_000_000))


@pytest.mark.parametrize("shape", _FORMATS)
@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gzip", "bzip2", "xz"]
)
def test_a_tree_comes_back(
    ground: Ground, tmp_path: Path, shape: str, compress: Callable[[bytes], bytes]
) -> None:
    """Content, modes, times, links of both kinds and long names are what they were, in every format."""
    source = tmp_path / "source"
    _tree(source, 4 if shape == "ustar" else 110)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=_FORMATS[shape]) as tar:
        tar.add(source, ".")
    spent = ground.unpack(compress(made.getvalue()))
    before, after = facts(source), facts(ground.root)
    assert before.keys() == after.keys()
    for name in before.keys() - {"."}:
        assert after[name].mtime // 10**9 == before[name].mtime // 10**9 or name.endswith("/."), name
        assert after[name]._replace(mtime=0) == before[name]._replace(mtime=0), name
    assert spent.entries == 12
    (source / "closed").chmod(0o700)


def test_parts_compressed_one_by_one_are_one(ground: Ground) -> None:
    """A file of several gzip members, with zeros behind them, is unpacked whole."""
    whole = archive(entry("a", b"1" * 3000), entry("b", b"2"))
    ground.unpack(gzip.compress(whole[:2000]) + gzip.compress(whole[2000:]) + bytes(100))
    assert ground.tree() == ["a", "b"]


@pytest.mark.skipif(not shutil.which("tar"), reason="this machine has no GNU tar")
@pytest.mark.parametrize("words", _SPARSE)
def test_holes_stay_holes(ground: Ground, tmp_path: Path, words: str) -> None:
    """A file with holes has its size and content, uses no more room, and counts with its holes."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        for place in range(1, 30):
            file.seek(place << 20)
            file.write(b"data" * 1024)
        file.truncate(64 << 20)
    command = ["tar", "-C", str(tmp_path), *words.split(), "--sparse", "-cf", "-", "source"]
    made = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert len(made) < 1 << 20
    spent = ground.unpack(made)
    assert (ground.root / "source").read_bytes() == source.read_bytes()
    assert (ground.root / "source").stat().st_blocks <= source.stat().st_blocks + 64
    assert spent.bytes > 64 << 20
    assert refused(lambda: ground.unpack(made, bounds=Bounds(bytes=32 << 20))) == "archive-bytes"


def test_names_are_relative_to_the_root(ground: Ground) -> None:
    """A leading slash or `./` is the root; the root's own entry sets its mode; parents are made."""
    ground.unpack(archive(directory("./", 0o555), entry("/etc/passwd", b"x"), entry("./a//b/./c")))
    assert ground.tree() == ["a/", "a/b/", "a/b/c", "etc/", "etc/passwd"]
    assert ground.root.stat().st_mode & 0o7777 == 0o755
    assert (ground.root / "a").stat().st_mode & 0o7777 == 0o755


def test_no_program_gets_rights_by_its_file(ground: Ground) -> None:
    """The set-user-id and set-group-id bits are dropped, on directories too; the sticky bit stays."""
    ground.unpack(archive(entry("su", mode=0o6755), directory("tmp", 0o7777)))
    assert (ground.root / "su").stat().st_mode & 0o7777 == 0o755
    assert (ground.root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_links_to_directories_are_followed_inside(ground: Ground) -> None:
    """What is behind a link to a directory of the image goes there, absolute and upward ones too."""
    ground.unpack(
        archive(
            directory("of-the-image/lib"),  # a name that no host has: a broken guard must do no harm
            symlink("lib", "of-the-image/lib"),
            symlink("lib64", "/of-the-image/lib"),
            symlink("far", "../../../../../of-the-image/lib"),
            entry("lib/a"),
            entry("lib64/b"),
            entry("far/c"),
            hard_link("lib/d", "lib64/a"),
        )
    )
    assert [path.name for path in sorted((ground.root / "of-the-image" / "lib").iterdir())] == [
        "a",
        "b",
        "c",
        "d",
    ]
    assert (ground.root / "lib").is_symlink()


def test_what_comes_later_takes_the_place(ground: Ground) -> None:
    """A file replaces a directory, a directory a link, and a file a link without writing through it."""
    ground.unpack(
        archive(
            entry("kept", b"kept"),
            directory("d/e"),
            entry("d/e/f"),
            symlink("l", "kept"),
            symlink("to", "d"),
            entry("d", b"file"),
            entry("l", b"file"),
            directory("to"),
            entry("to/x"),
        )
    )
    assert ground.tree() == ["d", "kept", "l", "to/", "to/x"]
    assert (ground.root / "kept").read_bytes() == b"kept"


def test_a_file_in_the_place_of_a_link_is_not_written_through_it(ground: Ground) -> None:
    """What the link led to, outside or inside, stays as it was; in its own place the file is there."""
    ground.unpack(
        archive(
            entry("kept", b"kept"),
            symlink("in", "kept"),
            symlink("out", "../../outside/secret"),
            symlink("new", "../../outside/new"),
            *[entry(name, b"file") for name in ("in", "out", "new")],
        )
    )
    assert ground.tree() == ["in", "kept", "new", "out"]
    assert (ground.root / "kept").read_bytes() == b"kept"
    assert (ground.root / "out").read_bytes() == b"file"


def test_a_link_to_itself_stays(ground: Ground) -> None:
    """A hard link to its own name, or to another name of the same file, changes nothing."""
    ground.unpack(archive(entry("a", b"1"), hard_link("a", "a"), hard_link("b", "a"), hard_link("b", "./a")))
    assert (ground.root / "b").read_bytes() == b"1"
    assert (ground.root / "a").stat().st_nlink == 2


def test_a_hard_link_to_a_link_is_the_link(ground: Ground) -> None:
    """What a symbolic link leads to, inside or outside, gets no further name by a hard link to the link."""
    ground.unpack(archive(symlink("s", "../../outside/secret"), hard_link("h", "s")))
    assert ground.tree() == ["h -> ../../outside/secret", "s -> ../../outside/secret"]
    assert (ground.root / "s").lstat().st_ino == (ground.root / "h").lstat().st_ino


def test_devices_of_an_image_are_left_out(ground: Ground) -> None:
    """Devices in /dev, and fifos anywhere, are not made, and that is told."""
    spent = ground.unpack(
        archive(entry("dev/null", kind=b"3", device=(1, 3)), entry("run/initctl", kind=b"6"), entry("a"))
    )
    assert ground.tree() == ["a"]
    assert spent.skipped == ["'dev/null'", "'run/initctl'"]


@pytest.mark.root_only
def test_all_can_be_given_to_somebody(ground: Ground) -> None:
    """Files, links, directories, those made on the way, and the root belong to whom they are given."""
    ground.unpack(
        archive(entry("a/b"), symlink("c", "d"), directory("e"), hard_link("f", "a/b")), owner=(7, 8)
    )
    places = [ground.root, *ground.root.rglob("*")]
    assert len(places) == 6
    assert {(place.lstat().st_uid, place.lstat().st_gid) for place in places} == {(7, 8)}


def test_a_layer_hides_what_is_below_it(ground: Ground) -> None:
    """`.wh.NAME` and a 0/0 device hide a name, file or tree; what the same layer has of that name stays."""
    below = archive(
        entry("a"),
        entry("b"),
        directory("d/e"),
        entry("d/e/f"),
        entry("d/g"),
        symlink("l", "d"),
        entry("k/one"),
    )
    above = archive(
        entry(".wh.a"),
        entry("b", b"new"),
        entry(".wh.b"),
        entry("d/.wh.e"),
        entry("l", kind=b"3"),
        entry("k/two"),
        entry(".wh.k"),
        entry(".wh.never"),
        entry("no/where/.wh.x"),
    )
    ground.unpack(below, above, whiteouts=True)
    assert ground.tree() == ["b", "d/", "d/g", "k/", "k/two"]
    assert (ground.root / "b").read_bytes() == b"new"


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_an_opaque_directory_hides_all_below_it(ground: Ground, first: bool) -> None:
    """Wherever the mark stands in its layer, what the layer has stays, and what is below goes."""
    below = archive(entry("d/a"), entry("d/b/old"), entry("d/b/both", b"old"), directory("d/c/c"), entry("e"))
    mark = entry("d/.wh..wh..opq")
    rest = [directory("d"), entry("d/new"), entry("d/b/both", b"new"), entry("d/b/n")]
    ground.unpack(below, archive(mark, *rest) if first else archive(*rest, mark), whiteouts=True)
    assert ground.tree() == ["d/", "d/b/", "d/b/both", "d/b/n", "d/new", "e"]
    assert (ground.root / "d/b/both").read_bytes() == b"new"


def test_marks_of_layers_are_names_elsewhere(ground: Ground) -> None:
    """In a tar that is no layer `.wh.` is a name like any other; in the first layer it hides nothing."""
    ground.unpack(archive(entry("a"), entry(".wh.a")))
    assert ground.tree() == [".wh.a", "a"]


def test_a_layer_goes_into_directories_that_were_closed(ground: Ground) -> None:
    """A directory that its owner may not write takes files of the same archive, and is closed at the end."""
    ground.unpack(archive(directory("shut", 0o555), directory("shut/in", 0o0), entry("shut/in/a")))
    assert (ground.root / "shut").stat().st_mode & 0o7777 == 0o555
    assert (ground.root / "shut" / "in").stat().st_mode & 0o7777 == 0
    (ground.root / "shut").chmod(0o755)
    (ground.root / "shut" / "in").chmod(0o755)
    assert ground.tree() == ["shut/", "shut/in/", "shut/in/a"]


def test_progress_grows_to_the_size_of_the_file(ground: Ground, tmp_path: Path) -> None:
    """It is told in bytes of the file as it lies there, all of them in the end."""
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(archive(entry("a", os.urandom(5 << 20)))))
    spent = Spent()
    with path.open("rb") as file:
        ground.unpack(file, spent=spent)
    assert spent.read == path.stat().st_size


def test_a_tree_of_any_depth_is_removed(tmp_path: Path) -> None:
    """Deeper than a path may be long, closed to its owner, with links out of it, which are not followed."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.symlink(tmp_path / "kept", "link", dir_fd=here)
    os.fchmod(here, 0)
    os.close(here)
    top = os.open(tmp_path, os.O_RDONLY)
    try:
        assert remove(top, b"deep")
        assert not remove(top, b"deep")
    finally:
        os.close(top)
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]
