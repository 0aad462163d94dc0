"""`mvmctl exec`: another command in a running sandbox."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import click

from mvm.cli import names
from mvm.cli.printing import err
from mvm.cli.verbs import HELP, examples
from mvm.errors import UsageError

if TYPE_CHECKING:
    from types import FrameType

    from mvm.supervisor.client import Client
    from mvm.supervisor.frames import Message
    from mvm.supervisor.terminal import Terminal

_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_OF_THE_GROUP = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_SANDBOX_ENDED = 137  # what a command ends with that is killed with its sandbox: 128 + SIGKILL


@click.command(
    "exec",
    context_settings={**HELP, "allow_interspersed_args": False},
    epilog=examples("mvmctl exec agent-sandbox -- python3 --version", "mvmctl exec -it agent-sandbox bash"),
)
@click.option("-i", "--interactive", is_flag=True, help="Pass stdin on; without it, stdin is empty.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal of its own, joined to this one.")
@click.option("-w", "--workdir", metavar="DIR", help="Where it starts, as a path inside.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable. May be repeated.")
@click.argument("name", shell_complete=names.running)
@click.argument("argv", nargs=-1, required=True, metavar="[--] CMD...")
def command(
    name: str,
    argv: tuple[str, ...],
    *,
    interactive: bool,
    tty: bool,
    workdir: str | None,
    env: tuple[str, ...],
) -> int:
    """Run another command in a running sandbox, under the sandbox's policy.

    Its streams are passed through, signals are passed on, and the exit status is the command's own
    (126 and 127: it could not be started). It ends with the sandbox, with status 137, or when this
    mvmctl is killed. What the policy denies in the sandbox meanwhile is told on stderr.
    """
    from mvm.images.environment import parse_env
    from mvm.supervisor.client import Client
    from mvm.supervisor.terminal import is_one_terminal, size_of

    words = argv[1:] if argv[0] == "--" else argv
    if not words:
        raise UsageError("there is no command to run", hint=f"mvmctl exec {name} -- CMD")
    if tty and not is_one_terminal((0, 1)):
        raise UsageError("-t needs a terminal, and stdin and stdout are not one", hint="leave -t out")
    variables = [
        f"{key}={value}" for text in env for key, value in parse_env(text, environ=os.environ).items()
    ]
    message: Message = {
        "do": "exec",
        "argv": list(words),
        "environ": variables,
        "workdir": workdir,
        "terminal": list(size_of(0)) if tty else None,
    }
    with Client(name, os.environ, timeout=None) as client:
        return Inside(client, name).run(message, has_stdin=interactive)


class Inside:
    """One command in a sandbox, joined to this process.

    Args:
        client: a conversation with its sandbox, used for nothing else.
        name: the sandbox's.
    """

    def __init__(self, client: Client, name: str) -> None:
        from mvm.gateway.loop import Loop
        from mvm.kernel import cores
        from mvm.supervisor.notices import Notices

        cores.leave_none(for_good=False)  # a terminal's bytes pass through this process
        self._notices = Notices(2, colour=os.isatty(2) and not os.environ.get("NO_COLOR"), of=name)

        self._client, self._loop = client, Loop()
        self._terminal: Terminal | None = None
        self._number: int | None = None
        self._early: list[int] = []
        self._status = _SANDBOX_ENDED

    def run(self, message: Message, *, has_stdin: bool) -> int:
        """Start it and stay until it has ended.

        Args:
            message: what the control socket is asked.
            has_stdin: whether it reads this process's stdin.

        Returns:
            Its status.
        """
        from mvm.gateway.loop import READ

        before = {signum: signal.signal(signum, self._on_signal) for signum in _FORWARDED}
        try:
            self._ask(message, has_stdin=has_stdin)
            self._loop.watch(self._client.fileno(), READ, self._on_message)
            self._loop.run()
        finally:
            if self._terminal is not None:
                self._terminal.close()
            for signum, handler in before.items():
                signal.signal(signum, handler)
            self._loop.close()
        return self._status

    def _ask(self, message: Message, *, has_stdin: bool) -> None:
        self._client.say({"do": "watch"})
        if message["terminal"] is not None:
            self._client.say(message)
            return
        stdin = 0 if has_stdin else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._client.say(message, (stdin, 1, 2))
        finally:
            if not has_stdin:
                os.close(stdin)

    def _on_message(self, _events: int) -> None:
        try:
            self._heard(self._client.hear())
            while self._client.has_more:
                self._heard(self._client.hear())
        except UsageError:
            if self._number is None:
                raise
            self._end(_SANDBOX_ENDED, "the sandbox has ended")

    def _heard(self, message: Message) -> None:
        if "started" in message:
            self._started(int(str(message["started"])))
        elif "exited" in message:
            again: Any = message["denied_again"]
            for denial in again:
                self._notices.say_denied(denial)
            self._end(int(str(message["exited"])))
        elif "denial" in message:
            new: Any = message["denial"]
            self._notices.say_denied(new)
        elif "failure" in message:
            told: Any = message["failure"]
            self._notices.say_failed(told["host"], told["port"], told["error"])
        elif "not_started" in message:
            self._not_started(message)
        elif "ended" in message:
            self._end(_SANDBOX_ENDED, "the sandbox has ended")

    def _started(self, number: int) -> None:
        from mvm.supervisor.terminal import Terminal

        self._number = number
        if self._client.has_descriptor:
            self._terminal = Terminal(self._loop, self._client.take_descriptor())
            self._notices.raw = True
            signal.signal(signal.SIGWINCH, self._on_resize)
        for signum in self._early:
            self._pass_on(signum)

    def _not_started(self, message: Message) -> None:
        from mvm.supervisor.client import not_started_text

        if self._number is not None:
            self._end(_SANDBOX_ENDED, "the sandbox has ended")
            return
        text, status = not_started_text(message)
        self._end(status, text)

    def _end(self, status: int, why: str = "") -> None:
        if self._terminal is not None:
            self._terminal.close()
        if why:
            err(f"mvmctl: {why}")
        self._status = status
        self._loop.stop()

    def _on_resize(self, _signum: int, _frame: FrameType | None) -> None:
        if self._terminal is not None:
            self._terminal.resize()

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._number is None:
            self._early.append(signum)
        else:
            self._pass_on(signum)

    def _pass_on(self, signum: int) -> None:
        group = signum in _OF_THE_GROUP
        self._client.say({"do": "signal", "number": self._number, "signal": int(signum), "group": group})
