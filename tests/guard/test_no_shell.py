"""No shell anywhere in the product: what a user or a file says is never parsed as a command line."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.source import name_of, product_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = {"system", "getoutput", "getstatusoutput", "create_subprocess_shell", "spawnlp", "spawnvp"}
_SHELLS = {"sh", "bash", "dash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/env"}


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
