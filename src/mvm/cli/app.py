"""`--app FILE[:NAME]`: the sandbox that a Python file declares, and the request that it comes to.

Owns which of a file's apps is meant, and how flags stand beside a declaration: what a flag says of limits and
image stands, variables and volumes are added, and for the network `policy.resolve` decides. The file is read,
never imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from mvm.errors import UsageError
from mvm.terms import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mvm.declare.program import Declared, Program
    from mvm.policy.browser import BrowserProfile
    from mvm.supervisor.request import Request

_HOST = "host"


class App(NamedTuple):
    """A declared sandbox, ready to be asked for.

    Attributes:
        declared: as its file says it.
        argv: what is run where the command line names nothing.
        volumes: `SRC:DST[:ro|rw]` each.
        environ: `NAME=VALUE` each.
        image: `host` or `dir:PATH`.
        flake: a flake reference, or None.
        surroundings: what stands for the caller's environment.
        profile: stricter rules that it is held to, or None.
    """

    declared: Declared
    argv: tuple[str, ...]
    volumes: tuple[str, ...]
    environ: tuple[str, ...]
    image: str
    flake: str | None
    surroundings: Mapping[str, str]
    profile: BrowserProfile | None

    def onto(self, request: Request) -> Request:
        """Put what the file declares beside what the flags say."""
        asked, own = request.limits, self.declared.limits
        limits = Limits(
            memory=own.memory if asked.memory is None else asked.memory,
            cpus=own.cpus if asked.cpus is None else asked.cpus,
            pids=asked.pids,
        )
        made = request._replace(
            argv=request.argv or self.argv,
            volumes=(*self.volumes, *request.volumes),
            environ=(*self.environ, *request.environ),
            limits=limits,
        )
        if request.flake is None and request.image == _HOST:
            made = made._replace(image=self.image, flake=self.flake)
        return made


def open_app(text: str, argv: Sequence[str], environ: Mapping[str, str]) -> App:
    """Read a file's app.

    Args:
        text: of `--app`: `FILE`, or `FILE:NAME`.
        argv: the command, if the command line names one.
        environ: the caller's environment.

    Raises:
        UsageError: there is no such file, or it has no such app, or a secret is not set.
        PolicyRefused: a declaration in it is not acceptable.
        BackendUnavailable: its image is not to be had.
    """
    from mvm.compile.module import read_program
    from mvm.sandbox.declared import Caller, needs_of
    from mvm.supervisor.documents import read_text

    path, name = _split(text)
    content = read_text(path, kind="file", hint="write --app FILE, or FILE:NAME")
    declared = _chosen(read_program(content, path=path), path, name)
    file = os.path.abspath(path)
    needs = needs_of(declared, os.path.dirname(file), environ)
    app = App(
        declared=declared,
        argv=declared.entrypoint or (),
        volumes=needs.volumes,
        environ=needs.environ,
        image=needs.image,
        flake=needs.flake,
        surroundings=environ,
        profile=needs.profile,
    )
    if argv or app.argv:
        return app
    caller = Caller.of(file, os.path.splitext(os.path.basename(file))[0], declared.function)
    return app._replace(
        argv=caller.argv("run"),
        volumes=(*app.volumes, *caller.volumes),
        environ=(*app.environ, *caller.environ),
        surroundings=caller.surroundings(environ),
    )


def _split(text: str) -> tuple[str, str | None]:
    path, colon, name = text.rpartition(":")
    if not colon or os.path.exists(text):
        return text, None
    return path, name


def _chosen(program: Program, path: str, name: str | None) -> Declared:
    named = {app.name: app for app in program.apps} | {app.function: app for app in program.apps}
    names = ", ".join(app.name for app in program.apps)
    if not program.apps:
        msg = f"{path} declares functions and no app"
        raise UsageError(msg, hint="a function of @mvm.func is called from Python; write @mvm.app above one")
    if name is not None and name not in named:
        raise UsageError(f"{path} declares no app {name!r}", hint=f"its apps are {names}")
    if name is None and len(program.apps) > 1:
        msg = f"{path} declares several apps: {names}"
        raise UsageError(msg, hint=f"write --app {path}:{program.apps[0].name}")
    return program.apps[0] if name is None else named[name]
