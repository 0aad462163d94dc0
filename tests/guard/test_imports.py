"""Imports point down, strangers stay strangers, and the pure half touches no world (DESIGN, STYLE rule 1).

The rules stand in pyproject.toml; import-linter holds them. Tried on a copy too, with each rule broken once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import PRODUCT, ROOT


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    env = {**os.environ, "PYTHONPATH": str(root / "src")}
    words = [str(program), "--no-cache", "--config", str(root / "pyproject.toml")]
    return subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_imports_follow_the_rules() -> None:
    """Every import of the package follows every rule."""
    ended = _lint(ROOT)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("policy/model.py", "import socket", "the pure half touches no world"),
        ("wire/outcome.py", "def late() -> None:\n    import time", "the pure half touches no world"),
        ("terms.py", "import mvm.policy.model", "imports point down"),
        ("kernel/netlink.py", "import mvm.audit.chain", "imports point down"),
        ("images/tree.py", "import mvm.gateway.loop", "imports point down"),
        ("registries/npm.py", "import mvm.registries.apt", "a package tool is asked in its own module"),
    ],
)
def test_a_broken_rule_is_found(tmp_path: Path, module: str, statement: str, contract: str) -> None:
    """One import in the wrong direction, at the head of a module or in a function, breaks its rule."""
    copy = tmp_path / "src" / "mvm"
    shutil.copytree(PRODUCT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")
    ended = _lint(tmp_path)
    assert ended.returncode == 1
    assert [line for line in ended.stdout.splitlines() if line.startswith(contract) and "BROKEN" in line]
