"""What nix answers, in the forms that its versions have, and what no nix answers."""

from __future__ import annotations

import json

import pytest

from mvm.errors import PolicyRefused
from mvm.images.flake import read_built, read_closure, read_program

_PATH, _OTHER = (f"/nix/store/{letter * 32}-made-1.0" for letter in "ab")
_HASH = f"sha256-{'A' * 43}="
_DIGEST = f"sha256:{'00' * 32}"


def test_a_closure_is_read_in_both_forms() -> None:
    """A list until Nix 2.18, an object by path since 2.19: the same digests come of both."""
    as_list = [{"path": path, "narHash": _HASH, "valid": True} for path in (_PATH, _OTHER)]
    as_object = {path: {"narHash": _HASH, "ca": None} for path in (_PATH, _OTHER)}
    for told in (as_list, as_object):
        assert read_closure(json.dumps(told).encode()) == {_PATH: _DIGEST, _OTHER: _DIGEST}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        None,
        "x",
        [{"path": _PATH}],
        {_PATH: None},
        {_PATH: {"narHash": "md5-x"}},
        {"/etc": {"narHash": _HASH}},
    ],
)
def test_another_answer_is_refused_in_words(told: object) -> None:
    """Nothing is bound that isn't a path of the store with a digest; what isn't JSON is refused too."""
    for answer in (json.dumps(told).encode(), b"\xff", b"[" * 100_000):
        with pytest.raises(PolicyRefused, match="not understood"):
            read_closure(answer)


def test_a_build_says_where_it_lies() -> None:
    """`out` before other outputs, and only in the store; a main program is a name and no path."""
    outputs = {"dev": _OTHER, "out": _PATH}
    assert read_built(json.dumps([{"outputs": outputs}]).encode()) == _PATH
    assert read_built(json.dumps([{"outputs": {"bin": _OTHER}}]).encode()) == _OTHER
    answers: tuple[object, ...] = (
        [],
        [{}],
        [{"outputs": {}}],
        [{"outputs": {"out": "/etc"}}],
        [{"outputs": {"out": None}}],
    )
    for told in answers:
        with pytest.raises(PolicyRefused, match="not understood"):
            read_built(json.dumps(told).encode())
    assert [read_program(json.dumps(name).encode()) for name in ("a", "", "a/b", 1)] == [
        "a",
        None,
        None,
        None,
    ]
