"""Images in OCI layouts and docker save archives: the right one is picked, and nothing unverified is used."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mvm.errors import BackendUnavailable, PolicyRefused, UsageError
from mvm.images.archive import Bounds
from mvm.images.config import ImageConfig
from mvm.images.oci_layout import OciImage, open_oci
from tests.images.archives import Ground, archive, directory, entry, symlink
from tests.images.oci import ARCHITECTURE, OCI, Layout, digest, saved

if TYPE_CHECKING:
    from pathlib import Path

_BASE = archive(directory("usr/lib"), symlink("lib", "usr/lib"), entry("usr/lib/old"), entry("etc/os", b"1"))
_TOP = archive(entry("lib/new", b"new"), entry("usr/lib/.wh.old"))
_CONFIG: dict[str, object] = {
    "Entrypoint": ["/bin/server"],
    "Cmd": ["--all"],
    "Env": ["PATH=/bin", "EMPTY="],
    "WorkingDir": "/srv",
    "User": "1000:1000",
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Labels": {"mvm.network": '{"network": {"allow": [{"host": "api.example.com", "port": 443}]}}'},
}


def _unpack(image: OciImage, ground: Ground) -> list[int]:
    told: list[int] = []
    root = os.open(ground.root, os.O_RDONLY)
    try:
        ground.confined(lambda: image.unpack(root, owner=None, bounds=Bounds(), progress=told.append))
    finally:
        os.close(root)
        image.close()
    return told


def _code(act: Callable[[], object]) -> str:
    with pytest.raises(PolicyRefused) as caught:
        act()
    (finding,) = caught.value.findings
    assert finding.hint
    assert finding.source
    return finding.code


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Make an empty layout."""
    return Layout(tmp_path / "layout")


