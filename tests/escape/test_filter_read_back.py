"""The filter that the kernel holds for each process of a sandbox, read back from outside, byte for byte.

Owns stopping a process and asking the kernel for its programs (PTRACE_SECCOMP_GET_FILTER, ptrace(2)), which
only root of the whole machine may, and only where it is under no filter itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from typing import TYPE_CHECKING

import pytest

from mvm.kernel.seccomp import program
from tests.escape import processes
from tests.escape.inside import interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.mvmctl import Mvmctl

pytestmark = [pytest.mark.escape, pytest.mark.root_only]

_GET_FILTER, _SEIZE, _INTERRUPT, _DETACH = 0x420C, 0x4206, 0x4207, 17
_ALL = 0x40000000  # __WALL: threads too
_INSTRUCTION = 8
_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, pid: int, address: int = 0, data: object = None) -> int:
    result = int(_libc.ptrace(ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(address), data))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request:#x})")
    return result


@contextlib.contextmanager
def _stopped(task: int) -> Iterator[None]:
    """Hold one thread still."""
    _ptrace(_SEIZE, task)
    try:
        _ptrace(_INTERRUPT, task)
        os.waitpid(task, _ALL)
        yield
    finally:
        _ptrace(_DETACH, task)


def _filters(task: int) -> list[bytes]:
    """All programs that judge a thread's calls, the first that was installed first."""
    found: list[bytes] = []
    with _stopped(task):
        while True:
            try:
                count = _ptrace(_GET_FILTER, task, len(found))
            except OSError as refusal:
                if refusal.errno == errno.ENOENT:
                    return found
                if refusal.errno in {errno.EACCES, errno.EINVAL, errno.EIO}:
                    pytest.skip(f"this kernel, or who this root is, lets no filter be read: {refusal}")
                raise
            held = ctypes.create_string_buffer(count * _INSTRUCTION)
            assert _ptrace(_GET_FILTER, task, len(found), held) == count
            found.append(held.raw)


def _threads(pids: set[int]) -> set[int]:
    return {int(task) for pid in pids for task in os.listdir(f"/proc/{pid}/task")}


_THREADED = """
import signal, threading
threading.Thread(target=signal.pause, daemon=True).start()
print("ready", flush=True)
signal.pause()
"""


def test_the_kernel_holds_exactly_the_filter_that_was_made(mvmctl: Mvmctl) -> None:
    """44: init, commands, their children and threads have one program each, the product's, to the byte.

    The supervisor and the keeper, outside, are under none.
    """
    words = ["sh", "-c", '"$0" -c "$1" & wait', interpreter(), _THREADED]
    running = mvmctl.start("run", "--name", "agent", "--", *words)
    running.until("ready\n")
    later = mvmctl.start("exec", "agent", *words)
    later.until("ready\n")
    top = running.process.pid
    inside, all_of_it = processes.inside(top), processes.below(top)
    assert len(inside) == 5  # init, and twice a shell with its child
    assert len(_threads(inside)) == 7
    found = {task: _filters(task) for task in _threads(inside)}
    assert [task for task, filters in found.items() if filters != [program(os.uname().machine)]] == []
    outside = [processes.status(pid)["Seccomp"] for pid in all_of_it - inside]
    assert outside == ["0", "0"]
