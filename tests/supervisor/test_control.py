"""Who is heard at a control socket, told from what everybody may read of a process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mvm.supervisor.control import is_heard, is_in_own_pid_namespace

pytestmark = pytest.mark.kernel


def test_a_process_below_is_told_from_one_beside() -> None:
    """One in a pid namespace of its own, as every workload is, is not beside us; its parent and we are."""
    words = ["unshare", "--map-current-user", "--pid", "--fork", "--", "cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as beside:
        assert beside.stdin is not None
        assert beside.stdout is not None
        beside.stdin.write(b"x")
        assert beside.stdout.read(1) == b"x"
        below = int(Path(f"/proc/{beside.pid}/task/{beside.pid}/children").read_text())
        assert not is_in_own_pid_namespace(below)
        assert is_in_own_pid_namespace(beside.pid)
        assert is_in_own_pid_namespace(os.getpid())
        beside.stdin.close()
    assert not is_in_own_pid_namespace(below), "one that has gone"


_KNOCK = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]); s.recv(1)"


@pytest.mark.parametrize("is_below", [False, True])
def test_the_same_user_is_heard_from_outside_of_all_sandboxes_only(is_below: bool) -> None:
    """From a user namespace below ours, as every workload is in one, the ids alone do not count."""
    name = f"mvm-test-{os.getpid()}-heard"
    before = ("unshare", "--map-current-user", "--") if is_below else ()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        with subprocess.Popen([*before, sys.executable, "-c", _KNOCK, name]) as peer:
            sock, _ = listener.accept()
            with sock:
                assert is_heard(sock) is not is_below
        assert peer.returncode == 0
