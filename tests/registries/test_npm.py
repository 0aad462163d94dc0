"""npm's, yarn's and pnpm's discovery, with the real npm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mvm.registries.ask import ask, find_tool
from mvm.registries.npm import discover

from .machine import names, needs

if TYPE_CHECKING:
    from mvm.policy.presets import Discovery

    from .machine import Machine

pytestmark = needs("npm")


def npm(machine: Machine) -> Discovery:
    """Give npm's discovery."""
    return discover(machine.environ, machine.project)[0]


def npm_says(machine: Machine, key: str = "registry") -> str:
    """Give what npm itself answers."""
    tool = find_tool("npm", machine.environ)
    assert tool is not None
    return ask([str(tool), "config", "get", key], machine.environ).strip()


def test_default_is_what_npm_says(machine: Machine) -> None:
    """Without configuration the host found in npm's definitions is the one that npm answers."""
    found = npm(machine)
    assert [f"{each.scheme}://{each.host}/" for each in found.hosts] == [npm_says(machine)]
    assert not found.hosts[0].configured


def test_environment_is_over_user_is_over_global(machine: Machine) -> None:
    """At each step the host is the one that npm answers for the same files."""
    prefix = machine.write("prefix/etc/npmrc", "registry=https://global.example/\n").parent.parent
    machine.environ["npm_config_prefix"] = str(prefix)
    for expected in ("global", "user", "env"):
        if expected == "user":
            machine.write(".npmrc", "; comment\nregistry = https://user.example/\n")
        if expected == "env":
            machine.environ["NPM_CONFIG_REGISTRY"] = "https://env.example/"
        assert names(npm(machine)) == {f"https://{expected}.example:443"}
        assert npm_says(machine) == f"https://{expected}.example/"


def test_global_file_moved_by_the_user_file(machine: Machine) -> None:
    """`globalconfig` in the user's file is followed, as npm does."""
    path = machine.write("elsewhere", "registry=https://moved.example/\n")
    machine.write(".npmrc", f"globalconfig={path}\n")
    assert names(npm(machine)) == {"https://moved.example:443"}
    assert npm_says(machine) == "https://moved.example/"


def test_scopes_variables_and_tokens(machine: Machine) -> None:
    """Scoped registries count beside the default, `${VAR}` is replaced, and no token is shown."""
    machine.write(
        ".npmrc",
        "@acme:registry=https://${WHERE}.example:4873/npm/\n//hunter.example/:_authToken=hunter2\n"
        "@evil:registry=https://u:hunter2@scoped.example/\n",
    )
    machine.environ["WHERE"] = "acme"
    found = npm(machine)
    assert {"https://acme.example:4873", "https://scoped.example:443"} < names(found)
    assert any(not each.configured for each in found.hosts)
    assert npm_says(machine, "@acme:registry") == "https://acme.example:4873/npm/"
    assert "hunter" not in repr(found)


def test_unset_variable_is_a_note(machine: Machine) -> None:
    """A URL with a variable that is not set is passed over and told."""
    machine.write(".npmrc", "registry=https://${NOWHERE}.example/\n")
    found = npm(machine)
    assert found.hosts == ()
    assert "passed over" in found.note


def test_project_is_told_not_granted(machine: Machine) -> None:
    """A project's `.npmrc` does not widen the preset and does not take the machine's registry away."""
    (machine.project / "package.json").write_text("{}")
    (machine.project / ".npmrc").write_text("registry=https://project.example/\n")
    machine.write(".npmrc", "registry=https://user.example/\n")
    below = machine.project / "lib"
    below.mkdir()
    found = discover(machine.environ, below)[0]
    assert names(found) == {"https://user.example:443"}
    assert [str(each.host) for each in found.withheld] == ["project.example"]
    assert "--network-allow project.example:443" in found.note


def test_home_as_working_directory_is_no_project(machine: Machine) -> None:
    """The user's own file stays the user's where the working directory is the home."""
    machine.write(".npmrc", "registry=https://user.example/\n")
    found = discover(machine.environ, machine.home)[0]
    assert names(found) == {"https://user.example:443"}
    assert found.withheld == ()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_absent_tools_have_no_hosts(machine: Machine, index: int) -> None:
    """Without the tool on PATH nothing is granted, whatever the files say."""
    machine.without_tools()
    machine.write(".npmrc", "registry=https://user.example/\n")
    found = discover(machine.environ, machine.project)[index]
    assert (found.present, found.hosts) == (False, ())
    assert found.note == f"{('npm', 'yarn', 'pnpm')[index]}: not on PATH"


@needs("yarn")
def test_yarn_reads_its_own_line(machine: Machine) -> None:
    """The registry of yarn comes from its own file, else from its own program."""
    (default,) = discover(machine.environ, machine.project)[1].hosts
    assert not default.configured
    machine.write(".yarnrc", 'registry "https://yarn.example/"\n')
    assert names(discover(machine.environ, machine.project)[1]) == {"https://yarn.example:443"}


@needs("pnpm")
def test_pnpm_reads_npmrc_and_its_own(machine: Machine) -> None:
    """The registry of pnpm comes from npm's user file, before its own `rc`."""
    machine.write(".config/pnpm/rc", "registry=https://rc.example/\n")
    assert names(discover(machine.environ, machine.project)[2]) == {"https://rc.example:443"}
    machine.write(".npmrc", "registry=https://user.example/\n")
    assert names(discover(machine.environ, machine.project)[2]) == {"https://user.example:443"}
