"""A small root tree that a sandbox can be made of, and a flake that gives one: busybox and little more.

Owns these. Needs Debian's busybox-static; what is made of it runs without any library.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_APPLETS = "sh cat echo env head id ls mkdir nc nslookup pwd sleep stat touch true wget dd rm".split()
_USERS = "root:x:0:0:root:/root:/bin/sh\napp:x:1234:1235:App:/home/app:/bin/sh\n"
_GROUP = "root:x:0:\napp:x:1235:\nstaff:x:50:\n"


def busybox() -> str:
    """The path of a busybox without libraries; the test is skipped where there is none."""
    found = shutil.which("busybox", path="/bin:/usr/bin")
    if found is None:
        pytest.skip("busybox is not on this machine")
    return found


def make_root(directory: Path, *, config: Mapping[str, object] | None = None) -> Path:
    """Make a root tree.

    Args:
        directory: of the tree; it is made.
        config: what its `mvm.json` says, or None for none.
    """
    for name in ("bin", "etc", "tmp", "root", "home/app", "usr/bin", "var"):
        (directory / name).mkdir(parents=True)
    shutil.copy(busybox(), directory / "bin" / "busybox")
    for name in _APPLETS:
        (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text(_USERS)
    (directory / "etc" / "group").write_text(_GROUP)
    (directory / "etc" / "made-of").write_text("a root tree of a test\n")
    (directory / "lib").symlink_to("usr/lib")
    if config is not None:
        (directory / "mvm.json").write_text(json.dumps(config))
    return directory


_FLAKE = """\
{
  outputs = { self }: {
    packages.SYSTEM = {
      default = derivation {
        name = "greeter-1";
        system = "SYSTEM";
        builder = "${./tools}/busybox";
        args = [ "sh" "-c" ''
          PATH=${./tools}
          busybox mkdir -p $out/bin
          { echo '#!${./tools}/busybox sh'; echo "echo \\"$GREETING from the flake\\""; } > $out/bin/greet
          busybox chmod +x $out/bin/greet
          busybox cp ${./mvm.json} $out/mvm.json
        '' ];
        GREETING = "hello";
      } // { meta.mainProgram = "greet"; };
      root = derivation {
        name = "root-1";
        system = "SYSTEM";
        builder = "${./tools}/busybox";
        args = [ "sh" "-c" "${./tools}/busybox cp -r ${./root} $out" ];
      };
    };
  };
}
"""


def make_flake(directory: Path, *, config: Mapping[str, object]) -> Path:
    """Make a flake without inputs: a package `greet`, which is the default, and a root tree `#root`.

    Args:
        directory: of the flake; it is made.
        config: what the package's `mvm.json` says.
    """
    if shutil.which("nix") is None:
        pytest.skip("nix is not on this machine's PATH")
    directory.mkdir()
    (directory / "tools").mkdir()
    shutil.copy(busybox(), directory / "tools" / "busybox")
    make_root(directory / "root")
    (directory / "mvm.json").write_text(json.dumps(config))
    (directory / "flake.nix").write_text(_FLAKE.replace("SYSTEM", f"{os.uname().machine}-linux"))
    return directory


def make_oci(directory: Path, root: Path, *, config: Mapping[str, object], tag: str = "latest") -> Path:
    """Make an OCI image layout of a root tree, in one layer.

    Args:
        directory: of the layout; it is made.
        root: the tree.
        config: the `config` of the image's configuration.
        tag: its name in the index.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        archive.add(root, arcname=".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    diff = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    document = {
        "architecture": machine,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(document).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(layer.getvalue()), "layer.v1.tar+gzip")],
    }
    described = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"org.opencontainers.image.ref.name": tag}}],
    }
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory
