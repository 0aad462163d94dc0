"""The keeper: owns the sandbox's namespaces, opens the door, and outlives the supervisor by one moment.

It is forked from the supervisor, stays in the host's pid and mount namespaces, and does three things:
sets up and verifies the door, makes sockets in it when asked, and, when the supervisor or init is gone
by whatever way, ends the rest of the sandbox and removes its files. Must never run anything of the
workload's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from mvm.backends.namespace import channel, init
from mvm.kernel import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mvm.plan.plan import Plan

_MOST_SOCKETS = 64
_SUPERVISOR_SECONDS = 2.0


def live(
    to_supervisor: socket.socket,
    inits: socket.socket,
    *,
    plan: Plan,
    open_door: Callable[[], Sequence[socket.socket]],
    clear: Callable[[], bool],
    kept: Collection[int],
) -> NoReturn:
    """Be the keeper of one sandbox; called in a fresh child, and ends it."""
    child, supervisor, status = 0, -1, 1
    try:
        supervisor = os.pidfd_open(os.getppid())
        os.setsid()
        _forget_signals()
        syscalls.close_from(3, (*kept, supervisor))
        _let_go_of_streams()
        child = _enter(to_supervisor, inits, plan)
        inits.close()
        _open(to_supervisor, open_door, child)
        _serve(to_supervisor, child)
        status = 0
    except BaseException as error:  # noqa: BLE001  the supervisor must hear of anything, and there is nowhere to raise to
        _tell(to_supervisor, error)
    finally:
        try:
            if child:
                _end(child)
            _clear((to_supervisor.fileno(), supervisor), clear, plan)
        finally:
            os._exit(status)  # whatever was raised: two must never go on as one


def _forget_signals() -> None:
    """The supervisor's handlers are not ours; keyboard signals don't come here (another session)."""
    signal.set_wakeup_fd(-1)
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGWINCH,
        signal.SIGCHLD,
    ):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _let_go_of_streams() -> None:
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _enter(to_supervisor: socket.socket, inits: socket.socket, plan: Plan) -> int:
    """Make the namespaces, get ids in them, and fork init into the new pid namespace."""
    syscalls.unshare(
        syscalls.NEWUSER
        | syscalls.NEWNET
        | syscalls.NEWIPC
        | syscalls.NEWUTS
        | syscalls.NEWCGROUP
        | syscalls.NEWPID
    )
    channel.send(to_supervisor, channel.READY)
    if channel.receive(to_supervisor) is None:
        os._exit(1)
    socket.sethostname(plan.name)
    pid = os.fork()
    if pid == 0:
        to_supervisor.close()
        init.live(inits, plan)
    return pid


def _open(to_supervisor: socket.socket, open_door: Callable[[], Sequence[socket.socket]], child: int) -> None:
    sockets = open_door()
    descriptors = [sock.fileno() for sock in sockets]
    channel.send(to_supervisor, channel.DOOR, len(sockets), value=child, descriptors=descriptors)
    for sock in sockets:
        sock.close()


def _serve(to_supervisor: socket.socket, child: int) -> None:
    """Make sockets on request until the supervisor or init is gone."""
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(to_supervisor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if handle in ready:
            return
        message = channel.receive(to_supervisor)
        if message is None:
            return
        if message[0] == channel.MAKE_SOCKETS:
            _make_sockets(to_supervisor, message[1])


def _make_sockets(to_supervisor: socket.socket, count: int) -> None:
    made = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(min(count, _MOST_SOCKETS))]
    channel.send(to_supervisor, channel.SOCKETS, descriptors=[sock.fileno() for sock in made])
    for sock in made:
        sock.close()


def _tell(to_supervisor: socket.socket, error: BaseException) -> None:
    try:
        channel.send(to_supervisor, channel.FAILED, text=channel.write_failure(error))
    except OSError:
        return  # nobody is left to hear it


def _end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        return
    os.waitpid(child, 0)


def _clear(ends: Collection[int], clear: Callable[[], bool], plan: Plan) -> None:
    """Remove the sandbox's files and cgroup, once the supervisor has let go of them or is gone for good.

    Before it closes its channel it lets go of the files; `ends` are the channel and its handle, or -1.
    """
    if not clear():
        poll = select.poll()
        for descriptor, events in zip(ends, (0, select.POLLIN), strict=True):
            if descriptor >= 0:
                poll.register(descriptor, events)  # of a channel, that it was closed is told unasked
        poll.poll(_SUPERVISOR_SECONDS * 1000)
        clear()
    if plan.limits.asked():
        from mvm.kernel import cgroups

        for cgroup in cgroups.stale():
            if cgroup.name == f"mvm-{plan.run}":
                cgroup.remove()
