"""Images as files of the machine: OCI image layouts, as a directory or a tar, and `docker save` archives.

Owns which image of several is meant, and what of an image is accepted (OCI Image Format 1.1: layout, index,
manifest). Must never fetch: what an image says lies elsewhere is refused.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import UsageError
from mvm.images.blobs import DirectoryFiles, TarFiles, blob_path, check_text, text_of
from mvm.images.config import config_from_oci, parse_object
from mvm.images.described import MAKE_ANEW, check_platform, diff_ids, for_others, no_such_image, platform
from mvm.images.layers import Layer, OciImage
from mvm.images.refused import damaged, hostile, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mvm.images.blobs import Files

__all__ = ["OciImage", "open_oci"]

_REF_NAME = "org.opencontainers.image.ref.name"
_FULL_NAME = "io.containerd.image.name"
_ATTESTATION = "vnd.docker.reference.type"

_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIGS = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_LAYERS = {
    **{f"{_OCI_LAYER}{suffix}": suffix == "+zstd" for suffix in ("", "+gzip", "+zstd")},
    **{f"{_DOCKER_LAYER}{suffix}": suffix == ".zstd" for suffix in ("", ".gzip", ".zstd")},
}
"""Media types of layers, and whether zstd unpacks them."""

_DEEPEST_INDEX = 4
_MOST_MANIFESTS = 1000


class _Descriptor(NamedTuple):
    """What an index or manifest says of a blob.

    Attributes:
        media_type: what it is.
        digest: of its bytes.
        size: of it.
        names: the tags it goes by.
        platform: `os/architecture`, or empty.
    """

    media_type: str
    digest: str
    size: int
    names: tuple[str, ...]
    platform: str


def open_oci(path: str, tag: str | None) -> OciImage:
    """Open an image: read and verify all that describes it, and none of its layers yet.

    Args:
        path: an OCI image layout, a tar of one, or what `docker save` wrote.
        tag: which image, by its tag, its full name or its digest; None where there is one only.

    Returns:
        the image for Linux on this machine's architecture; close it.

    Raises:
        UsageError: there is no such file, it holds no image, or not the one that is meant: then all there
            are are told.
        PolicyRefused: it is damaged, of a kind that is not accepted, or for other machines.
    """
    return open_files(DirectoryFiles(path) if os.path.isdir(path) else TarFiles(path), tag)


def open_files(files: Files, tag: str | None) -> OciImage:
    """Open the image that consists of these files; they are closed with it, or where it is refused.

    Tag, result and errors are those of `open_oci`.
    """
    try:
        index = text_of(files, "index.json")
        if index is not None:
            return _Layout(files).open(index, tag)
        if text_of(files, "manifest.json") is not None:
            from mvm.images.docker_save import open_saved

            return open_saved(files, tag, platform())
    except BaseException:
        files.close()
        raise
    files.close()
    raise UsageError(
        f"{files.name} holds no image: neither index.json nor manifest.json is in it",
        hint="oci: takes an OCI image layout or what docker save wrote; tar: takes the tar of a file tree",
    )


class _Layout:
    """An image layout while one image is looked for."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._source = files.name

    def open(self, index: bytes, tag: str | None) -> OciImage:
        document = self._object(index, "index.json")
        named = list(self._descriptors(document, "manifests"))
        chosen = self._platform_of(self._tagged(named, tag))
        if chosen.media_type not in _MANIFESTS:
            raise self._unacceptable("an image", chosen.media_type)
        manifest = self._object(self._text(chosen), "a manifest")
        config = self._config(manifest)
        layers = list(self._descriptors(manifest, "layers"))
        ids = diff_ids(config, len(layers), self._source)
        return OciImage(
            self._files,
            chosen.digest,
            config_from_oci(config, self._source),
            [self._layer(layer, diff_id) for layer, diff_id in zip(layers, ids, strict=True)],
        )

    def _tagged(self, found: list[_Descriptor], tag: str | None) -> list[_Descriptor]:
        names = sorted({name for one in found for name in one.names[:1]})
        if tag is None:
            if len(names) > 1:
                raise no_such_image(names, None, self._source)
            return found
        chosen = [one for one in found if tag in one.names or tag == one.digest]
        if not chosen:
            raise no_such_image(names or [one.digest for one in found], tag, self._source)
        return chosen

    def _platform_of(self, found: list[_Descriptor]) -> _Descriptor:
        """Return the one image that is for this machine, in indexes of indexes too."""
        wanted = platform()
        images = {one.digest: one for one in self._flat(found, 0)}
        if not images:
            raise UsageError(f"{self._source} holds no image", hint=MAKE_ANEW)
        fitting = [one for one in images.values() if one.platform == wanted]
        unknown = [one for one in images.values() if not one.platform]
        if not fitting and not unknown:
            raise for_others(sorted({one.platform for one in images.values()}), wanted, self._source)
        chosen = fitting or unknown
        if len(chosen) > 1:
            raise no_such_image([one.digest for one in chosen], None, self._source)
        return chosen[0]

    def _flat(self, found: list[_Descriptor], depth: int) -> Iterator[_Descriptor]:
        if depth > _DEEPEST_INDEX:
            raise hostile("archive-manifest", "its indexes lead to indexes without end", self._source)
        for one in found:
            if one.media_type in _INDEXES:
                document = self._object(self._text(one), "an index")
                yield from self._flat(list(self._descriptors(document, "manifests")), depth + 1)
            elif one.platform != "unknown/unknown":  # attestations, in buildx's words
                yield one

    def _config(self, manifest: dict[str, object]) -> dict[str, object]:
        descriptor = self._descriptor(manifest.get("config"), "config")
        if descriptor.media_type not in _CONFIGS:
            raise self._unacceptable("the config of an image", descriptor.media_type)
        config = self._object(self._text(descriptor), "the config")
        check_platform(config, platform(), self._source)
        return config

    def _layer(self, layer: _Descriptor, diff_id: str) -> Layer:
        if "nondistributable" in layer.media_type or "foreign" in layer.media_type:
            message = "a layer is not in it, but to be fetched from elsewhere"
            raise refused("archive-foreign-layer", message, MAKE_ANEW, self._source)
        if "+encrypted" in layer.media_type:
            message = "a layer is encrypted"
            raise refused("archive-encrypted", message, "decrypt the image first", self._source)
        if layer.media_type not in _LAYERS:
            raise self._unacceptable("a layer", layer.media_type)
        blob = self._files.open(blob_path(layer.digest, self._source))
        if blob is None:
            raise self._missing(layer.digest)
        return Layer(blob, layer.digest, layer.size, diff_id, _LAYERS[layer.media_type])

    def _text(self, descriptor: _Descriptor) -> bytes:
        data = text_of(self._files, blob_path(descriptor.digest, self._source))
        if data is None:
            raise self._missing(descriptor.digest)
        check_text(data, descriptor.digest, descriptor.size, self._source)
        return data

    def _descriptors(self, document: dict[str, object], key: str) -> Iterator[_Descriptor]:
        found = document.get(key)
        if not isinstance(found, list) or len(found) > _MOST_MANIFESTS:
            raise damaged(f"it has no list of {key}, or too long a one", self._source, "archive-manifest")
        for one in found:
            yield self._descriptor(one, key)

    def _descriptor(self, value: object, key: str) -> _Descriptor:
        if not isinstance(value, dict):
            raise damaged(f"an entry of {key} is no object", self._source, "archive-manifest")
        size, media_type, digest = value.get("size"), value.get("mediaType"), value.get("digest")
        if not isinstance(size, int) or not isinstance(media_type, str) or not isinstance(digest, str):
            raise damaged(
                f"an entry of {key} lacks mediaType, digest or size", self._source, "archive-manifest"
            )
        blob_path(digest, self._source)
        told = value.get("platform")
        told = told if isinstance(told, dict) else {}
        return _Descriptor(
            media_type=media_type,
            digest=digest,
            size=size,
            names=_names(value.get("annotations")),
            platform=f"{told.get('os')}/{told.get('architecture')}" if told else "",
        )

    def _object(self, data: bytes, what: str) -> dict[str, object]:
        document = parse_object(data, self._source, what=what, code="archive-manifest")
        version = document.get("schemaVersion", 2)
        if version != 2:
            raise damaged(f"{what} is of the version {version!r}", self._source, "archive-manifest")
        return document

    def _missing(self, digest: str) -> Exception:
        return damaged(f"the blob {digest[:19]}… is not in it", self._source, "archive-missing")

    def _unacceptable(self, what: str, media_type: str) -> Exception:
        message = f"{what} has the media type {media_type[:120]!r}"
        return refused("archive-media-type", message, MAKE_ANEW, self._source)


def _names(annotations: object) -> tuple[str, ...]:
    """Return the names an image goes by, the one to be told first."""
    if not isinstance(annotations, dict) or _ATTESTATION in annotations:
        return ()
    found = (annotations.get(key) for key in (_REF_NAME, _FULL_NAME))
    names = [name for name in found if isinstance(name, str) and name]
    return tuple(names + [name.rpartition(":")[2] for name in names if ":" in name])
