"""What the guards tell besides passing and failing: everything that is over a soft limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.guard.sizes import REASONS, over_soft

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print what is over a soft limit, with the reason where one is given."""
    found = over_soft()
    if found:
        terminalreporter.section("over a soft limit")
    for size in found:
        terminalreporter.line(f"{size.describe()}: {REASONS.get(size.name, 'no reason given')}")
