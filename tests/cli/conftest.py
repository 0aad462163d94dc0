"""What the tests of the command line share: `type_in`, words said to the program inside this process.

For verbs that start nothing; what starts a sandbox is typed into a process of its own (`mvmctl`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from mvm.cli.conduct import conduct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.mvmctl import Mvmctl


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of a command line."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:  # noqa: ANN401  (whatever JSON holds)
        """What it printed, parsed. Raises ValueError."""
        return json.loads(self.output)

    def expect(self, status: int = 0) -> Said:
        """Return this, if it ended so. Raises AssertionError with everything it said."""
        assert self.status == status, f"status {self.status}\nstdout: {self.output}\nstderr: {self.errors}"
        return self


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with state and a home of its own, outside of any repository."""
    for variable, name in (("MVM_STATE_DIR", "state"), ("MVM_RUNTIME_DIR", "run"), ("HOME", "home")):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.delenv("MVM_DEBUG", raising=False)
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def type_in(project: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Type a command line in an empty project; gives what it said."""
    assert project.is_dir()

    def typed(*words: str) -> Said:
        capfd.readouterr()
        status = conduct(words)
        said = capfd.readouterr()
        return Said(status=status, output=said.out, errors=said.err)

    return typed


@pytest.fixture
def up(mvmctl: Mvmctl) -> Iterator[Callable[..., str]]:
    """Start a detached sandbox; gives its name. What still runs at the end of the test is stopped."""

    def start(*words: str) -> str:
        return mvmctl("up", "-d", *words).expect(0).stdout.strip()

    yield start
    mvmctl("down", "--all", "--time", "0").expect(0)
