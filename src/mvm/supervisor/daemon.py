"""Supervising without a caller that stays: `up -d`, and the helper process of the Python library.

Owns the parting from the caller: a session of its own, no streams of the caller's, and one word back when
the sandbox stands or could not be made.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from mvm import errors
from mvm.audit.state import CONSOLE_FILE, RUNS, state_directory
from mvm.gateway.loop import READ
from mvm.kernel.syscalls import hide_environment
from mvm.supervisor.material import in_silence
from mvm.supervisor.prepare import prepare
from mvm.supervisor.process import Supervisor
from mvm.supervisor.run import Foreground, Streams

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from mvm.errors import Finding
    from mvm.images.image import Told
    from mvm.supervisor.request import Request


class StartedAway(NamedTuple):
    """A sandbox that stands without its caller.

    Attributes:
        name, run: what it is called.
        failure: why its command could not be started, or empty; it is gone then.
        status: the exit status for that, else 0.
    """

    name: str
    run: str
    failure: str
    status: int


def console_path(environ: Mapping[str, str], run: str) -> str:
    """Where the console output of a run is kept."""
    return f"{state_directory(environ)}/{RUNS}/{run}/{CONSOLE_FILE}"


def start_detached(
    request: Request,
    environ: Mapping[str, str],
    cwd: str,
    *,
    told: Told = in_silence,
    warned: Callable[[Finding], None],
) -> StartedAway:
    """Start a sandbox in a process of its own and come back when its command runs.

    Args:
        request: what was asked.
        environ: the caller's environment.
        cwd: the caller's working directory, absolute.
        told: is told of what takes long before it starts.
        warned: is told, before it starts, of each thing that is no error.

    Raises:
        UsageError, PolicyRefused, BackendUnavailable, AuditError: nothing was started.
    """
    prepared = prepare(request, environ, cwd, told=told)
    for finding in prepared.request.warnings:
        warned(finding)
    plan = prepared.plan
    answer, say = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        _part()
        status = 1
        try:
            with Supervisor() as supervisor:
                try:
                    sandbox = supervisor.add(prepared, environ)
                    streams = Streams("log", "log", console_path(environ, plan.run))

                    def known(failure: str, status: int) -> None:
                        _say(say, StartedAway(plan.name, plan.run, failure, status)._asdict())

                    Foreground(supervisor, sandbox, environ, streams).start(known)
                except errors.MvmError as error:
                    _say(say, {"error": error.message, "hint": error.hint, "exit": error.exit_code})
                    os._exit(error.exit_code)
                supervisor.loop.run()
            status = 0
        finally:
            os._exit(status)
    os.close(say)
    with os.fdopen(answer, "rb") as file:
        said = file.read()
    if not said:
        _, status = os.waitpid(pid, 0)
        msg = f"the sandbox's process ended at once (status {os.waitstatus_to_exitcode(status)})"
        raise errors.BackendUnavailable(msg, hint="mvmctl run, in the foreground, shows more")
    words = json.loads(said)
    if "error" in words:
        os.waitpid(pid, 0)
        raise _error(words)
    started = StartedAway(**words)
    if started.failure:
        os.waitpid(pid, 0)  # its name is free again when this is told
    return started


def _error(words: Mapping[str, object]) -> errors.MvmError:
    kinds = {64: errors.UsageError, 69: errors.BackendUnavailable, 74: errors.AuditError}
    kind = kinds.get(int(str(words["exit"])), errors.MvmError)
    return kind(str(words["error"]), hint=str(words["hint"]))


def _part() -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # It may stay for days: what the caller had in its environment is not to be read in /proc all the while.
    hide_environment()


def _say(descriptor: int, words: Mapping[str, object]) -> None:
    os.write(descriptor, json.dumps(words).encode())
    os.close(descriptor)


def serve(channel: socket.socket) -> None:
    """Be the helper of a library: start what is asked for on `channel`, and end with it.

    Messages: `{do: start, request, environ, cwd}` is answered by `{name, run}` or `{error, hint, exit}`, with
    `findings` where it is a policy's. The environment and the working directory are the caller's at that
    moment, not those that the helper began with.
    """
    from mvm.supervisor.frames import Inbox, send
    from mvm.supervisor.request import request_from_json

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox = Inbox(channel)
    with Supervisor(stays=True) as supervisor:

        def on_message(_events: int) -> None:
            messages = inbox.read()
            if messages is None:
                supervisor.stop_all()
                supervisor.loop.stop()
                return
            for message in messages:
                send(channel, start(message))

        def start(message: dict[str, object]) -> dict[str, object]:
            words, environ = message["request"], message["environ"]
            assert isinstance(words, dict), "the library is of this version"
            assert isinstance(environ, dict), "the library is of this version"
            try:
                request = request_from_json(words)
                prepared = prepare(request, environ, str(message["cwd"]))
                supervisor.add(prepared, environ)
            except errors.MvmError as error:
                found = error.findings if isinstance(error, errors.PolicyRefused) else ()
                said = {"error": error.message, "hint": error.hint, "exit": error.exit_code}
                return {**said, "findings": found}
            except Exception as error:  # noqa: BLE001  the other sandboxes of the caller must not end with it
                told = f"the sandbox could not be started: {errors.describe_bug(error)}"
                return {"error": told, "hint": "", "exit": 70}
            return {"name": prepared.plan.name, "run": prepared.plan.run}

        supervisor.loop.watch(channel.fileno(), READ, on_message)
        supervisor.loop.run()
