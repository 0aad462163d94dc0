"""The repository's own text, as guards and documentation tests read it.

Owns which files those are. Works in a clone and in a plain copy of one: it asks the file system, not git.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ROOT / "src" / "mvm"
_FOLDERS = ("src", "tests", "bench", "docs", "schema", "requirements", "CHANGELOG", ".ci")
_NOT_OURS = frozenset({"__pycache__", ".venv"})


def name_of(path: Path) -> str:
    """How a failure calls a file: its path in the repository."""
    return path.relative_to(ROOT).as_posix()


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, sorted, without what a build or a run leaves there."""
    found = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    return tuple(sorted(path for path in found if not _NOT_OURS.intersection(path.parts)))


@functools.cache
def modules() -> tuple[Path, ...]:
    """Every Python file of the repository."""
    return tuple(path for path in files() if path.suffix == ".py")


def product_modules() -> tuple[Path, ...]:
    """Every Python file of the package."""
    return tuple(path for path in modules() if path.is_relative_to(PRODUCT))


@functools.cache
def tree(path: Path) -> ast.Module:
    """What a Python file says."""
    return ast.parse(path.read_text("utf-8"), name_of(path))
