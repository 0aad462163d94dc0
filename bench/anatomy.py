"""Where a connection and a start spend their time: in themselves, in the kernel, and in which system calls.

Owns the counting by strace(1), of runs that nobody times, since it slows down what it counts. Must never take
a time from such a run: user and system time are of runs without it.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING

from bench import layout as places
from bench.memory import helper
from bench.processor import split_seconds
from bench.product import Mvm, environment
from bench.starts import ALONE, BWRAP, PYTHON, RUN, WORDS, run, sandbox
from bench.subjects import Haproxy, HaproxySplice, Nginx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.book import Book
    from bench.subjects import Subject

_STARTS = 10
_CONNECTIONS_S, _COUNTED_S = 3.0, 1.0


def measure_connections(subjects: Sequence[Subject], book: Book, directory: Path) -> None:
    """Of the fastest peers and of mvm: microseconds in the gateway and in the kernel, and every call."""
    for subject in subjects:
        if type(subject) not in {HaproxySplice, Haproxy, Nginx, Mvm}:
            continue
        pids = subject.processes()
        before = split_seconds(pids)
        done = _connect(subject, _CONNECTIONS_S)
        user, system = (after - began for after, began in zip(split_seconds(pids), before, strict=True))
        book.add("user/conn", subject.name, user / done * 1e6)
        book.add("system/conn", subject.name, system / done * 1e6)
        counted = _attached(pids, directory, partial(_connect, subject, _COUNTED_S), book)
        if counted is not None:
            _keep(book, "conn", subject.name, *counted)


def _connect(subject: Subject, seconds: float) -> int:
    return int(subject.load("conn", places.ONCE, "-c", "16", "-t", str(seconds))["done"])


def measure_starts(book: Book, directory: Path) -> None:
    """Of the smallest process, of bubblewrap, of the command, and of a sandbox of the library."""
    for name in (PYTHON, BWRAP, RUN):
        if shutil.which(WORDS[name][0]) is None:
            continue
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(_STARTS):
            run(WORDS[name])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        book.add("user/start", name, (after.ru_utime - before.ru_utime) / _STARTS * 1e3)
        book.add("system/start", name, (after.ru_stime - before.ru_stime) / _STARTS * 1e3)
        report = directory / "calls"
        if _strace(book) is None:
            continue
        run(["strace", "-f", "-c", "-o", str(report), *WORDS[name]])
        _keep(book, "start", name, _read(report), 1)
    sandbox()
    holder = helper()
    before_user, before_system = split_seconds([holder], with_ended=True)
    _sandboxes()
    user, system = split_seconds([holder], with_ended=True)
    book.add("user/start", ALONE, (user - before_user) / _STARTS * 1e3)
    book.add("system/start", ALONE, (system - before_system) / _STARTS * 1e3)
    counted = _attached([holder], directory, _sandboxes, book)
    if counted is not None:
        _keep(book, "start", ALONE, *counted)


def _sandboxes() -> int:
    for _ in range(_STARTS):
        sandbox()
    return _STARTS


def _strace(book: Book) -> str | None:
    found = shutil.which("strace")
    if found is None:
        book.left_out["system calls"] = "strace is not installed (--install brings it)"
    return found


def _attached(
    pids: Sequence[int], directory: Path, act: Callable[[], int], book: Book
) -> tuple[dict[str, int], int] | None:
    """The calls that processes and their children make during an act, and how often it did what it does."""
    strace = _strace(book)
    if strace is None:
        return None
    report = directory / "calls"
    words = [strace, "-f", "-c", "-o", str(report), *(word for pid in pids for word in ("-p", str(pid)))]
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=environment()) as counting:
        assert counting.stderr is not None
        said = counting.stderr.readline().decode(errors="replace")
        if "attached" not in said:
            book.left_out["system calls"] = f"strace may not attach: {said.strip()[:200]}"
            return None
        times = act()
        counting.terminate()
    return _read(report), times


def _read(report: Path) -> dict[str, int]:
    """The table of `strace -c`: calls by name."""
    rows = [line.split() for line in report.read_text().splitlines()]
    found = {row[-1]: int(row[3]) for row in rows if len(row) > 4 and row[3].isdigit()}
    found.pop("total", None)
    report.unlink()
    return found


def _keep(book: Book, what: str, name: str, counts: dict[str, int], times: int) -> None:
    book.add(f"calls/{what}", name, sum(counts.values()) / times)
    most = sorted(counts.items(), key=lambda each: -each[1])
    book.calls[f"{what} {name}"] = {call: count / times for call, count in most}
