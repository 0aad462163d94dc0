"""Bringing the peers from the distribution, when that is asked for.

Owns the list of Debian packages and the call of apt-get. Must never be called without `--install`, and
leaves a package that can't be had out: the figures then say so by name.
"""

from __future__ import annotations

import os
import shutil
import subprocess

PACKAGES = (
    *("haproxy", "nginx-light", "libnginx-mod-stream", "squid", "tinyproxy", "dante-server", "mitmproxy"),
    *(
        "slirp4netns",
        "passt",
        "bubblewrap",
        "podman",
        "crun",
        "runc",
        "runsc",
        "iperf3",
        "nftables",
        "strace",
    ),
)
_APT = ("apt-get", "-y", "--no-install-recommends", "-qq", "install")


def install() -> dict[str, str]:
    """Install every peer; returns those that could not be had, with the reason."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return {"--install": "needs root and apt-get"}
    subprocess.run(["apt-get", "-qq", "update"], check=False, capture_output=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    failed = {}
    for package in PACKAGES:
        ended = subprocess.run([*_APT, package], env=quiet, check=False, capture_output=True, text=True)
        if ended.returncode:
            failed[f"package {package}"] = "apt-get could not install it"
    return failed
