"""What the command line loads before it does anything: a start must cost little; counted here, not timed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.source import ROOT

_MOST_FOR_HELP = 90
_HEAVY = frozenset(
    {"asyncio", "concurrent", "cryptography", "email", "http", "idna", "json", "logging"}
    | {"multiprocessing", "pathlib", "rich", "socket", "ssl", "subprocess", "tempfile", "tomllib", "urllib"}
)
_OTHER_ROOMS = frozenset(
    f"mvm.{room}" for room in ("audit", "backends", "gateway", "kernel", "policy", "wire")
)
_PROGRAM = """
import sys
before = set(sys.modules)
from mvm.cli.conduct import conduct
status = conduct(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(status)
"""


def _loaded_by(*words: str) -> set[str]:
    """The modules that mvmctl loads for `words`, besides those that Python itself starts with."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
    command = [sys.executable, "-c", _PROGRAM, *words]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(ended.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help"), ("network", "--help")])
def test_help_loads_little(words: tuple[str, ...]) -> None:
    """Help and version load few modules, none of the heavy ones, and none of the rooms that do the work."""
    loaded = _loaded_by(*words)
    assert loaded & (_HEAVY | _OTHER_ROOMS) == set()
    assert "mvm.cli" in loaded
    assert len(loaded) <= _MOST_FOR_HELP


def test_a_command_that_needs_a_room_loads_it() -> None:
    """The same count sees the rooms of a command that works: explaining a policy loads the policy."""
    loaded = _loaded_by("network", "explain", "api.example.com:443", "--network-allow", "api.example.com:443")
    assert {"mvm.policy", "mvm.policy.explain"} <= loaded
