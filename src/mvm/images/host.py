"""The `host` image: which part of this machine a sandbox sees.

Owns the allow-list. What is named here comes in, read-only; everything else of the host isn't there: no
home, no /run, /tmp or /var, hence no socket of the host's services. Must never mount, or take anything
along because it wasn't thought of.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mvm.errors import Finding, PolicyRefused
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

_STANDARD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEV_LINKS = (
    ("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
)  # fmt: skip
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
    hostname: str = "sandbox",
    hidden: Sequence[str] = (),
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
        hostname: the sandbox's own, letters, digits and hyphens.
        hidden: real paths of directories that no volume shows, mvm's own; there when the view is made.

    Returns:
        The view, with warnings in it. Takes about a millisecond: a few hundred questions to the file system.

    Raises:
        PolicyRefused: a volume has no place to be mounted on, or two have the same.
    """
    tree = Tree()
    asked = _asked(workspace, volumes)
    real_home = tree.tracer.trace(home).real if home.startswith("/") else "/"
    tree.findings += mount_warnings(asked, home=real_home)
    name = _user_name(environ, inside_uid)
    _add_system(tree)
    inside_home = _add_home(tree, home, name)
    files = generated_files(Identity(name, inside_uid, inside_gid, inside_home, hostname), resolvers)
    add_etc(tree, files)
    _add_devices(tree)
    own_place = tuple(bind.source for bind in asked if bind.source == bind.target)
    add_tools(tree, environ=environ, home=real_home, claimed=own_place)
    _add_asked(tree, asked, hidden)
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
    start = workspace or (cwd if _is_there(tree, cwd) else inside_home)
    return View(tuple(tree.entries), path, kept, start, tuple(tree.findings))


def _asked(workspace: str | None, volumes: Sequence[Bind]) -> tuple[Bind, ...]:
    """Return workspace and volumes as one list, refusing two for one place."""
    asked = tuple(volumes)
    if workspace is not None:
        asked = (Bind(workspace, workspace, writable=True, optional=False, reason="workspace"), *asked)
    seen: set[str] = set()
    for bind in asked:
        if bind.target in seen:
            raise _no_place(bind, "two volumes have this place", "give each a place of its own")
        seen.add(bind.target)
    return asked


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


def _add_devices(tree: Tree) -> None:
    tree.tmpfs("/dev", mode=0o755, size=_MIB, owned=False)
    for name in _DEVICES:
        tree.device(name)
    tree.terminals("/dev/pts")
    tree.tmpfs("/dev/shm", mode=0o1777)  # noqa: S108 - the sandbox's own
    for name, to in _DEV_LINKS:
        tree.link(f"/dev/{name}", to)


def _add_asked(tree: Tree, asked: tuple[Bind, ...], hidden: Sequence[str]) -> None:
    for bind in asked:
        placed = bind._replace(target=tree.inside(bind.target))
        below = tree.host_path(placed.target)
        if below is not None:
            _check_place(tree, placed, below)
        if any(lies_in(placed.source, own) for own in hidden):
            raise _no_place(bind, f"{bind.source!r} is mvm's own: its record, or its sockets", "name another")
        tree.bind(placed)
        _cover_sockets(tree, placed)
        for own in hidden:
            if lies_in(own, placed.source):
                target = placed.target + own[len(placed.source) :]
                tree.tmpfs(target, mode=0o555, size=4096, owned=False)


def _check_place(tree: Tree, bind: Bind, below: str) -> None:
    """Refuse a mount point that would have to be made on the host, or that a link there leads elsewhere."""
    if tree.tracer.trace(below).real != below:
        raise _no_place(bind, f"{below!r} on this machine is reached through a link", "name where it leads")
    fits = os.path.isdir(below) if os.path.isdir(bind.source) else os.path.isfile(below)
    if not fits:
        kind = "directory" if os.path.isdir(bind.source) else "file"
        raise _no_place(
            bind, f"{below!r} on this machine is no {kind}, and is not made there", "make it first"
        )


def _cover_sockets(tree: Tree, bind: Bind) -> None:
    """Cover the sockets that lie directly in what was asked for: who answers there is outside."""
    try:
        with os.scandir(bind.source) as entries:
            sockets = sorted(entry.name for entry in entries if _is_socket(entry))
    except OSError:  # a single file, or one that isn't ours to list
        return
    for name in sockets:
        tree.file(f"{bind.target}/{name}", b"", 0)
    if sockets:
        tree.findings.append(
            Finding(
                code="socket-covered",
                path=f"--{bind.reason}",
                message=f"{bind.source!r} holds sockets of this machine, now covered: {', '.join(sockets)}",
                hint="grant what the workload needs to reach by --network-allow",
                severity="warning",
            )
        )


def _is_socket(entry: os.DirEntry[str]) -> bool:
    # Files, directories and links say so by themselves (readdir(3)): only the rest is asked.
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
        return False
    return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)


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


def _no_place(bind: Bind, message: str, hint: str) -> PolicyRefused:
    path = f"--{bind.reason}"
    finding = Finding(
        code="volume-place", path=path, message=f"{bind.target!r}: {message}", hint=hint, source=path
    )
    return PolicyRefused([finding])
