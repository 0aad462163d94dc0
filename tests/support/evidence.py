"""`pytest --evidence FILE`: what this run found, written for `mvmctl claims`, and held against the claims.

Owns the file and the verdict: after a run of the whole suite a claim whose test did not pass fails the run. A
test that means something only for another user is that user's run to show.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mvm import claims
from tests.support.source import PRODUCT, ROOT

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

BACKEND = "namespace"
"""What the tests make sandboxes by."""

_FOR_OTHERS = ("means something only as root", "means something only as an ordinary user")
_COMMIT = "MVM_COMMIT"
_WORSE = {claims.PASSED: 0, claims.SKIPPED: 1, claims.FAILED: 2}


class Recorder:
    """A pytest plugin: registered once, in the process that reports, where somebody wants evidence."""

    def __init__(self, file: Path, *, whole: bool) -> None:
        """Start with nothing run; `whole` says whether every test was asked for."""
        self._file, self._whole = file, whole
        self._tests: dict[str, str] = {}
        self._of_others: set[str] = set()
        self._unmet: list[tuple[claims.Claim, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst that any case of a test came to."""
        name = report.nodeid.partition("[")[0]
        if report.skipped and isinstance(report.longrepr, tuple) and _is_for_others(report.longrepr[2]):
            self._of_others.add(name)
            return
        if report.when == "call" or not report.passed:
            before = self._tests.get(name, claims.PASSED)
            self._tests[name] = max(before, report.outcome, key=_WORSE.__getitem__)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, and fail a whole run by which a claim does not hold."""
        evidence = claims.Evidence(
            commit=_commit(),
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
            python=platform.python_version(),
            uid=os.geteuid(),
            backend=BACKEND,
            tests=dict(sorted(self._tests.items())),
        )
        self._file.write_text(claims.write_evidence(evidence), "utf-8")
        if not self._whole:
            return
        claimed = claims.read_claims((PRODUCT / "claims.toml").read_text("utf-8"))
        self._unmet = [
            found
            for found in claims.unmet(claimed, BACKEND, [evidence])
            if not (found[2] == claims.NOT_RUN and found[1] in self._of_others)
        ]
        if self._unmet and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Say which claim does not hold, and by which test."""
        if self._unmet:
            terminalreporter.section("claims")
        for claim, test, outcome in self._unmet:
            terminalreporter.line(f"FAILED claim {claim.id}: {test} {outcome}", red=True)


def _is_for_others(reason: str) -> bool:
    return reason.removeprefix("Skipped: ").startswith(_FOR_OTHERS)


def _commit() -> str:
    """The commit of the source, as told or as git has it; empty where neither knows."""
    if _COMMIT in os.environ:
        return os.environ[_COMMIT]
    words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        asked = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return asked.stdout.strip()


def register(config: pytest.Config) -> None:
    """Record this run where its command line asks for that."""
    file = config.getoption("evidence")
    if file is not None:
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (
            config.getoption("keyword") or config.getoption("markexpr")
        )
        config.pluginmanager.register(Recorder(Path(file), whole=whole), "mvm-evidence")
