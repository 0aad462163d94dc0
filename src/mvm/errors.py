"""One tree of errors, one exit status each (SPEC section 2, sysexits(3)).

Every message says what happened, why, and what to do next: `message` is the first two,
`hint` the last. Never raised bare; `OSError` is translated to one of these in `kernel/`
or at the place that knows what the file or socket was for.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class MvmError(Exception):
    """Base of all errors that mvm raises on purpose.

    Args:
        message: what happened and why, one sentence, no trailing newline.
        hint: what to do next, or an empty string.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(MvmError):
    """The words of a call are wrong: unknown option, missing command, no such sandbox."""

    exit_code = 64


class Finding(NamedTuple):
    """One thing wrong with a policy, declaration or capability file.

    Attributes:
        code: stable word, lower case with hyphens (`wildcard-host`).
        path: where, as a jq path (`.network.egress[1].host`), or the flag (`--network-allow`).
        message: what is wrong, with the offending text quoted.
        hint: what to write instead.
        severity: `error` refuses, `warning` does not.
        source: file, `file:line:column`, or flag that it came from.
    """

    code: str
    path: str
    message: str
    hint: str
    severity: str = "error"
    source: str = ""


class PolicyRefused(MvmError):
    """A policy or declaration is not acceptable; nothing was started.

    Args:
        findings: at least one, each with code, path, message and hint.
    """

    exit_code = 65

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        first = self.findings[0]
        lines = [
            f"{f.source + ': ' if f.source else ''}{f.path}: {f.message} [{f.code}]" for f in self.findings
        ]
        super().__init__("\n".join(lines), hint=first.hint)


class BackendUnavailable(MvmError):
    """The machine or the backend cannot enforce what was asked; nothing was started."""

    exit_code = 69


def used_up(error: OSError) -> BackendUnavailable | None:
    """Say that this machine gives this process no more, where that is what an error of the system means."""
    if error.errno not in _USED_UP:
        return None
    return BackendUnavailable(
        f"this machine gives this process no more: {(error.strerror or 'used up').lower()}",
        hint="ulimit -a shows its limits; ulimit -n 4096 gives more descriptors",
    )


def describe_bug(error: BaseException) -> str:
    """Say of an error that nobody meant to raise its type and its place, never its text.

    The text could hold what a sandbox sends or is given, and where this is shown is kept by others.
    """
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename.rpartition("/")[2]
        place, trace = f" at {file}:{trace.tb_lineno}", trace.tb_next
    return f"this is a bug of mvm: {type(error).__name__}{place}"


_USED_UP = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


class AuditError(MvmError):
    """The record could not be written or did not verify."""

    exit_code = 74


class TransportError(MvmError):
    """A failure of the network or of a host, not of the policy, before anything started."""

    exit_code = 75


class PolicyDenied(MvmError):
    """The running workload was denied something and the caller asked that this be an error.

    Args:
        message: what was denied.
        denials: the denials as JSON objects of schema `mvm.denial/1`.

    Attributes:
        run: the run that has the record of it, where nothing was started for it; else None.
    """

    exit_code = 77

    def __init__(self, message: str, *, hint: str = "", denials: Sequence[dict[str, object]] = ()) -> None:
        super().__init__(message, hint=hint)
        self.denials = tuple(denials)
        self.run: str | None = None


class SandboxTimeout(MvmError):
    """The time allowed to a run ran out; the sandbox was ended."""

    exit_code = 124


class CommandFailed(MvmError):
    """The guest command ended with a status other than 0 and the caller asked for `check`.

    Args:
        message: the command and its status.
        returncode: the status as a shell gives it (128 + n for signal n).
        stdout: what it wrote to standard output.
        stderr: what it wrote to standard error.
    """

    def __init__(self, message: str, *, returncode: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class FunctionRaised(MvmError):
    """A function that ran in its sandbox (`mvm.func`) ended with an exception.

    Args:
        kind: the name of the exception's type, as the sandbox tells it.
        text: the exception's text.
        traceback: where it was raised, as text.
        denials: what was denied meanwhile, objects of schema `mvm.denial/1`.
    """

    def __init__(
        self, kind: str, text: str, *, traceback: str = "", denials: Sequence[dict[str, object]] = ()
    ) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text
        self.traceback = traceback
        self.denials = tuple(denials)

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.traceback.rstrip()}" if self.traceback else self.message
