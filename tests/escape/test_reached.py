"""A sandbox starts and its granted host is reached: what a test of a denial has to be read beside.

Owns the cheapest proof of that; `tests/mutations` asks for it wherever a defence is taken out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.escape

SSH = "ssh.example.test"


def test_a_sandbox_starts_and_reaches_its_granted_host(mvmctl: Mvmctl) -> None:
    """The first line of a server that speaks first is read inside: nothing nearer could have said it."""
    words = ("bash", "-c", f"read -r line </dev/tcp/{SSH}/22; echo $line")
    assert mvmctl("run", "--network-allow", f"{SSH}:22", "--", *words).expect(0).stdout == "SSH-2.0-test\r\n"
