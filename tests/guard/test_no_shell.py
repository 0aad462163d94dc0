"""No shell anywhere in the product: what a user or a file says is never parsed as a command line.

The one exception is inside a sandbox: init gives a script without `#!` to its `/bin/sh`, as execvp(3) does
(`tests/cli/test_run.py::test_a_script_without_an_interpreter_is_the_shells`). The words are never read by it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.source import name_of, product_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = {"system", "getoutput", "getstatusoutput", "create_subprocess_shell", "spawnlp", "spawnvp"}
_SHELLS = {"sh", "bash", "dash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/env"}

_NAMED = {
    "src/mvm/backends/namespace/init.py": "_SHELL, the exception",
    "src/mvm/images/host.py": "the value of SHELL inside, for programs that ask for it",
}
"""Modules in which the path of a shell stands, whatever for."""


def _paths(tree: ast.AST) -> set[str]:
    """Paths of shells, however they come to stand there: also by way of a name or a tuple."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {word for word in constants if isinstance(word, str) and word in _SHELLS and "/" in word}


def _shells(tree: ast.AST) -> Iterator[int]:
    """Lines that start a shell, or ask the standard library for one."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="shell", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield value.lineno
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in _CALLS:
                yield node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="os"), attr="popen")):
                yield node.lineno
            case ast.List(elts=[ast.Constant(value=str(word)), *_]) if word in _SHELLS:
                yield node.lineno
            case ast.ImportFrom(module="os" | "subprocess", names=names) if {n.name for n in names} & {
                *_CALLS,
                "popen",
            }:
                yield node.lineno


def test_no_shell_is_started_by_the_product() -> None:
    """Neither by name nor by way of `shell=True`, `os.system`, `popen` and their kin."""
    found = [
        f"{name_of(path)}:{line}"
        for path in product_modules()
        for line in _shells(ast.parse(path.read_text("utf-8")))
    ]
    assert found == []


def test_the_path_of_a_shell_stands_in_no_other_module() -> None:
    """So that one that is started by way of a constant is seen too; where one is started, there is one."""
    trees = {name_of(path): ast.parse(path.read_text("utf-8")) for path in product_modules()}
    assert {name for name, tree in trees.items() if _paths(tree)} == set(_NAMED)
    used = [
        node
        for node in ast.walk(trees["src/mvm/backends/namespace/init.py"])
        if isinstance(node, ast.Name) and node.id == "_SHELL" and isinstance(node.ctx, ast.Load)
    ]
    assert len({node.lineno for node in used}) == 1
    assert _paths(ast.parse("place = ('/bin/sh', text)")) == {"/bin/sh"}


@pytest.mark.parametrize(
    "text",
    [
        "subprocess.run('ls', shell=True)",
        "subprocess.Popen(words, shell=flag)",
        "os.system('ls')",
        "os.popen('ls')",
        "from os import system",
        "subprocess.run(['sh', '-c', text])",
        "subprocess.getoutput('ls')",
    ],
)
def test_the_search_finds_each_of_them(text: str) -> None:
    """So that finding none means that there is none; a list of words is no shell."""
    assert list(_shells(ast.parse(text))) == [1]
    assert list(_shells(ast.parse("subprocess.run(['ls', '-c'], shell=False)"))) == []
