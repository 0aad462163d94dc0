"""A sandbox in the foreground: the caller's streams and signals joined to its first command.

Owns `run`, and `up` without `-d`. The process that calls it is the supervisor until the sandbox has ended.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from mvm.plan.plan import Command
from mvm.supervisor.listeners import Job, Listener, why_unstarted
from mvm.supervisor.material import in_silence
from mvm.supervisor.notices import Notices
from mvm.supervisor.prepare import prepare
from mvm.supervisor.process import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mvm.images.image import Told
    from mvm.supervisor.request import Request
    from mvm.supervisor.story import Sandbox
    from mvm.supervisor.streams import Capture, Tap
    from mvm.supervisor.terminal import Terminal

    Known = Callable[[str, int], None]

_FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_KEYBOARD = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class Streams(NamedTuple):
    """Where the first command's output goes.

    Attributes:
        stdout, stderr: `inherit` for the caller's own, `stderr` for the caller's stderr, `capture` to keep
            it, `log` for the console log alone.
        log: the path of a console log that gets a copy, or None.
    """

    stdout: str = "inherit"
    stderr: str = "inherit"
    log: str | None = None


class Ended(NamedTuple):
    """What came of it.

    Attributes:
        result: `mvm.result/1`.
        status: for the process to exit with.
        stdout, stderr: what was captured, else empty.
        cut: whether more was written than is kept.
    """

    result: dict[str, object]
    status: int
    stdout: bytes
    stderr: bytes
    cut: bool


def run(
    request: Request, environ: Mapping[str, str], cwd: str, streams: Streams, *, told: Told = in_silence
) -> Ended:
    """Start a sandbox, stay with it, and say what came of it.

    Args:
        request: what was asked.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.
        streams: where output goes.
        told: is told of what takes long before it starts.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable: nothing was started.
        AuditError: the record could not be written; the sandbox has ended.
    """
    prepared = prepare(request, environ, cwd, told=told)
    with Supervisor() as supervisor:
        sandbox = supervisor.add(prepared, environ)
        foreground = Foreground(supervisor, sandbox, environ, streams)
        foreground.start()
        supervisor.loop.run()
        return foreground.finish()


def _unasked(_failure: str, _status: int) -> None:
    """Nobody waits to know whether the command runs: its streams say so."""


class Foreground(Listener):
    """The first command of one sandbox, joined to this process.

    Args:
        supervisor: this process's.
        sandbox: it has begun.
        environ: the caller's environment.
        streams: where output goes.
    """

    def __init__(
        self, supervisor: Supervisor, sandbox: Sandbox, environ: Mapping[str, str], streams: Streams
    ) -> None:
        self._supervisor, self._sandbox, self._streams = supervisor, sandbox, streams
        colour = os.isatty(2) and not environ.get("NO_COLOR")
        self._notices = Notices(2, colour=colour, of_tool=bool(sandbox.request.decided))
        self._terminal: Terminal | None = None
        self._taps: list[Tap] = []
        self._captures: dict[int, Capture] = {}
        self._main = 0
        self._known: Known = _unasked
        sandbox.listeners += [self._notices, self]

    def start(self, known: Known = _unasked) -> None:
        """Start the first command, if there is one, and take its signals.

        Args:
            known: is called once it runs, with "" and 0; or with why it can't, and the status for that.
        """
        self._known = known
        for signum in (*_FORWARDED, *_KEYBOARD):
            self._supervisor.on_signal(signum, self._on_signal)
        for finding in self._sandbox.request.warnings:
            self._notices.say(f"warning: {finding.message}")
        argv = self._sandbox.request.argv
        plan = self._sandbox.plan
        if not argv:
            self._notices.say(f"{plan.name} is up; mvmctl exec {plan.name} -- CMD runs a command in it")
            known("", 0)
            return
        size = _size_of_terminal() if self._streams == Streams() and os.isatty(0) else None
        command = Command(argv, plan.view.environ, plan.workdir, size)
        job = Job(started=self._started, ended=lambda _status: None, failed=self._not_started)
        self._main = self._sandbox.spawn(
            command, () if size is not None else self._open_streams(), job, is_main=True
        )
        for tap in self._taps:
            tap.close_entrance()
        if self._streams.log is None:  # somebody waits for the end, and the seal is part of it
            from mvm.audit.keys import load

            self._supervisor.loop.soon(load)

    def _open_streams(self) -> list[int]:
        from mvm.supervisor.streams import Capture, ConsoleLog, Tap, write_to

        if self._streams == Streams():
            return [0, 1, 2]
        logs = [] if self._streams.log is None else [ConsoleLog(self._streams.log)]
        given = [0]
        for number, wanted in ((1, self._streams.stdout), (2, self._streams.stderr)):
            target = 2 if wanted == "stderr" else number
            if wanted in {"inherit", "stderr"} and not logs:
                given.append(target)
                continue
            sinks = [*logs]
            if wanted == "capture":
                self._captures[number] = Capture()
                sinks.append(self._captures[number])  # type: ignore[arg-type]
            elif wanted != "log":
                sinks.append(write_to(target))  # type: ignore[arg-type]
            self._taps.append(Tap(self._supervisor.loop, *sinks))
            given.append(self._taps[-1].entrance)
        return given

    def _started(self, controlling: int | None) -> None:
        if controlling is not None:
            from mvm.supervisor.terminal import Terminal

            self._terminal = Terminal(self._supervisor.loop, controlling)
            self._notices.raw = True
            self._supervisor.on_signal(signal.SIGWINCH, self._on_resize)
        self._known("", 0)

    def _not_started(self, code: int, tried: str) -> None:
        why, status = why_unstarted(tried, code)
        if code == errno.ENOENT and os.path.exists(tried):
            why += "; --workspace shows it a directory of yours, -v others"
        self._notices.say(why)
        self._known(why, status)

    def _on_resize(self, _signum: int) -> None:
        if self._terminal is not None:
            self._terminal.resize()

    def _on_signal(self, signum: int) -> None:
        """Pass a signal on; a sandbox without a command ends by it."""
        if not self._main:
            self._sandbox.stop(0)
        elif signum in _KEYBOARD:
            self._sandbox.signal(self._main, signum, group=True)
        else:
            self._sandbox.signal(self._main, signum, group=False)

    def ended(self, result: dict[str, object]) -> None:
        """The sandbox is gone: show what is left of its output."""
        for tap in self._taps:
            tap.drain()
        if self._terminal is not None:
            self._terminal.close()
            self._notices.raw = False
        self._notices.summary(result)
        if self._sandbox.unreceipted is not None:
            self._notices.say(self._sandbox.unreceipted.message)

    def finish(self) -> Ended:
        """Say what came of it.

        Raises:
            AuditError: the record could not be written.
        """
        result = self._sandbox.result
        assert result is not None, "the loop ends with the sandbox"
        if self._sandbox.error is not None:
            raise self._sandbox.error
        lost = self._sandbox.unreceipted
        status = result["exit_code"] if lost is None else lost.exit_code
        assert isinstance(status, int), "of mvm.result/1"
        captured = {number: capture.data for number, capture in self._captures.items()}
        cut = any(capture.cut for capture in self._captures.values())
        return Ended(result, status, captured.get(1, b""), captured.get(2, b""), cut)


def _size_of_terminal() -> tuple[int, int] | None:
    """Rows and columns of the caller's terminal, where all three streams are that one."""
    from mvm.supervisor.terminal import is_one_terminal, size_of

    return size_of(0) if is_one_terminal() else None
