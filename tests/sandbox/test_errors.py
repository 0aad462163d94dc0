"""The tree of errors: each says one thing, by a type and an exit status of its own."""

from __future__ import annotations

import itertools

import pytest

import mvm
from mvm import errors

_STATUSES: dict[type[mvm.MvmError], int] = {
    mvm.UsageError: 64,
    mvm.PolicyRefused: 65,
    mvm.BackendUnavailable: 69,
    mvm.AuditError: 74,
    mvm.TransportError: 75,
    mvm.PolicyDenied: 77,
    mvm.SandboxTimeout: 124,
}
"""SPEC section 2; what failed inside a sandbox has no status of its own here."""

_OF_THE_GUEST = [mvm.CommandFailed, mvm.FunctionRaised]
_LEAVES = [*_STATUSES, *_OF_THE_GUEST]


def test_every_error_is_of_the_one_tree() -> None:
    """Whoever catches MvmError catches all that are raised on purpose, and there are no others."""
    made = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert set(made) == {mvm.MvmError, *_LEAVES}
    assert all(kind.__mro__[1] is mvm.MvmError for kind in _LEAVES)


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(_LEAVES, 2)))
def test_no_error_is_another(one: type[mvm.MvmError], other: type[mvm.MvmError]) -> None:
    """`except` of one never catches another: a denial is no transport failure is no command's failure."""
    assert not issubclass(one, other)


def test_each_error_has_an_exit_status_of_its_own() -> None:
    """The statuses are those of the specification, and no two are the same."""
    assert {kind: kind.exit_code for kind in _STATUSES} == _STATUSES
    assert len(set(_STATUSES.values())) == len(_STATUSES)
    assert mvm.MvmError.exit_code == 70
    assert not any("exit_code" in vars(kind) for kind in _OF_THE_GUEST)


def test_a_hint_stands_below_the_message() -> None:
    """What to do next is shown where there is something, and only there."""
    assert str(mvm.UsageError("wrong", hint="do this")) == "wrong\n  hint: do this"
    assert str(mvm.UsageError("wrong")) == "wrong"


def test_the_package_names_all_its_words() -> None:
    """Every word of `mvm.__all__` is there and is what its home calls so; others are not."""
    assert all(hasattr(mvm, word) and word in dir(mvm) for word in mvm.__all__)
    assert {kind.__name__ for kind in (*_LEAVES, mvm.MvmError)} <= set(mvm.__all__)
    assert not hasattr(mvm, "no_such_word")
