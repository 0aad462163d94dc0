"""A tree in a tar: named by the digest of its file, which is checked over what was unpacked."""

from __future__ import annotations

import gzip
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from mvm.errors import PolicyRefused, UsageError
from mvm.images.archive import Bounds
from mvm.images.config import ImageConfig, config_from_document
from mvm.images.tarball import Tarball, open_tar
from tests.images.archives import Ground, archive, directory, entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DOCUMENT = (
    b'{"entrypoint": ["/bin/tool"], "env": {"A": "1"}, "workdir": "/srv", "user": "7", "ports": [80],'
    b' "cmd": ["x"], "network": {"allow": []}}'
)
_CONFIG = ImageConfig(("/bin/tool",), ("x",), ("A=1",), "/srv", "7", ("80",), {"network": {"allow": []}})


def _unpack(tar: Tarball, ground: Ground) -> list[int]:
    told: list[int] = []
    root = os.open(ground.root, os.O_RDONLY)
    try:
        ground.confined(lambda: tar.unpack(root, owner=None, bounds=Bounds(), progress=told.append))
    finally:
        os.close(root)
    return told


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_tar_is_a_tree(ground: Ground, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    """It is named by its file's digest, and says what it runs in its first entries."""
    path = tmp_path / "t.tar"
    path.write_bytes(
        compress(archive(directory("./"), entry("./mvm.json", _DOCUMENT), entry("a", bytes(9999))))
    )
    tar = open_tar(str(path))
    assert tar.config == _CONFIG
    assert tar.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    told = _unpack(tar, ground)
    assert ground.tree() == ["a", "mvm.json"]
    assert told == sorted(told)
    assert told[-1] == tar.work == tar.size
    tar.close()


def test_a_tar_need_not_say_anything(tmp_path: Path) -> None:
    """Without a document, with one too late or elsewhere, and in a damaged tar, there is no config."""
    path = tmp_path / "t.tar"
    late = [entry(f"{number}") for number in range(20)]
    for data in (
        archive(entry("a")),
        archive(*late, entry("mvm.json", _DOCUMENT)),
        archive(entry("d/mvm.json", _DOCUMENT)),
        b"nothing",
    ):
        path.write_bytes(data)
        tar = open_tar(str(path))
        assert tar.config == ImageConfig()
        tar.close()


@pytest.mark.parametrize(
    "document", [b"", b"[]", b'{"entry": []}', b'{"entrypoint": "x"}', b'{"ports": ["x"]}']
)
def test_a_malformed_document_is_refused(document: bytes) -> None:
    """Nothing is guessed, and no key is passed over."""
    with pytest.raises(PolicyRefused, match=r"\[image-config\]"):
        config_from_document(document, "mvm.json")
    with pytest.raises(PolicyRefused, match=r"\[image-needs\]"):
        config_from_document(b'{"network": "all"}', "mvm.json")


def test_a_tar_that_changed_is_refused(ground: Ground, tmp_path: Path) -> None:
    """What is unpacked is what the digest was taken of, or the unpacking has failed."""
    path = tmp_path / "t.tar"
    path.write_bytes(archive(entry("a", b"1")))
    tar = open_tar(str(path))
    assert tar.digest
    path.write_bytes(archive(entry("a", b"2")))
    with pytest.raises(PolicyRefused, match=r"\[archive-digest\]"):
        _unpack(tar, ground)
    tar.close()


def test_what_is_no_file_is_a_mistake(tmp_path: Path) -> None:
    """A missing file, a directory and a fifo, for which nobody waits."""
    os.mkfifo(tmp_path / "fifo")
    for name in ("nowhere", ".", "fifo"):
        with pytest.raises(UsageError):
            open_tar(str(tmp_path / name))


def test_what_is_no_archive_is_told_by_its_name(ground: Ground, tmp_path: Path) -> None:
    """A file of text: the message names it by its path."""
    path = tmp_path / "notes.txt"
    path.write_text("x" * 600)
    tar = open_tar(str(path))
    with pytest.raises(UsageError, match=r"notes\.txt is no archive"):
        _unpack(tar, ground)
    tar.close()
