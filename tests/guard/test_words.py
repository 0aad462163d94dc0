"""What must not stand in any file, and what must stand at the head of each."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.source import files, modules, name_of, product_modules, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_UNFINISHED = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")
_SLEEPERS = {
    "src/mvm/kernel/cgroups.py": "version 1 tells nobody when a group's last process has gone",
    "tests/faults/memory.py": "memory that is given back is no event, so it looks again",
    "tests/kernel/test_cgroups.py": "as the module that it tries",
    "tests/support/leftovers.py": "the going of a mount or a cgroup is no event, so it looks again",
    "tests/support/upstream/control.py": "lets its event loop read packets until the mark among them came",
    "tests/support/upstream/names.py": "a name server that was told to be slow",
    "tests/support/upstream/services.py": "a host that sends a byte now and then",
}
_EVERYTHING = ("Exception", "BaseException")
_MISPLACED = ("utils", "helpers", "common", "manager", "misc", "base")


def _unfinished(text: str) -> list[str]:
    return [match[1] for match in _UNFINISHED.finditer(text)]


def _silent_handlers(text: str) -> Iterator[int]:
    """Lines of handlers that do nothing and do not say why, and of suppressions of everything."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ExceptHandler(
                type=kind, body=[ast.Pass(lineno=end) | ast.Expr(ast.Constant(), lineno=end)]
            ):
                is_told = any("#" in line for line in lines[node.lineno - 1 : end])
                if kind is None or ast.unparse(kind) in _EVERYTHING or not is_told:
                    yield node.lineno
            case ast.Call(func=func, args=[ast.Name(id=kind)]):
                if ast.unparse(func).rpartition(".")[2] == "suppress" and kind in _EVERYTHING:
                    yield node.lineno


def _sleeps(text: str) -> Iterator[int]:
    """Lines that call something named sleep."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep") | ast.Name(id="sleep")):
                yield node.lineno


def _default_policies(text: str) -> Iterator[int]:
    """Lines of parameters that are a policy and may be left out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            words = node.args
            positional = [*words.posonlyargs, *words.args]
            defaults = [None] * (len(positional) - len(words.defaults)) + [
                *words.defaults,
                *words.kw_defaults,
            ]
            for parameter, default in zip([*positional, *words.kwonlyargs], defaults, strict=True):
                annotation = parameter.annotation
                if default is not None and annotation and re.search(r"\bPolicy\b", ast.unparse(annotation)):
                    yield parameter.lineno


def _places(search: Callable[[str], Iterator[int]], paths: tuple[Path, ...]) -> list[str]:
    return [f"{name_of(path)}:{line}" for path in paths for line in search(path.read_text("utf-8"))]


def test_nothing_is_left_for_later() -> None:
    """No file says that something is still to be done in it."""
    texts = {path: path.read_text("utf-8", errors="ignore") for path in files()}
    assert {name_of(path): words for path, text in texts.items() if (words := _unfinished(text))} == {}


def test_no_error_is_passed_over() -> None:
    """A handler that does nothing says why, and none of them takes every error there is."""
    assert _places(_silent_handlers, modules()) == []


def test_nobody_sleeps() -> None:
    """Readiness is an event, never a while: nothing sleeps but what is listed with its reason."""
    sleepers = {place.partition(":")[0] for place in _places(_sleeps, modules())}
    assert sleepers == set(_SLEEPERS)


def test_every_module_says_what_it_is() -> None:
    """Each file of Python opens with a docstring."""
    assert [name_of(path) for path in modules() if not ast.get_docstring(tree(path))] == []


def test_no_module_is_named_for_nothing() -> None:
    """No module or package of the product has a name that would fit anything."""
    names = {part for path in product_modules() for part in path.with_suffix("").parts}
    assert names.isdisjoint(_MISPLACED)


def test_no_default_stands_for_a_policy() -> None:
    """Every launch path must be handed a policy: no parameter of that type has a default."""
    assert _places(_default_policies, product_modules()) == []


@pytest.mark.parametrize(
    ("search", "text", "found"),
    [
        (_silent_handlers, "try:\n    a()\nexcept OSError:\n    pass", [3]),
        (_silent_handlers, "try:\n    a()\nexcept OSError:\n    ...", [3]),
        (_silent_handlers, "try:\n    a()\nexcept OSError:\n    pass  # gone already", []),
        (_silent_handlers, "try:\n    a()\nexcept Exception:\n    pass  # whatever", [3]),
        (_silent_handlers, "try:\n    a()\nexcept:\n    pass  # whatever", [3]),
        (_silent_handlers, "with contextlib.suppress(Exception):\n    a()", [1]),
        (_silent_handlers, "with suppress(OSError):\n    a()", []),
        (_silent_handlers, "try:\n    a()\nexcept OSError as e:\n    tell(e)", []),
        (_sleeps, "import time\ntime.sleep(1)", [2]),
        (_sleeps, "wait(1)", []),
        (_default_policies, "def f(p: Policy | None = None): ...", [1]),
        (_default_policies, "def f(*, p: Policy): ...", []),
        (_default_policies, "def f(a, *, p: Policy, b=1): ...", []),
    ],
)  # fmt: skip
def test_the_searches_find_what_they_look_for(
    search: Callable[[str], Iterator[int]], text: str, found: list[int]
) -> None:
    """Each guard above finds the thing where it is, and nothing where it is not."""
    assert list(search(text)) == found


def test_unfinished_words_are_found() -> None:
    """The word is found as a word, and not inside another word."""
    word = "TO" + "DO"
    assert _unfinished(f"x = 1  # {word}: later") == [word]
    assert _unfinished(f"{word}S mas{word}n") == []
