"""The table keeps its word: its tests are there, and where they need a sandbox one is seen to start."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.defences import DEFENCES
from tests.support.source import ROOT, tree

_NEED_ONE = frozenset({"mvmctl", "sandbox", "confined", "doorway", "local_doorway"})
"""The fixtures that a sandbox, or a door with its gateway, comes of."""


def _asked_for(test: str) -> frozenset[str]:
    """The fixtures that a test names; none where there is no such test."""
    file, _, name = test.partition("[")[0].partition("::")
    for node in tree(ROOT / file).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return frozenset(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)) | {""}
    return frozenset()


@pytest.mark.parametrize("name", DEFENCES)
def test_where_a_sandbox_is_needed_one_is_seen_to_start(name: str) -> None:
    """Or it is said why none does: else all that keeps one from starting would look like that defence."""
    defence = DEFENCES[name]
    asked = {test: _asked_for(test) for test in (*defence.red, *defence.green, *defence.alive)}
    assert [test for test, fixtures in asked.items() if not fixtures] == []
    needing = [test for test in defence.red if asked[test] & _NEED_ONE]
    assert not needing or defence.alive or defence.lifeless, needing
