"""Commands in a sandbox: their streams, statuses, ends and time limits, one after the other and at once."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import python

if TYPE_CHECKING:
    from tests.sandbox.conftest import Start

pytestmark = pytest.mark.kernel

_EVERY_BYTE = bytes(range(256))
_LARGE = _EVERY_BYTE * (1 << 15)
"""8 MiB: many times what pipes hold."""


# ---- run


def test_a_result_has_status_and_both_streams_apart(box: Start) -> None:
    """What the command printed, to the byte, and the status it ended with; nothing was reached or denied."""
    result = box().run(["sh", "-c", "printf out; printf err >&2; exit 7"])
    assert (result.returncode, result.stdout, result.stderr) == (7, b"out", b"err")
    assert (result.cause, result.denials, result.flows) == ("guest", (), ())


def test_the_example_of_the_package_holds(box: Start) -> None:
    """A command that ends well has status 0 and no cause."""
    result = box().run(["python3", "-c", "print(6 * 7)"])
    assert (result.returncode, result.stdout, result.cause) == (0, b"42\n", None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_128_and_its_number(box: Start, number: signal.Signals) -> None:
    """As a shell gives it."""
    assert box().run(["sh", "-c", f"kill -{number.value} $$"]).returncode == 128 + number


def test_megabytes_go_in_and_come_out_unchanged(box: Start) -> None:
    """8 MiB of every byte value through `cat`: neither side waits for the other for ever."""
    assert box().run(["cat"], stdin=_LARGE).stdout == _LARGE


def test_both_streams_may_be_large_at_once(box: Start) -> None:
    """A command that fills stderr before stdout, while it is being fed, comes to its end."""
    code = (
        "import sys; data = sys.stdin.buffer.read(); "
        "sys.stderr.buffer.write(data[::-1]); sys.stderr.flush(); sys.stdout.buffer.write(data)"
    )
    result = box().run(python(code), stdin=_LARGE)
    assert result.returncode == 0
    assert result.stdout == _LARGE
    assert result.stderr == _LARGE[::-1]


def test_a_command_that_does_not_read_is_no_error(box: Start) -> None:
    """What is fed to a command that ends without reading is dropped."""
    result = box().run(["sh", "-c", "exec 0<&-; echo done"], stdin=_LARGE)
    assert (result.returncode, result.stdout) == (0, b"done\n")


def test_without_stdin_a_command_reads_the_end(box: Start) -> None:
    """Nothing given is an empty input, never the caller's own."""
    assert box().run(["wc", "-c"]).stdout.strip() == b"0"


def test_variables_and_directory_are_one_commands_own(box: Start) -> None:
    """`env` and `workdir` of a command do not stay for the next one; those of the sandbox do."""
    sandbox = box(env={"BOTH": "sandbox", "KEPT": "yes"}, workdir="/usr")
    show = ["sh", "-c", "echo $BOTH $KEPT $PWD"]
    assert sandbox.run(show, env={"BOTH": "command"}, workdir="/etc").stdout == b"command yes /etc\n"
    assert sandbox.run(show).stdout == b"sandbox yes /usr\n"


def test_words_that_are_not_utf8_are_intact(box: Start) -> None:
    """A word with any bytes, as `os.fsdecode` gives it, arrives as these bytes."""
    word = os.fsdecode(b"caf\xe9 \xff")
    assert box().run(["printf", "%s", word]).stdout == b"caf\xe9 \xff"


@pytest.mark.parametrize("argv", [[], "true", ()])
def test_a_command_is_a_list_of_words(box: Start, argv: list[str]) -> None:
    """No word at all, or a text, is refused; a list of one word runs."""
    sandbox = box()
    with pytest.raises(mvm.UsageError, match="list of at least one word"):
        sandbox.run(argv)
    assert sandbox.run(["true"]).returncode == 0


@pytest.mark.parametrize("word", ["no-such-program", "/usr/bin/no-such-program", "/etc/passwd"])
def test_a_command_that_cannot_be_started_is_told(box: Start, word: str) -> None:
    """Not found, or not to be executed: a UsageError that names it, and the sandbox goes on."""
    sandbox = box()
    with pytest.raises(mvm.UsageError, match=word):
        sandbox.run([word])
    assert sandbox.run(["true"]).returncode == 0


# ---- time


def test_time_that_runs_out_ends_the_command(box: Start) -> None:
    """SandboxTimeout at about that time, the command and its children are gone, the sandbox goes on."""
    sandbox = box()
    with pytest.raises(mvm.SandboxTimeout):
        sandbox.run(["sh", "-c", "sleep 987654 & sleep 987654"], timeout=0.3)
    seen = sandbox.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]).stdout
    assert b"cat" in seen
    assert b"987654" not in seen


