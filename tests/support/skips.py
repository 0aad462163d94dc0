"""A skipped test is counted, with its reason, and is a failure where the test had to run.

Owns the account of skips of one pytest session and the marker `must_run_here`. Never decides whether a test
is skipped.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


class Skips:
    """A pytest plugin: registered once, in the process that reports to the user."""

    def __init__(self) -> None:
        """Start with nothing skipped."""
        self._reasons: Counter[str] = Counter()
        self._forbidden: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a skip (an expected failure isn't one)."""
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = _reason(report)
        self._reasons[reason] += 1
        if "must_run_here" in report.keywords:
            self._forbidden.append((report.nodeid, reason))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run in which a test that had to run was skipped has failed."""
        if self._forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print how many tests were skipped for each reason, and which of them had to run."""
        if not self._reasons:
            return
        terminalreporter.section("skipped")
        for reason, count in self._reasons.most_common():
            terminalreporter.line(f"{count:5}  {reason}")
        for test, reason in self._forbidden:
            terminalreporter.line(f"FAILED {test} had to run here and was skipped: {reason}", red=True)


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)
