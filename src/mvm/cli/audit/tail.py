"""`mvmctl audit tail`: the end of a run's record, and what is still to come."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

import click

from mvm.cli import names
from mvm.cli.audit.lines import describe_record
from mvm.cli.audit.show import find, kinds_option
from mvm.cli.following import Following
from mvm.cli.printing import out, print_json_line
from mvm.cli.verbs import HELP, examples

if TYPE_CHECKING:
    from mvm.audit.state import Run


@click.command(
    "tail",
    context_settings=HELP,
    epilog=examples("mvmctl audit tail -f agent-sandbox", "mvmctl audit tail -n 100 --json"),
)
@click.option(
    "-n", "--lines", type=click.IntRange(0), default=20, show_default=True, help="How many at first."
)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@kinds_option
@click.option("--json", "as_json", is_flag=True, help="Print each record as a line of JSON, as it is kept.")
@click.argument("which", required=False, metavar="[RUN]", shell_complete=names.known)
def command(which: str | None, *, lines: int, follow: bool, kinds: tuple[str, ...], as_json: bool) -> None:
    """Show the last records of a run, and with -f each further one as it is written.

    RUN is meant as in `audit show`.
    """
    run = find(which)
    tail = Tail(lines, as_json=as_json)
    if follow:
        _follow(run, kinds, tail)
    else:
        from mvm.audit.report import read_records

        for record in read_records(run.log, kinds=kinds):
            tail.take(record)
    tail.release()


def _follow(run: Run, kinds: tuple[str, ...], tail: Tail) -> None:
    from mvm.audit.report import follow_records

    with Following(run.log, run) as following:

        def wait() -> bool:
            tail.release()
            return following.wait()

        for record in follow_records(run.log, wait=wait, kinds=kinds):
            tail.take(record)


class Tail:
    """Keeps the last records until it is told to let go, and passes on what comes then.

    Args:
        lines: how many are kept.
        as_json: how they are printed.
    """

    def __init__(self, lines: int, *, as_json: bool) -> None:
        self._kept: deque[dict[str, object]] | None = deque(maxlen=lines)
        self._as_json = as_json

    def take(self, record: dict[str, object]) -> None:
        """Keep a record, or print it."""
        if self._kept is None:
            self._print(record)
        else:
            self._kept.append(record)

    def release(self) -> None:
        """Print what was kept; from now on everything is printed at once."""
        kept, self._kept = self._kept, None
        for record in kept or ():
            self._print(record)
        sys.stdout.flush()

    def _print(self, record: dict[str, object]) -> None:
        if self._as_json:
            print_json_line(record)
        else:
            out(describe_record(record))
