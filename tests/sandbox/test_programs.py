"""Programs that use the library and end, each in its own way: nothing of their sandboxes outlives them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Tell
    from tests.support.leftovers import Leftovers
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_STARTS = """
import os, signal, sys
import mvm
box = mvm.Sandbox(network=mvm.network(mode="none"), name="orphan")
box.start()
process = box.popen(["sleep", "987654"])
print("up", flush=True)
"""
_WAITS = "sys.stdin.read()\n"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)\n", 3),
        ("raise SystemError\n", 1),
        ("os._exit(4)\n", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)\n", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)\n", -signal.SIGTERM),
        ("os.abort()\n", -signal.SIGABRT),
        ("os.execvp('true', ['true'])\n", 0),
    ],
)
def test_a_program_that_ends_without_close_leaves_nothing(
    program: Tell, mvmctl: Mvmctl, leftovers: Leftovers, end: str, status: int
) -> None:
    """However it ends: no process, namespace, mount, socket or file; its record is sealed, its name free."""
    running = program(_STARTS + end)
    running.until("up\n")
    assert running.finish().exit_code == status
    leftovers.expect_none()
    mvmctl("audit", "verify", "--all", "--sealed").expect(0)
    mvmctl("run", "--name", "orphan", "--", "true").expect(0)


def test_while_the_program_runs_its_sandbox_does(program: Tell, mvmctl: Mvmctl, leftovers: Leftovers) -> None:
    """The twin: it is listed, can be spoken to from a shell, and goes with the program."""
    running = program(_STARTS + _WAITS)
    running.until("up\n")
    assert b"987654" in mvmctl("exec", "orphan", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline").output
    assert running.finish().exit_code == 0
    leftovers.expect_none()


def test_a_program_killed_while_it_starts_one_leaves_nothing(program: Tell, leftovers: Leftovers) -> None:
    """In the middle of one start after the other."""
    code = (
        "import mvm\nprint('up', flush=True)\nkept = []\nwhile True:\n"
        "    kept.append(mvm.Sandbox(network=mvm.network(mode='none')))\n    kept[-1].start()\n"
        "    print(len(kept), flush=True)\n"
    )
    for number in (1, 3, 6):
        running = program(code)
        running.until(f"\n{number}\n")
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        leftovers.expect_none()


def test_a_fork_that_lives_on_does_not_keep_sandboxes(program: Tell, leftovers: Leftovers) -> None:
    """A child of the program, forked while a sandbox ran, doesn't hold it once the program was killed."""
    forks = (
        "if os.fork() == 0:\n    os.close(1); os.close(2)\n    sys.stdin.read()\n    os._exit(0)\n"
        "print('forked', flush=True)\nsignal.pause()\n"
    )
    running = program(_STARTS + forks)
    running.until("forked\n")
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()

    deadline = time.monotonic() + 5
    while any("sleep 987654" in each or "mvm.supervisor" in each for each in leftovers.now()):
        assert time.monotonic() < deadline, "the fork keeps the sandbox"
        os.sched_yield()
    assert any(each.startswith("process: ") for each in leftovers.now()), "the fork has gone too early"
    running.finish()
    leftovers.expect_none()


def test_a_fork_starts_sandboxes_of_its_own(program: Tell, leftovers: Leftovers) -> None:
    """A child has a helper of its own, from which its sandboxes are held, and the parent's goes on."""
    code = (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    with mvm.Sandbox(network=mvm.network(mode='none')) as own:\n"
        "        print(own.run(['echo', 'child']).stdout, own.describe()['pid'] != before, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print(box.run(['echo', 'parent']).stdout, box.describe()['pid'] == before)\n"
    )
    running = program(_STARTS + "before = box.describe()['pid']\n" + code)
    ended = running.finish()
    assert ended.exit_code == 0
    assert ended.stdout == "up\nb'child\\n' True\nb'parent\\n' True\n"
    leftovers.expect_none()


def test_ctrl_c_at_the_program_is_the_programs(program: Tell, leftovers: Leftovers) -> None:
    """SIGINT to its process group is a KeyboardInterrupt there; its sandbox goes on until it is closed."""
    code = (
        "import mvm\n"
        "with mvm.Sandbox(network=mvm.network(mode='none')) as box:\n"
        "    try:\n        print('up', flush=True)\n        box.run(['sleep', '60'])\n"
        "    except KeyboardInterrupt:\n        print(box.run(['echo', 'goes on']).stdout.decode())\n"
    )
    running = program(code)
    running.until("up\n")
    os.killpg(running.process.pid, signal.SIGINT)
    ended = running.finish()
    assert (ended.exit_code, ended.stdout) == (0, "up\ngoes on\n\n")
    leftovers.expect_none()


def test_importing_costs_nothing_and_starts_nothing(program: Tell) -> None:
    """`import mvm` loads none of its parts, and no process is there before the first sandbox."""
    ended = program(
        "import os, sys, mvm\n"
        "print([name for name in sys.modules if name.startswith('mvm.')])\n"
        "mvm.Sandbox(network=mvm.network(mode='none'))\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read())\n"
    ).finish()
    assert (ended.exit_code, ended.stdout) == (0, "[]\n\n")


_UNSEEN = "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE\n"
_SPEAKS = (
    "import os\nfrom mvm.errors import UsageError\nfrom mvm.supervisor.client import Client\n"
    "try:\n    with Client('orphan', os.environ) as client:\n        print(client.describe()['name'])\n"
    "except UsageError as error:\n    print('not heard')\n"
)


def test_a_program_that_hides_what_it_is_may_speak_to_its_own_sandbox(program: Tell) -> None:
    """One that is not dumpable, as programs that hold keys are, is heard like any other."""
    running = program(_STARTS + _UNSEEN + _SPEAKS)
    assert running.finish().stdout == "up\norphan\n"


@pytest.mark.parametrize("hides", ["", _UNSEEN], ids=["seen", "hidden"])
def test_nobody_in_namespaces_of_their_own_may_speak_to_it(program: Tell, hides: str) -> None:
    """The twin: as a workload is, whether it can be looked at or not; outside the same words are heard."""
    code = (
        "import subprocess\n"
        f"words = [sys.executable, '-c', {hides + _SPEAKS!r}]\n"
        "subprocess.run(words, check=True)\n"
        "subprocess.run(['unshare', '--map-current-user', '--pid', '--fork', '--', *words], check=True)\n"
    )
    running = program(_STARTS + code)
    assert running.finish().stdout == "up\norphan\nnot heard\n"
