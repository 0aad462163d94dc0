"""What a caller asks to be seen beside the system: `-v SRC:DST[:ro|rw]` and `--workspace DIR`.

Owns the reading and refusing of these words. Must never mount, and never make SRC: a missing one is a
mistake, not an order.
"""

from __future__ import annotations

import os
import stat

from mvm.errors import Finding, PolicyRefused
from mvm.images.trace import lies_in, plain
from mvm.plan.view import Bind

SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/gnu/store",
)
"""Directories of the host that a sandbox made of it sees read-only, as far as they exist."""

PSEUDO = ("/proc", "/sys", "/dev")
"""File systems of the kernel, of which a sandbox has its own or none."""


def parse_volume(text: str, *, cwd: str, source: str = "--volume") -> Bind:
    """Read one volume; writable unless it says `ro`, as with docker-run(1).

    Args:
        text: `SRC:DST[:ro|rw]`; SRC absolute or relative to `cwd`, its links followed once; DST absolute.
        cwd: the caller's working directory, absolute.
        source: the flag or `file:line` it came from, for findings.

    Raises:
        PolicyRefused: a word is malformed, SRC is not there or is nothing that can be shown safely (a socket,
            a device, the host's root, a directory of its sockets), or DST is a place that a sandbox keeps.
    """
    words = text.split(":")
    if len(words) not in {2, 3} or "" in words or _has_control(text):
        raise _refused(
            "volume-malformed", f"{text!r} is not SRC:DST[:ro|rw]", "write -v ./data:/data:ro", source
        )
    if words[2:] not in ([], ["ro"], ["rw"]):
        raise _refused("volume-mode", f"{words[2]!r} is no mode of a volume", "write ro or rw", source)
    target = _destination(words[1], source)
    real = _existing(words[0], cwd=cwd, what="volume", source=source)
    if lies_in("/run/user", real) or os.path.dirname(real) == "/run/user":
        raise _refused(
            "volume-broad",
            f"{words[0]!r} holds the sockets of this machine's services",
            "name the one directory below it that the workload needs",
            source,
        )
    return Bind(real, target, writable=words[2:] != ["ro"], optional=False, reason="volume")


def parse_workspace(text: str, *, cwd: str, source: str = "--workspace") -> str:
    """Read the workspace and return its real path.

    Args:
        text: a directory, absolute or relative to `cwd`.
        cwd: the caller's working directory, absolute.
        source: the flag or `file:line` it came from, for findings.

    Raises:
        PolicyRefused: it is no directory, or is the host's root or a directory of its system.
    """
    real = _existing(text, cwd=cwd, what="workspace", source=source)
    if not os.path.isdir(real):
        raise _refused(
            "workspace-not-a-directory", f"{text!r} is a file", "name the directory it is in", source
        )
    if real in SYSTEM or real == "/run":
        raise _refused(
            "workspace-broad", f"{text!r} belongs to the system", "name the directory of your work", source
        )
    return real


def mount_warnings(binds: tuple[Bind, ...], *, home: str) -> list[Finding]:
    """Return a warning for each that brings the caller's home, with all that is private in it.

    Args:
        binds: volumes, and the workspace.
        home: the caller's real home directory.
    """
    return [
        Finding(
            code="mount-home",
            path="--workspace" if bind.reason == "workspace" else "--volume",
            message=f"{bind.source!r} brings your home directory, with the keys and tokens in it",
            hint="name the one directory that the workload needs",
            severity="warning",
        )
        for bind in binds
        if lies_in(home, bind.source)
    ]


def _destination(text: str, source: str) -> str:
    target = text.rstrip("/") or "/"
    if not target.startswith("/") or plain(target) != target:
        raise _refused(
            "volume-destination", f"{text!r} is not absolute and plain", "write it as /a/b", source
        )
    if target == "/" or any(lies_in(target, kept) for kept in PSEUDO):
        raise _refused(
            "volume-destination",
            f"the sandbox keeps {text!r} for itself",
            "choose another, say /data",
            source,
        )
    return target


def _existing(text: str, *, cwd: str, what: str, source: str) -> str:
    """Return the real path of a file or directory that a sandbox may be shown at all."""
    if not text or _has_control(text):
        raise _refused(f"{what}-malformed", f"{text!r} is no path", "name a directory", source)
    try:
        real = os.path.realpath(os.path.join(cwd, text), strict=True)
        mode = os.stat(real).st_mode
    except OSError as error:
        hint = "a shell expands ~ at the start of a word only" if text.startswith("~") else "make it first"
        raise _refused(f"{what}-missing", f"{text!r}: {error.strerror}", hint, source) from error
    if stat.S_ISSOCK(mode):
        hint = "grant what the workload needs to reach by --network-allow"
        raise _refused(f"{what}-socket", f"{text!r} is a socket: a way out beside the gateway", hint, source)
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        hint = "a sandbox has null, zero, full, random, urandom and tty of its own"
        raise _refused(f"{what}-device", f"{text!r} is neither file nor directory", hint, source)
    if real == "/" or any(lies_in(real, kept) for kept in PSEUDO):
        hint = "name the one directory that the workload needs"
        raise _refused(f"{what}-broad", f"{text!r} is the machine itself", hint, source)
    return real


def _has_control(text: str) -> bool:
    return any(character < " " or character == "\x7f" for character in text)


def _refused(code: str, message: str, hint: str, source: str) -> PolicyRefused:
    path = "--workspace" if code.startswith("workspace") else "--volume"
    return PolicyRefused([Finding(code=code, path=path, message=message, hint=hint, source=source)])
