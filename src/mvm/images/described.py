"""What descriptions of images have in common, whatever form they come in: machines, layers, names.

Owns which machine an image must be for. Must never open anything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.errors import UsageError
from mvm.images.blobs import blob_path
from mvm.images.refused import damaged, refused

if TYPE_CHECKING:
    from mvm.errors import PolicyRefused

MAKE_ANEW = "save it anew, say by skopeo copy … oci:DIRECTORY:TAG"

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_MOST_LAYERS = 500


def platform() -> str:
    """Return what images must be for: `linux/` and this machine's architecture, in Go's words."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def check_platform(config: dict[str, object], wanted: str, source: str) -> None:
    """Refuse a config that is for another machine, by `archive-platform`."""
    found = f"{config.get('os') or 'linux'}/{config.get('architecture') or '?'}"
    if found != wanted:
        raise for_others([found], wanted, source)


def diff_ids(config: dict[str, object], count: int, source: str) -> list[str]:
    """Return the digests of the uncompressed layers, as many as there are layers; or refuse the config."""
    rootfs = config.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(found, list) or len(found) != count or count > _MOST_LAYERS:
        raise damaged("the config and the manifest differ in their layers", source, "archive-manifest")
    for digest in found:
        blob_path(digest, source)
    return [str(digest) for digest in found]


def no_such_image(names: list[str], tag: str | None, source: str) -> UsageError:
    """Return the error that tells which images there are."""
    there = ", ".join(names[:20]) or "none with a name"
    if tag is None:
        message = f"{source} holds several images: {there}"
        return UsageError(message, hint=f"say which: oci:{source}:{names[0] if names else 'TAG'}")
    return UsageError(f"{source} holds no image {tag!r}; there are: {there}", hint="say one of these")


def for_others(found: list[str], wanted: str, source: str) -> PolicyRefused:
    """Return the refusal of an image for other machines, by `archive-platform`."""
    message = f"it is for {', '.join(found[:10])}, and this machine needs {wanted}"
    return refused("archive-platform", message, f"get the one for {wanted}", source)
