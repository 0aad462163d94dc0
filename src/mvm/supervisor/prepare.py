"""From a request to a plan: this machine is looked at, and nothing is made of it but images in the cache.

Owns the choice of backend and image, and what the environment says by default. Must never start or reserve
anything: `--dry-run` ends here, and then nothing is written either.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from mvm.audit.run_id import make_run_id
from mvm.audit.state import runtime_directory, state_directory
from mvm.errors import AuditError, BackendUnavailable, UsageError
from mvm.images.environment import parse_env
from mvm.images.volumes import parse_volume, parse_workspace
from mvm.plan import capabilities, identity
from mvm.plan.plan import Plan
from mvm.supervisor.material import Places, about_needs, image_of, in_silence, user_of, view_of
from mvm.supervisor.registry import check_name
from mvm.terms import Preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mvm.backends.interface import Backend
    from mvm.errors import Finding
    from mvm.images.image import Image, Told
    from mvm.plan.identity import Identity
    from mvm.plan.view import View
    from mvm.policy.model import Grant
    from mvm.supervisor.request import Request

BACKENDS = ("auto", "namespace", "oci", "qemu", "firecracker")

# Package tools repeat what was denied for seconds or a minute (DESIGN); an answer at once is worth more.
_NO_RETRIES = {"PIP_RETRIES": "0", "npm_config_fetch_retries": "0"}
_WITH_REGISTRIES = (Preset.REGISTRIES, Preset.DEV, Preset.UNRESTRICTED)


class Prepared(NamedTuple):
    """A sandbox that can be started.

    Attributes:
        request: what was asked, its command filled in from the image where it names none.
        plan: what will be made.
        backend: who can carry it out.
        image: what it is made of; to be closed once the sandbox has ended.
    """

    request: Request
    plan: Plan
    backend: Backend
    image: Image


def prepare(
    request: Request, environ: Mapping[str, str], cwd: str, *, told: Told | None = in_silence
) -> Prepared:
    """Decide everything about a sandbox.

    Args:
        request: what was asked.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.
        told: is told of what takes long, the unpacking of an image; None to unpack and build nothing.

    Raises:
        PolicyRefused: an image, a volume or the workspace is refused, or the profile forbids something.
        UsageError: another word is wrong.
        BackendUnavailable: nothing here can do it.
    """
    backend = find_backend(request.backend)
    run = make_run_id(time.time_ns() // 1_000_000, os.urandom(10))
    name = check_name(request.name) if request.name is not None else f"run-{run[-10:].lower()}"
    asked = capabilities.demands(request.policy)
    achieved = capabilities.require(backend.name, asked, backend.missing())
    request, places = _placed(request, cwd), _places(request, environ, cwd)
    who = _identity(None)
    owner = _owner_of_trees(who)
    image = image_of(request.image, request.flake, environ, cwd, owner=owner, told=told)
    try:
        request = _fitted(request, image)
        user = user_of(image, request.user)
        who = who if user is None else _identity((user.uid, user.gid))
        view = view_of(image, user, who, places, environ=environ, cwd=cwd, hostname=name)
        view = _with_environment(view, request, environ, name)
        request = request._replace(warnings=(*request.warnings, *view.findings))
        plan = Plan(
            run=run,
            name=name,
            backend=backend.name,
            isolation=backend.isolation(),
            policy=request.policy,
            requested=asked,
            achieved=achieved,
            identity=who,
            view=view,
            workdir=request.workdir or view.workdir,
            limits=request.limits,
            timeout=request.timeout,
            image=image.words,
            digest=image.digest,
            profile=request.profile,
        )
    except BaseException:
        image.close()
        raise
    return Prepared(request, plan, backend, image)


def asked_by_image(
    words: str,
    flake: str | None,
    grants: Iterable[Grant],
    environ: Mapping[str, str],
    cwd: str,
    *,
    told: Told,
) -> tuple[Finding, ...]:
    """Tell what an image asks to reach and is not granted; it is opened for that, and nothing started.

    Args:
        words: `host`, or another image's.
        flake: a flake reference instead, or None.
        grants: what is granted.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.
        told: is told of what takes long.

    Raises:
        PolicyRefused: the image, or what it asks for, is refused.
        UsageError: there is no such image.
        BackendUnavailable: what unpacks or builds it is missing.
    """
    owner = _owner_of_trees(_identity(None))
    image = image_of(words, flake, environ, cwd, owner=owner, told=told)
    try:
        return about_needs(image, grants, unrestricted=False)
    finally:
        image.close()


def _places(request: Request, environ: Mapping[str, str], cwd: str) -> Places:
    volumes = tuple(parse_volume(text, cwd=cwd) for text in request.volumes)
    workspace = None if request.workspace is None else parse_workspace(request.workspace, cwd=cwd)
    lasting = None
    if request.profile is not None:
        from mvm.supervisor.profile import require_profile

        lasting = require_profile(request, volumes, workspace, environ=environ, cwd=cwd)
    upper = None
    if request.overlay is not None:
        from mvm.supervisor.overlay import overlay_path

        upper = overlay_path(os.path.realpath(state_directory(environ)), check_name(request.overlay))
    return Places(workspace, volumes, _own_places(environ), lasting, upper)


def _identity(inside: tuple[int, int] | None) -> Identity:
    maps = _read("/proc/self/uid_map"), _read("/proc/self/gid_map")
    return identity.choose(os.geteuid(), os.getegid(), *maps, inside=inside)


def _owner_of_trees(who: Identity) -> tuple[int, int] | None:
    """Whom an image's files belong to: the workload, which is another than root where root starts it."""
    return None if who.outside_uid == os.geteuid() else (who.outside_uid, who.outside_gid)


