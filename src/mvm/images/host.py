"""The `host` image: which part of this machine a sandbox sees.

Owns the allow-list. What is named here comes in, read-only; everything else of the host isn't there: no
home, no /run, /tmp or /var, hence no socket of the host's services. Must never mount, or take anything
along because it wasn't thought of.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mvm.images.asked import LASTING, add_asked, asked_for, cover_sockets_of_system
from mvm.images.devices import add_devices
from mvm.images.environment import scrub
from mvm.images.etc import Identity, add_etc, cover_private, generated_files
from mvm.images.toolchains import add_tools, path_entries
from mvm.images.trace import lies_in, plain
from mvm.images.tree import Tree
from mvm.images.volumes import PSEUDO, SYSTEM, mount_warnings
from mvm.plan.view import Bind, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mvm.terms import Address

NIX_STORE = "/nix/store"
_STANDARD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# What programs of the system read outside its directories: packages installed, certificates, processors.
_STATE = ("/var/lib/dpkg", "/var/lib/ca-certificates", "/sys/devices/system/cpu")
_OWN = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - the sandbox's own, empty
_MIB = 1 << 20
_MAX_NAME = 32  # useradd(8)


def host_view(  # each is a fact of its own, given by name
    *,
    environ: Mapping[str, str],
    home: str,
    cwd: str,
    inside_uid: int,
    inside_gid: int,
    resolvers: Sequence[Address],
    workspace: str | None,
    volumes: Sequence[Bind],
    packages: Sequence[Bind] = (),
    hostname: str = "sandbox",
    hidden: Sequence[str] = (),
    lasting: str | None = None,
) -> View:
    """Say what a sandbox made of this machine sees.

    Args:
        environ: the caller's environment; only a short list of it passes.
        home: the caller's home directory, absolute; the workload's own empty one lies at the same place.
        cwd: the caller's working directory, absolute; where the workload starts if it is seen inside.
        inside_uid: the workload's user id inside, which has to be an ordinary user's outside even for root:
            /etc and /opt hold files that only the permissions of the host keep from it.
        inside_gid: its group id inside.
        resolvers: the gateway's name servers, in their order.
        workspace: a real path (`volumes.parse_workspace`), writable at its own place; or None.
        volumes: as `volumes.parse_volume` made them.
        packages: store paths of a flake, seen instead of this machine's own ones.
        hostname: the sandbox's own, letters, digits and hyphens.
        hidden: real paths of directories that no volume shows, mvm's own; there when the view is made.
        lasting: a directory of mvm's own that is the home inside, at `LASTING`, and stays; or None.

    Returns:
        The view, with warnings in it. Takes about a millisecond: a few hundred questions to the file system.

    Raises:
        PolicyRefused: a volume has no place to be mounted on, or two have the same.
    """
    tree = Tree()
    asked = asked_for(workspace, volumes, taken=() if lasting is None else (LASTING,))
    real_home = tree.tracer.trace(home).real if home.startswith("/") else "/"
    tree.findings += mount_warnings(asked, home=real_home)
    name = _user_name(environ, inside_uid)
    _add_system(tree)
    inside_home = _add_home(tree, home, name)
    if lasting is not None:
        inside_home = LASTING
        tree.bind(Bind(lasting, LASTING, writable=True, optional=False, reason="workspace"))
    files = generated_files(Identity(name, inside_uid, inside_gid, inside_home, hostname), resolvers)
    add_etc(tree, files)
    add_devices(tree)
    own_place = tuple(bind.source for bind in asked if bind.source == bind.target)
    add_tools(tree, environ=environ, home=real_home, claimed=own_place)
    cover_sockets_of_system(tree, hidden)
    if packages:
        tree.tmpfs(NIX_STORE, mode=0o755, owned=False)
        for bind in packages:
            tree.bind(bind)
    add_asked(tree, asked, hidden)
    path = _path_inside(tree, environ)
    kept = scrub(environ, is_there=lambda place: _is_there(tree, place))
    shell = environ.get("SHELL", "")
    kept |= {
        "PATH": path,
        "HOME": inside_home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": shell if shell.startswith("/") and _is_there(tree, shell) else "/bin/sh",
    }
    start = workspace or (cwd if lasting is None and _is_there(tree, cwd) else inside_home)
    return View(tuple(tree.entries), path, kept, start, tuple(tree.findings))


def _add_system(tree: Tree) -> None:
    for directory in (*SYSTEM, *_STATE):
        if directory == "/etc":  # added with its generated files, once everything they may lead to is there
            continue
        traced = tree.tracer.trace(directory)
        if os.path.isdir(traced.real):
            tree.bind(Bind(traced.real, traced.real, writable=False, optional=True, reason="system"))
            tree.links(traced.links)
    cover_private(tree, "/opt")
    tree.tmpfs("/run", mode=0o755, size=16 * _MIB)
    tree.tmpfs("/tmp", mode=0o1777)  # noqa: S108 - the sandbox's own
    tree.tmpfs("/var/tmp", mode=0o1777)  # noqa: S108 - the sandbox's own
    tree.link("/var/run", "../run")
    tree.link("/var/lock", "../run/lock")


def _add_home(tree: Tree, home: str, name: str) -> str:
    """Add an empty home where the caller's is, or at a place of its own where that can't be; return it."""
    if home.startswith("/") and "\0" not in home:
        traced = tree.tracer.trace(home)
        taken = any(lies_in(place, traced.real) for place in (*SYSTEM, *_OWN, "/var", "/etc"))
        lost = tree.shows(traced.real) and not os.path.isdir(traced.real)
        if not (taken or lost or any(lies_in(traced.real, kept) for kept in (*PSEUDO, "/etc"))):
            tree.links(traced.links)
            tree.tmpfs(traced.real, mode=0o700)
            return plain(home)
    tree.tmpfs(f"/home/{name}", mode=0o700)
    return f"/home/{name}"


def _path_inside(tree: Tree, environ: Mapping[str, str]) -> str:
    entries = dict.fromkeys((*path_entries(environ), *_STANDARD_PATH))
    return ":".join(entry for entry in entries if _is_there(tree, entry))


def _is_there(tree: Tree, place: str) -> bool:
    """Return whether an absolute path as the caller writes it exists inside."""
    place = tree.inside(plain(place))
    below = tree.host_path(place)
    if below is None:
        return tree.holds(place)
    real = tree.tracer.trace(below).real
    return os.path.exists(real) and (real == below or tree.shows(real))


def _user_name(environ: Mapping[str, str], uid: int) -> str:
    """Return the name of the workload's user: the caller's, where that fits the user id and passwd(5)."""
    if uid == 0:
        return "root"
    name = environ.get("USER") or environ.get("LOGNAME") or ""
    letters = name.replace("-", "").replace("_", "").replace(".", "")
    fits = (
        letters.isascii() and letters.isalnum() and not name.startswith(("-", ".")) and len(name) <= _MAX_NAME
    )
    return name if fits and name not in {"root", "nobody"} else "sandbox"
