"""One command line from its first word to an exit status.

Owns how errors are shown and which status each gives (SPEC section 2, sysexits(3)):

    usage (click's own errors too)   64      a bug            70, with MVM_DEBUG=1 the traceback
    MvmError                         its own interrupted      130
    nobody reads the output any more 141     (128 + SIGPIPE, as a shell gives it)
    the output can't be written      74      (a full disk)

Must never let the text of an unexpected exception out: it could hold what a sandbox must not tell.
"""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

import click

from mvm.cli.printing import err, printable
from mvm.cli.verbs import program
from mvm.errors import MvmError, PolicyRefused, describe_bug, used_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mvm.errors import Finding

EXIT_USAGE = 64
EXIT_BUG = 70
EXIT_UNWRITTEN = 74
EXIT_INTERRUPTED = 130
EXIT_NO_READER = 141

_UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Of a write to a full disk, or to a terminal that is gone; what mvm keeps has errors of its own."""

COMPLETE = "_MVMCTL_COMPLETE"
"""The variable by which a shell asks for completions."""


def conduct(words: Sequence[str]) -> int:
    """Obey a command line.

    Args:
        words: without the program's name.

    Returns:
        The exit status.
    """
    try:
        status = _status_of(list(words))
        sys.stdout.flush()
    except BrokenPipeError:
        _read_no_more()
        return EXIT_NO_READER
    except OSError as error:
        return _unwritten(error)
    return status


def _status_of(words: list[str]) -> int:
    try:
        return _obey(words)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _usage(error)
    except MvmError as error:
        show(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, it is our bug, and is told as one
        if isinstance(error, OSError) and error.errno in _UNWRITTEN:
            return _unwritten(error)
        refusal = used_up(error) if isinstance(error, OSError) else None
        if refusal is None:
            return _bug(error)
        show(refusal)
        return refusal.exit_code


def _obey(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if COMPLETE in os.environ:
        program().main(words, prog_name="mvmctl", complete_var=COMPLETE)
    group = program()
    with group.make_context("mvmctl", words) as context:
        return int(group.invoke(context) or 0)


def _usage(error: click.ClickException) -> int:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        err(error.format_message())
        return EXIT_USAGE
    path = context.command_path if context is not None else "mvmctl"
    _say(" ".join(error.format_message().split()).rstrip(".,"), f"{path} --help")
    return EXIT_USAGE


def show(error: MvmError) -> None:
    """Show an error on stderr: what and why, and what to do next; of a policy, every finding."""
    if isinstance(error, PolicyRefused):
        for line in describe_findings(error.findings):
            err(line)
        return
    _say(error.message, error.hint)


def describe_findings(findings: Sequence[Finding]) -> list[str]:
    """Write findings for people, two lines each: where and what, and the hint."""
    lines = []
    for finding in findings:
        where = finding.path
        if finding.source and finding.source != finding.path:
            where = f"{finding.source}: {finding.path}"
        said = f"{where}: {finding.message} [{finding.code}]"
        lines.append(f"mvmctl: {finding.severity}: {printable(said)}")
        if finding.hint:
            lines.append(f"  hint: {printable(finding.hint)}")
    return lines


def _say(message: str, hint: str) -> None:
    err(f"mvmctl: {printable(message)}")
    if hint:
        err(f"  hint: {printable(hint)}")


def _read_no_more() -> None:
    """Give what is still buffered somewhere to go, so that Python ends without a second error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _unwritten(error: OSError) -> int:
    _read_no_more()
    why = (error.strerror or "it failed").lower()
    _say(f"the output can't be written: {why}", "free some room, or send it elsewhere")
    return EXIT_UNWRITTEN


def _bug(error: Exception) -> int:
    if os.environ.get("MVM_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
        return EXIT_BUG
    _say(
        describe_bug(error),
        "please report it with the words you typed; MVM_DEBUG=1 shows more of it",
    )
    return EXIT_BUG
