"""What processes use, read from the kernel of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.processor import cpu_seconds, split_seconds


def test_user_and_system_time_are_all_of_it() -> None:
    """Both parts of a process's time are its time, and one that computes spends it on itself."""
    before = split_seconds([os.getpid()])
    until = time.process_time() + 0.2
    while time.process_time() < until:
        sum(range(10_000))
    user, system = (after - began for after, began in zip(split_seconds([os.getpid()]), before, strict=True))
    assert user > 0.1
    assert system >= 0
    whole = cpu_seconds([os.getpid()], with_ended=False)
    assert abs(sum(split_seconds([os.getpid()])) - whole) < 0.1


def test_everything_is_held_to_one_processor_and_let_go_again() -> None:
    """What runs already, and what is started meanwhile; in a process apart, for it would hold its own kin."""
    code = (
        "import os, subprocess, sys\n"
        "import bench.processor as processor\n"
        "standing = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "processor._stats = lambda: [(os.getpid(), []), (standing.pid, [])]\n"
        "whole = os.sched_getaffinity(0)\n"
        "ask = [sys.executable, '-c', 'import os; print(len(os.sched_getaffinity(0)))']\n"
        "with processor.on_one_processor():\n"
        "    started = subprocess.run(ask, capture_output=True).stdout\n"
        "    print(len(os.sched_getaffinity(standing.pid)), started)\n"
        "print(os.sched_getaffinity(standing.pid) == whole == os.sched_getaffinity(0))\n"
        "standing.communicate()\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "1 b'1\\n'\nTrue\n"
