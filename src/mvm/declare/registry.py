"""What the modules that were imported have declared: the decorators, and the program of each module.

Owns where that is kept: with the module itself. Whoever imports a module gets the program that `mvm.compile`
reads from its text. Must never start anything: `mvm.func` has its own place, `mvm.sandbox.function`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from mvm.declare.program import EMPTY, declared, workload_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType, ModuleType

    from mvm.declare.program import Declared, Program

F = TypeVar("F", bound="FunctionType")

_KEY = "__mvm_program__"


class _Declared:
    """What one module has declared so far; it lies among the module's own names, and goes with them."""

    def __init__(self) -> None:
        self.program = EMPTY
        self.places: dict[tuple[str, str], tuple[str, int]] = {}
        """By kind and name: file and line of the function, by which a module that runs again is known."""


def _of(names: dict[str, Any]) -> _Declared:
    found = names.setdefault(_KEY, _Declared())
    assert isinstance(found, _Declared), "nobody else has this name"
    return found


def workload(*, id: str) -> None:  # noqa: A002  SPEC's word
    """Name the program that this module declares.

    Args:
        id: letters, digits and hyphens.

    Raises:
        PolicyRefused: it is no name, or the program has another.
    """
    here = _of(sys._getframe(1).f_globals)  # noqa: SLF001  the caller's module is what is named
    here.program = here.program.with_workload(workload_id(id=id))


def app(**words: Any) -> Callable[[F], F]:  # noqa: ANN401  `declared` has their types
    """Declare a sandbox above the function that runs in it; `mvmctl run --app FILE` starts it.

    Args:
        words: as `program.declared` takes them; `network` must be among them.

    Returns:
        A decorator that gives the function back as it was.

    Raises:
        PolicyRefused: the declaration is not acceptable, or its name is taken.
        TypeError: there is no such word.
    """

    def decorate(function: F) -> F:
        declare("app", function, words)
        return function

    return decorate


def declare(kind: str, function: FunctionType, words: dict[str, Any]) -> Declared:
    """Add a declaration to the program of a function's module.

    Args:
        kind: `app` or `func`.
        function: the one that it stands above.
        words: as `program.declared` takes them.

    Raises:
        PolicyRefused: it is not acceptable, or its name is taken.
        TypeError: there is no such word.
    """
    code, here = function.__code__, _of(function.__globals__)
    place = (code.co_filename, code.co_firstlineno)
    made = declared(function.__name__, f"{place[0]}:{place[1]}", **words)
    if here.places.get((kind, made.name)) == place:
        here.program = EMPTY  # the module runs again, from its top
    program = here.program
    here.program = program.with_app(made) if kind == "app" else program.with_function(made)
    here.places[kind, made.name] = place
    return made


def program_of(module: ModuleType) -> Program:
    """Give what a module has declared.

    Args:
        module: the module.
    """
    return _of(vars(module)).program
