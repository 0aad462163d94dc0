"""The readers of what says what an image is: OCI layouts, `docker save` archives, and nix's own answers.

Owns what must hold of each; `readers` has the table. The files of an image lie in memory, and nothing is
opened: a path that leads out of the image is a finding.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from mvm.errors import MvmError
from mvm.images.blobs import Segment, blob_path
from mvm.images.described import platform
from mvm.images.docker_save import open_saved
from mvm.images.flake import read_built, read_closure, read_program
from mvm.images.oci_layout import open_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mvm.images.layers import OciImage

_OCI = "application/vnd.oci.image"
_LAYER = b"layer"


class _Held(Segment):
    """Bytes in memory in the place of those of a file."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(-1, 0, len(data), name)
        self._data = data

    def read(self, most: int) -> bytes:
        data = self._data[self.taken : self.taken + most]
        self.taken += len(data)
        return data

    def again(self) -> Segment:
        return _Held(self._data, self.name)


class _Files:
    """The files of an image: those given, and none elsewhere."""

    name = "image"

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def open(self, path: str) -> Segment | None:
        assert not path.startswith("/"), f"{path!r} leads out of the image"
        assert ".." not in path.split("/"), f"{path!r} leads out of the image"
        return _Held(self._files[path], path) if path in self._files else None

    def close(self) -> None:
        """There is nothing to give back."""


def digest(data: bytes) -> str:
    """The digest of bytes, as images write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(data: bytes, kind: str) -> dict[str, object]:
    """What an index or a manifest says of a blob."""
    return {"mediaType": f"{_OCI}.{kind}", "digest": digest(data), "size": len(data)}


def config_document() -> bytes:
    """A config of one layer."""
    system, _, machine = platform().partition("/")
    rootfs = {"type": "layers", "diff_ids": [digest(_LAYER)]}
    return json.dumps({"os": system, "architecture": machine, "rootfs": rootfs, "config": {}}).encode()


def manifest_document(config: bytes) -> bytes:
    """A manifest of one layer."""
    told = {
        "config": descriptor(config, "config.v1+json"),
        "layers": [descriptor(_LAYER, "layer.v1.tar")],
    }
    return json.dumps({"schemaVersion": 2, **told}).encode()


def index_document(manifest: bytes, kind: str = "manifest.v1+json") -> bytes:
    """An index of one image."""
    return json.dumps({"schemaVersion": 2, "manifests": [descriptor(manifest, kind)]}).encode()


def saved_document() -> bytes:
    """What `docker save` says of one image."""
    return json.dumps([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]).encode()


def _blobs(*blobs: bytes) -> dict[str, bytes]:
    return {blob_path(digest(blob), "image"): blob for blob in (*blobs, _LAYER)}


def _opened(files: Mapping[str, bytes]) -> object:
    """Refused, or an image whose layers are the ones that there are."""
    try:
        image: OciImage = open_files(_Files(files), None)
    except MvmError as refusal:
        return type(refusal)
    assert image.size % len(_LAYER) == 0
    blob_path(image.digest, "image")
    image.close()
    return image.config


def oci_layout(data: bytes) -> object:
    """As the index, an index in it, the manifest, and the config of an image."""
    config = config_document()
    whole = _blobs(config, manifest_document(config))
    return [
        _opened({**whole, "index.json": data}),
        _opened({**whole, **_blobs(data), "index.json": index_document(data, "index.v1+json")}),
        _opened({**_blobs(config, data), "index.json": index_document(data)}),
        _opened(
            {**_blobs(data, manifest_document(data)), "index.json": index_document(manifest_document(data))}
        ),
    ]


def docker_save(data: bytes) -> object:
    """As the manifest, and as the config of an image."""
    said: list[object] = []
    for manifest, config in ((data, config_document()), (saved_document(), data)):
        files = {"manifest.json": manifest, "c.json": config, "l/layer.tar": _LAYER}
        try:
            said.append(open_saved(_Files(files), None, platform()).config)
        except MvmError as refusal:
            said.append(type(refusal))
    return said


def flake(data: bytes) -> object:
    """As what nix says of a build, of what that leads to, and of the program it is for."""
    said: list[object] = []
    for read in (read_built, read_closure, read_program):
        try:
            said.append(read(data))
        except MvmError as refusal:
            said.append(type(refusal))
    return said
