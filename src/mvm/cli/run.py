"""`mvmctl run`: one command in a fresh sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mvm.cli.sandbox_options import SandboxWords, sandbox_options, want
from mvm.cli.verbs import HELP, examples
from mvm.errors import MvmError, UsageError

if TYPE_CHECKING:
    from typing import Unpack

    from mvm.cli.sandbox_options import Wanted
    from mvm.supervisor.run import Ended


@click.command(
    "run",
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog=examples(
        "mvmctl run -- python3 -c 'print(1)'",
        "mvmctl run --network-allow api.example.com:443 -- curl https://api.example.com/",
        "mvmctl run --network-preset registries --workspace . -- npm ci",
    ),
)
@sandbox_options
@click.option("--capture", is_flag=True, help="With --json: the command's output goes into the object.")
@click.argument("argv", nargs=-1, metavar="[--] CMD...")
def command(argv: tuple[str, ...], *, capture: bool, **words: Unpack[SandboxWords]) -> int:
    """Run one command in a fresh sandbox, its streams passed through; then the sandbox is gone.

    It reaches exactly the hosts that are granted, and nothing by default. Each denial is told on stderr
    as it happens, with the flag that would have allowed it. The exit status is the command's own (128 + n
    for signal n); otherwise 64 usage, 65 policy refused, 69 it can't be enforced here, 74 the record could
    not be written, 77 denied (--on-denied fail), 124 timeout, 126 and 127 the command could not be started.
    """
    try:
        return _run(argv, capture=capture, words=words)
    except MvmError as error:
        if not words["as_json"]:
            raise
        from mvm.cli.refused import print_refused

        return print_refused(error)


def _run(argv: tuple[str, ...], *, capture: bool, words: SandboxWords) -> int:
    if capture and not words["as_json"]:
        raise UsageError("--capture needs --json: it puts the output into the object", hint="add --json")
    wanted = want(words, argv)
    wanted.request = wanted.request._replace(needs_command=True)
    if words["dry_run"]:
        from mvm.cli.dry_run import print_dry_run

        print_dry_run(wanted, as_json=words["as_json"])
        return 0
    return _start(wanted, capture=capture, as_json=words["as_json"])


def _start(wanted: Wanted, *, capture: bool, as_json: bool) -> int:
    from mvm.cli.policy_options import working_directory
    from mvm.cli.progress import told
    from mvm.supervisor.run import Streams, run

    streams = Streams()
    if as_json:
        streams = Streams("capture", "capture") if capture else Streams("stderr", "inherit")
    if wanted.found is not None:
        from mvm.cli.printing import err

        err(f"mvmctl: policy from {wanted.found}")
    ended = run(wanted.request, wanted.environ, working_directory(), streams, told=told)
    if as_json:
        from mvm.cli.printing import print_json

        print_json(with_output(ended) if capture else ended.result)
    return ended.status


def with_output(ended: Ended) -> dict[str, object]:
    r"""Add what was captured to a result, as text; bytes that are no UTF-8 are spelled `\xNN`."""
    return {
        **ended.result,
        "stdout": ended.stdout.decode("utf-8", "backslashreplace"),
        "stderr": ended.stderr.decode("utf-8", "backslashreplace"),
        "cut": ended.cut,
    }
