"""`mvmctl logs`: what a detached sandbox wrote to its console."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from mvm.audit.state import Run

_READ_BYTES = 1 << 16
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@click.command(
    "logs", context_settings=HELP, epilog=examples("mvmctl logs agent-sandbox", "mvmctl logs -f RUN")
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the sandbox has ended.")
@click.argument("name", metavar="NAME|RUN", shell_complete=names.known)
def command(name: str, *, follow: bool) -> None:
    """Show the console output of a sandbox that was started with `up -d`: its stdout and stderr, as written.

    Of a name that was used several times it is the newest run's; a run id names an older one.
    """
    from mvm.audit.state import find_run, state_directory

    run = find_run(state_directory(os.environ), name)
    path = run.console
    if not os.path.exists(path):
        raise UsageError(
            f"there is no console output of {name!r}",
            hint="it is kept of the command of `mvmctl up -d`; in the foreground it goes to the terminal",
        )
    older = f"{path}.1"
    if os.path.exists(older):
        _copy(_open(older))
    if follow:
        _follow(path, run)
    else:
        _copy(_open(path))


def _open(path: str) -> int:
    try:
        return os.open(path, _OPEN)
    except OSError as error:
        msg = f"{path} can't be read: {error.strerror}"
        raise UsageError(msg, hint="it belongs to the user who started the sandbox") from error


def _copy(file: int) -> None:
    """Copy what is left of a file to stdout, as it is, and close it."""
    try:
        _copy_more(file)
    finally:
        os.close(file)


def _copy_more(file: int) -> None:
    output = sys.stdout.buffer
    while data := os.read(file, _READ_BYTES):
        output.write(data)
    output.flush()


def _follow(path: str, run: Run) -> None:
    """Copy what comes; where the older half was set aside meanwhile, go on with the new file."""
    from mvm.cli.following import Following

    while True:
        with Following(path, run) as following:
            file = _open(path)
            try:
                _copy_more(file)
                while following.wait():
                    _copy_more(file)
                    if os.fstat(file).st_ino != os.stat(path).st_ino:
                        break
                else:
                    return
            finally:
                os.close(file)
