"""What `docker save` writes: a tar with manifest.json, a config, and layers that are not compressed.

Owns the reading of that form (moby, image/spec 1.2). Nothing in it states digests of the layers as they lie
there, so that the config's digests of the uncompressed layers are checked instead. Must never read an index.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from mvm.images.blobs import text_of
from mvm.images.config import config_from_oci, parse_object
from mvm.images.described import check_platform, diff_ids, no_such_image
from mvm.images.layers import Layer, OciImage
from mvm.images.refused import damaged, hostile

if TYPE_CHECKING:
    from mvm.images.blobs import Files

_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can write what no file's name can be
_HASH = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?\Z")


def open_saved(files: Files, tag: str | None, platform: str) -> OciImage:
    """Open an image in what `docker save` wrote; parameters and errors are those of `open_oci`."""
    source = files.name
    image = _chosen(_images(text_of(files, "manifest.json") or b"", source), tag, source)
    path = _inside(image.get("Config"), source)
    data = None if path is None else text_of(files, path)
    if data is None or path is None:
        raise damaged("the config of the image is not in it", source, "archive-missing")
    digest = hashlib.sha256(data).hexdigest()
    told = _HASH.match(path)
    if told and told[1] != digest:
        raise damaged("the config has another digest than its name", source, "archive-digest")
    config = parse_object(data, source, what="the config", code="archive-manifest")
    check_platform(config, platform, source)
    paths = image.get("Layers")
    if not isinstance(paths, list):
        raise damaged("its manifest has no list of layers", source, "archive-manifest")
    ids = diff_ids(config, len(paths), source)
    layers = [_layer(files, path, diff_id) for path, diff_id in zip(paths, ids, strict=True)]
    return OciImage(files, f"sha256:{digest}", config_from_oci(config, source), layers)


def _layer(files: Files, path: object, diff_id: str) -> Layer:
    place = _inside(path, files.name)
    blob = None if place is None else files.open(place)
    if blob is None:
        raise damaged(f"the layer {str(path)[:90]!r} is not in it", files.name, "archive-missing")
    return Layer(blob, None, None, diff_id, zstd=False)


def _inside(path: object, source: str) -> str | None:
    """The path of a file in the image; None for what is no path. Raises PolicyRefused: it leads out of it."""
    if not isinstance(path, str) or "\0" in path or _SURROGATE.search(path):
        return None
    if path.startswith("/") or ".." in path.split("/"):
        raise hostile("archive-path", f"{path[:90]!r} leads out of the image", source)
    return path


def _images(data: bytes, source: str) -> list[dict[str, object]]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(f"manifest.json is no JSON: {error}", source, "archive-manifest") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found) or not found:
        raise damaged("manifest.json is no list of images", source, "archive-manifest")
    return found


def _chosen(found: list[dict[str, object]], tag: str | None, source: str) -> dict[str, object]:
    named = [(_tags(one), one) for one in found]
    names = sorted({name for tags, _ in named for name in tags})
    if tag is None:
        if len(found) > 1:
            raise no_such_image(names, None, source)
        return found[0]
    chosen = [one for tags, one in named if any(tag in {name, name.rpartition(":")[2]} for name in tags)]
    if len(chosen) != 1:
        raise no_such_image(names, tag, source)
    return chosen[0]


def _tags(image: dict[str, object]) -> list[str]:
    tags = image.get("RepoTags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