def test_time_that_suffices_changes_nothing(box: Start) -> None:
    """The twin: the same limit, and a command that ends before."""
    assert box().run(["echo", "in time"], timeout=30).stdout == b"in time\n"


def test_time_counts_while_the_command_is_fed(box: Start) -> None:
    """A command that neither reads nor ends is given up too."""
    with pytest.raises(mvm.SandboxTimeout):
        box().run(["sleep", "60"], stdin=_LARGE, timeout=0.3)


def test_time_counts_after_the_streams_are_closed(box: Start) -> None:
    """So is one that closes its streams and goes on."""
    with pytest.raises(mvm.SandboxTimeout):
        box().run(["sh", "-c", "exec <&- >&- 2>&-; sleep 60"], timeout=0.3)


# ---- popen


def test_a_process_is_talked_to_while_it_runs(box: Start) -> None:
    """What is printed is there at once, what is written arrives, and the end is told."""
    with box().popen(["sh", "-c", "echo first; read word; echo got $word >&2; exit 3"]) as process:
        assert process.stdout.readline() == b"first\n"
        assert process.poll() is None
        process.stdin.write(b"this\n")
        assert process.stderr.readline() == b"got this\n"
        assert process.wait() == 3
        assert (process.poll(), process.returncode) == (3, 3)


def test_poll_tells_the_end_without_waiting(box: Start) -> None:
    """None while it runs; once its end was told, its status."""
    with box().popen(["cat"]) as process:
        assert process.poll() is None
        process.stdin.close()
        assert process.stdout.read() == b""
        deadline = time.monotonic() + 10
        while process.poll() is None:
            assert time.monotonic() < deadline, "its end is not told"
        assert process.returncode == 0


def test_wait_with_a_limit_leaves_it_running(box: Start) -> None:
    """SandboxTimeout, and it can be waited for again."""
    with box().popen(["cat"]) as process:
        with pytest.raises(mvm.SandboxTimeout):
            process.wait(0.1)
        process.stdin.close()
        assert process.wait(30) == 0


def test_communicate_feeds_and_reads(box: Start) -> None:
    """As `subprocess.Popen.communicate` does: large both ways."""
    with box().popen(["cat"]) as process:
        assert process.communicate(_LARGE, timeout=60) == (_LARGE, b"")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("act", "status"),
    [("terminate", 128 + signal.SIGTERM), ("kill", 128 + signal.SIGKILL)],
)
def test_a_process_can_be_ended(box: Start, act: str, status: int) -> None:
    """By SIGTERM or SIGKILL, which its status says; a second time changes nothing."""
    with box().popen(["sleep", "60"]) as process:
        getattr(process, act)()
        assert process.wait(10) == status
        getattr(process, act)()
        assert process.wait(10) == status


def test_a_signal_is_handed_on(box: Start) -> None:
    """Any signal reaches the command, which may live on."""
    code = "trap 'echo heard' USR1; echo ready; while :; do read word; done"
    with box().popen(["sh", "-c", code]) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"heard\n"
        assert process.poll() is None


def test_a_process_let_go_of_ends(box: Start) -> None:
    """The end of the `with` block ends the command; the sandbox goes on."""
    sandbox = box()
    with sandbox.popen(["sleep", "987654"]):
        assert b"987654" in sandbox.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).stdout
    deadline = time.monotonic() + 10
    while b"987654" in sandbox.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).stdout:
        assert time.monotonic() < deadline, "it runs on"


# ---- many


def test_ends_that_come_with_the_beginning_are_not_missed(box: Start) -> None:
    """`true` two hundred times, one after the other: each ends, and none is waited for for ever."""
    sandbox = box()
    assert [sandbox.run(["true"], timeout=30).returncode for _ in range(200)] == [0] * 200


def test_threads_run_commands_side_by_side(box: Start) -> None:
    """Forty commands of eight threads in one sandbox: each thread gets its own command's output."""
    sandbox = box()

    def one(number: int) -> tuple[int, bytes]:
        result = sandbox.run(["sh", "-c", f"cat; exit {number}"], stdin=str(number).encode() * 9999)
        return result.returncode, result.stdout

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(one, range(40)))
    assert found == [(number, str(number).encode() * 9999) for number in range(40)]


def test_a_slow_command_holds_nobody_up(box: Start) -> None:
    """While one thread waits for a command, another's comes and goes in the same sandbox."""
    sandbox = box()
    with sandbox.popen(["cat"]) as slow:
        assert sandbox.run(["echo", "quick"], timeout=30).stdout == b"quick\n"
        assert slow.poll() is None
