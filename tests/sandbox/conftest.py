"""What the tests of the Python API share: `box`, `helper` and `program`.

Owns the directories that the library sees, and the end of its helper process.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import mvm
import mvm.sandbox.sandbox as home_of_helper
from mvm.sandbox.helper import Helper
from tests.sandbox.reaching import closed
from tests.support.mvmctl import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.mvmctl import Mvmctl

Start: TypeAlias = "Callable[..., mvm.Sandbox]"
"""The fixture `box`."""
Tell: TypeAlias = "Callable[[str], Running]"
"""The fixture `program`."""


@pytest.fixture
def helper(mvmctl: Mvmctl, monkeypatch: pytest.MonkeyPatch) -> Iterator[Helper]:
    """The library in this process, with directories and a helper process of this test alone."""
    own = mvmctl.environment()
    for variable in ("MVM_STATE_DIR", "MVM_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, own[variable])
    made = Helper()
    monkeypatch.setattr(home_of_helper, "HELPER", made)
    yield made
    made.close()


@pytest.fixture
def box(helper: Helper) -> Iterator[Start]:
    """Start a sandbox, closed unless `network` says otherwise; it ends with the test."""
    assert isinstance(helper, Helper)
    with ExitStack() as stack:

        def start(network: object = None, **words: Any) -> mvm.Sandbox:  # noqa: ANN401  those of Sandbox
            made = mvm.Sandbox(network=closed() if network is None else network, **words)
            return stack.enter_context(made)

        yield start


@pytest.fixture
def program(mvmctl: Mvmctl) -> Iterator[Tell]:
    """Start a Python program of its own that uses the library, given as text."""
    from sys import executable

    started: list[Running] = []

    def start(code: str) -> Running:
        started.append(Running([executable, "-c", code], env=mvmctl.environment(), cwd=None))
        return started[-1]

    yield start
    for running in started:
        running.close()
