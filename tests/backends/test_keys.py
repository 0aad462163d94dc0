"""A user whose keyrings are used up: no sandbox more starts, and the reason is one that can be acted on."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

import pytest

from mvm.kernel.syscalls import join_new_keyring
from tests.support.children import in_child

if TYPE_CHECKING:
    from tests.support.mvmctl import Ended, Mvmctl

pytestmark = pytest.mark.kernel

_ADD_KEY = {"x86_64": 248, "aarch64": 217}
_SESSION = -3
"""KEY_SPEC_SESSION_KEYRING (keyctl(2))."""


def _use_up() -> None:
    """Add keys to a keyring of this process's own until the kernel takes no more."""
    assert join_new_keyring()
    libc = ctypes.CDLL(None, use_errno=True)
    number = _ADD_KEY[os.uname().machine]
    for at in range(100_000):
        if libc.syscall(number, b"user", b"mvm-test-%d" % at, b"x", 1, _SESSION) < 0:
            assert ctypes.get_errno() == errno.EDQUOT
            return
    raise AssertionError("this user's keys have no end")


@pytest.mark.skipif(os.geteuid() == 0, reason="means something only as an ordinary user")
def test_where_no_keyring_is_left_the_start_says_so(mvmctl: Mvmctl) -> None:
    """69, the reason in words, and what shows more; nothing runs. With room again it does."""

    def without_room() -> Ended:
        _use_up()
        return mvmctl("run", "--", "echo", "it-was-run")

    refused = in_child(without_room).expect(69)
    assert "no room for another keyring" in refused.stderr
    assert "mvmctl doctor" in refused.stderr
    assert refused.stdout == ""
    mvmctl("run", "--", "echo", "it-was-run").expect(0)
