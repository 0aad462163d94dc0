"""A pid, mount and network namespace for the bench, so that nothing is left when it ends, however it ends.

    bench (the process that was typed; waits, then removes the directory)
     └ pid 1 of the bench (reaps; dies with its parent)
        └ the bench proper (figures) and all that it starts

Owns the three processes. The network namespace starts empty, so nothing measured can reach a real network.
Must never outlive what it shuts in: pid 1 takes everything with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING

from tests.support import namespaces
from tests.support.rtnl import Rtnl

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


class Withheld(Exception):
    """The machine does not give what the bench needs; the text says what."""


def shut_in(act: Callable[[], int]) -> int:
    """Call `act` in namespaces of its own and return its status, 130 where it was interrupted.

    This process moves to the new network and mount namespace too, and waits. Raises Withheld.
    """
    try:
        if not namespaces.may_administer():
            namespaces.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET | _CLONE_NEWPID)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        with Rtnl() as rtnl:
            rtnl.link_up("lo")
    except OSError as problem:
        raise Withheld(f"no namespaces for the bench: {problem}") from problem
    return _wait_for(_child(lambda: _first(act)))


def _first(act: Callable[[], int]) -> int:
    """What pid 1 does."""
    try:
        # Mounts of its own: what a subject mounts in the directory is gone by the time that is removed.
        namespaces.unshare(namespaces.CLONE_NEWNS)
        namespaces.mount(None, "/", None, namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("proc", "/proc", "proc", 0)
    except OSError as problem:
        print(f"bench: no /proc of its own: {problem}", file=sys.stderr)
        return 69
    return _wait_for(_child(lambda: _interruptible(act)))


def _interruptible(act: Callable[[], int]) -> int:
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return act()
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is left behind", file=sys.stderr)
        return 130


def _interrupt(_: int, __: object) -> None:
    # Only once: Ctrl-C comes from the terminal and from the parent as well, and clearing up is not to be
    # cut short.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _child(act: Callable[[], int]) -> int:
    """Fork a process that ends with what `act` returns, and dies with this one."""
    # Held back until the child has handlers of its own: an early Ctrl-C must not find the parent's.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        status = act()
    except BaseException:  # noqa: BLE001  this fork must end here, whatever came
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait_for(pid: int) -> int:
    """Reap until `pid` ends, passing signals on to it; its status as a shell gives it."""
    for number in _SIGNALS:
        signal.signal(number, lambda came, _: os.kill(pid, came))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
