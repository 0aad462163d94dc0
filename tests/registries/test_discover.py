"""All tools at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mvm.policy.presets import expand
from mvm.registries.discover import discover
from mvm.terms import Preset, Tls

from .machine import needs

if TYPE_CHECKING:
    import pytest

    from .machine import Machine

TOOLS = ["pip", "uv", "npm", "yarn", "pnpm", "apt", "cargo", "go", "gem", "mvn"]


def test_every_tool_is_told_once_and_soon(machine: Machine) -> None:
    """Each tool has one discovery, in a fixed order, within the time a person waits for."""
    discover(machine.environ, machine.project)  # the first asks a cold disk
    begun = time.monotonic()
    found = discover(machine.environ, machine.project)
    assert [each.tool for each in found] == TOOLS
    assert time.monotonic() - begun < 3  # 0.1 s when the machine is idle
    assert all(each.present or each.note for each in found)


def test_a_bare_machine_grants_nothing(machine: Machine) -> None:
    """Without any tool the preset is empty, and each tool is named as absent."""
    machine.without_tools()
    found = discover(machine.environ, machine.project)
    assert expand(Preset.REGISTRIES, found) == ()
    assert all(not each.present and each.tool in each.note for each in found)


@needs("npm")
@needs("pip")
def test_a_private_mirror_works_untouched(machine: Machine) -> None:
    """Tools configured with one company mirror give one grant for it, which may be at a private address."""
    machine.environ |= {
        "PIP_INDEX_URL": "https://u:hunter2@mirror.example:8443/pypi/simple",
        "npm_config_registry": "https://mirror.example:8443/npm/",
    }
    grants = expand(Preset.REGISTRIES, discover(machine.environ, machine.project))
    (grant,) = [grant for grant in grants if grant.host == "mirror.example"]
    assert (grant.port, grant.tls, grant.private) == (8443, Tls.REQUIRE, True)
    assert str(grant.reason).startswith("packages for pip, npm")
    assert "PIP_INDEX_URL" in grant.source
    assert "hunter2" not in repr(grants)


def test_a_surprise_in_one_tool_costs_only_that_tool(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool whose module fails is told as not understood, without the failure's text; the others answer."""
    import mvm.registries.apt

    def fail(*_: object) -> None:
        message = "https://u:hunter2@mirror.example/"
        raise RuntimeError(message)

    monkeypatch.setattr(mvm.registries.apt, "find_tool", fail)
    found = {each.tool: each for each in discover(machine.environ, machine.project)}
    assert list(found) == TOOLS
    assert (found["apt"].present, found["apt"].hosts) == (False, ())
    assert found["apt"].note == "apt: not understood (RuntimeError)"
