"""From a request to a plan: this machine is looked at, nothing is made.

Owns the choice of backend and image, and what the environment says by default. Must never start, write
or reserve anything: `--dry-run` ends here.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mvm.audit.run_id import make_run_id
from mvm.audit.state import runtime_directory, state_directory
from mvm.errors import AuditError, BackendUnavailable, UsageError
from mvm.gateway.names import POOLS
from mvm.images.environment import parse_env
from mvm.images.host import host_view
from mvm.images.volumes import parse_volume, parse_workspace
from mvm.plan import capabilities, identity
from mvm.plan.plan import Plan
from mvm.supervisor.registry import check_name
from mvm.terms import Preset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mvm.backends.interface import Backend
    from mvm.plan.view import View
    from mvm.supervisor.request import Request

BACKENDS = ("auto", "namespace", "oci", "qemu", "firecracker")

# Package tools repeat what was denied for seconds or a minute (DESIGN); an answer at once is worth more.
_NO_RETRIES = {"PIP_RETRIES": "0", "npm_config_fetch_retries": "0"}
_WITH_REGISTRIES = (Preset.REGISTRIES, Preset.DEV, Preset.UNRESTRICTED)


def prepare(request: Request, environ: Mapping[str, str], cwd: str) -> tuple[Plan, Backend]:
    """Decide everything about a sandbox.

    Args:
        request: what was asked.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.

    Returns:
        The plan, and the backend that can carry it out.

    Raises:
        PolicyRefused: a volume or the workspace is refused, or the profile forbids something.
        UsageError: another word is wrong.
        BackendUnavailable: nothing here can do it.
    """
    backend = find_backend(request.backend)
    _require_host_image(request)
    run = make_run_id(time.time_ns() // 1_000_000, os.urandom(10))
    name = check_name(request.name) if request.name is not None else f"run-{run[-10:].lower()}"
    asked = capabilities.demands(request.policy)
    who = identity.choose(
        os.geteuid(), os.getegid(), _read("/proc/self/uid_map"), _read("/proc/self/gid_map")
    )
    volumes = tuple(parse_volume(text, cwd=cwd) for text in request.volumes)
    workspace = None if request.workspace is None else parse_workspace(request.workspace, cwd=cwd)
    lasting = None
    if request.profile is not None:
        from mvm.supervisor.profile import require_profile

        lasting = require_profile(request, volumes, workspace, environ=environ, cwd=cwd)
    view = host_view(
        environ=environ,
        home=environ.get("HOME", ""),
        cwd=cwd,
        inside_uid=who.inside_uid,
        inside_gid=who.inside_gid,
        resolvers=POOLS.resolver,
        workspace=workspace,
        volumes=volumes,
        hostname=name,
        hidden=_own_places(environ),
        lasting=lasting,
    )
    view = _with_environment(view, request, environ, name)
    if request.workdir is not None and not request.workdir.startswith("/"):
        msg = f"--workdir {request.workdir!r} is not absolute"
        raise UsageError(msg, hint="name a directory as it is inside, like /work")
    plan = Plan(
        run=run,
        name=name,
        backend=backend.name,
        isolation=backend.isolation(),
        policy=request.policy,
        requested=asked,
        achieved=capabilities.require(backend.name, asked, backend.missing()),
        identity=who,
        view=view,
        workdir=request.workdir or view.workdir,
        limits=request.limits,
        timeout=request.timeout,
        image=request.image,
        profile=request.profile,
    )
    return plan, backend


def dry_run(request: Request, environ: Mapping[str, str], cwd: str) -> tuple[tuple[str, Sequence[str]], ...]:
    """Say what would be done: the plan's steps. Nothing is made.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable: it would be refused.
    """
    plan, _ = prepare(request._replace(flake=None), environ, cwd)
    return plan.describe()


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


def _require_host_image(request: Request) -> None:
    if request.flake is not None:
        msg = f"building the flake {request.flake!r} is not part of this version"
        raise BackendUnavailable(msg, hint="leave --flake out to use this machine's own system, read-only")
    if request.image == "host":
        return
    if request.image.partition(":")[0] in {"dir", "tar", "oci"}:
        msg = f"the image {request.image!r} can't be used by this version"
        raise BackendUnavailable(msg, hint="leave --image out to use this machine's own system, read-only")
    msg = f"{request.image!r} is no image"
    raise UsageError(msg, hint="write host, dir:PATH, tar:PATH or oci:PATH[:TAG]")


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
