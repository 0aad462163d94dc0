"""Sandboxes made of archives and OCI images, as a user types them, and the cache of what was unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support.rootfs import make_oci, make_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_ASKS = {"mode": "bridge", "dns": "system", "allow": [{"host": "asked.example.com", "port": 443}]}
_CONFIG = {"entrypoint": ["/bin/sh", "-c"], "cmd": ["echo entry $WORD"], "env": {"WORD": "of the image"}}
_LARGE = 256 << 20
"""Takes much longer to unpack than to be killed."""


@pytest.fixture
def cached(mvmctl: Mvmctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mvmctl:
    """`mvmctl` with a cache of this test alone."""
    monkeypatch.setenv("MVM_CACHE_DIR", str(tmp_path / "cache"))
    return mvmctl


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """The words for an archive of a root tree that says what it runs."""
    root = make_root(tmp_path / "archived", config=_CONFIG)
    with tarfile.open(tmp_path / "root.tar.gz", "w:gz") as made:
        made.add(root, arcname=".")
    return f"tar:{tmp_path}/root.tar.gz"


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """The words for an OCI image that says what it runs, as whom, where, and what it would reach."""
    config = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo $WORD $(id -u) $(pwd)"],
        "Env": ["WORD=layered", "PATH=/bin"],
        "WorkingDir": "/var",
        "User": "app",
        "Labels": {"mvm.network": json.dumps({"network": _ASKS})},
    }
    return f"oci:{make_oci(tmp_path / 'layout', make_root(tmp_path / 'layered'), config=config, tag='v1')}"


def test_an_archive_is_unpacked_once(archive: str, cached: Mvmctl) -> None:
    """The first start says that it unpacks, in one plain line; the second one finds it unpacked."""
    first = cached("run", "--image", archive, "--json").expect(0)
    assert first.stderr.splitlines()[0].startswith(f"mvmctl: unpacking {archive} (")
    second = cached("run", "--image", archive, "--json").expect(0)
    assert second.stderr == "entry of the image\n"
    with open(archive.partition(":")[2], "rb") as file:
        digest = f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
    assert first.json["image"] == second.json["image"] == {"kind": "tar", "digest": digest}
    (started,) = _records(cached("audit", "show", second.json["run"], "--json"), "run.started")
    assert started["image"] == digest


def test_an_archive_that_changed_is_another_image(archive: str, cached: Mvmctl, tmp_path: Path) -> None:
    """A file with other content in the same place is unpacked anew, though its words are the same."""
    words = ("run", "--image", archive, "--", "cat", "/etc/made-of")
    assert cached(*words).expect(0).stdout == "a root tree of a test\n"
    (tmp_path / "archived" / "etc" / "made-of").write_text("another\n")
    with tarfile.open(tmp_path / "root.tar.gz", "w:gz") as made:
        made.add(tmp_path / "archived", arcname=".")
    assert cached(*words).expect(0).stdout == "another\n"
    assert len(cached("image", "ls", "--json").expect(0).json) == 2


def test_an_oci_image_runs_as_it_says(layout: str, cached: Mvmctl) -> None:
    """Its entrypoint, command, variables, user and directory are its config's; its digest the manifest's."""
    ended = cached("run", "--image", layout, "--json", "--capture").expect(0)
    assert ended.json["stdout"] == "layered 1234 /var\n"
    assert ended.json["image"]["kind"] == "oci"
    assert ended.json["policy"]["grants"] == []
    assert "asks for asked.example.com:443/tcp, which is not granted" in ended.stderr
    assert "--network-allow asked.example.com:443" in ended.stderr
    overridden = cached("run", "--image", f"{layout}:v1", "--user", "root", "-w", "/", "-e", "WORD=flag")
    assert overridden.expect(0).stdout == "flag 0 /\n"
    assert "v1" in cached("run", "--image", f"{layout}:v2").expect(64).stderr


def test_a_layer_that_is_not_what_its_digest_says(layout: str, cached: Mvmctl) -> None:
    """A blob of which a byte was changed is refused, and nothing of it is kept."""
    directory = layout.partition(":")[2]
    blobs = sorted(os.scandir(f"{directory}/blobs/sha256"), key=lambda entry: entry.stat().st_size)
    with open(blobs[-1].path, "r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"x")
    assert "digest" in cached("run", "--image", layout).expect(65).stderr
    assert cached("image", "ls", "--json").expect(0).json == []


def test_an_archive_that_climbs_out_is_refused(cached: Mvmctl, tmp_path: Path) -> None:
    """An archive with a way out of its tree is refused; nothing is written outside, and nothing is kept."""
    with tarfile.open(tmp_path / "bad.tar", "w") as made:
        entry = tarfile.TarInfo("../../escaped")
        entry.size = 4
        made.addfile(entry, io.BytesIO(b"here"))
    refused = cached("run", "--image", f"tar:{tmp_path}/bad.tar", "--", "true").expect(65)
    assert "[archive-" in refused.stderr
    assert list(tmp_path.rglob("escaped")) == []
    assert cached("image", "ls", "--json").expect(0).json == []


def test_several_of_one_image_at_once(archive: str, cached: Mvmctl) -> None:
    """Two sandboxes of one image share its tree, and nothing that either of them changes."""
    for name in ("one", "two"):
        cached("up", "-d", "--name", name, "--image", archive, "--", "sleep", "60").expect(0)
        cached("exec", name, "--", "sh", "-c", f"echo {name} > /var/mine").expect(0)
    for name in ("one", "two"):
        assert cached("exec", name, "--", "cat", "/var/mine").expect(0).stdout == f"{name}\n"
    (image,) = cached("image", "ls", "--json").expect(0).json
    assert "a sandbox uses" in cached("image", "rm", image["key"][:12]).expect(64).stderr
    assert cached("image", "prune").expect(0).stdout == ""
    cached("down", "--all").expect(0)
    cached("image", "rm", archive).expect(0)
    assert cached("image", "ls", "--json").expect(0).json == []


def test_the_cache_is_listed_shown_and_pruned(archive: str, layout: str, cached: Mvmctl) -> None:
    """`image ls` has the last used one first; `inspect` shows one; `prune` leaves what was used lately."""
    for words in (archive, layout):
        cached("run", "--image", words, "--", "true").expect(0)
    listed = cached("image", "ls").expect(0).stdout.splitlines()
    assert [line.split()[-1] for line in listed] == [layout, archive]
    shown = cached("image", "inspect", layout).expect(0).json
    assert shown["config"]["user"] == "app"
    assert shown["config"]["needs"] == {"network": _ASKS}
    assert cached("image", "prune", "--unused", "1h").expect(0).stdout == ""
    pruned = cached("image", "prune").expect(0)
    assert len(pruned.stdout.splitlines()) == 2
    assert "MB freed" in pruned.stderr
    cached("image", "inspect", archive).expect(64)
    cached("image", "rm", "0000").expect(64)


def test_killed_amid_unpacking(cached: Mvmctl, tmp_path: Path) -> None:
    """A start that is killed while it unpacks leaves no image; the next one unpacks it, and clears up."""
    root = make_root(tmp_path / "large")
    with (root / "usr" / "large").open("wb") as large:
        large.truncate(_LARGE)
    with tarfile.open(tmp_path / "large.tar", "w") as made:
        made.add(root, arcname=".")
    words = ("run", "--image", f"tar:{tmp_path}/large.tar", "--", "true")
    running = cached.start(*words)
    running.until("unpacking", stream="stderr")
    running.kill()
    assert cached("image", "ls", "--json").expect(0).json == []
    cached(*words).expect(0)
    assert len(cached("image", "ls", "--json").expect(0).json) == 1
    assert os.listdir(tmp_path / "cache" / "making") == ["lock"]


def _records(shown: Ended, kind: str) -> list[dict[str, object]]:
    return [line for line in map(json.loads, shown.expect(0).stdout.splitlines()) if line["kind"] == kind]
