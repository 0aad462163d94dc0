"""One tree of errors, one exit status each (SPEC section 2)."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections import Counter

import mvm
from mvm import errors
from mvm.errors import MvmError
from tests.support.source import product_modules, tree

_STATUS = {
    "UsageError": 64,
    "PolicyRefused": 65,
    "BackendUnavailable": 69,
    "MvmError": 70,
    "AuditError": 74,
    "TransportError": 75,
    "PolicyDenied": 77,
    "SandboxTimeout": 124,
}
"""As SPEC has it; the library's own two never end mvmctl."""
_OF_THE_LIBRARY = {"CommandFailed", "FunctionRaised"}


def _kinds() -> dict[str, type[MvmError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, MvmError)
    }


def _names_made() -> Counter[str]:
    """How often the product makes each thing by calling its name."""
    calls = (
        node for path in product_modules() for node in ast.walk(tree(path)) if isinstance(node, ast.Call)
    )
    return Counter(ast.unparse(call.func).rpartition(".")[2] for call in calls)


def test_every_error_has_its_own_exit_status() -> None:
    """Each error ends mvmctl with the status of SPEC, and no two of them with the same."""
    found = {name: kind.exit_code for name, kind in _kinds().items() if name not in _OF_THE_LIBRARY}
    assert found == _STATUS
    assert len(set(found.values())) == len(found)


def test_no_error_is_another() -> None:
    """Whoever catches one error never catches another: each comes straight from the base."""
    assert {kind.__bases__ for name, kind in _kinds().items() if name != "MvmError"} == {(MvmError,)}


def test_the_tree_grows_in_one_place() -> None:
    """No module but `errors` adds an error to the tree, where it would have somebody else's exit status."""
    for module in pkgutil.walk_packages(mvm.__path__, "mvm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert set(MvmError.__subclasses__()) == set(_kinds().values()) - {MvmError}
    assert [kind for kind in MvmError.__subclasses__() if kind.__subclasses__()] == []


def test_every_error_is_made_somewhere() -> None:
    """There is no error that nothing raises, and the base itself is raised nowhere."""
    made = _names_made()
    assert [name for name in _kinds() if name != "MvmError" and not made[name]] == []
    assert made["MvmError"] == 0
