"""A private copy of the repository in which one text of the product is another, and tests run against it.

Owns the copies and the reading of what pytest said. Must never write into the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tests.mutations.defences import Edit

_COPIED = ("src", "tests", "schema", "pyproject.toml")
_LIMIT_S = 900
"""For what hangs: a busy machine may take its time."""
_CHOSEN_COMMAND = "MVMCTL"
_AT_ITS_END = "failed on teardown"
_PATIENCE = (
    ("tests/gateway/clients.py", "WAIT_S", 10.0),
    ("tests/escape/attempts.py", "_PATIENCE_S", 8.0),
    ("tests/support/leftovers.py", "WITHIN_S", 10.0),
)
_LITTLE_S = 3.0


class EditRefused(Exception):
    """The text that a mutation replaces is not there, or is there more than once."""


class Outcomes(NamedTuple):
    """What became of the tests that were asked for, by their names without parameters.

    Attributes:
        passed: those of which every case passed.
        failed: those of which some case failed, or failed to end well; not those that could not begin.
        skipped: those of which some case was skipped and none failed.
        said: all that pytest printed.
    """

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str]
    said: str


class Lanes:
    """Runs of copies, so many side by side.

    Args:
        count: how many at a time.
    """

    def __init__(self, count: int) -> None:
        self._count, self._free, self._alone = count, threading.Semaphore(count), threading.Lock()

    def run(self, copy: Path, tests: Sequence[str], report: Path, *, passing: Iterable[str]) -> Outcomes:
        """Run tests as `run` does; those that are to pass and do not, once more with nothing beside them."""
        with self._free:
            first = run(copy, tests, report)
        again = [test for test in passing if _bare(test) not in first.passed | first.skipped]
        if not again:
            return first
        with self._alone, ExitStack() as held:
            for _ in range(self._count):
                held.enter_context(self._free)
            second = run(copy, again, report.with_suffix(".again.xml"))
        return Outcomes(
            first.passed | second.passed,
            first.failed - second.passed,
            first.skipped | second.skipped,
            f"{first.said}\n{second.said}",
        )


def copy_repository(place: Path) -> Path:
    """Copy what tests need of the checkout."""
    place.mkdir()
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("evidence*.json"))
        else:
            shutil.copy2(source, place / name)
    return place


def lend(base: Path, place: Path) -> Path:
    """Make another copy that shares the files of `base`, to replace some of them in."""
    shutil.copytree(base, place, copy_function=os.link)
    return place


def edit(copy: Path, edits: Iterable[Edit]) -> None:
    """Replace texts in a copy.

    Raises:
        EditRefused: the product is written otherwise by now, and the table has to follow.
    """
    for file, old, new in edits:
        _replace(copy, f"src/mvm/{file}", old, new)


def lose_patience(copy: Path) -> None:
    """Have the tests of a copy wait less long for what may never come: where a defence is gone, some do.

    Raises:
        EditRefused: the tests say otherwise by now how long they wait.
    """
    for file, name, seconds in _PATIENCE:
        _replace(copy, file, f"\n{name} = {seconds}\n", f"\n{name} = {_LITTLE_S}\n")


def _replace(copy: Path, file: str, old: str, new: str) -> None:
    path = copy / file
    text = path.read_text("utf-8")
    if text.count(old) != 1:
        raise EditRefused(
            f"{file} holds {text.count(old)} times the text that is to be replaced, instead of once: "
            f"{old!r}; change tests/mutations to what stands there now"
        )
    path.unlink()  # never through the link: the base is shared
    path.write_text(text.replace(old, new), "utf-8")
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        stale.unlink()


def run(copy: Path, tests: Sequence[str], report: Path) -> Outcomes:
    """Run tests of a copy, each by its name in the repository, against the product of that copy.

    Args:
        copy: the copy.
        tests: their names.
        report: a file of this run alone, in none of the copies: what is in one may be shared.
    """
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    words += [f"--junit-xml={report}", "-o", "junit_family=xunit1", *tests]
    environment = {name: value for name, value in os.environ.items() if name != _CHOSEN_COMMAND}
    environment["PYTHONPATH"] = str(copy / "src")
    ended = subprocess.run(
        words,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return _read(report, ended.stdout, {_bare(test) for test in tests})


def _bare(test: str) -> str:
    return test.partition("[")[0]


def _read(report: Path, said: str, asked: set[str]) -> Outcomes:
    cases: dict[str, set[str]] = {test: set() for test in asked}
    if report.exists():
        for case in ET.parse(report).iter("testcase"):  # noqa: S314  our own pytest wrote it a moment ago
            name = f"{case.get('file')}::{_bare(str(case.get('name')))}"
            cases.setdefault(name, set()).update(_words(case))
    failed = frozenset(name for name, outcomes in cases.items() if "failed" in outcomes)
    skipped = frozenset(name for name, outcomes in cases.items() if "skipped" in outcomes) - failed
    passed = frozenset(name for name, outcomes in cases.items() if outcomes == {"passed"})
    return Outcomes(passed, failed, skipped, said)


def _words(case: ET.Element) -> set[str]:
    """What became of one case; leftovers are found at its end, where it has long begun."""
    found = {
        "failed" if child.tag == "failure" or child.get("message", "").startswith(_AT_ITS_END) else child.tag
        for child in case
    }
    return found & {"failed", "error", "skipped"} or {"passed"}
