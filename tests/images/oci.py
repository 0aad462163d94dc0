"""Images made by code: OCI layouts and what docker save writes, good ones and any other.

Owns the description of an image as files. Must never use the product's own reader.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from tests.images.archives import archive, entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OCI = "application/vnd.oci.image"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def digest(data: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI image layout that grows."""

    def __init__(self, top: Path) -> None:
        """Make an empty one."""
        self.top = top
        (top / "blobs" / "sha256").mkdir(parents=True)
        (top / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.index: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str, **more: object) -> dict[str, Any]:
        """Add a blob; return its descriptor."""
        self.path(digest(data)).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}

    def path(self, name: str) -> Path:
        """Where a blob lies."""
        return self.top / "blobs" / "sha256" / name.partition(":")[2]

    def json(self, value: object, media_type: str, **more: object) -> dict[str, Any]:
        """Add a blob of JSON."""
        return self.blob(json.dumps(value).encode(), media_type, **more)

    def manifest(
        self,
        layers: Sequence[bytes],
        *,
        config: dict[str, object] | None = None,
        architecture: str = ARCHITECTURE,
        compress: Callable[[bytes], bytes] = bytes,
        layer_type: str = f"{OCI}.layer.v1.tar",
        change: Callable[[dict[str, Any], dict[str, Any]], None] = lambda _manifest, _config: None,
    ) -> dict[str, Any]:
        """Add an image; `change` may spoil its manifest and its config first. Return its descriptor."""
        about: dict[str, Any] = {
            "architecture": architecture,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
        made: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "layers": [self.blob(compress(layer), layer_type) for layer in layers],
        }
        change(made, about)
        made.setdefault("config", self.json(about, f"{OCI}.config.v1+json"))
        return self.json(made, f"{OCI}.manifest.v1+json")

    def add(self, descriptor: dict[str, Any], tag: str = "", platform: str = "") -> None:
        """Put a manifest or an index in the layout's own index."""
        if tag:
            descriptor = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        if platform:
            descriptor = {**descriptor, "platform": {"os": "linux", "architecture": platform}}
        self.index.append(descriptor)
        self.write({"schemaVersion": 2, "manifests": self.index})

    def write(self, index: object) -> None:
        """Write the layout's own index."""
        (self.top / "index.json").write_text(json.dumps(index))

    def tar(self, to: Path) -> Path:
        """The same as a tar."""
        files = [path for path in sorted(self.top.rglob("*")) if path.is_file()]
        to.write_bytes(
            archive(*(entry(str(path.relative_to(self.top)), path.read_bytes()) for path in files))
        )
        return to


def saved(
    to: Path,
    layers: Sequence[bytes],
    *,
    tags: Sequence[str] = ("thing:latest",),
    config: dict[str, object] | None = None,
    spoil: Callable[[dict[str, bytes], list[dict[str, Any]]], None] = lambda _files, _manifest: None,
) -> Path:
    """What docker save of old wrote of one image."""
    about = json.dumps(
        {
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
    ).encode()
    name = digest(about).partition(":")[2] + ".json"
    files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
    manifest = [{"Config": name, "RepoTags": list(tags), "Layers": list(files)}]
    files[name] = about
    spoil(files, manifest)
    files["manifest.json"] = json.dumps(manifest).encode()
    to.write_bytes(archive(*(entry(path, data) for path, data in files.items())))
    return to
