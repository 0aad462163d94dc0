"""Init: pid 1 of a sandbox. Builds what the workload sees, gives up every right, then starts commands.

    mount namespace → root tree → hostname's files → pivot → nested user namespace without capabilities
    → no new privileges → Landlock → seccomp → READY → spawn, reap, report, until the channel closes

From READY on it is no more than the workload: same user, same filters. What it holds that the workload
does not is the channel, on which it can ask for nothing. It can't be traced or read (not dumpable).
Must never run a command before all of that is done.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from typing import TYPE_CHECKING, NoReturn

from mvm.backends.namespace import channel, root
from mvm.kernel import cores, landlock, seccomp, syscalls

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from mvm.plan.plan import Command, Plan

_TIOCGPTN, _TIOCSPTLCK, _TIOCSWINSZ = 0x80045430, 0x40045431, 0x5414
_SIGNAL_BASE = 128
_SHELL = "/bin/sh"
# Handlers go with exec; what is ignored stays so: by Python, and maybe by whoever started mvmctl.
_DEFAULTS = (
    signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM,
    signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


def live(supervisor: socket.socket, plan: Plan) -> NoReturn:
    """Be the first process of one sandbox; called in a fresh child, and ends it."""
    try:
        syscalls.close_from(3, (supervisor.fileno(),))
        syscalls.die_with_parent()
        message = channel.receive(supervisor)
        if message is not None:
            _confine(plan, message[4], channel.read_limits(message[3]))
            Init(supervisor).serve()
    except BaseException as error:  # noqa: BLE001  the supervisor must hear of anything, and there is nowhere to raise to
        try:
            channel.send(supervisor, channel.FAILED, text=channel.write_failure(error))
        finally:
            os._exit(1)
    os._exit(0)


def _confine(plan: Plan, owned: Sequence[int], rlimits: Sequence[tuple[int, int]]) -> None:
    """Go through all the steps of the head of this file up to READY."""
    identity = plan.identity
    syscalls.join_new_keyring()
    syscalls.unshare(syscalls.NEWNS)
    root.build(plan.view, identity, owned)
    cores.leave_none(for_good=True)
    for kind, value in rlimits:
        resource.setrlimit(kind, (value, value))
    if identity.outside_uid != os.geteuid():
        os.setgroups([])
        os.setresgid(*[identity.outside_gid] * 3)
        os.setresuid(*[identity.outside_uid] * 3)
        syscalls.set_dumpable(True)  # changing the user made the map files below root's
    syscalls.unshare(syscalls.NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", identity.inner_uid_map),
        ("gid_map", identity.inner_gid_map),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    syscalls.drop_capabilities()
    syscalls.set_no_new_privileges()
    syscalls.hide_arguments(b"mvm-init")
    _restrict_files(plan)
    seccomp.install(seccomp.program(os.uname().machine))
    syscalls.die_with_parent()  # the kernel forgot it when the credentials changed
    syscalls.set_dumpable(False)


def _restrict_files(plan: Plan) -> None:
    if landlock.abi():
        landlock.restrict(plan.view.writable)


class Init:
    """Starts commands, reaps what ends, and reports.

    Args:
        supervisor: the channel.
    """

    def __init__(self, supervisor: socket.socket) -> None:
        self._supervisor = supervisor
        self._numbers: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Answer until the channel closes."""
        channel.send(self._supervisor, channel.READY)
        poll = select.poll()
        poll.register(self._supervisor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                    self._reap()
                elif not self._take():
                    return

    def _take(self) -> bool:
        message = channel.receive(self._supervisor)
        if message is None:
            return False
        kind, number, value, text, descriptors = message
        if kind == channel.SPAWN:
            self._spawn(number, channel.read_command(text), descriptors)
        elif kind == channel.SIGNAL:
            self._signal(number, value)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _spawn(self, number: int, command: Command, streams: Sequence[int]) -> None:
        tried, terminal = f"change to {command.workdir}", None
        try:
            os.chdir(command.workdir)
            tried = "open a terminal"
            if command.terminal is not None:
                terminal, actions = _open_terminal(*command.terminal)
            else:
                actions = [(os.POSIX_SPAWN_DUP2, given, stream) for stream, given in enumerate(streams)]
            tried = command.argv[0]
            pid = _start(command, actions)
        except (OSError, ValueError) as error:
            # A ValueError is of words that execve(2) can't carry: with a NUL byte, or a name with `=`.
            code = (error.errno or 0) if isinstance(error, OSError) else errno.EINVAL
            text = tried.encode(errors="replace")[:1024]
            channel.send(self._supervisor, channel.NOT_STARTED, number, value=code, text=text)
        else:
            self._numbers[pid], self._pids[number] = number, pid
            given = () if terminal is None else (terminal,)
            channel.send(self._supervisor, channel.STARTED, number, value=pid, descriptors=given)
        finally:
            if terminal is not None:
                os.close(terminal)

    def _signal(self, number: int, signum: int) -> None:
        pid = self._pids.get(number)
        if pid is None:
            return
        try:
            if signum < 0:
                os.killpg(pid, -signum)
            else:
                os.kill(pid, signum)
        except ProcessLookupError:
            return  # it has just ended: its report is on the way

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                del self._pids[number]
                code = os.waitstatus_to_exitcode(status)
                channel.send(
                    self._supervisor, channel.EXITED, number, value=code if code >= 0 else _SIGNAL_BASE - code
                )


def _open_terminal(rows: int, columns: int) -> tuple[int, list[tuple[int, ...]]]:
    """Make a terminal of the sandbox's own: its controlling side, and what makes the other a child's."""
    import fcntl
    import struct

    controlling = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(controlling, _TIOCSPTLCK, struct.pack("i", 0))
        number = struct.unpack("I", fcntl.ioctl(controlling, _TIOCGPTN, b"\0\0\0\0"))[0]
        fcntl.ioctl(controlling, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    except OSError:
        os.close(controlling)
        raise
    # The child leads a session of its own, so that opening a terminal makes it the session's (tty_ioctl(4)).
    opened = (os.POSIX_SPAWN_OPEN, 0, f"/dev/pts/{number}", os.O_RDWR, 0)
    return controlling, [opened, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]  # type: ignore[list-item]


def _start(command: Command, actions: Sequence[tuple[int, ...]]) -> int:
    """Start a program as execvp(3) finds it, in a session of its own, with every signal as it was at first.

    Raises:
        OSError: the last of what was tried.
    """
    argv, environ = list(command.argv), command.environ
    places = (
        [argv[0]] if "/" in argv[0] else [f"{d or '.'}/{argv[0]}" for d in environ.get("PATH", "").split(":")]
    )
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not argv[0]:
        raise failure
    for place in filter(os.path.exists, places):
        words = argv
        for _ in range(2):
            try:
                return os.posix_spawn(
                    place,
                    words,
                    environ,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_DEFAULTS,
                )
            except OSError as error:
                if error.errno == errno.ENOEXEC and words is argv:
                    # A script without `#!`: the shell's, as for execvp(3) and env(1).
                    place, words = _SHELL, [_SHELL, place, *argv[1:]]  # noqa: PLW2901
                    continue
                if error.errno not in {errno.ENOENT, errno.ENOTDIR} and failure.errno == errno.ENOENT:
                    failure = error
                break
    raise failure
