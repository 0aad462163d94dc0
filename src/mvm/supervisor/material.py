"""What a sandbox is made of on this machine: the image of a request, and the view that comes of it.

Owns the step from an image's words to what the workload sees and runs. Must never unpack or build anything
for a plan that is only to be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import Finding, UsageError
from mvm.gateway.names import POOLS
from mvm.images.host import host_view
from mvm.images.image import HOST, Image, Opener, pending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mvm.images.image import Told
    from mvm.images.inflate import Progress
    from mvm.images.rootfs import User
    from mvm.plan.identity import Identity
    from mvm.plan.view import Bind, View
    from mvm.policy.model import Grant


class Places(NamedTuple):
    """What the caller wants to be seen, and what never is.

    Attributes:
        workspace: a real path, or None.
        volumes: parsed.
        hidden: mvm's own directories.
        lasting: a directory of mvm's own that is the home inside, or None.
        upper: a directory of mvm's own that keeps what is changed in an image's tree, or None.
    """

    workspace: str | None
    volumes: Sequence[Bind]
    hidden: Sequence[str]
    lasting: str | None
    upper: str | None


def in_silence(_title: str, _size: int) -> Progress:
    """Take long without a word."""
    return lambda _done: None


def image_of(
    words: str,
    flake: str | None,
    environ: Mapping[str, str],
    cwd: str,
    *,
    owner: tuple[int, int] | None,
    told: Told | None,
) -> Image:
    """Open an image.

    Args:
        words: `host`, or another image's.
        flake: a flake reference instead, or None.
        environ: the caller's environment.
        cwd: the caller's working directory.
        owner: whom what is unpacked belongs to, or None for the caller.
        told: is told what takes long; None where nothing is to be made, but only shown.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable: as `Opener`.
    """
    if flake is None and words == HOST:
        return Image.host()
    from mvm.images.store import Store, cache_directory

    if told is None and flake is not None:
        return pending(f"flake:{flake}")
    opener = Opener(cwd=cwd, environ=environ, store=Store(cache_directory(environ)), owner=owner, told=told)
    return opener.open(words) if flake is None else opener.build(flake)


def user_of(image: Image, wanted: str | None) -> User | None:
    """Say who the workload is inside; None for this machine's system, where it is an ordinary user.

    Raises:
        UsageError: the image has no such user, or there is no image to have one.
    """
    if image.root is None:
        if wanted is not None:
            msg = "--user names one of an image's users, and in this machine's system it is always yourself"
            raise UsageError(msg, hint="leave --user out, or add --image")
        return None
    from mvm.images.rootfs import find_user

    return find_user(image.root, image.config.user if wanted is None else wanted)


def view_of(
    image: Image,
    user: User | None,
    who: Identity,
    places: Places,
    *,
    environ: Mapping[str, str],
    cwd: str,
    hostname: str,
) -> View:
    """Say what a sandbox made of an image sees.

    Raises:
        PolicyRefused: a volume has no place, or two have the same.
    """
    if image.root is not None and user is not None:
        from mvm.images.rootfs import root_view

        return root_view(
            image.root,
            image.config,
            user,
            environ=environ,
            resolvers=POOLS.resolver,
            workspace=places.workspace,
            volumes=places.volumes,
            packages=image.packages,
            hostname=hostname,
            hidden=places.hidden,
            upper=places.upper,
            lasting=places.lasting,
        )
    return _host_view(image, who, places, environ=environ, cwd=cwd, hostname=hostname)


def _host_view(
    image: Image, who: Identity, places: Places, *, environ: Mapping[str, str], cwd: str, hostname: str
) -> View:
    """This machine's system, with the packages of a flake in front."""
    view = host_view(
        environ=environ,
        home=environ.get("HOME", ""),
        cwd=cwd,
        inside_uid=who.inside_uid,
        inside_gid=who.inside_gid,
        resolvers=POOLS.resolver,
        workspace=places.workspace,
        volumes=places.volumes,
        packages=image.packages,
        hostname=hostname,
        hidden=places.hidden,
        lasting=places.lasting,
    )
    if not image.path and not image.config.env:
        return view
    path = ":".join([*image.path, view.path])
    own = dict(text.partition("=")[::2] for text in image.config.env)
    if places.lasting is not None:
        own.pop("HOME", None)
    return view._replace(path=path, environ={**view.environ, **own, "PATH": path})


def about_needs(image: Image, grants: Iterable[Grant], *, unrestricted: bool) -> tuple[Finding, ...]:
    """Tell what an image asks to reach and is not granted: it is never granted for its asking.

    Raises:
        PolicyRefused: what it asks for is not acceptable.
    """
    if image.config.needs is None:
        return ()
    import json

    from mvm.policy.document import read_policy
    from mvm.policy.grants import format_grant

    source = f"{image.words}: network"
    needed = read_policy(json.dumps(image.config.needs), path=f"{source}.json").grants
    granted = {(grant.host, grant.port, grant.protocol) for grant in grants}
    return tuple(
        Finding(
            code="image-asks",
            path="--image",
            message=f"the image asks for {grant.host}:{grant.port}/{grant.protocol}, which is not granted; "
            f"allow with --network-allow {format_grant(grant)}",
            hint="grant it only if the workload needs it",
            severity="warning",
            source=source,
        )
        for grant in needed
        if (grant.host, grant.port, grant.protocol) not in granted and not unrestricted
    )