@pytest.mark.parametrize("as_tar", [False, True], ids=["directory", "tar"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_image_is_its_layers(
    layout: Layout, ground: Ground, tmp_path: Path, as_tar: bool, compress: Callable[[bytes], bytes]
) -> None:
    """Layers lie over each other, its digest is its manifest's, and its config is what it says."""
    suffix = "+gzip" if compress is gzip.compress else ""
    made = layout.manifest(
        [_BASE, _TOP], config=_CONFIG, compress=compress, layer_type=f"{OCI}.layer.v1.tar{suffix}"
    )
    layout.add(made, tag="latest")
    image = open_oci(str(layout.tar(tmp_path / "i.tar") if as_tar else layout.top), None)
    assert image.digest == made["digest"]
    assert image.size == sum(len(compress(layer)) for layer in (_BASE, _TOP))
    assert image.config == ImageConfig(
        entrypoint=("/bin/server",),
        cmd=("--all",),
        env=("PATH=/bin", "EMPTY="),
        workdir="/srv",
        user="1000:1000",
        ports=("80/tcp", "53/udp"),
        needs={"network": {"allow": [{"host": "api.example.com", "port": 443}]}},
    )
    told = _unpack(image, ground)
    assert ground.tree() == ["etc/", "etc/os", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/new"]
    assert told == sorted(told)
    assert told[-1] == image.work


@pytest.mark.skipif(not shutil.which("zstd"), reason="this machine has no zstd")
def test_layers_in_zstd_need_its_program(
    layout: Layout, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it they are unpacked, from a tar too; a damaged one is refused; without it the command is told."""
    layer = archive(entry("a", os.urandom(1 << 20) * 3))
    kind = f"{OCI}.layer.v1.tar+zstd"
    layout.add(layout.manifest([layer], compress=_zstd, layer_type=kind))
    path = str(layout.tar(tmp_path / "i.tar"))
    _unpack(open_oci(path, None), ground)
    assert ground.tree() == ["a"]
    other = Layout(tmp_path / "other")
    other.add(other.manifest([layer], compress=lambda data: _zstd(data)[:-99], layer_type=kind))
    assert _code(lambda: _unpack(open_oci(str(other.top), None), ground)) == "archive-damaged"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="apt-get install zstd"):
        _unpack(open_oci(path, None), ground)


def test_the_image_for_this_machine_is_picked(layout: Layout) -> None:
    """Of an index, in an index, it is the one for Linux and this machine; attestations are no images."""
    mine = layout.manifest([_BASE])
    other = layout.manifest([_BASE], architecture="s390x")
    proof = layout.json({"schemaVersion": 2}, f"{OCI}.manifest.v1+json")
    images = [
        {**other, "platform": {"os": "linux", "architecture": "s390x"}},
        {**proof, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**mine, "platform": {"os": "linux", "architecture": ARCHITECTURE, "variant": "v8"}},
    ]
    layout.add(layout.json({"schemaVersion": 2, "manifests": images}, f"{OCI}.index.v1+json"), tag="1.0")
    image = open_oci(str(layout.top), None)
    assert image.digest == mine["digest"]
    image.close()


def test_an_image_for_other_machines_is_refused(layout: Layout, tmp_path: Path) -> None:
    """Whether the index says so, or only the config does."""
    layout.add(layout.manifest([_BASE], architecture="s390x"), platform="s390x")
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-platform"
    quiet = Layout(tmp_path / "quiet")
    quiet.add(quiet.manifest([_BASE], architecture="s390x"))
    assert _code(lambda: open_oci(str(quiet.top), None)) == "archive-platform"


def test_a_tag_says_which_image(layout: Layout) -> None:
    """Of several, none is picked without a tag, and all are told; by tag or digest it is that one."""
    first, second = layout.manifest([_BASE]), layout.manifest([_TOP])
    layout.add(first, tag="one")
    layout.add(second, tag="example.com/app:two")
    path = str(layout.top)
    with pytest.raises(UsageError, match=r"example\.com/app:two, one"):
        open_oci(path, None)
    with pytest.raises(UsageError, match=r"no image 'three'; there are: example\.com/app:two, one"):
        open_oci(path, "three")
    for tag, wanted in (("one", first), ("two", second), ("example.com/app:two", second)):
        image = open_oci(path, tag)
        assert image.digest == wanted["digest"]
        image.close()
    image = open_oci(path, second["digest"])
    assert image.digest == second["digest"]
    image.close()


def test_what_docker_saves_is_an_image(ground: Ground, tmp_path: Path) -> None:
    """Its digest is its config's, its tags are names, and equal layers may be links to one."""
    path = saved(tmp_path / "s.tar", [_BASE, _TOP], config=_CONFIG)
    image = open_oci(str(path), "latest")
    assert image.config.entrypoint == ("/bin/server",)
    assert image.digest.startswith("sha256:")
    _unpack(image, ground)
    assert "usr/lib/new" in ground.tree()
    with pytest.raises(UsageError, match="thing:latest"):
        open_oci(str(path), "older")


def test_layers_of_docker_may_be_links(ground: Ground, tmp_path: Path) -> None:
    """As it wrote layers that an image has twice."""
    path = saved(tmp_path / "s.tar", [_BASE, _TOP, _BASE])
    data = path.read_bytes().replace(entry("2/layer.tar", _BASE), symlink("2/layer.tar", "../0/layer.tar"))
    path.write_bytes(data)
    _unpack(open_oci(str(path), None), ground)
    assert "usr/lib/old" in ground.tree()


def test_a_spoilt_save_is_refused(ground: Ground, tmp_path: Path) -> None:
    """A layer, or a config, that is not the one that was named is not used."""

    def other_layer(files: dict[str, bytes], _: list[dict[str, Any]]) -> None:
        files["0/layer.tar"] = _TOP

    def other_config(files: dict[str, bytes], manifest: list[dict[str, Any]]) -> None:
        files[manifest[0]["Config"]] += b" "

    def no_layer(files: dict[str, bytes], _: list[dict[str, Any]]) -> None:
        del files["0/layer.tar"]

    def upwards(_: dict[str, bytes], manifest: list[dict[str, Any]]) -> None:
        manifest[0]["Layers"] = ["../../../etc/passwd"]

    def no_images(_: dict[str, bytes], manifest: list[dict[str, Any]]) -> None:
        manifest.clear()

    path = tmp_path / "s.tar"
    codes = []
    for spoil in (other_layer, other_config, no_layer, upwards, no_images):
        saved(path, [_BASE], spoil=spoil)
        codes.append(_code(lambda: _unpack(open_oci(str(path), None), ground)))
    assert codes == [
        "archive-digest", "archive-digest", "archive-missing", "archive-path", "archive-manifest"
    ]  # fmt: skip
    assert ground.tree() == []


@pytest.mark.parametrize(
    ("config", "layer", "code"),
    [
        ("c.json", "0/layer.tar", None),
        ("../c.json", "0/layer.tar", "archive-path"),
        ("{top}/c.json", "0/layer.tar", "archive-path"),
        ("c.json", "0/../../0/layer.tar", "archive-path"),
        ("c.json", "{top}/0/layer.tar", "archive-path"),
        ("\ud800", "0/layer.tar", "archive-missing"),
        ("c.json", "a\0b", "archive-missing"),
    ],
)
def test_an_unpacked_save_leads_nowhere_outside(
    ground: Ground, tmp_path: Path, config: str, layer: str, code: str | None
) -> None:
    """A file of the machine is neither its config nor a layer, also where its digest would be right."""
    (tmp_path / "inner" / "0").mkdir(parents=True)
    (tmp_path / "0").mkdir()
    for top in (tmp_path, tmp_path / "inner"):
        (top / "0" / "layer.tar").write_bytes(_BASE)
        rootfs = {"type": "layers", "diff_ids": [digest(_BASE)]}
        about = {"architecture": ARCHITECTURE, "os": "linux", "rootfs": rootfs}
        (top / "c.json").write_text(json.dumps(about))
    named = [{"Config": config.format(top=tmp_path), "Layers": [layer.format(top=tmp_path)]}]
    (tmp_path / "inner" / "manifest.json").write_text(json.dumps(named))
    if code is None:
        _unpack(open_oci(str(tmp_path / "inner"), None), ground)
        assert ground.tree()
    else:
        assert _code(lambda: open_oci(str(tmp_path / "inner"), None)) == code


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_is_unpacked_of_an_image_with_a_spoilt_layer(
    layout: Layout, ground: Ground, number: int
) -> None:
    """One bit in any layer, and not even the layers before it are unpacked."""
    layout.add(layout.manifest([_BASE, _TOP]))
    blob = layout.path(digest([_BASE, _TOP][number]))
    data = bytearray(blob.read_bytes())
    data[700] ^= 1
    blob.write_bytes(data)
    assert _code(lambda: _unpack(open_oci(str(layout.top), None), ground)) == "archive-digest"
    assert ground.tree() == []


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_a_description_that_was_changed_is_refused(layout: Layout, which: str) -> None:
    """One letter in the manifest or the config, the size as before, and the image is not opened."""
    made = layout.manifest([_BASE], config={"User": "nobody"})
    layout.add(made)
    manifest = json.loads(layout.path(made["digest"]).read_bytes())
    blob = layout.path(made["digest"] if which == "manifest" else manifest["config"]["digest"])
    before, after = (b": 2", b":2 ") if which == "manifest" else (b"nobody", b"nobodi")
    assert before in blob.read_bytes()
    blob.write_bytes(blob.read_bytes().replace(before, after))
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-digest"


def test_a_layer_of_another_size_is_refused(layout: Layout, ground: Ground) -> None:
    """Whatever its digest."""
    layout.add(layout.manifest([_BASE]))
    with layout.path(digest(_BASE)).open("ab") as file:
        file.write(b"more")
    assert _code(lambda: _unpack(open_oci(str(layout.top), None), ground)) == "archive-size"


def test_a_layer_that_unpacks_to_something_else_is_refused(layout: Layout, ground: Ground) -> None:
    """The blob is the one the manifest names, and what it unpacks to isn't what the config names."""
    made = layout.manifest(
        [_BASE], compress=lambda _: gzip.compress(_TOP), layer_type=f"{OCI}.layer.v1.tar+gzip"
    )
    layout.add(made)
    assert _code(lambda: _unpack(open_oci(str(layout.top), None), ground)) == "archive-diff-id"


def test_a_layer_that_is_no_archive_is_refused(layout: Layout, ground: Ground) -> None:
    """Damaged is the word there: the image was meant to be one."""
    layout.add(layout.manifest([b"hello" * 1000]))
    assert _code(lambda: _unpack(open_oci(str(layout.top), None), ground)) == "archive-damaged"


def _in_layer(**values: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda manifest, _: manifest["layers"][0].update(values)


def _in_config(**values: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _, config: config["config"].update(values)


_Change = Callable[[dict[str, Any], dict[str, Any]], None]
_WRONG: list[tuple[str, _Change]] = [
    ("archive-foreign-layer", _in_layer(mediaType=f"{OCI}.layer.nondistributable.v1.tar+gzip")),
    ("archive-foreign-layer", _in_layer(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar")),
    ("archive-encrypted", _in_layer(mediaType=f"{OCI}.layer.v1.tar+gzip+encrypted")),
    ("archive-media-type", _in_layer(mediaType="text/html")),
    ("archive-digest", _in_layer(digest="sha256:../../../../etc/passwd")),
    ("archive-digest", _in_layer(digest="md5:" + "0" * 32)),
    ("archive-digest", _in_layer(digest="sha512:" + "0" * 64)),
    ("archive-missing", _in_layer(digest="sha256:" + "0" * 64)),
    ("archive-manifest", _in_layer(size="12")),
    ("archive-manifest", lambda manifest, _: manifest.update(layers={})),
    ("archive-manifest", lambda manifest, _: manifest.update(layers=[])),
    ("archive-manifest", lambda manifest, _: manifest.update(config=None)),
    ("archive-manifest", lambda manifest, _: manifest.update(schemaVersion=1)),
    ("archive-manifest", lambda _, config: config.update(rootfs=None)),
    ("archive-digest", lambda _, config: config["rootfs"].update(diff_ids=["x"])),
    ("image-config", _in_config(Env=["NOVALUE"])),
    ("image-config", _in_config(Env="PATH=/bin")),
    ("image-config", _in_config(Entrypoint="/bin/sh")),
    ("image-config", _in_config(Cmd=[1])),
    ("image-config", _in_config(Cmd=["a\0b"])),
    ("image-config", _in_config(Cmd=["\ud800"])),
    ("image-config", _in_config(User=7)),
    ("image-config", _in_config(ExposedPorts={"99999/tcp": {}})),
    ("image-config", lambda _, config: config.update(config=[1])),
    ("image-needs", _in_config(Labels={"mvm.network": "all of it"})),
    ("image-needs", _in_config(Labels={"mvm.network": '{"egress": []}'})),
    ("image-needs", _in_config(Labels={"mvm.network": "[" * 100_000})),
]


@pytest.mark.parametrize(
    ("code", "change"),
    [pytest.param(*wrong, id=f"{wrong[0]}-{number}") for number, wrong in enumerate(_WRONG)],
)
def test_what_is_said_wrongly_is_refused(
    layout: Layout, code: str, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> None:
    """Each by its own code, before anything is unpacked."""
    layout.add(layout.manifest([_BASE], change=change))
    assert _code(lambda: open_oci(str(layout.top), None)) == code


def test_an_index_without_end_is_refused(layout: Layout) -> None:
    """Indexes may lie in indexes, but not for ever."""
    made = layout.manifest([_BASE])
    for _ in range(7):
        made = layout.json({"schemaVersion": 2, "manifests": [made]}, f"{OCI}.index.v1+json")
    layout.add(made)
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-manifest"


def test_a_blob_that_is_no_plain_file_is_not_waited_for(layout: Layout) -> None:
    """A fifo in the place of a layer is refused at once; so is a manifest too large to be one."""
    layout.add(layout.manifest([_BASE]))
    blob = layout.path(digest(_BASE))
    blob.unlink()
    os.mkfifo(blob)
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-path"
    layout.write({"schemaVersion": 2, "manifests": [], "filling": "x" * (5 << 20)})
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-headers"


def test_what_is_no_image_is_a_mistake(layout: Layout, tmp_path: Path) -> None:
    """A missing file, an empty directory, a tar of something else, a compressed one, and an empty index."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "tree.tar").write_bytes(_BASE)
    (tmp_path / "i.tar.gz").write_bytes(gzip.compress(_BASE))
    (tmp_path / "text").write_text("text" * 1000)
    os.mkfifo(tmp_path / "fifo")
    words = {
        "nowhere": "No such file",
        "empty": "holds no image",
        "tree.tar": "holds no image",
        "i.tar.gz": "compressed as a whole",
        "text": "is no archive",
        "fifo": "no plain file",
    }
    for name, word in words.items():
        with pytest.raises(UsageError, match=word):
            open_oci(str(tmp_path / name), None)
    layout.write({"schemaVersion": 2, "manifests": []})
    with pytest.raises(UsageError, match="holds no image"):
        open_oci(str(layout.top), None)
    (layout.top / "index.json").write_text(json.dumps([]))
    assert _code(lambda: open_oci(str(layout.top), None)) == "archive-manifest"
