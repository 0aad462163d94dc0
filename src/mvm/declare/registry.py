"""What the modules that were imported have declared: the decorators, and the program of each module.

Owns that table, one entry a module; whoever imports a module gets the program that `mvm.compile` reads from
its text. Must never start anything: `mvm.func` has its own place, `mvm.sandbox.function`.
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

_programs: dict[str, Program] = {}
_places: dict[tuple[str, str, str], tuple[str, int]] = {}
"""By module, kind and name: file and line of the function, by which a module that runs again is known."""


def workload(*, id: str) -> None:  # noqa: A002  SPEC's word
    """Name the program that this module declares.

    Args:
        id: letters, digits and hyphens.

    Raises:
        PolicyRefused: it is no name, or the program has another.
    """
    module = str(sys._getframe(1).f_globals["__name__"])  # noqa: SLF001  the caller's module is what is named
    _programs[module] = _programs.get(module, EMPTY).with_workload(workload_id(id=id))


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
    module, code = function.__module__, function.__code__
    made = declared(function.__name__, f"{code.co_filename}:{code.co_firstlineno}", **words)
    key, place = (module, kind, made.name), (code.co_filename, code.co_firstlineno)
    if _places.get(key) == place:
        _programs.pop(module, None)  # the module runs again, from its top
    program = _programs.get(module, EMPTY)
    _programs[module] = program.with_app(made) if kind == "app" else program.with_function(made)
    _places[key] = place
    return made


def program_of(module: ModuleType | str) -> Program:
    """Give what a module has declared.

    Args:
        module: the module, or its name.
    """
    return _programs.get(module if isinstance(module, str) else module.__name__, EMPTY)
