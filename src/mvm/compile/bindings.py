"""What the names of a module mean: mvm's words, and constants, each bound once and never changed.

Owns which names can be relied on. Must never guess: a name that is bound twice, or that other code could
change, has no meaning here, and whoever uses it in a declaration is told why.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "mvm"

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Constant(NamedTuple):
    """A name that one statement of the module binds.

    Attributes:
        value: the expression; it may turn out to be none that can be read.
        line: of the statement; the name means nothing above it.
    """

    value: ast.expr
    line: int


class Bindings(NamedTuple):
    """What the names of a module mean.

    Attributes:
        words: by name: the word of mvm that it stands for, or an empty text for the package itself.
        constants: by name.
        unsafe: by name: why it can't be relied on.
        elsewhere: as `words`, of imports that are not read: they may be run, or not.
    """

    words: dict[str, str]
    constants: dict[str, Constant]
    unsafe: dict[str, str]
    elsewhere: dict[str, str]


def bindings_of(module: ast.Module) -> Bindings:
    """Find what the names of a module mean."""
    bound = Counter(_bound_in(module.body))
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            bound.update(node.names)
    unsafe = {name: "it is bound in more than one place" for name, times in bound.items() if times > 1}
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(module)):
        unsafe = _Anything()
    unsafe |= {
        node.value.id: "its attributes are changed"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
        if isinstance(node.value, ast.Name)
    }
    words: dict[str, str] = {}
    constants: dict[str, Constant] = {}
    for statement in module.body:
        match statement:
            case ast.Import(names=names):
                words |= {alias.asname or alias.name: "" for alias in names if alias.name == PACKAGE}
            case ast.ImportFrom(module="mvm", level=0, names=names):
                words |= {alias.asname or alias.name: alias.name for alias in names}
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                constants[name] = Constant(value, statement.lineno)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                constants[name] = Constant(value, statement.lineno)
    return Bindings(words, constants, unsafe, _elsewhere(module))


def _elsewhere(module: ast.Module) -> dict[str, str]:
    """Find what mvm and its words are called by imports below the margin, and of modules inside of mvm."""
    found: dict[str, str] = {}
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                ours = [alias for alias in names if alias.name.partition(".")[0] == PACKAGE]
                found |= {alias.asname or PACKAGE: "" for alias in ours}
            case ast.ImportFrom(module=str(source), names=names) if source.partition(".")[0] == PACKAGE:
                found |= {alias.asname or alias.name: alias.name for alias in names}
    return found


class _Anything(dict[str, str]):
    """What a star import leaves of all names."""

    def __missing__(self, name: str) -> str:
        return "a star import may have bound it"

    def __contains__(self, name: object) -> bool:
        return True


def _bound_in(statements: list[ast.stmt]) -> Iterator[str]:
    """Name what statements bind in their own scope, once for each time."""
    waiting: list[ast.AST] = list(statements)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.alias(name=name, asname=asname):
                yield asname or name.partition(".")[0]
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)
        else:  # what stands around a scope is evaluated outside of it
            waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
