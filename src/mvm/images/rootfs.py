"""A sandbox made of an image's root tree: the tree itself, and the little that is always the sandbox's own.

Owns which parts these are: /dev, /tmp, /proc's place, name servers, host names, and the environment. The
image's links are followed inside of it, never on the host. Must never write into the tree.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import PolicyRefused, UsageError
from mvm.images.asked import LASTING, add_asked, asked_for
from mvm.images.devices import add_devices
from mvm.images.environment import terminal_words
from mvm.images.etc import Identity, generated_files
from mvm.images.tree import Tree, follow, read_plain
from mvm.plan.view import Bind, Overlay, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mvm.images.config import ImageConfig
    from mvm.terms import Address

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_FILES = ("hosts", "resolv.conf", "hostname")
_LARGEST_TABLE = 1 << 20


class User(NamedTuple):
    """Who the workload is, inside.

    Attributes:
        uid, gid: its ids.
        name: as the image calls it, or its number.
        home: its home directory.
    """

    uid: int
    gid: int
    name: str
    home: str


def find_user(root: str, wanted: str) -> User:
    """Find a user of an image.

    Args:
        root: of its tree, on the host.
        wanted: `USER` or `USER:GROUP`, names or numbers; empty for root.

    Raises:
        UsageError: the image has no such user or group.
    """
    user, _, group = (wanted or "0").partition(":")
    known = list(_table(root, "/etc/passwd"))
    row = next((row for row in known if user in {row[0], row[2]} and len(row) > 5), None)
    if row is None and not user.isdecimal():
        raise UsageError(f"the image has no user {user!r}", hint="its users stand in its /etc/passwd")
    uid = int(user if row is None else row[2])
    gid = int(row[3]) if row is not None else 0
    if group:
        found = next(
            (entry[2] for entry in _table(root, "/etc/group") if group in {entry[0], entry[2]}), group
        )
        if not found.isdecimal():
            raise UsageError(f"the image has no group {group!r}", hint="its groups stand in its /etc/group")
        gid = int(found)
    home = row[5] if row is not None and row[5].startswith("/") else "/"
    return User(uid, gid, row[0] if row is not None else user, home)


def _table(root: str, path: str) -> Iterator[list[str]]:
    """Read a table like passwd(5) of an image; rows that are none are left out."""
    place = follow(root, path)
    content = None if place is None else read_plain(root + place, _LARGEST_TABLE)
    for line in (content or b"").decode("utf-8", "replace").splitlines():
        row = line.split(":")
        if len(row) > 2 and row[2].isdecimal():
            yield row


def root_view(
    root: str,
    config: ImageConfig,
    user: User,
    *,
    environ: Mapping[str, str],
    resolvers: Sequence[Address],
    workspace: str | None,
    volumes: Sequence[Bind],
    packages: Sequence[Bind],
    hostname: str,
    hidden: Sequence[str],
    upper: str | None,
    lasting: str | None,
) -> View:
    """Say what a sandbox made of a root tree sees.

    Args:
        root: of the tree, on the host, a real path.
        config: what the image says of itself.
        user: who the workload is.
        environ: the caller's environment, of which what concerns the terminal passes.
        resolvers: the gateway's name servers, in their order.
        workspace: a real path, writable at its own place; or None.
        volumes: as `volumes.parse_volume` made them.
        packages: what the tree leads to outside of it.
        hostname: the sandbox's own.
        hidden: mvm's own directories on the host, which no volume shows.
        upper: the directory that keeps what is changed, or None for memory.
        lasting: a directory of mvm's own that is the home inside, at `LASTING`, and stays; or None.

    Raises:
        PolicyRefused: a volume has no place to be mounted on, or two have the same.
    """
    tree = Tree(Overlay(root, upper, "image"))
    for bind in packages:
        tree.bind(bind)
    home = user.home if lasting is None else LASTING
    if lasting is not None:
        tree.bind(Bind(lasting, LASTING, writable=True, optional=False, reason="workspace"))
    who = Identity(user.name, user.uid, user.gid, home, hostname)
    files = generated_files(who, resolvers)
    add_devices(tree)
    tree.tmpfs(tree.inside("/tmp"), mode=0o1777)  # noqa: S108  the sandbox's own
    for name in _OWN_FILES:  # where an image's links may lead, everything is there by now
        tree.file(tree.inside(f"/etc/{name}"), files[name])
    add_asked(tree, asked_for(workspace, volumes, taken=() if lasting is None else (LASTING,)), hidden)
    inside = {"PATH": STANDARD_PATH, "HOME": home, **terminal_words(environ)}
    for text in config.env:
        name, _, value = text.partition("=")
        inside[name] = value
    if lasting is not None:
        inside["HOME"] = LASTING
    start = workspace or (config.workdir or "/" if lasting is None else LASTING)
    return View(tuple(tree.entries), inside["PATH"], inside, start, tuple(tree.findings))


def require_tree(path: str, words: str) -> str:
    """Take a directory for a root tree.

    Args:
        path: of the directory.
        words: by which the user named it, for messages.

    Returns:
        Its real path.

    Raises:
        UsageError: it is no directory, or can't be read.
        PolicyRefused: it is this machine's own root.
    """
    real = os.path.realpath(path)
    if real == "/":
        from mvm.errors import Finding

        message = "the root of this machine, with all that is in it, is no image"
        hint = "leave --image out for this machine's system, without what is private"
        raise PolicyRefused([Finding(code="image-is-host", path="--image", message=message, hint=hint)])
    try:
        os.listdir(real)
    except OSError as error:
        msg = f"{words}: {(error.strerror or str(error)).lower()}"
        raise UsageError(msg, hint="name a directory that holds a root tree") from error
    return real
