"""go's discovery, with the real go where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mvm.registries.go import discover

from .machine import names, needs

if TYPE_CHECKING:
    from .machine import Machine


@needs("go")
def test_defaults_are_go_s_own(machine: Machine) -> None:
    """Without configuration a module proxy and a checksum database are found, neither configured."""
    (found,) = discover(machine.environ, machine.project)
    assert [each.configured for each in found.hosts] == [False, False]
    assert "direct" in found.note


@needs("go")
def test_environment_is_over_go_s_file(machine: Machine) -> None:
    """A variable beats the file that `go env -w` writes; lists, `off` and keys are read."""
    machine.write(".config/go/env", "GOPROXY=https://user.example|direct\nGOSUMDB=off\n")
    assert names(discover(machine.environ, machine.project)[0]) == {"https://user.example:443"}
    machine.environ |= {
        "GOPROXY": "https://u:hunter2@a.example,http://b.example:81|off",
        "GOSUMDB": "sum.example+0123abcd+AAAA https://sums.example/x",
    }
    (found,) = discover(machine.environ, machine.project)
    assert names(found) == {"https://a.example:443", "http://b.example:81", "https://sums.example:443"}
    assert all(each.configured for each in found.hosts)
    assert "hunter2" not in repr(found)


def test_absent_go_has_no_hosts(machine: Machine) -> None:
    """Without go on PATH nothing is granted, whatever GOPROXY says."""
    machine.without_tools()
    machine.environ["GOPROXY"] = "https://mirror.example"
    (found,) = discover(machine.environ, machine.project)
    assert (found.present, found.hosts, found.note) == (False, (), "go: not on PATH")
