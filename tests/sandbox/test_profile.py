"""`mvm.Sandbox(profile=mvm.browser_profile(...))`: held to the same rules, and not widened past them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import mvm
from tests.sandbox.reaching import closed, open_to

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Start
    from tests.support.mvmctl import Mvmctl

pytestmark = pytest.mark.kernel

_WIDE = mvm.network(mode="bridge", egress=mvm.egress_preset("agent"), dns=mvm.dns_system())
_KEPT = mvm.browser_profile(workspace="shop", retain="1d")


def test_a_sandbox_is_held_to_the_profile(box: Start, tmp_path: Path) -> None:
    """It lives half an hour, keeps its workspace for the next one, and a writable volume is refused."""
    with box(closed(), profile=_KEPT) as sandbox:
        sandbox.run(["sh", "-c", "echo seen > ~/f"], check=True)
        described = sandbox.describe()
        assert described["profile"] == {"name": "browser", "workspace": "shop", "retain": "1d"}
        assert described["document"]["network"]["ttl"] == "30m"
    with box(closed(), profile=_KEPT) as sandbox:
        assert sandbox.run(["cat", "f"], check=True).stdout == b"seen\n"
    with pytest.raises(mvm.PolicyRefused) as caught:
        box(closed(), profile=_KEPT, volumes=[f"{tmp_path}:/data"])
    assert [finding.code for finding in caught.value.findings] == ["browser-writable-mount"]
    with pytest.raises(mvm.PolicyRefused) as caught:
        box(_WIDE, profile=_KEPT)
    assert [finding.code for finding in caught.value.findings] == ["browser-preset"]


def test_a_running_one_is_not_widened_past_it(box: Start) -> None:
    """Another host is granted and the life time stays; a preset is refused, and nothing changes."""
    sandbox = box(closed(), profile=mvm.browser_profile())
    digest = sandbox.set_network(open_to("api.example.test:80"))
    assert sandbox.describe()["document"]["network"]["ttl"] == "30m"
    with pytest.raises(mvm.PolicyRefused):
        sandbox.set_network(_WIDE)
    assert sandbox.describe()["policy"]["digest"] == digest


_FUNCTION = """
import mvm

@mvm.func(network=mvm.network(mode="none"), mounts=["account:/account:ro"], profile={profile})
def jar():
    with open("/account/Cookies") as file:
        return file.read()

if __name__ == "__main__":
    print(jar())
"""


def test_a_declared_function_is_held_to_it(mvmctl: Mvmctl, tmp_path: Path) -> None:
    """Where its mount holds credentials it raises; named with a reason, relative to its file, it runs."""
    (tmp_path / "account").mkdir()
    (tmp_path / "account" / "Cookies").write_text("flour, sugar")

    def call(profile: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "program.py").write_text(_FUNCTION.format(profile=profile))
        words, environ = [sys.executable, "program.py"], {**os.environ, **mvmctl.environment()}
        return subprocess.run(
            words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60
        )

    assert "[browser-credentials]" in call("mvm.browser_profile()").stderr
    named = call('mvm.browser_profile(credentials={"account": "the login is under test"})')
    assert named.stdout == "flour, sugar\n", named.stderr
