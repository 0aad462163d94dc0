"""`mvmctl up`: a named sandbox that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.printing import err, out
from mvm.cli.sandbox_options import SandboxWords, sandbox_options, want
from mvm.cli.verbs import HELP, examples
from mvm.errors import MvmError

if TYPE_CHECKING:
    from typing import Unpack

    from mvm.cli.sandbox_options import Wanted


@click.command(
    "up",
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog=examples(
        "mvmctl up -d --name agent-sandbox --network-allow api.example.com:443",
        "mvmctl up --name api-dev -p 127.0.0.1:8080:8080 -- python3 -m http.server 8080",
        "mvmctl up --flake . --name build-sandbox --network-preset registries --dry-run",
    ),
)
@sandbox_options
@click.option("-d", "--detach", is_flag=True, help="Come back when it stands; print its name.")
@click.argument("argv", nargs=-1, metavar="[--] [CMD...]")
def command(argv: tuple[str, ...], *, detach: bool, **words: Unpack[SandboxWords]) -> int:
    """Start a named sandbox, in which `mvmctl exec NAME` runs further commands.

    It lives as long as CMD; without one, until `mvmctl down NAME`. In the foreground CMD's streams are
    passed through and the exit status is its own; with -d its output goes to `mvmctl logs NAME`.
    """
    try:
        return _up(argv, detach=detach, words=words)
    except MvmError as error:
        if not words["as_json"]:
            raise
        from mvm.cli.refused import print_refused

        return print_refused(error)


def _up(argv: tuple[str, ...], *, detach: bool, words: SandboxWords) -> int:
    wanted = want(words, argv)
    if wanted.app is not None and wanted.request.name is None:
        wanted.request = wanted.request._replace(name=wanted.app.declared.name)
    if words["dry_run"]:
        from mvm.cli.dry_run import print_dry_run

        print_dry_run(wanted, as_json=words["as_json"])
        return 0
    if wanted.found is not None:
        err(f"mvmctl: policy from {wanted.found}")
    if detach:
        return _detach(wanted, as_json=words["as_json"])
    return _stay(wanted, as_json=words["as_json"])


def _detach(wanted: Wanted, *, as_json: bool) -> int:
    from mvm.cli.policy_options import working_directory
    from mvm.cli.progress import told
    from mvm.supervisor.daemon import start_detached

    started = start_detached(
        wanted.request,
        wanted.environ,
        working_directory(),
        told=told,
        warned=lambda finding: err(f"mvmctl: warning: {finding.message}"),
    )
    if as_json:
        from mvm.cli.printing import print_json

        failed = {"error": started.failure} if started.failure else {}
        print_json({"schema": "mvm.started/1", "name": started.name, "run": started.run, **failed})
    elif not started.failure:
        out(started.name)
    if started.failure:
        err(f"mvmctl: {started.failure}")
    return started.status


def _stay(wanted: Wanted, *, as_json: bool) -> int:
    from mvm.cli.policy_options import working_directory
    from mvm.cli.progress import told
    from mvm.supervisor.run import Streams, run

    streams = Streams("stderr", "inherit") if as_json else Streams()
    ended = run(wanted.request, wanted.environ, working_directory(), streams, told=told)
    if as_json:
        from mvm.cli.printing import print_json

        print_json(ended.result)
    return ended.status