def _placed(request: Request, cwd: str) -> Request:
    """Take the paths in a request for what they are."""
    if request.workdir is not None and not request.workdir.startswith("/"):
        msg = f"--workdir {request.workdir!r} is not absolute"
        raise UsageError(msg, hint="name a directory as it is inside, like /work")
    if request.receipt is None:
        return request
    return request._replace(receipt=os.path.join(cwd, request.receipt))


def _fitted(request: Request, image: Image) -> Request:
    """Fill in what a request leaves to its image, and refuse what does not go with it."""
    if request.overlay is not None and image.root is None:
        msg = "--overlay keeps changes of an image's tree, and this machine's system has none"
        raise UsageError(msg, hint="add --image or --flake, or keep files with --workspace DIR")
    policy = request.policy
    asked = about_needs(image, policy.grants, unrestricted=policy.unrestricted)
    request = request._replace(warnings=(*request.warnings, *asked))
    if request.argv:
        return request
    argv = (*image.config.entrypoint, *image.config.cmd)
    if not argv and request.needs_command:
        msg = "there is no command to run"
        if image.root is not None:
            msg = f"{msg}, and {image.words} names none"
        raise UsageError(msg, hint="write it at the end, behind --; only mvmctl up needs none")
    return request._replace(argv=argv)


def dry_run(request: Request, environ: Mapping[str, str], cwd: str) -> Prepared:
    """Decide everything, and make nothing: an image that is not in the cache is not unpacked for it.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable: it would be refused.
    """
    prepared = prepare(request._replace(needs_command=False), environ, cwd, told=None)
    prepared.image.close()
    return prepared


def find_backend(name: str) -> Backend:
    """Find the backend of a name.

    Raises:
        UsageError: there is no such word.
        BackendUnavailable: it can't be had here.
    """
    if name in {"auto", "namespace"}:
        from mvm.backends.namespace.backend import NamespaceBackend

        return NamespaceBackend()
    if name in BACKENDS:
        msg = f"the backend {name} is not part of this version"
        raise BackendUnavailable(msg, hint="leave --backend out, or write --backend namespace")
    msg = f"{name!r} is no backend"
    raise UsageError(msg, hint=f"write one of {', '.join(BACKENDS)}")


def _with_environment(view: View, request: Request, environ: Mapping[str, str], name: str) -> View:
    inside = {**view.environ, "MVM_SANDBOX": name}
    if request.policy.preset not in _WITH_REGISTRIES:
        inside = {**_NO_RETRIES, **inside}
    for text in request.environ:
        inside.update(parse_env(text, environ=environ))
    return view._replace(environ=inside, path=inside.get("PATH", view.path))


def _own_places(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where records, keys and control sockets are: none of it may come along with a volume."""
    try:
        state, runtime = state_directory(environ), runtime_directory(environ)
    except AuditError:
        return ()  # told when the record is opened
    places = dict.fromkeys(map(os.path.realpath, (state, runtime)))
    return tuple(place for place in places if not any(place.startswith(f"{other}/") for other in places))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
