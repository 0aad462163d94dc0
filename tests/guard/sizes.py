"""How long modules and functions are, and which are over a limit.

Owns the limits of STYLE (rule 10) and the reasons of those that stay over the soft one. The length of a
function is that from its `def` to its end without its docstring: who documents well must not be punished.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from tests.support.source import modules, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE_SOFT, MODULE_HARD = 400, 600
FUNCTION_SOFT, FUNCTION_HARD = 40, 80

REASONS: dict[str, str] = {}
"""Why something may stay over its soft limit: `path` or `path::function`, and the reason."""


class Size(NamedTuple):
    """One module or function, its length in lines, and its limits."""

    name: str
    lines: int
    soft: int
    hard: int

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name}: {self.lines} lines (soft {self.soft}, hard {self.hard})"


def sizes_of(name: str, text: str) -> Iterator[Size]:
    """The size of one module, and of each function in it. Raises SyntaxError."""
    yield Size(name, len(text.splitlines()), MODULE_SOFT, MODULE_HARD)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Size(f"{name}::{node.name}", _length(node), FUNCTION_SOFT, FUNCTION_HARD)


def over_soft() -> list[Size]:
    """All of the repository that is over a soft limit, the longest first."""
    sizes = (size for path in modules() for size in sizes_of(name_of(path), path.read_text("utf-8")))
    return sorted(
        (size for size in sizes if size.lines > size.soft), key=lambda size: -size.lines / size.hard
    )


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines
