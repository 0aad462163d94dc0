"""What the command line loads before it does anything: a start must cost little; counted here, not timed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.source import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.mvmctl import Mvmctl

_MOST_FOR_HELP = 90
_MOST_FOR_A_RUN = 235
_NOT_FOR_A_PLAIN_RUN = frozenset(
    f"mvm.{name}"
    for name in (
        "cli.app", "cli.capability", "cli.refused", "compile", "declare", "images.archive", "images.flake",
        "images.oci_layout", "images.rootfs", "images.store", "policy.presets", "registries", "sandbox",
        "supervisor.forwards", "supervisor.profile", "supervisor.receipt", "supervisor.terminal", "wire",
    )
)  # fmt: skip
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


def _loaded_by(*words: str, env: Mapping[str, str] = os.environ) -> set[str]:
    """The modules that mvmctl loads for `words`, besides those that Python itself starts with."""
    env = {**env, "PYTHONPATH": str(ROOT / "src"), "NO_COLOR": "1"}
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


@pytest.mark.kernel
def test_a_plain_run_loads_what_it_uses(mvmctl: Mvmctl) -> None:
    """`run -- true` loads none of what other runs need, and no more modules than it did."""
    loaded = _loaded_by("run", "--", "true", env=mvmctl.environment())
    assert {"mvm.supervisor.story", "mvm.gateway.gateway", "mvm.audit.log"} <= loaded
    assert loaded & _NOT_FOR_A_PLAIN_RUN == set()
    assert len(loaded) <= _MOST_FOR_A_RUN
